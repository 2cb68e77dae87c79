use std::io::IoSliceMut;

/// Where bytes that are read go to, piece by piece.
pub(super) trait Space {
    /// The next contiguous room, of up to `most` bytes; empty only if there is none at all.
    fn room(&mut self, most: usize) -> &mut [u8];
    /// The first `count` bytes of that room were filled.
    fn filled(&mut self, count: usize);
}

/// Buffers of the caller, one after the other.
pub(super) struct Buffers<'a, 'b>(&'a mut [IoSliceMut<'b>]);

impl<'a, 'b> Buffers<'a, 'b> {
    pub(super) fn new(buffers: &'a mut [IoSliceMut<'b>]) -> Self {
        Self(buffers)
    }
}

impl Space for Buffers<'_, '_> {
    fn room(&mut self, most: usize) -> &mut [u8] {
        let next = self.0.iter_mut().find(|buffer| !buffer.is_empty());
        let room = next.map_or::<&mut [u8], _>(&mut [], |buffer| buffer);
        let most = most.min(room.len());
        room.get_mut(..most).unwrap_or_default()
    }

    fn filled(&mut self, count: usize) {
        IoSliceMut::advance_slices(&mut self.0, count);
    }
}
