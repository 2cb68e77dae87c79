//! Who published a frame, and as its how-manyth.
use core::{fmt, str::FromStr};

/// The most nodes that a fleet can have.
pub const MAX_NODES: u32 = 1 << NODE_BITS;
/// The largest counter of an id: 46 bits, two centuries at ten thousand frames a second.
pub const MAX_COUNTER: u64 = (1 << COUNTER_BITS) - 1;

const NODE_BITS: u32 = 10;
const COUNTER_BITS: u32 = 46;
const _: () = assert!(8 + NODE_BITS + COUNTER_BITS == 64);

/// The name of a frame: the kind of its ring, the node that published it, and that
/// node's counter. 64 bits; no two committed frames of a ring have the same.
///
/// ```text
///  63    56 55       46 45                         0
/// ┌────────┬───────────┬────────────────────────────┐
/// │ kind 8 │  node 10  │         counter 46         │
/// └────────┴───────────┴────────────────────────────┘
/// ```
///
/// Its text is `kind-node-counter`, the kind as two hexadecimal digits.
///
/// ```
/// use shm_primitives::fleet::FleetId;
///
/// let id = FleetId::new(0x2a, 3, 17).expect("in range");
/// assert_eq!(id.to_string(), "2a-3-17");
/// assert_eq!("2a-3-17".parse(), Ok(id));
/// assert_eq!(FleetId::from_bits(id.bits()), id);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetId(u64);

impl FleetId {
    /// The id of these parts; none if the node or the counter is too large.
    #[must_use]
    pub const fn new(kind: u8, node: u32, counter: u64) -> Option<Self> {
        if node >= MAX_NODES || counter > MAX_COUNTER {
            return None;
        }
        Some(Self((kind as u64) << 56 | (node as u64) << COUNTER_BITS | counter))
    }

    /// The id that these bits are; all 64-bit numbers are ids.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The id as a number.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The kind of the ring.
    #[must_use]
    pub const fn kind(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The node that published the frame.
    #[must_use]
    pub const fn node(self) -> u32 {
        (self.0 >> COUNTER_BITS) as u32 & (MAX_NODES - 1)
    }

    /// Grows with each frame that the node publishes in the ring.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 & MAX_COUNTER
    }
}

impl fmt::Display for FleetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}-{}-{}", self.kind(), self.node(), self.counter())
    }
}

/// Text that is not a frame's id, such as `2a-3-17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseFleetIdError;

impl fmt::Display for ParseFleetIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a frame's id: expected kind, node and counter, such as 2a-3-17")
    }
}

impl core::error::Error for ParseFleetIdError {}

impl FromStr for FleetId {
    type Err = ParseFleetIdError;

    fn from_str(text: &str) -> Result<Self, ParseFleetIdError> {
        // One text for each id: no signs, no leading zeroes, two small digits of kind.
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'));
            if plain { text.parse::<u64>().ok() } else { None }
        };
        let mut parts = text.split('-');
        let (Some(kind), Some(node), Some(counter), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ParseFleetIdError);
        };
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if kind.len() != 2 || !kind.bytes().all(digits) {
            return Err(ParseFleetIdError);
        }
        let kind = u8::from_str_radix(kind, 16).map_err(|_| ParseFleetIdError)?;
        let node = number(node).and_then(|node| u32::try_from(node).ok());
        let (Some(node), Some(counter)) = (node, number(counter)) else {
            return Err(ParseFleetIdError);
        };
        Self::new(kind, node, counter).ok_or(ParseFleetIdError)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn text_and_bits_come_back_at_the_ends_of_each_range() {
        for kind in [0, 1, 0x0a, 0xff] {
            for node in [0, 1, MAX_NODES - 1] {
                for counter in [0, 1, MAX_COUNTER] {
                    let id = FleetId::new(kind, node, counter).unwrap();
                    assert_eq!((id.kind(), id.node(), id.counter()), (kind, node, counter));
                    assert_eq!(FleetId::from_bits(id.bits()), id);
                    assert_eq!(id.to_string().parse(), Ok(id));
                }
            }
        }
        assert_eq!(FleetId::new(0, MAX_NODES, 0), None);
        assert_eq!(FleetId::new(0, 0, MAX_COUNTER + 1), None);
    }

    #[test]
    fn other_text_is_refused() {
        let texts = [
            "",
            "-",
            "--",
            "2a",
            "2a-3",
            "2a-3-",
            "2a-3-17-",
            "2a-3-17-1",
            "a-3-17",
            "02a-3-17",
            "2A-3-17",
            "+a-3-17",
            "2a-+3-17",
            "2a-03-17",
            "2a-3-017",
            "2a-1024-0",
            "2a-3-70368744177664",
            "2a-3-99999999999999999999",
            "2a 3 17",
            " 2a-3-17",
            "2a-é-1",
        ];
        for text in texts {
            assert_eq!(text.parse::<FleetId>(), Err(ParseFleetIdError), "{text:?}");
        }
    }
}
