use shm_benches::{Error, Side};

/// A near end that has no connection before the far end has joined.
pub struct Later<S> {
    connect: Option<Box<dyn FnOnce() -> Result<S, Error> + Send>>,
    side: Option<S>,
}

impl<S> Later<S> {
    /// `connect` is called when the far end has joined.
    pub fn new(connect: impl FnOnce() -> Result<S, Error> + Send + 'static) -> Self {
        Self { connect: Some(Box::new(connect)), side: None }
    }

    #[inline]
    fn side(&mut self) -> Result<&mut S, Error> {
        self.side.as_mut().ok_or_else(|| "nobody has joined".into())
    }
}

impl<S: Side> Side for Later<S> {
    fn ready(&mut self) -> Result<(), Error> {
        let connect = self.connect.take().ok_or("the far end has joined already")?;
        self.side = Some(connect()?);
        Ok(())
    }

    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        self.side()?.send(message)
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        self.side()?.receive(buffer)
    }

    fn send_batch(&mut self, messages: &[Vec<u8>]) -> Result<(), Error> {
        self.side()?.send_batch(messages)
    }

    fn receive_batch(
        &mut self,
        buffer: &mut [u8],
        count: usize,
        each: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        self.side()?.receive_batch(buffer, count, each)
    }
}
