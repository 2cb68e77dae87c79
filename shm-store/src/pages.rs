//! Reading a stream page by page.

use shm_transport::lease::Reader;

use crate::{From, Page, ReadError, Store, StreamId, client::Ahead};

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
    /// While there is more to read: keeps the log.
    pin: Option<Reader>,
    /// The next page, which the owner looks up while this one is used.
    ahead: Option<Ahead>,
}

impl Pages {
    pub(crate) fn new(store: Store, name: String, from: From) -> Self {
        Self { store, name, stream: None, from: Some(from), pin: None, ahead: None }
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ReadError>;

    /// The next page; after an error, the same one is tried again.
    fn next(&mut self) -> Option<Self::Item> {
        let from = self.from?;
        let ahead = self.ahead.take().and_then(|ahead| self.store.asked_ahead(ahead));
        let page = match ahead {
            // What was the end then may not be it now.
            Some(page) if !page.up_to_date && !page.closed => Ok(page),
            _ => self.store.read_of(&self.name, self.stream, from),
        };
        if let Ok(page) = &page {
            self.stream = Some(page.stream);
            let more = !page.up_to_date && !page.closed;
            if more {
                self.ahead = self.store.ask_ahead(&self.name, page.stream, page.next);
            }
            self.from = more.then_some(From::Offset(page.next));
            self.pin = self.store.pin_if(more, self.pin.take());
        }
        Some(page)
    }
}
