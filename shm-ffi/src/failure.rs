//! How a failure gets to the caller: a status as the result, a sentence beside it.

use std::{
    any::Any,
    borrow::Cow,
    cell::RefCell,
    error::Error,
    ffi::{CStr, CString, c_char},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::status::Status;

/// Why a call does not return [`Status::Ok`].
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    message: Cow<'static, CStr>,
}

impl Failure {
    /// What happens often, and so costs no allocation.
    pub(crate) const fn plain(status: Status, message: &'static CStr) -> Self {
        Self { status, message: Cow::Borrowed(message) }
    }

    pub(crate) fn invalid(message: impl Into<Vec<u8>>) -> Self {
        Self { status: Status::InvalidArgument, message: text(message) }
    }

    fn panicked(panic: Box<dyn Any + Send>) -> Self {
        let said = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(said), _) => said,
            (None, Some(said)) => said.as_str(),
            (None, None) => "without a message",
        };
        let message = text(format!("a defect of the library, please report it: {said}"));
        // What it holds may panic when it is dropped.
        mem::forget(panic);
        Self { status: Status::Panicked, message }
    }
}

/// An error of the library, with its own words.
impl<E: Error> From<E> for Failure
where
    for<'a> Status: From<&'a E>,
{
    fn from(error: E) -> Self {
        Self { status: Status::from(&error), message: text(error.to_string()) }
    }
}

/// The text without zero bytes.
fn text(message: impl Into<Vec<u8>>) -> Cow<'static, CStr> {
    let mut message = message.into();
    message.retain(|byte| *byte != 0);
    CString::new(message).map_or(Cow::Borrowed(c"no message"), Cow::Owned)
}

thread_local! {
    static LAST: RefCell<Cow<'static, CStr>> = const { RefCell::new(Cow::Borrowed(c"")) };
}

/// Runs the inside of a call: what it reports, and that it does not unwind.
pub(crate) fn call(inside: impl FnOnce() -> Result<(), Failure>) -> Status {
    let failure = match catch_unwind(AssertUnwindSafe(inside)) {
        Ok(Ok(())) => return Status::Ok,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::panicked(panic),
    };
    let Failure { status, message } = failure;
    // On a thread that is ending there is nobody left to ask.
    let _ = LAST.try_with(|last| last.replace(message));
    status
}

/// The sentence for the last call on this thread that did not return `SHM_STATUS_OK`: what went
/// wrong and what to do next. Empty if there was none; never null. It is valid until the next
/// call of this library on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn shm_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_error() -> String {
        // SAFETY: it is valid until the next call.
        unsafe { CStr::from_ptr(shm_last_error()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_and_its_words_are_kept() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        assert_eq!(call(|| panic!("broken {}", 7)), Status::Panicked);
        assert!(last_error().contains("broken 7"), "{}", last_error());
        assert_eq!(call(|| std::panic::panic_any(Bomb)), Status::Panicked);
        assert!(last_error().contains("without a message"), "{}", last_error());
    }

    #[test]
    fn messages_belong_to_their_thread_and_stay_when_a_call_succeeds() {
        assert_eq!(call(|| Err(Failure::invalid("first"))), Status::InvalidArgument);
        let other = std::thread::spawn(|| {
            assert_eq!(last_error(), "");
            call(|| Err(Failure::invalid("sec\0ond")));
            last_error()
        });
        assert_eq!(other.join().expect("it does not panic"), "second");
        assert_eq!(call(|| Ok(())), Status::Ok);
        assert_eq!(last_error(), "first");
    }
}
