#![allow(unsafe_code)]

use std::{mem::MaybeUninit, sync::Mutex};

use rtrb::{
    Consumer, Producer, RingBuffer,
    chunks::ChunkError::{self, TooFewSlots},
};
use shm_benches::{Error, Far, Opened, Runner, Setup, Side, System, Workload, poll};

/// A ring of bytes of rtrb, between two threads.
pub struct Rtrb {
    far: Mutex<Option<Ends>>,
}

impl Rtrb {
    /// Nobody has opened it.
    pub const fn new() -> Self {
        Self { far: Mutex::new(None) }
    }
}

struct Ends {
    producer: Producer<u8>,
    consumer: Consumer<u8>,
    size: usize,
}

/// Whole messages that can pass: `wanted`, or what there was instead.
#[inline]
fn whole<T>(result: &Result<T, ChunkError>, size: usize, wanted: usize) -> usize {
    match result {
        Ok(_) => wanted,
        Err(TooFewSlots(bytes)) => bytes / size,
    }
}

impl Ends {
    /// Writes the first of the messages, in one chunk, and says how many. It may be none.
    #[inline]
    fn write(&mut self, messages: &[Vec<u8>]) -> Result<usize, Error> {
        let size = self.size;
        let few =
            whole(&self.producer.write_chunk_uninit(messages.len() * size), size, messages.len());
        if few == 0 {
            return Ok(0);
        }
        let mut chunk = self.producer.write_chunk_uninit(few * size)?;
        let (one, other) = chunk.as_mut_slices();
        let slots = one.chunks_exact_mut(size).chain(other.chunks_exact_mut(size));
        for (slot, message) in slots.zip(messages) {
            slot.copy_from_slice(as_uninit(message));
        }
        // SAFETY: the ring's capacity and every position in it are multiples of the length
        // of a message, so the two slices have `few` slots in all, and each was written.
        unsafe { chunk.commit_all() };
        Ok(few)
    }
}

/// The same bytes, for a place that holds none yet.
#[inline]
fn as_uninit(bytes: &[u8]) -> &[MaybeUninit<u8>] {
    // SAFETY: initialised bytes are a valid value of possibly uninitialised ones, which have
    // the same layout, and nobody can write through a shared reference to them.
    unsafe { &*(std::ptr::from_ref(bytes) as *const [MaybeUninit<u8>]) }
}

impl Side for Ends {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        if self.producer.push_entire_slice(message).is_err() {
            poll(|| self.producer.push_entire_slice(message).is_ok())?;
        }
        Ok(())
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        if self.consumer.pop_entire_slice(buffer).is_err() {
            poll(|| self.consumer.pop_entire_slice(buffer).is_ok())?;
        }
        Ok(())
    }

    fn send_batch(&mut self, messages: &[Vec<u8>]) -> Result<(), Error> {
        let mut left = messages;
        while !left.is_empty() {
            let mut few = self.write(left)?;
            if few == 0 {
                poll(|| {
                    few = self.write(left).unwrap_or(0);
                    few > 0
                })?;
            }
            left = &left[few..];
        }
        Ok(())
    }

    fn receive_batch(
        &mut self,
        buffer: &mut [u8],
        count: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let (size, mut left) = (self.size, count);
        while left > 0 {
            let mut few = whole(&self.consumer.read_chunk(left * size), size, left);
            if few == 0 {
                poll(|| {
                    few = whole(&self.consumer.read_chunk(left * size), size, left);
                    few > 0
                })?;
            }
            let chunk = self.consumer.read_chunk(few * size)?;
            let (one, other) = chunk.as_slices();
            for message in one.chunks_exact(size).chain(other.chunks_exact(size)) {
                buffer.copy_from_slice(message);
                each(buffer);
            }
            chunk.commit_all();
            left -= few;
        }
        Ok(())
    }
}

impl System for Rtrb {
    fn name(&self) -> &'static str {
        "rtrb, threads"
    }

    fn far(&self) -> Far {
        Far::Thread
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        workload != Workload::Wake
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        let size = setup.size;
        // 64 KiB or four messages, as the rings by hand.
        let capacity = ((64 << 10) / size).max(4) * size;
        let (producer, there) = RingBuffer::new(capacity);
        let (back, consumer) = RingBuffer::new(capacity);
        let far = Ends { producer: back, consumer: there, size };
        *self.far.lock().map_err(|error| error.to_string())? = Some(far);
        Ok(Opened { near: Box::new(Ends { producer, consumer, size }), ticket: String::new() })
    }

    fn join(&self, _: &Setup, _: &str) -> Result<Box<dyn Runner>, Error> {
        let far = self.far.lock().map_err(|error| error.to_string())?.take();
        Ok(Box::new(far.ok_or("it has not been opened")?))
    }
}
