//! Reading a stream page by page.

use crate::{From, Page, ReadError, Store, StreamId};

/// All pages of a stream from a position on, up to its end.
///
/// Each page is from one snapshot, and begins where the one before ended. The end is where
/// the stream ends when that is come to.
///
/// ```
/// use shm_store::{From, Store};
///
/// let store = Store::in_memory()?;
/// store.create("stream", Default::default())?;
/// store.append_batch("stream", ["a", "b"])?;
/// let mut entries = Vec::new();
/// for page in store.pages("stream", From::Start) {
///     entries.extend(page?.entries);
/// }
/// assert_eq!(entries.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pages {
    store: Store,
    name: String,
    stream: Option<StreamId>,
    from: Option<From>,
}

impl Pages {
    pub(crate) fn new(store: Store, name: String, from: From) -> Self {
        Self { store, name, stream: None, from: Some(from) }
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ReadError>;

    /// The next page; after an error, the same one is tried again.
    fn next(&mut self) -> Option<Self::Item> {
        let page = self.store.read_of(&self.name, self.stream, self.from?);
        if let Ok(page) = &page {
            self.stream = Some(page.stream);
            self.from = (!page.up_to_date && !page.closed).then_some(From::Offset(page.next));
        }
        Some(page)
    }
}
