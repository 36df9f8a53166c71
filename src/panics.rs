//! Calls of the application's code that must not take brooklet along when they panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the application's code. `Err`: it panicked, and with which message.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(message_of)
}

fn message_of(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = text.map_or_else(|| "it panicked".to_owned(), |text| format!("it panicked: {text}"));
    // It is the application's, and may panic again when it is dropped.
    std::mem::forget(panic);
    message
}
