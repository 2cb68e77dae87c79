//! Operations of links.

use std::{error::Error, hint::black_box, time::Duration};

use shm_transport::{Link, LinkConfig};

use super::{BURST, TIMES, there, under_count};

type Done = Result<(), Box<dyn Error>>;

const WAIT: Duration = Duration::from_secs(10);
const BATCH: usize = 64;

/// Two ends, and a message with room for it.
struct Ends {
    left: Link,
    right: Link,
    message: Vec<u8>,
    buffer: Vec<u8>,
}

impl Ends {
    fn new(size: usize) -> Result<Self, Box<dyn Error>> {
        let (left, right) = Link::pair(&LinkConfig::default())?;
        let mut ends = Self { left, right, message: vec![7; size], buffer: vec![0; size] };
        // The first messages make the memory of the pool.
        ends.fill()?;
        ends.drain()?;
        Ok(ends)
    }

    fn fill(&mut self) -> Done {
        (0..BURST).try_for_each(|_| Ok(self.left.send(&self.message, WAIT)?))
    }

    fn drain(&mut self) -> Done {
        while self.right.try_recv()?.is_some() {}
        Ok(())
    }
}

pub fn send(size: usize) -> Done {
    let mut ends = Ends::new(size)?;
    for _ in 0..TIMES / BURST {
        let message = black_box(ends.message.as_slice());
        under_count(BURST, || ends.left.send(message, WAIT))?;
        ends.drain()?;
    }
    Ok(())
}

pub fn receive(size: usize) -> Done {
    let mut ends = Ends::new(size)?;
    for _ in 0..TIMES / BURST {
        ends.fill()?;
        under_count(BURST, || ends.right.recv_into(&mut ends.buffer, WAIT))?;
    }
    Ok(())
}

/// As in a ping-pong: each side finds the ring as the other has just left it.
pub fn in_turn(size: usize) -> Done {
    let mut ends = Ends::new(size)?;
    let message = black_box(ends.message.as_slice());
    under_count(TIMES, || -> Result<usize, Box<dyn Error>> {
        ends.left.send(message, WAIT)?;
        Ok(ends.right.recv_into(&mut ends.buffer, WAIT)?)
    })
}

pub fn grant(size: usize) -> Done {
    let mut ends = Ends::new(size)?;
    for _ in 0..TIMES / BURST {
        let message = black_box(ends.message.as_slice());
        under_count(BURST, || {
            let mut grant = ends.left.sender.grant(size, WAIT)?;
            grant.copy_from_slice(message);
            grant.commit()
        })?;
        ends.drain()?;
    }
    Ok(())
}

pub fn send_batch() -> Done {
    let mut ends = Ends::new(0)?;
    let messages = black_box([[7; 16]; BATCH]);
    for _ in 0..TIMES {
        under_count(1, || ends.left.sender.send_batch(&messages, WAIT))?;
        ends.drain()?;
    }
    Ok(())
}

pub fn receive_batch() -> Done {
    let mut ends = Ends::new(16)?;
    let messages = [[7; 16]; BATCH];
    for _ in 0..TIMES {
        ends.left.sender.send_batch(&messages, WAIT)?;
        under_count(1, || {
            (0..BATCH).try_for_each(|_| ends.right.recv_into(&mut ends.buffer, WAIT).map(|_| ()))
        })?;
    }
    Ok(())
}

/// What a poll costs that finds nothing.
pub fn find_none() -> Done {
    let mut ends = Ends::new(64)?;
    under_count(TIMES, || ends.right.receiver.try_recv_into(&mut ends.buffer))
}

/// The end of a message that was received and looked at.
pub fn release(size: usize) -> Done {
    let mut ends = Ends::new(size)?;
    for _ in 0..TIMES / BURST {
        ends.fill()?;
        for _ in 0..BURST {
            let mut message = Some(ends.right.recv(WAIT)?);
            under_count(1, || there(message.take()).map(drop))?;
        }
    }
    Ok(())
}
