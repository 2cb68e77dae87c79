use alloc::{boxed::Box, vec::Vec};

use crate::header::GeometryError;

/// The most size classes that a pool can have.
pub const MAX_CLASSES: usize = 16;
/// The class number under which sealed payloads are counted.
pub const SEALED: u8 = MAX_CLASSES as u8;
const MAX_SLOTS: u32 = 1 << 16;
const MAX_SLOT_SIZE: u32 = 1 << 30;
const SLOT_ALIGN: u32 = 64;

/// A slot of a pool: its class and its number in the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId {
    /// The size class.
    pub class: u8,
    /// The number within the class, through all its extents.
    pub index: u16,
}

/// A size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// Size of each slot in bytes: a multiple of 64, so that no two share a cache line.
    pub slot_size: u32,
    /// Slots in one extent.
    pub extent_slots: u32,
    /// The most extents that the class grows to.
    pub max_extents: u32,
}

impl SizeClass {
    /// The most slots that the class can have.
    #[must_use]
    pub const fn max_slots(&self) -> u32 {
        self.extent_slots.saturating_mul(self.max_extents)
    }

    /// Size of an extent in bytes.
    #[must_use]
    pub const fn extent_size(&self) -> u64 {
        (self.slot_size as u64).wrapping_mul(self.extent_slots as u64)
    }

    /// The extent that slot `index` lies in, and its distance from the extent's start in
    /// bytes.
    #[must_use]
    pub const fn place(&self, index: u16) -> (u32, u64) {
        let index = index as u32;
        match (index.checked_div(self.extent_slots), index.checked_rem(self.extent_slots)) {
            (Some(extent), Some(rest)) => {
                (extent, (rest as u64).wrapping_mul(self.slot_size as u64))
            }
            // A checked class has at least one slot in an extent.
            _ => (u32::MAX, 0),
        }
    }
}

/// The checked size classes of a pool, by rising size, and how many sealed payloads
/// can be under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolGeometry {
    classes: Vec<SizeClass>,
    sealed: u16,
}

impl PoolGeometry {
    /// A pool of `classes`, with up to `sealed` sealed payloads under way.
    ///
    /// # Errors
    ///
    /// [`GeometryError`] for more than 16 classes, slot sizes that are not rising
    /// multiples of 64 up to 1 GiB, or a class without slots or with more than 65,536.
    pub fn new(classes: &[SizeClass], sealed: u16) -> Result<Self, GeometryError> {
        if classes.len() > MAX_CLASSES {
            return Err(GeometryError::Classes(classes.len() as u64));
        }
        let mut smaller = 0;
        for class in classes {
            let size = class.slot_size;
            if size == 0 || size % SLOT_ALIGN != 0 || size > MAX_SLOT_SIZE {
                return Err(GeometryError::SlotSize(size.into()));
            }
            if size <= smaller {
                return Err(GeometryError::SlotOrder(size.into()));
            }
            smaller = size;
            let slots = u64::from(class.extent_slots).saturating_mul(class.max_extents.into());
            if slots == 0 || slots > MAX_SLOTS.into() {
                return Err(GeometryError::SlotCount(slots));
            }
        }
        Ok(Self { classes: classes.to_vec(), sealed })
    }

    /// The size classes.
    #[must_use]
    pub fn classes(&self) -> &[SizeClass] {
        &self.classes
    }

    /// How many sealed payloads can be under way at once.
    #[must_use]
    pub fn sealed(&self) -> u16 {
        self.sealed
    }

    /// The class of this number.
    #[must_use]
    pub fn class(&self, number: u8) -> Option<&SizeClass> {
        self.classes.get(usize::from(number))
    }

    /// The number of acks that the receiver of this pool needs.
    #[must_use]
    pub fn acks(&self) -> u32 {
        self.first_ack(SEALED).saturating_add(self.sealed.into())
    }

    /// The largest slot, in bytes; 0 without classes.
    #[must_use]
    pub fn largest_slot(&self) -> u32 {
        self.classes.last().map_or(0, |class| class.slot_size)
    }

    /// Whether a class has such a slot, grown as far as it can, or sealed payloads such
    /// a number.
    #[must_use]
    pub(super) fn has(&self, slot: SlotId) -> bool {
        let count = match self.class(slot.class) {
            Some(class) => class.max_slots(),
            None if slot.class == SEALED => self.sealed.into(),
            None => 0,
        };
        u32::from(slot.index) < count
    }

    /// The number of the first ack of a class.
    pub(super) fn first_ack(&self, class: u8) -> u32 {
        self.classes
            .iter()
            .take(class.into())
            .fold(0, |sum: u32, class| sum.saturating_add(class.max_slots()))
    }

    pub(super) fn counts(&self) -> Box<[u32]> {
        (0..self.acks()).map(|_| 0).collect()
    }
}
