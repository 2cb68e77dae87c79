//! What this library says through [`tracing`](https://docs.rs/tracing): never for each message.
//!
//! Events and spans have these targets, so that a filter chooses among them
//! (`RUST_LOG=shm_transport::pressure=debug`). `peer` is a guest's entry and epoch in its hub,
//! such as `3.1`; `pid` the process at the other end; `hub` and `path` are paths; sizes are in
//! bytes.
//!
//! | target | level | what | fields |
//! |---|---|---|---|
//! | [`ATTACH`] | debug | span `attach`: a guest attaches | `hub` |
//! | | debug | host created | `hub` |
//! | | debug | guest attached, on the host | `hub`, `peer`, `pid` |
//! | | debug | attached to a host, on the guest | `peer`, `pid` |
//! | | debug | guest took too long to attach | `pid` |
//! | | warn | guest refused | `pid`, `reason` |
//! | [`DETACH`] | debug | span `detach`: this side leaves and waits until all is read | `peer`, `pid` |
//! | | debug | peer has left | `peer`, `pid` |
//! | | debug | peer was evicted, or evicted this side | `peer`, `pid` |
//! | | warn | peer broke the protocol | `peer`, `pid`, `reason` |
//! | [`DEATH`] | debug | peer has died | `peer`, `pid` |
//! | [`RECOVERY`] | debug | path of a dead host taken over | `hub` |
//! | | debug | owner of a data file | `path`, `generation`, `outcome` |
//! | | warn | file of a lease healed | `path`, `damage` |
//! | [`GROWTH`] | debug | slot pool grows by an extent | `peer`, `pid`, `class`, `size`, `slots` |
//! | [`PRESSURE`] | debug | no room for a message, the first time of a period | `peer`, `pid`, `on` |
//!
//! A period of back-pressure ends when every message has found room for a second. `on` says what
//! there is no room in: `Ring`, `Slots`, `Socket`, or `Descriptors`.

use std::time::Duration;

/// Hosts, and guests that come.
pub const ATTACH: &str = "shm_transport::attach";
/// Links that end, but by death.
pub const DETACH: &str = "shm_transport::detach";
/// Peers that die.
pub const DEATH: &str = "shm_transport::death";
/// What a dead process left, taken over or healed.
pub const RECOVERY: &str = "shm_transport::recovery";
/// Pools that grow.
pub const GROWTH: &str = "shm_transport::growth";
/// Messages that find no room.
pub const PRESSURE: &str = "shm_transport::pressure";

/// For how long every message must find room until a period of back-pressure is over.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);
