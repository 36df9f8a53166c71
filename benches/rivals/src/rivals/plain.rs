//! A file that grows: no index, no checksum.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{Class, Rival, unsupported};
use crate::harness::Result;
use crate::harness::payload::{Payload, concatenated};
use crate::harness::raw::Appended;

struct Plain {
    file: Mutex<Appended>,
    class: Class,
}

pub(super) fn open(directory: &Path, class: Class) -> Result<Box<dyn Rival>> {
    Ok(Box::new(Plain { file: Mutex::new(Appended::create(&directory.join("log"))?), class }))
}

impl Rival for Plain {
    fn append(&self, payload: &Payload) -> Result {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match self.class {
            Class::Sync | Class::Batches => Ok(file.write_durably(&payload.bytes)?),
            Class::Process => Ok(file.write(&payload.bytes)?),
        }
    }

    fn append_batch(&self, payloads: &[Payload]) -> Result {
        let bytes = concatenated(payloads);
        Ok(self.file.lock().unwrap_or_else(PoisonError::into_inner).write_durably(&bytes)?)
    }

    fn load(&self, payloads: &mut dyn Iterator<Item = &Payload>) -> Result {
        Ok(self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all_durably(payloads)?)
    }

    fn read(&self, _number: u64) -> Result<usize> {
        unsupported()
    }

    fn close(self: Box<Self>) -> Result {
        Ok(())
    }
}
