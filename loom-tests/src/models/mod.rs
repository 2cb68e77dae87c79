//! The models, one file for each structure.
//!
//! Each is a plain function, so that the tests of this crate and the check of weakened
//! orderings run the same ones.

pub mod broadcast;
pub mod doorbell;
pub mod dropped;
pub mod fleet;
pub mod goodbye;
pub mod peer;
pub mod pool;
pub mod ring;
pub mod seqlock;
pub mod tasks;

use shm_primitives::{
    outbox::{DATA_BELL, DATA_SLEEP, HEAD, OutboxGeometry, SPACE_BELL, SPACE_SLEEP, TAIL},
    ring::{Consumer, Producer},
};

use crate::memory::{Area, LoomMem};

/// A model, and the orderings that it is about: by their names, those that must not be
/// weakened without its failing.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// File and function.
    pub name: &'static str,
    /// Runs it.
    pub check: fn(),
    /// Names of orderings.
    pub about: &'static [&'static str],
}

macro_rules! models {
    ($($file:ident :: $model:ident about [$($order:ident),*];)*) => {
        /// All models.
        pub const ALL: &[Model] = &[$(Model {
            name: concat!(stringify!($file), "::", stringify!($model)),
            check: $file::$model,
            // Each is the name of a constant, or this does not compile.
            about: &[$(shm_primitives::order::$order.name()),*],
        }),*];
    };
}

models! {
    ring::frames_wrap about [FRAME_PUBLISH, FRAME_SEEN];
    ring::frames_lap about [TAIL_PUBLISH, TAIL_SEEN];
    ring::frames_at_once about [];
    ring::batches about [];
    ring::short_grants about [];
    ring::deferred_release about [];
    ring::dying_producer about [];
    ring::dying_consumer about [];
    seqlock::one_reader about [SEQLOCK_BEGIN, SEQLOCK_END, SEQLOCK_FIRST, SEQLOCK_LAST];
    seqlock::two_readers about [];
    seqlock::dying_writer about [];
    broadcast::follow_one_slot about [SEQLOCK_BEGIN, SEQLOCK_END, SEQLOCK_FIRST, SEQLOCK_LAST];
    broadcast::follow_two_slots about [];
    broadcast::newest_one_slot about [];
    broadcast::newest_two_slots about [];
    broadcast::newest_after_next about [];
    broadcast::dying_writer about [];
    broadcast::writer_after_a_death about [];
    broadcast::alarm about [SLEEP_FENCE, WAKE_FENCE];
    broadcast::alarm_by_membarrier about [SLEEP_FENCE];
    broadcast::bell_carries about [BELL_RING, BELL_SEEN];
    broadcast::bell_of_the_agent_carries about [BELL_RING, BELL_SEEN];
    pool::two_receivers about [ACK_PUBLISH, ACK_SEEN];
    pool::slot_and_ring about [];
    doorbell::data about [SLEEP_FENCE, WAKE_FENCE];
    doorbell::data_by_membarrier about [];
    doorbell::space about [];
    doorbell::deferred_space about [];
    doorbell::two_wakers about [];
    doorbell::two_wakers_by_membarrier about [];
    doorbell::bell_carries about [BELL_RING, BELL_SEEN];
    peer::two_reserve_one_entry about [];
    peer::two_reserve_two_entries about [];
    peer::claim_against_release about [];
    peer::two_release about [];
    peer::stale_epoch about [];
    peer::details_of_the_next_life about [PEER_CHANGE, PEER_SEEN];
    peer::details_of_the_attached about [];
    goodbye::last_frame about [GOODBYE_SAY, GOODBYE_SEEN];
    dropped::gap_before_frame about [];
    fleet::two_publishers about [];
    fleet::lapped_publisher about [FLEET_TAIL, FLEET_TAIL_SEEN];
    fleet::committed_is_whole about [FLEET_COMMIT, FLEET_COMMITTED];
    fleet::lapped_reader about [];
    fleet::reader_lapped_by_another about [];
    fleet::newest about [];
    fleet::by_id about [FLEET_PLACE, FLEET_PLACE_SEEN];
    fleet::uncommitted_is_never_found about [];
    fleet::dying_publisher about [];
}

/// The two outboxes of a link, of which only one direction's ring is in use.
struct Link {
    geometry: OutboxGeometry,
    /// The outbox of the side that sends.
    sender: LoomMem,
    /// The outbox of the side that receives.
    receiver: LoomMem,
}

impl Link {
    /// A ring of 64 bytes, and `acks` acks in the receiver's outbox. `sender` and
    /// `receiver` are further words that the model uses.
    fn new(acks: u32, sender: &[Area], receiver: &[Area]) -> Self {
        Self::with_capacity(64, acks, sender, receiver)
    }

    /// The same with a ring of `capacity` bytes.
    fn with_capacity(capacity: u64, acks: u32, sender: &[Area], receiver: &[Area]) -> Self {
        let geometry = OutboxGeometry::new(capacity, acks).expect("a ring of a power of two");
        let size = geometry.total_size();
        let mut senders = vec![Area::word64(HEAD), Area::bytes(geometry.ring(), capacity)];
        senders.extend_from_slice(sender);
        let mut receivers = vec![Area::word64(TAIL)];
        receivers.extend((0..acks).filter_map(|number| geometry.ack(number)).map(Area::word32));
        receivers.extend_from_slice(receiver);
        Self {
            geometry,
            sender: LoomMem::new(size, &senders),
            receiver: LoomMem::new(size, &receivers),
        }
    }

    /// With the words by which the receiver waits for data.
    fn with_data_bell() -> Self {
        Self::new(0, &[Area::word32(DATA_BELL)], &[Area::word64(DATA_SLEEP)])
    }

    /// With the words by which the sender waits for space.
    fn with_space_bell(acks: u32) -> Self {
        Self::new(acks, &[Area::word64(SPACE_SLEEP)], &[Area::word32(SPACE_BELL)])
    }

    fn producer(&self) -> Producer<LoomMem> {
        Producer::new(self.sender.clone(), self.receiver.clone(), &self.geometry)
    }

    fn consumer(&self) -> Consumer<LoomMem> {
        Consumer::new(self.receiver.clone(), self.sender.clone(), &self.geometry)
    }
}
