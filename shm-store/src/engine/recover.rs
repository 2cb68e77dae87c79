//! Opening: the shards, then what the log has and they do not.

use std::{path::Path, sync::Arc};

use super::{Batch, Checkpointer, Engine, Sweeper};
use crate::{
    Lsn, OpenError, Options,
    error::Damage,
    fs::FileSystem,
    layout::Layout,
    log::{Check, Log, LogOptions},
    record::Record,
    shards::Shards,
    state::{Limits, Lookup, Memtable, Stage},
    view::{Clock, Layers, Shared},
};

impl Engine {
    /// Opens a store, or makes one. Whoever calls this owns the directory.
    pub(crate) fn open(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        options: Options,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        options.check()?;
        let layout = Layout::open_or_create(&*fs, dir, &options)?;
        let identity = layout.identity;
        let shards = Shards::open(&fs, dir, options.shards, options.cache_bytes, identity)?;
        let limits = Limits {
            store: options.max_bytes,
            stream: options.max_stream_bytes,
            operation: options.max_operation_bytes,
        };
        let log_options =
            LogOptions { segment_bytes: options.segment_bytes, max_record_bytes: limits.record() };
        let check = Check::new(fs.clone(), dir, identity);
        let mut table = Memtable::new(options.shards.into());
        table.last = shards.applied();
        let applied = shards.applied();
        let mut log =
            Log::open(fs.clone(), dir, &log_options, identity, applied, &mut |lsn, record| {
                replay(&shards, &mut table, lsn, record)?;
                if table.bytes >= options.memory_bytes {
                    shards.checkpoint(&table)?;
                    table = Memtable::new(options.shards.into());
                    table.last = lsn;
                }
                Ok(())
            })?;
        let mut totals = shards.totals();
        totals.add(table.totals());
        let durable = table.last;
        let layers = Layers { active: table, frozen: None, visible: durable, durable, totals };
        let shared = Arc::new(Shared::new(shards, layers, clock, check));
        let checkpointer = Checkpointer::start(shared.clone(), fs)?;
        checkpointer.remove(log.take_doomed());
        let mut engine = Self {
            checkpointer,
            shared,
            log,
            options,
            limits,
            sweeper: Sweeper::new(),
            poisoned: false,
            unsynced: None,
            recycled: Lsn(0),
            pin: None,
            batch: Batch::default(),
            events: Vec::new(),
        };
        engine.recount()?;
        Ok(engine)
    }
}

/// Does what a record of the log says.
fn replay(shards: &Shards, table: &mut Memtable, lsn: Lsn, record: &[u8]) -> Result<(), OpenError> {
    let record = Record::decode(record).map_err(|_| Damage {
        file: "log".into(),
        position: lsn.0,
        what: "a record is malformed, by its number,",
    })?;
    let shards = shards.read();
    let below = Lookup { tables: [None; 3], shards: &shards };
    Ok(Stage { table, below }.apply(lsn, &record)?)
}
