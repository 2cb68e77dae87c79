//! What callers pass, checked as far as it can be.

use std::{
    ffi::{CStr, OsStr, c_char, c_void},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr, slice,
    time::Duration,
};

use shm_transport::Deadline;

use crate::failure::Failure;

/// A wait in milliseconds.
pub(crate) fn deadline(milliseconds: i64) -> Deadline {
    u64::try_from(milliseconds).map_or(Deadline::NEVER, |wait| Duration::from_millis(wait).into())
}

/// # Safety
///
/// `path` is null or points to a string that ends with a zero byte and stays as it is.
pub(crate) unsafe fn path<'a>(path: *const c_char) -> Result<&'a Path, Failure> {
    if path.is_null() {
        return Err(Failure::invalid("the path is null"));
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let path = unsafe { CStr::from_ptr(path) };
    Ok(Path::new(OsStr::from_bytes(path.to_bytes())))
}

/// # Safety
///
/// `message` points to `length` readable bytes that nobody changes, or is null.
pub(crate) unsafe fn message<'a>(
    message: *const c_void,
    length: usize,
) -> Result<&'a [u8], Failure> {
    check(message, length, "the message")?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: not null, of a size that can be; the caller vouches for the rest. Bytes need no
    // alignment.
    Ok(unsafe { slice::from_raw_parts(message.cast(), length) })
}

/// # Safety
///
/// `buffer` points to `capacity` writable bytes that nobody else uses, or is null.
pub(crate) unsafe fn buffer<'a>(
    buffer: *mut c_void,
    capacity: usize,
) -> Result<&'a mut [u8], Failure> {
    check(buffer, capacity, "the buffer")?;
    if capacity == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as for `message`, and the caller says that it is the only one. What is in them is
    // some bytes: they come from outside of Rust.
    Ok(unsafe { slice::from_raw_parts_mut(buffer.cast(), capacity) })
}

fn check(pointer: *const c_void, length: usize, what: &str) -> Result<(), Failure> {
    if pointer.is_null() && length > 0 {
        return Err(Failure::invalid(format!("{what} is null and not empty")));
    }
    if isize::try_from(length).is_err() {
        return Err(Failure::invalid(format!("{what} cannot have {length} bytes")));
    }
    Ok(())
}

/// Where a result goes.
///
/// # Safety
///
/// `result` is null or points to memory for a `T` that nobody else uses.
pub(crate) unsafe fn put<T>(result: *mut T, value: T) -> Result<(), Failure> {
    if result.is_null() {
        return Err(Failure::invalid("a pointer to a result is null"));
    }
    // SAFETY: not null, and the caller vouches for the rest. What is there is not dropped: it
    // may be anything.
    unsafe { ptr::write(result, value) };
    Ok(())
}
