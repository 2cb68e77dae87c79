//! The header word of a ring entry.
//!
//! A frame starts with one little-endian 64-bit word; the payload of an inline frame
//! follows it, padded to 8 bytes. The word is loaded once and says everything:
//!
//! ```text
//!  63            32 31      16 15     8 7      0
//! ┌────────────────┬──────────┬────────┬────────┐
//! │     length     │  index   │ class  │  kind  │
//! └────────────────┴──────────┴────────┴────────┘
//! kind 0  nothing published here yet (the whole word is 0)
//!      1  inline: length bytes follow          (class, index 0)
//!      2  slot: length bytes in slot index of class
//!      3  sealed: a payload in memory of its own, passed as number index
//!                                              (class, length 0)
//!      4  padding up to the end of the ring    (class, index, length 0)
//! ```
use core::fmt;

use crate::pool::SlotId;

/// Size of a frame's header word, and the alignment of frames, in bytes.
pub const HEADER: u64 = 8;

/// A cache line, in bytes.
const LINE: u64 = 64;

/// What a frame's header word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message of `len` bytes that follow the header word.
    Inline {
        /// Bytes.
        len: u32,
    },
    /// A message of `len` bytes in a slot of the sender's pool.
    Slot {
        /// Which slot.
        slot: SlotId,
        /// Bytes.
        len: u32,
    },
    /// A message in sealed memory of its own, handed over by descriptor.
    Sealed {
        /// The number under which the descriptor was handed over.
        index: u16,
    },
    /// Unused bytes up to the end of the ring.
    Padding,
}

/// A header word that no honest producer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame(
    /// The word.
    pub u64,
);

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed frame header {:#018x}", self.0)
    }
}

impl core::error::Error for BadFrame {}

impl Frame {
    /// The header word.
    #[inline(always)]
    #[must_use]
    pub const fn encode(self) -> u64 {
        match self {
            Frame::Inline { len } => 1 | (len as u64) << 32,
            Frame::Slot { slot, len } => {
                2 | (slot.class as u64) << 8 | (slot.index as u64) << 16 | (len as u64) << 32
            }
            Frame::Sealed { index } => 3 | (index as u64) << 16,
            Frame::Padding => 4,
        }
    }

    /// Reads a header word; `None` when nothing is published there.
    ///
    /// # Errors
    ///
    /// [`BadFrame`] for an unknown kind, or bits set that the kind does not use.
    #[inline(always)]
    pub const fn decode(word: u64) -> Result<Option<Frame>, BadFrame> {
        let class = (word >> 8) as u8;
        let index = (word >> 16) as u16;
        let len = (word >> 32) as u32;
        let frame = match word as u8 {
            0 if word == 0 => return Ok(None),
            1 if class == 0 && index == 0 => Frame::Inline { len },
            2 => Frame::Slot { slot: SlotId { class, index }, len },
            3 if class == 0 && len == 0 => Frame::Sealed { index },
            4 if word == 4 => Frame::Padding,
            _ => return Err(BadFrame(word)),
        };
        Ok(Some(frame))
    }

    /// Bytes that the frame takes in the ring, its header word included. Padding takes
    /// what is left of the ring, which only the position says: here it counts as its
    /// header word.
    #[inline(always)]
    #[must_use]
    pub const fn footprint(self) -> u64 {
        match self {
            Frame::Inline { len } => footprint(len),
            _ => HEADER,
        }
    }
}

/// Bytes that an inline frame of `len` payload bytes takes in the ring.
///
/// A multiple of 8; a whole cache line from more than half of one on, so that frames of one
/// such size do not lie across two lines.
#[inline(always)]
#[must_use]
pub const fn footprint(len: u32) -> u64 {
    // At most 2^32 + 15: no overflow in 64 bits.
    let bytes = (len as u64).wrapping_add(HEADER + 7) & !7;
    if bytes > LINE / 2 && bytes < LINE { LINE } else { bytes }
}

/// Payload length that a header word says if it is an inline frame's.
#[inline(always)]
pub(crate) const fn inline_len(word: u64) -> Option<u32> {
    const INLINE: u32 = Frame::Inline { len: 0 }.encode() as u32;
    if word as u32 == INLINE { Some((word >> 32) as u32) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_survives_its_word() {
        for frame in [
            Frame::Inline { len: 0 },
            Frame::Inline { len: u32::MAX },
            Frame::Slot { slot: SlotId { class: 255, index: u16::MAX }, len: u32::MAX },
            Frame::Slot { slot: SlotId { class: 0, index: 0 }, len: 0 },
            Frame::Sealed { index: 9 },
            Frame::Padding,
        ] {
            assert_eq!(Frame::decode(frame.encode()), Ok(Some(frame)));
        }
    }

    #[test]
    fn words_that_nobody_writes_are_refused() {
        for word in [5, 255, 1 | 1 << 8, 1 | 1 << 16, 3 | 1 << 32, 4 | 1 << 63, 1 << 8, 1 << 32] {
            assert_eq!(Frame::decode(word), Err(BadFrame(word)));
        }
    }

    /// All but those of 9 to 16 payload bytes, which take 24: a line holds two and a part.
    #[test]
    fn small_frames_of_one_size_do_not_lie_across_lines() {
        for len in (0..=56).filter(|len| !(9..=16).contains(len)) {
            let footprint = footprint(len);
            assert!(footprint >= u64::from(len) + HEADER);
            for frame in 0..100 {
                let start = frame * footprint;
                assert_eq!(start / LINE, (start + footprint - 1) / LINE, "{len} bytes");
            }
        }
        assert!((9..=16).all(|len| footprint(len) == 24));
    }

    #[test]
    fn a_longer_frame_never_takes_less() {
        for len in 0..1000 {
            assert!(footprint(len) <= footprint(len + 1));
            assert_eq!(footprint(len) % 8, 0);
            assert!(footprint(len) < u64::from(len) + HEADER + LINE / 2);
        }
    }

    proptest::proptest! {
        #[test]
        fn an_inline_length_is_an_inline_frames(word: u64, len: u32) {
            for word in [word, Frame::Inline { len }.encode(), word | 1, u64::from(len)] {
                let frame = inline_len(word).map(|len| Ok(Some(Frame::Inline { len })));
                let decoded = Frame::decode(word);
                let inline = matches!(decoded, Ok(Some(Frame::Inline { .. })));
                proptest::prop_assert_eq!(frame, inline.then_some(decoded));
            }
        }

        #[test]
        fn a_word_is_refused_or_means_itself(word: u64) {
            if let Ok(Some(frame)) = Frame::decode(word) {
                proptest::prop_assert_eq!(frame.encode(), word);
            }
        }
    }
}
