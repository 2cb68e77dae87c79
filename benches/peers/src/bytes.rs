use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};

use shm_benches::{Error, Setup, Side, Workload, poll};

use crate::Wait;

/// Bytes that are read or written at once where messages are small.
const CHUNK: usize = 64 << 10;

/// Messages of one length over two streams of bytes, or over both directions of one.
pub struct Bytes<R: Read, W: Write> {
    reader: BufReader<Waiting<R>>,
    writer: BufWriter<Waiting<W>>,
    /// Whether there may be more than one message to read at a time.
    many: bool,
    size: usize,
}

impl<R: Read, W: Write> Bytes<R, W> {
    /// Both descriptors block or not, as `wait` says.
    pub fn new(reader: R, writer: W, wait: Wait, setup: &Setup) -> Self {
        Self {
            reader: BufReader::with_capacity(CHUNK, Waiting { inner: reader, wait }),
            writer: BufWriter::with_capacity(CHUNK, Waiting { inner: writer, wait }),
            many: setup.workload == Workload::Stream,
            size: setup.size,
        }
    }
}

impl<R: Read, W: Write> Side for Bytes<R, W> {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        Ok(self.writer.get_mut().write_all(message)?)
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        if self.many {
            self.reader.read_exact(buffer)?;
        } else {
            // Spares the copy out of the buffer.
            self.reader.get_mut().read_exact(buffer)?;
        }
        Ok(())
    }

    fn send_batch(&mut self, messages: &[Vec<u8>]) -> Result<(), Error> {
        for message in messages {
            self.writer.write_all(message)?;
        }
        Ok(self.writer.flush()?)
    }

    fn receive_batch(
        &mut self,
        buffer: &mut [u8],
        count: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            // A message that does not fit is read straight into the caller's buffer.
            let whole =
                if self.size < CHUNK { self.reader.fill_buf()?.len() / self.size } else { 0 };
            if whole == 0 {
                self.reader.read_exact(buffer)?;
                each(buffer);
                left -= 1;
                continue;
            }
            let few = whole.min(left);
            let bytes = few * self.size;
            for message in self.reader.buffer()[..bytes].chunks_exact(self.size) {
                buffer.copy_from_slice(message);
                each(buffer);
            }
            self.reader.consume(bytes);
            left -= few;
        }
        Ok(())
    }
}

/// A stream that asks again when there is nothing, or no room, if it is polled.
struct Waiting<T> {
    inner: T,
    wait: Wait,
}

impl<T> Waiting<T> {
    #[inline]
    fn until_done(
        &mut self,
        mut operation: impl FnMut(&mut T) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut result = operation(&mut self.inner);
        if self.wait == Wait::Polled && is_nothing(&result) {
            poll(|| {
                result = operation(&mut self.inner);
                !is_nothing(&result)
            })
            .map_err(io::Error::other)?;
        }
        result
    }
}

#[inline]
fn is_nothing(result: &io::Result<usize>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

impl<T: Read> Read for Waiting<T> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_done(|inner| inner.read(buffer))
    }
}

impl<T: Write> Write for Waiting<T> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_done(|inner| inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
