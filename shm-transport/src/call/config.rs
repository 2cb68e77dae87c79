/// How many calls are in flight at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallConfig {
    /// Calls of this side that have no answer yet, at most. The other side may allow fewer.
    /// Default 64.
    pub max_in_flight: u32,
    /// Calls of the other side that are handled at once, at most. Default 64. What they hold in
    /// memory is up to this many requests and as many answers, each of a link's largest message.
    pub max_served: u32,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self { max_in_flight: 64, max_served: 64 }
    }
}
