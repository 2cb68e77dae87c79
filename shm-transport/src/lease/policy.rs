use std::env;

use crate::error::LeaseError;

/// The environment variable that switches leases on or off.
const VARIABLE: &str = "SHM_LEASE";

/// Whether leases are taken.
///
/// What the code says counts. Where it says nothing, the environment variable `SHM_LEASE`
/// does: `on` or `off`. Without it they are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeasePolicy {
    /// As `SHM_LEASE` says.
    #[default]
    Environment,
    /// Leases are taken, whatever the environment says.
    On,
    /// No lease is taken, whatever the environment says: nothing is opened, locked or made.
    Off,
}

impl LeasePolicy {
    pub(crate) fn is_on(self) -> Result<bool, LeaseError> {
        match self {
            Self::On => Ok(true),
            Self::Off => Ok(false),
            Self::Environment => match env::var_os(VARIABLE) {
                None => Ok(true),
                Some(value) if value == "on" => Ok(true),
                Some(value) if value == "off" => Ok(false),
                // Not a guess: two processes that guess differently do not see each other.
                Some(value) => Err(LeaseError::Variable(value)),
            },
        }
    }
}
