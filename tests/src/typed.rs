//! Types for tests of typed messages. Of each there are two definitions, as of two versions of a
//! program.

use serde::{Deserialize, Serialize};
use shm_transport::typed::Declared;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Plain.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Reading {
    /// Any number.
    pub number: u64,
    /// Any value.
    pub value: f64,
}

impl Declared for Reading {
    const NAME: &'static str = "Reading";
}

/// A [`Reading`] of another size.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct LongReading {
    /// Any numbers.
    pub numbers: [u64; 3],
}

impl Declared for LongReading {
    const NAME: &'static str = "Reading";
}

/// For `serde`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Something to buy.
    Buy {
        /// What.
        what: String,
        /// How much of it, each time.
        amounts: Vec<u32>,
        /// Until when.
        until: Option<i64>,
    },
    /// Nothing.
    Nothing,
}

impl Declared for Order {
    const NAME: &'static str = "Order";
}

/// An [`Order`] after a field was changed.
pub mod later {
    use super::{Declared, Deserialize, Serialize};

    /// For `serde`.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum Order {
        /// Something to buy.
        Buy {
            /// What.
            what: String,
            /// How much of it, each time.
            amounts: Vec<u32>,
            /// Until when.
            until: Option<u64>,
        },
        /// Nothing.
        Nothing,
    }

    impl Declared for Order {
        const NAME: &'static str = "Order";
    }
}
