//! The C interface of `shm-transport`: a process in any language attaches to a host as a
//! guest, sends, receives and detaches.
//!
//! The header is `include/shm.h`, made from this crate's sources; link with `-lshm_ffi`
//! (`libshm_ffi.so` or `libshm_ffi.a`). A package for Python is in `python/`.
//!
//! - A handle ([`Guest`]) is opaque, made by an attach and freed by [`shm_guest_free`]. One thread
//!   may send while another receives; any other overlap is refused with [`Status::Busy`].
//! - Calls return a [`Status`]; [`shm_last_error`] has the sentence for the last one that did not
//!   return [`Status::Ok`] on this thread.
//! - Nothing is called back, no panic comes across, and null pointers are refused.
//!
//! # Example
//!
//! What a program in C does, written down in Rust:
//!
//! ```
//! use std::{ffi::CString, ptr};
//! use shm_ffi::{Status, shm_guest_attach, shm_guest_detach, shm_guest_free};
//! use shm_ffi::{shm_guest_receive, shm_guest_send};
//!
//! # let directory = tempfile::tempdir()?;
//! # let hub = directory.path().join("hub");
//! # let mut host = shm_transport::Host::create(&hub)?;
//! # let host = std::thread::spawn(move || {
//! #     let wait = std::time::Duration::from_secs(5);
//! #     let mut link = host.accept(wait).unwrap();
//! #     let question = link.recv(wait).unwrap().to_bytes();
//! #     link.send(&question.to_ascii_uppercase(), wait).unwrap();
//! #     link
//! # });
//! let path = CString::new(hub.to_str().unwrap())?;
//! let (mut guest, mut answer, mut length) = (ptr::null_mut(), [0u8; 64], 0);
//! // SAFETY: the pointers are to live values, and the handle is freed once, at the end.
//! unsafe {
//!     assert_eq!(shm_guest_attach(path.as_ptr(), 5000, &mut guest), Status::Ok);
//!     assert_eq!(shm_guest_send(guest, b"hello".as_ptr().cast(), 5, 5000), Status::Ok);
//!     let buffer = answer.as_mut_ptr().cast();
//!     assert_eq!(shm_guest_receive(guest, buffer, 64, &mut length, 5000), Status::Ok);
//!     assert_eq!(shm_guest_detach(guest, 5000), Status::Ok);
//!     shm_guest_free(guest);
//! }
//! assert_eq!(&answer[..length], b"HELLO");
//! # host.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arguments;
mod failure;
mod forks;
mod guest;
mod handle;
mod status;

pub use failure::shm_last_error;
pub use guest::{
    shm_guest_arm, shm_guest_attach, shm_guest_attach_inherited, shm_guest_descriptor,
    shm_guest_detach, shm_guest_disarm, shm_guest_free, shm_guest_missed, shm_guest_peer,
    shm_guest_receive, shm_guest_send, shm_guest_try_receive, shm_guest_try_send,
};
pub use handle::{Guest, Peer};
pub use status::{Status, shm_status_name, shm_version};
