use std::time::Duration;

use shm_primitives::{
    header::GeometryError,
    outbox::OutboxGeometry,
    pool::{PoolGeometry, SizeClass},
};

/// Sizes of a link, the same in both directions. The host decides them for its guests.
///
/// A message goes the cheapest way its size allows: up to [`inline_max`](Self::inline_max) bytes inline in the
/// ring, up to the largest size class through a slot, beyond that through memory of
/// its own.
///
/// ```
/// use shm_transport::LinkConfig;
///
/// let config = LinkConfig { ring_capacity: 1 << 20, ..LinkConfig::default() };
/// assert_eq!(config.inline_max(), 1 << 17);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Capacity of the ring in each direction, in bytes: a power of two from 64 B to
    /// 1 GiB. Default 64 KiB.
    pub ring_capacity: u64,
    /// The largest message that goes inline, in bytes; `None` is an eighth of the ring.
    /// At most half the ring less 8, and never more than `max_message`.
    pub inline_limit: Option<u32>,
    /// The size classes of the slot pool, by rising slot size. Their memory is made when
    /// it is first needed, extent by extent. Default 16 KiB to 1 MiB, up to 15 MiB.
    pub size_classes: Vec<SizeClass>,
    /// How many sealed payloads may be under way or held by the receiver at once.
    /// Without any, no message can be larger than the largest slot. Default 16.
    pub sealed_limit: u16,
    /// The largest message, in bytes. Default 256 MiB.
    pub max_message: u64,
    /// How long a waiting call at most polls before it sleeps. It polls less when that
    /// does not pay. Default 50 µs.
    pub spin: Duration,
    /// Whether it is the sleeper who pays for the order of memory. If so, a message needs no
    /// fence, and whoever falls asleep interrupts the processors on which the other side runs
    /// (some 10 to 40 µs): right for streams, and where both sides are mostly awake. If not, each
    /// message costs a fence (some 10 ns), and a sleep no more than its system call: right
    /// where nearly every message is slept for, as an answer that takes a disk's time. Default
    /// `true`.
    pub asymmetric_fence: bool,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let class = |slot_size, extent_slots, max_extents| SizeClass {
            slot_size,
            extent_slots,
            max_extents,
        };
        Self {
            ring_capacity: 64 << 10,
            inline_limit: None,
            size_classes: vec![
                class(16 << 10, 8, 8),
                class(64 << 10, 4, 8),
                class(256 << 10, 4, 4),
                class(1 << 20, 4, 2),
            ],
            sealed_limit: 16,
            max_message: 256 << 20,
            spin: Duration::from_micros(50),
            asymmetric_fence: true,
        }
    }
}

impl LinkConfig {
    /// The largest message that goes inline in the ring, in bytes.
    #[must_use]
    pub fn inline_max(&self) -> u32 {
        let ring = u32::try_from(self.ring_capacity).unwrap_or(u32::MAX);
        let most = (ring / 2).saturating_sub(8);
        let wanted = self.inline_limit.unwrap_or(ring / 8).min(most);
        wanted.min(u32::try_from(self.max_message).unwrap_or(u32::MAX))
    }
}

/// The checked sizes of a link, as both sides know them privately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkGeometry {
    pub(crate) outbox: OutboxGeometry,
    pub(crate) pool: PoolGeometry,
    pub(crate) inline_max: u32,
    pub(crate) max_message: u64,
    pub(crate) spin: Duration,
    /// What the host wants; both sides need a kernel that offers it.
    pub(crate) asymmetric_fence: bool,
}

impl LinkGeometry {
    pub(crate) fn new(config: &LinkConfig) -> Result<Self, GeometryError> {
        let pool = PoolGeometry::new(&config.size_classes, config.sealed_limit)?;
        let outbox = OutboxGeometry::new(config.ring_capacity, pool.acks())?;
        let checked =
            Self::checked(outbox, pool, config.inline_max(), config.max_message, config.spin);
        Ok(Self { asymmetric_fence: config.asymmetric_fence, ..checked })
    }

    /// Brings the limits down to what ring and pool can carry.
    pub(crate) fn checked(
        outbox: OutboxGeometry,
        pool: PoolGeometry,
        inline_max: u32,
        max_message: u64,
        spin: Duration,
    ) -> Self {
        let inline_max = u64::from(inline_max).min((outbox.capacity() / 2).saturating_sub(8));
        let largest =
            if pool.sealed() > 0 { u64::MAX } else { inline_max.max(pool.largest_slot().into()) };
        let max_message = max_message.min(largest);
        let inline_max = u32::try_from(inline_max.min(max_message)).unwrap_or(u32::MAX);
        Self { outbox, pool, inline_max, max_message, spin, asymmetric_fence: true }
    }
}
