use std::sync::Arc;

use super::core::LinkCore;

/// Held by both halves of a link: when the last goes, the link is closed.
#[derive(Debug)]
pub(crate) struct Open(pub(crate) Arc<LinkCore>);

impl Drop for Open {
    fn drop(&mut self) {
        // In a forked child the link is its parent's to close.
        if self.0.is_own() {
            self.0.forget();
            self.0.close();
        }
    }
}
