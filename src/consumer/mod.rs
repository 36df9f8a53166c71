//! Reading records, alone or in a group.

mod assignment;
mod commits;
mod damage;
mod handle;
mod listener;
mod membership;
mod options;
mod positions;
#[cfg(feature = "channel")]
mod receiver;
mod records;
mod seek;
mod table;

pub use handle::{Consumer, Waker};
pub use listener::{ListenerResult, RebalanceListener};
pub use options::{ConsumerBuilder, OffsetReset};
#[cfg(feature = "channel")]
pub use receiver::RecordReceiver;
pub use records::{ConsumerRecord, ConsumerRecords, Header, Headers, OwnedRecord, RecordIter};
pub use table::Table;
