use std::{
    thread::{self, JoinHandle},
    time::Duration,
};

use shm_transport::{Guest, Host, Link, LinkConfig, SizeClass};

use crate::{
    patience::WAIT,
    system::{Error, Opened, Runner, Setup, Side, System, Workload},
};

/// How long an end polls before it sleeps, where it is compared with rings that never sleep:
/// longer than the largest message takes to copy.
const SPIN: Duration = Duration::from_millis(10);

/// The library: a host, and a guest that walks in.
pub struct LinkSystem;

impl System for LinkSystem {
    fn name(&self) -> &'static str {
        "link"
    }

    fn carries(&self, _: Workload, _: usize) -> bool {
        true
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        let path = setup.directory.join("hub");
        let mut host = Host::builder().link(config(setup)).create(&path)?;
        // The guest attaches while the host accepts, and that is before `ready`.
        let accepting = thread::spawn(move || {
            let link = host.accept(WAIT)?;
            Ok((host, link))
        });
        let near = Box::new(End { accepting: Some(accepting), host: None, link: None });
        Ok(Opened { near, ticket: path.to_string_lossy().into_owned() })
    }

    fn join(&self, _: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        let link = Some(Guest::attach(ticket, WAIT)?.link);
        Ok(Box::new(End { accepting: None, host: None, link }))
    }
}

/// The default, and slots that fit where its largest do not.
fn config(setup: &Setup) -> LinkConfig {
    let mut config = LinkConfig::default();
    if setup.workload != Workload::Wake {
        config.spin = SPIN;
    }
    let slot_size = setup.size.next_multiple_of(64) as u32;
    if config.size_classes.last().is_some_and(|largest| slot_size > largest.slot_size) {
        config.size_classes.push(SizeClass { slot_size, extent_slots: 2, max_extents: 4 });
    }
    config
}

struct End {
    /// Of the near end, until the far end has joined.
    accepting: Option<JoinHandle<Result<(Host, Link), Error>>>,
    /// Kept for its hub.
    host: Option<Host>,
    link: Option<Link>,
}

impl End {
    #[inline]
    fn link(&mut self) -> Result<&mut Link, Error> {
        self.link.as_mut().ok_or_else(|| "the guest has not attached".into())
    }
}

impl Side for End {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        Ok(self.link()?.send(message, WAIT)?)
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        self.link()?.recv_into(buffer, WAIT)?;
        Ok(())
    }

    fn send_batch(&mut self, messages: &[Vec<u8>]) -> Result<(), Error> {
        Ok(self.link()?.sender.send_batch(messages, WAIT)?)
    }

    fn receive_batch(
        &mut self,
        buffer: &mut [u8],
        count: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let link = self.link()?;
        for _ in 0..count {
            if link.receiver.try_recv_into(buffer)?.is_none() {
                link.recv_into(buffer, WAIT)?;
            }
            each(buffer);
        }
        Ok(())
    }

    fn ready(&mut self) -> Result<(), Error> {
        if let Some(accepting) = self.accepting.take() {
            let (host, link) = accepting.join().map_err(|_| "the host panicked")??;
            self.host = Some(host);
            self.link = Some(link);
        }
        Ok(())
    }
}
