//! Reading records.

mod handle;
mod options;
mod positions;
mod receiver;
mod records;

pub use handle::{Consumer, Waker};
pub use options::{ConsumerBuilder, OffsetReset};
pub use receiver::RecordReceiver;
pub use records::{ConsumerRecord, ConsumerRecords, Header, Headers, OwnedRecord, RecordIter};
