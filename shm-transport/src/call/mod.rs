//! Calls and their answers over a link (feature `call`).
//!
//! [`connect`] makes two things of each end of a link: a [`Caller`], which calls the other side,
//! and a [`Driver`], a future that carries the frames and serves the calls of the other side with
//! a [`Service`]. Both sides can call at the same time, many calls are in
//! flight at once, and answers come in any order.
//!
//! ```
//! use std::{convert::Infallible, future::{ready, Ready}, task::{Context, Poll}, time::Duration};
//! use bytes::Bytes;
//! use shm_transport::{Link, LinkConfig, asynchronous::AsyncLink, call::{self, CallConfig, NoCalls}};
//! use tower_service::Service;
//!
//! struct Upper;
//!
//! impl Service<Bytes> for Upper {
//!     type Response = Bytes;
//!     type Error = Infallible;
//!     type Future = Ready<Result<Bytes, Infallible>>;
//!
//!     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
//!         Poll::Ready(Ok(()))
//!     }
//!
//!     fn call(&mut self, request: Bytes) -> Self::Future {
//!         ready(Ok(request.to_ascii_uppercase().into()))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (left, right) = Link::pair(&LinkConfig::default())?;
//! let config = CallConfig::default();
//! // In another process:
//! let (_, driver) = call::connect(AsyncLink::new(right)?, Upper, &config);
//! tokio::spawn(driver);
//!
//! let (caller, driver) = call::connect(AsyncLink::new(left)?, NoCalls, &config);
//! tokio::spawn(driver);
//! let answer = caller.call_by("hello".into(), Duration::from_secs(1)).await?;
//! assert_eq!(answer, "HELLO");
//! # Ok(())
//! # }
//! ```
//!
//! # What a call ends with
//!
//! Its answer, or a [`CallError`]: the handler's failure as a message, the deadline, the end of
//! the link. When the peer dies, all calls in flight end with
//! [`Ended(PeerDead)`](CallError::Ended). A call whose future is dropped is cancelled: if it was
//! sent, the other side is told, and drops what its handler's future has become. A call that
//! ended without an answer may have been carried out nevertheless.
//!
//! # How many
//!
//! Each side says first how many calls it takes [at once](CallConfig::max_served); the other one
//! waits, in [`poll_ready`](tower_service::Service::poll_ready), before it has more in flight. So
//! the memory of a side is bounded by what it has agreed to, and no honest peer is ever refused.
//! A peer that exceeds it, or sends frames that are none, ends the link. Answers to nothing are
//! ignored: those to cancelled calls may be late.

mod caller;
mod config;
mod driver;
mod error;
mod frame;
mod outgoing;
mod served;
mod shared;

pub use self::{
    caller::{Call, Caller},
    config::CallConfig,
    driver::Driver,
    error::{BoxError, CallError},
    served::NoCalls,
};

use bytes::Bytes;
use tower_service::Service;

use crate::asynchronous::AsyncLink;

/// Makes a link one of calls, on this side: the other side must do so, too. The service handles
/// the calls of the other side.
///
/// Nothing moves before the driver is polled: give it to a task, `tokio::spawn(driver)`.
#[must_use = "the driver must be polled"]
pub fn connect<S>(link: AsyncLink, service: S, config: &CallConfig) -> (Caller, Driver<S>)
where
    S: Service<Bytes, Response = Bytes>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    driver::connect(link, service, config)
}
