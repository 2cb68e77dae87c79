//! What a store knows, in memory: streams and producers, and the tables that hold the
//! changes which the shards do not have yet.

mod memtable;
mod producer;
mod scan;
mod stage;
mod stream;
mod validate;

pub(crate) use memtable::{Memtable, Part, Run, Totals};
pub(crate) use producer::{Done, ProducerState};
pub(crate) use stage::{Lookup, Stage};
pub(crate) use stream::{Parent, StreamMeta, millis, put_config, take_config, time};
pub(crate) use validate::{Limits, Moment, Verdict, validate};
