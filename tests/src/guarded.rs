//! Memory that ends at a page that nobody may touch: who reads or writes beyond its end gets a
//! signal.

use std::ptr::NonNull;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use shm_primitives::{Mapped, Memory, Offset};

const PAGE: usize = 4096;

/// Pages between two that nobody may touch.
#[derive(Debug)]
pub struct Guarded {
    base: NonNull<u8>,
    /// Bytes between the guards.
    size: usize,
}

impl Guarded {
    /// Room for up to `size` bytes.
    ///
    /// # Panics
    ///
    /// If there is no memory.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = size.next_multiple_of(PAGE);
        let all = size + 2 * PAGE;
        // SAFETY: a new mapping wherever the kernel likes touches no memory in use.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), all, ProtFlags::empty(), MapFlags::PRIVATE)
        };
        let base = NonNull::new(base.expect("memory").cast::<u8>()).expect("memory");
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: within the mapping that was just made, to which nobody else has an address.
        unsafe { mprotect(base.as_ptr().add(PAGE).cast(), size, access) }.expect("accessible");
        Self { base, size }
    }

    /// A region of `size` bytes, a multiple of 8, that ends at the guard; it holds `content`, cut
    /// off or filled up with zeroes. It is valid as long as this value lives and until the next
    /// region is taken.
    ///
    /// # Panics
    ///
    /// If there is not so much room.
    pub fn region(&mut self, size: usize, content: &[u8]) -> Mapped {
        assert!(size <= self.size && size.is_multiple_of(8), "{size} bytes");
        // SAFETY: inside the mapping: `size` bytes before the second guard.
        let start = unsafe { self.base.as_ptr().add(PAGE + self.size - size) };
        // SAFETY: readable and writable bytes of this value's own mapping, aligned to 8 as a
        // page's end less a multiple of 8 is; nobody holds a reference into it. That the
        // caller keeps this value is documented.
        let region = unsafe { Mapped::new(start, size) };
        let content = &content[..content.len().min(size)];
        region.write(Offset::new(0), content);
        region.write(Offset::new(content.len() as u64), &vec![0; size - content.len()]);
        region
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and by the contract of `region` nobody uses
        // an address in it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.size + 2 * PAGE) };
    }
}
