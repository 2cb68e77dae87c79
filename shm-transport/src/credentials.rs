use std::{fmt, sync::Arc};

pub use crate::os::process::PeerCredentials;

/// Which processes may be at the other end of a link.
///
/// ```
/// use shm_transport::CredentialsPolicy;
///
/// let group = 1000;
/// let policy = CredentialsPolicy::custom(move |peer| peer.gid == group);
/// # let _ = policy;
/// ```
#[derive(Clone, Default)]
pub struct CredentialsPolicy(Rule);

#[derive(Clone, Default)]
enum Rule {
    #[default]
    SameUser,
    AnyUser,
    Custom(Arc<dyn Fn(&PeerCredentials) -> bool + Send + Sync>),
}

impl CredentialsPolicy {
    /// Processes of this process's effective user, and no others. The default.
    #[must_use]
    pub fn same_user() -> Self {
        Self(Rule::SameUser)
    }

    /// Every process that can reach the socket's directory.
    #[must_use]
    pub fn any_user() -> Self {
        Self(Rule::AnyUser)
    }

    /// Processes for which `rule` says `true`.
    #[must_use]
    pub fn custom(rule: impl Fn(&PeerCredentials) -> bool + Send + Sync + 'static) -> Self {
        Self(Rule::Custom(Arc::new(rule)))
    }

    pub(crate) fn permits(&self, peer: &PeerCredentials) -> bool {
        match &self.0 {
            Rule::SameUser => peer.uid == rustix::process::geteuid().as_raw(),
            Rule::AnyUser => true,
            Rule::Custom(rule) => rule(peer),
        }
    }

    /// Whether processes of other users need to reach the socket at all.
    pub(crate) fn admits_others(&self) -> bool {
        !matches!(self.0, Rule::SameUser)
    }
}

impl fmt::Debug for CredentialsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Rule::SameUser => "same user",
            Rule::AnyUser => "any user",
            Rule::Custom(_) => "custom",
        })
    }
}
