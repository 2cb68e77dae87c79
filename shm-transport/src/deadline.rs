use std::time::{Duration, Instant};

/// How long a call may wait.
///
/// Most callers pass a [`Duration`] or an [`Instant`], which convert.
///
/// ```
/// use shm_transport::Deadline;
/// use std::time::Duration;
///
/// let soon: Deadline = Duration::from_millis(5).into();
/// assert!(!soon.has_passed());
/// assert!(Deadline::NOW.has_passed());
/// assert!(!Deadline::NEVER.has_passed());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Limit);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Never,
    At(Instant),
    /// The clock is read only when the call really has to wait.
    After(Duration),
}

impl Deadline {
    /// Wait for as long as it takes. The call still ends when the peer dies.
    pub const NEVER: Self = Self(Limit::Never);
    /// Do not wait.
    pub const NOW: Self = Self(Limit::After(Duration::ZERO));

    /// The same deadline as a point in time.
    #[must_use]
    pub(crate) fn fixed(self) -> Self {
        match self.0 {
            // A duration beyond what the clock can express is for ever.
            Limit::After(wait) => {
                Self(Instant::now().checked_add(wait).map_or(Limit::Never, Limit::At))
            }
            _ => self,
        }
    }

    /// What is left; `None` for ever.
    pub(crate) fn remaining(self) -> Option<Duration> {
        match self.0 {
            Limit::Never => None,
            Limit::At(at) => Some(at.saturating_duration_since(Instant::now())),
            Limit::After(wait) => Some(wait),
        }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// The earlier of this deadline and `other`, as time left.
    pub(crate) fn remaining_at_most(self, other: Option<Duration>) -> Option<Duration> {
        match (self.remaining(), other) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl From<Duration> for Deadline {
    fn from(wait: Duration) -> Self {
        Self(Limit::After(wait))
    }
}

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Self {
        Self(Limit::At(at))
    }
}
