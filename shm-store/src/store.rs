//! What users hold.

use std::{
    io,
    ops::Deref,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use shm_transport::lease::Reader;

use crate::{
    Append, Durability, From, Head, Lsn, Offset, OpenError, Options, Page, Pages, ReadError, Stat,
    StreamConfig, StreamId, Tail, Verified, WriteError, Written,
    client::{Ahead, Client, strange_answer},
    fs::MemoryFs,
    layout::Layout,
    operation::Write,
    place::Home,
    protocol::{Answer, MAX_LISTED, MAX_PAGE, MAX_PAGE_ENTRIES, Request},
};

/// How long a call waits for an owner and its answer, if it is not told otherwise.
const WAIT: Duration = Duration::from_secs(30);
/// The longest text.
const MAX_TEXT: usize = 255;
/// The most bytes of an operation that any store takes.
const MAX_OPERATION: u64 = 64 << 20;

/// A store of streams, open in any number of processes at once.
///
/// The first process that opens a store owns it and serves the others; nobody configures
/// which. When the owner leaves or dies, the next call in another process makes that one the
/// owner, and all handles go on: a call that was under way is repeated where that cannot do
/// anything twice, and otherwise says that its outcome is unknown
/// ([`WriteError::Indeterminate`]).
///
/// Clones are handles of the same opening. A store is closed when the last one is dropped,
/// with all [`Tail`]s. In a child that is forked from the process it does not work.
///
/// ```
/// use shm_store::{From, Store, StreamConfig};
///
/// let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path().join("store"))?;
/// store.create("greetings", StreamConfig::default())?;
/// store.append("greetings", "hello")?;
/// // The same in any other process, while this one has it open.
/// let other = Store::open(directory.path().join("store"))?;
/// let page = other.read("greetings", From::Start)?;
/// assert_eq!(page.entries[0].data, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    client: Arc<Client>,
    wait: Duration,
}

/// A write was done. Which of the two it is, is fixed when the store is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// It is on the disk, whatever happens.
    Durable(Written),
    /// It is in the system's hands: it survives the death of any process, and a loss of
    /// power some milliseconds later.
    Relaxed(Written),
}

impl Deref for Ack {
    type Target = Written;

    fn deref(&self) -> &Written {
        let (Self::Durable(written) | Self::Relaxed(written)) = self;
        written
    }
}

impl Store {
    /// Opens the store in a directory, or makes one there. One that is there is opened as it
    /// is; one that is made has the default [`Options`].
    ///
    /// # Errors
    ///
    /// [`OpenError`]. What may pass is tried again by itself, for up to 30 seconds.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, OpenError> {
        let home = Home::directory(directory.as_ref())?;
        let options = match layout_of(&home)? {
            Some(Layout { shards, durability, .. }) => {
                Options { shards, durability, ..Options::default() }
            }
            None => Options::default(),
        };
        Self::open_at(home, options)
    }

    /// Opens the store in a directory, or makes one there.
    ///
    /// # Errors
    ///
    /// [`OpenError::Layout`] if it is another one than the options say, and as
    /// [`open`](Self::open).
    pub fn open_with(directory: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        options.check()?;
        let home = Home::directory(directory.as_ref())?;
        // Whoever owns it: the owner looks at its own options only.
        if let Some(layout) = layout_of(&home)? {
            layout.agrees(&options)?;
        }
        Self::open_at(home, options)
    }

    /// A new store in the memory of this process, which is gone with its last handle.
    ///
    /// ```
    /// let store = shm_store::Store::in_memory()?;
    /// store.create("stream", Default::default())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn in_memory() -> Result<Self, OpenError> {
        Self::in_memory_with(Options::default())
    }

    /// A new store in the memory of this process.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn in_memory_with(options: Options) -> Result<Self, OpenError> {
        options.check()?;
        Self::open_at(Home::memory(Arc::new(MemoryFs::default()))?, options)
    }

    pub(crate) fn open_at(home: Home, options: Options) -> Result<Self, OpenError> {
        let store = Self { client: Arc::new(Client::new(home, options)), wait: WAIT };
        drop(store.client.connection(store.deadline())?);
        Ok(store)
    }

    /// The same store, whose calls wait so long for an owner and its answer. Otherwise they
    /// wait up to 30 seconds.
    #[must_use]
    pub fn waiting(&self, wait: Duration) -> Self {
        Self { client: Arc::clone(&self.client), wait }
    }

    /// The store's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.client.directory()
    }

    /// Whether this process owns the store now, through this opening.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.client.is_owner()
    }

    /// Makes a stream. If one with this configuration is there, this is
    /// [`repeated`](Written::repeated).
    ///
    /// # Errors
    ///
    /// [`WriteError::Mismatch`] if it is there with another one.
    pub fn create(&self, name: &str, config: StreamConfig) -> Result<Ack, WriteError> {
        self.create_with(name, config, Append::default())
    }

    /// Makes a stream with its first entries, and closed if `first` says so. Of `first`, sequence
    /// and producer are not looked at.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_with(
        &self,
        name: &str,
        config: StreamConfig,
        first: Append,
    ) -> Result<Ack, WriteError> {
        let Append { entries, close, .. } = first;
        self.write(Write::Create { name: name.into(), config, entries, close })
    }

    /// Appends one entry.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn append(&self, name: &str, entry: impl Into<Bytes>) -> Result<Ack, WriteError> {
        self.append_batch(name, [entry.into()])
    }

    /// Appends entries: all of them, or none.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn append_batch(
        &self,
        name: &str,
        entries: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Result<Ack, WriteError> {
        let entries = entries.into_iter().map(Into::into).collect();
        self.append_with(name, Append { entries, ..Append::default() })
    }

    /// Appends as it says: with a sequence, by a producer, closing the stream.
    ///
    /// Only an append by a producer is repeated when the owner dies: it happens exactly once.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn append_with(&self, name: &str, append: Append) -> Result<Ack, WriteError> {
        self.write(Write::Append { name: name.into(), append })
    }

    /// Closes a stream: nothing can be appended any more. Closing it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn close(&self, name: &str) -> Result<Ack, WriteError> {
        self.append_with(name, Append { close: true, ..Append::default() })
    }

    /// Deletes a stream. While forks of it live, its name cannot be used.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn delete(&self, name: &str) -> Result<Ack, WriteError> {
        self.write(Write::Delete { name: name.into() })
    }

    /// Makes a stream that begins with what stands in another one before `at`, or with all
    /// of it.
    ///
    /// # Errors
    ///
    /// [`WriteError::BadOffset`] if there is no such position.
    pub fn fork(
        &self,
        name: &str,
        from: &str,
        at: Option<Offset>,
        config: StreamConfig,
    ) -> Result<Ack, WriteError> {
        self.write(Write::Fork { name: name.into(), from: from.into(), at, config })
    }

    /// Reads a page: entries in a row, from one snapshot, of about a megabyte at the most.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn read(&self, name: &str, from: From) -> Result<Page, ReadError> {
        self.read_of(name, None, from)
    }

    /// All pages from a position up to the end that the stream has when it is come to.
    #[must_use]
    pub fn pages(&self, name: &str, from: From) -> Pages {
        Pages::new(self.clone(), name.into(), from)
    }

    /// Follows a stream from a position on, and does not end before the stream does.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn tail(&self, name: &str, from: From) -> Result<Tail, ReadError> {
        Tail::new(self.clone(), name.into(), from)
    }

    /// What a stream is.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn head(&self, name: &str) -> Result<Head, ReadError> {
        check_name(name)?;
        match self.ask(&Request::Head { name: name.into() })? {
            Answer::Head(result) => result,
            _ => Err(strange_answer()),
        }
    }

    /// Whether there is such a stream.
    ///
    /// # Errors
    ///
    /// [`ReadError`], if that is not known.
    pub fn exists(&self, name: &str) -> Result<bool, ReadError> {
        match self.head(name) {
            Ok(_) => Ok(true),
            Err(ReadError::NotFound | ReadError::Tombstone) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The streams whose names begin with `prefix` and come after `after`, by name: up to
    /// 1000, so ask again after the last one.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Head>, ReadError> {
        if prefix.len() > MAX_TEXT || after.is_some_and(|after| after.len() > MAX_TEXT) {
            return Ok(Vec::new());
        }
        let (prefix, after) = (prefix.into(), after.map(Into::into));
        match self.ask(&Request::List { prefix, after, limit: MAX_LISTED })? {
            Answer::List(result) => result,
            _ => Err(strange_answer()),
        }
    }

    /// Sizes of the store, and who owns it.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn stat(&self) -> Result<Stat, ReadError> {
        match self.ask(&Request::Stat)? {
            Answer::Stat(stat) => Ok(stat),
            _ => Err(strange_answer()),
        }
    }

    /// Up to which operation everything survives a loss of power. It never goes back.
    ///
    /// The owner shows it in memory that all processes map, before it answers what it has
    /// synced: nobody is asked, unless an owner has to be found first. With it, who appends to
    /// a `Relaxed` store sees when a write is on the disk.
    ///
    /// ```
    /// let store = shm_store::Store::in_memory()?;
    /// let created = store.create("stream", Default::default())?;
    /// assert!(store.durable_lsn()? >= created.lsn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError`], if there is no owner and none could be found.
    pub fn durable_lsn(&self) -> Result<Lsn, ReadError> {
        self.client.durable(self.deadline())
    }

    /// Checks everything that the store has: each record of the log, entry, offset, fork and
    /// sum. Others go on meanwhile; it takes as long as reading everything.
    ///
    /// # Errors
    ///
    /// [`ReadError`], if it could not be done.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        match self.ask(&Request::Verify)? {
            Answer::Verified(verified) => Ok(verified),
            _ => Err(strange_answer()),
        }
    }

    /// A page, of the stream that is expected.
    pub(crate) fn read_of(
        &self,
        name: &str,
        expected: Option<StreamId>,
        from: From,
    ) -> Result<Page, ReadError> {
        check_name(name)?;
        match self.ask(&page_request(name, expected, from))? {
            Answer::Page(result) => result,
            _ => Err(strange_answer()),
        }
    }

    /// Asks for a page that will be wanted soon.
    pub(crate) fn ask_ahead(&self, name: &str, expected: StreamId, from: Offset) -> Option<Ahead> {
        self.client.ask_ahead(&page_request(name, Some(expected), From::Offset(from)))
    }

    /// That page, if it is there now or soon.
    pub(crate) fn asked_ahead(&self, ahead: Ahead) -> Option<Page> {
        match ahead.answer(self.deadline()) {
            Some(Answer::Page(page)) => page.ok(),
            _ => None,
        }
    }

    /// Keeps the log from what is visible now on while there is more to read, if it is not
    /// kept already.
    pub(crate) fn pin_if(&self, more: bool, pin: Option<Reader>) -> Option<Reader> {
        if !more || pin.is_some() {
            return pin.filter(|_| more);
        }
        self.client.pin(self.stat().ok()?.visible)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    fn deadline(&self) -> Instant {
        deadline(self.wait)
    }

    fn ask(&self, request: &Request) -> Result<Answer, ReadError> {
        self.client.ask(request, self.deadline())
    }

    pub(crate) fn write(&self, write: Write) -> Result<Ack, WriteError> {
        check(&write)?;
        let (durability, written) = self.client.write(write, self.deadline())?;
        Ok(match durability {
            Durability::Durable => Ack::Durable(written),
            Durability::Relaxed => Ack::Relaxed(written),
        })
    }
}

fn page_request(name: &str, expected: Option<StreamId>, from: From) -> Request {
    let name = name.into();
    let (max_bytes, max_entries) = (MAX_PAGE, MAX_PAGE_ENTRIES);
    Request::Read { name, expected, from, max_bytes, max_entries }
}

/// What is fixed about a store that is there.
fn layout_of(home: &Home) -> Result<Option<Layout>, OpenError> {
    match Layout::read(&*home.files(), home.place().directory()) {
        Ok(layout) => Ok(Some(layout)),
        // The owner says whether that is right.
        Err(OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// When a wait that begins now ends.
pub(crate) fn deadline(wait: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    Instant::now() + wait.min(LONG)
}

/// What cannot even be said to the owner.
fn check(write: &Write) -> Result<(), WriteError> {
    let (texts, entries): (Vec<&[u8]>, &[Bytes]) = match write {
        Write::Create { name, config, entries, .. } => {
            (vec![name.as_bytes(), config.content_type.as_bytes()], entries)
        }
        Write::Append { name, append: Append { entries, sequence, producer, .. } } => {
            let mut texts = vec![name.as_bytes(), sequence.as_deref().unwrap_or_default()];
            texts.extend(producer.as_ref().map(|producer| producer.id.as_bytes()));
            (texts, entries)
        }
        Write::Fork { name, from, config, .. } => {
            (vec![name.as_bytes(), from.as_bytes(), config.content_type.as_bytes()], &[])
        }
        Write::Delete { name } | Write::Touch { name } | Write::Expire { name, .. } => {
            (vec![name.as_bytes()], &[])
        }
    };
    if texts.iter().any(|text| text.len() > MAX_TEXT) {
        return Err(WriteError::BadName);
    }
    let bytes: u64 = entries.iter().map(|entry| entry.len() as u64).sum();
    if bytes > MAX_OPERATION {
        return Err(WriteError::TooLarge { limit: MAX_OPERATION });
    }
    Ok(())
}

/// There is no stream whose name is too long.
fn check_name(name: &str) -> Result<(), ReadError> {
    if name.len() > MAX_TEXT { Err(ReadError::NotFound) } else { Ok(()) }
}
