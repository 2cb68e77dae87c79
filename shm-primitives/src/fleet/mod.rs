//! A ring that equal members write, none of which waits for another.
//!
//! ```text
//! ┌────────┬──────┬───────┬───────────────┬───────────┬────────┬────────┬───
//! │ header │ tail │ floor │ ready, a word │ index,    │ lane 0 │ lane 1 │ …
//! │        │      │       │ for each node │ N words   │        │        │
//! └────────┴──────┴───────┴───────────────┴───────────┴────────┴────────┴───
//!                                          lane = N + 1 slots
//!                                          slot = place │ sequence │ id │ kind, version, length │ payload
//! ```
//!
//! A frame's content lies in the *lane* of the node that published it, which that node
//! alone writes. The *index* puts the frames of all lanes in one order: the word
//! `p mod N` says in which lane and slot the frame of position `p` is. Those words are
//! the only ones that several members change, by compare-and-swap from the exact word
//! of the lap before, and the exchange is the publishing store: before it a frame is
//! nobody's, after it everybody's.
//!
//! | field | written by | published by | a crash before it | a crash after it |
//! |---|---|---|---|---|
//! | slot of a lane | its node | the index | the slot is unknown to all, and is written again | the frame is there |
//! | index word | who commits its position | `FLEET_COMMIT` | nothing happened | the frame is committed |
//! | tail | whoever sees that its position is committed | `FLEET_TAIL` | the next to commit moves it | nothing is left to do |
//! | place of a slot | its node | `FLEET_PLACE` | readers by id search the index instead | nothing is left to do |
//! | floor | who resets | itself | nothing happened | older frames are gone |
//! | ready | its node, when it joins | itself | the lane is not used yet | it is |
//!
//! Why a frame that the index still refers to is intact: a node fills the slots of its
//! lane in turn, the next one only after the last one's frame is committed. When it
//! comes round to a slot, the N other slots' frames were all committed after that
//! slot's old one, at position `p`, so position `p + N` is committed, and index word
//! `p mod N` is no longer what it was. A reader loads the word, copies the slot, and
//! loads the word again: if it is the same, no byte of the copy is of a later frame.
//!
//! Positions are committed one after the other, without gaps: a member commits at the
//! tail only, and the tail moves on only from a position that is committed. The tail
//! is therefore the next position, or the one before it while somebody is between its
//! two stores, or died there.
//!
//! ```
//! use shm_primitives::{Mapped, fleet::{Cursor, LaneWriter, Ring, RingGeometry, Start}};
//!
//! let geometry = RingGeometry::new(1, 8, 2, 64)?;
//! let memory = Mapped::leaked(geometry.total_size());
//! let ring = Ring::new(memory, geometry);
//! let mut left = LaneWriter::join(memory, geometry, 0)?;
//! let mut right = LaneWriter::join(memory, geometry, 1)?;
//! left.publish(0, 1, b"from the left")?;
//! let (id, _) = right.publish(0, 1, b"from the right")?;
//! assert_eq!(id.to_string(), "01-1-0");
//!
//! let mut cursor = Cursor::new(&ring, Start::Oldest);
//! assert_eq!(cursor.next(&ring)?.expect("two frames").frame.payload(), b"from the left");
//! assert_eq!(cursor.next(&ring)?.expect("two frames").frame.id(), id);
//! assert!(cursor.next(&ring)?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cursor;
mod frame;
mod geometry;
mod id;
mod lane;
mod members;
mod ring;
mod word;

pub use cursor::{Cursor, Next, Start};
pub use frame::FleetFrame;
pub use geometry::{FLOOR, RingGeometry, RingGeometryError, RingHeaderError, TAIL};
pub use id::{FleetId, MAX_COUNTER, MAX_NODES, ParseFleetIdError};
pub use lane::{LaneError, LaneWriter, PublishError};
pub use members::{MemberDetails, Members};
pub use ring::{CorruptFleet, ReadAtError, Ring};
pub use word::Position;
