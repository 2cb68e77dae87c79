#![allow(unsafe_code)]

use std::time::Instant;

use iceoryx2::{
    port::{listener::Listener, notifier::Notifier},
    prelude::*,
    service::port_factory::event,
};
use shm_benches::{Error, Opened, Runner, Setup, Side, System, WAIT, Workload};

use crate::pubsub::{Ports, there_and_back};

/// Publish and subscribe of iceoryx2 with an event after each message, for subscribers that
/// sleep.
pub struct Iceoryx2WithEvents;

struct Sleeping {
    notifier: Notifier<ipc::Service>,
    listener: Listener<ipc::Service>,
    ports: Ports,
}

// SAFETY: as for the ports, whose node the notifier and the listener share.
unsafe impl Send for Sleeping {}

type Service = event::PortFactory<ipc::Service>;

impl Sleeping {
    fn new([outgoing, incoming]: [Service; 2], ports: Ports) -> Result<Self, Error> {
        let notifier = outgoing.notifier_builder().create()?;
        let listener = incoming.listener_builder().create()?;
        Ok(Self { notifier, listener, ports })
    }
}

impl Side for Sleeping {
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        Side::send(&mut self.ports, message)?;
        self.notifier.notify()?;
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let mut start = None;
        while !self.ports.take(buffer)? {
            if start.get_or_insert_with(Instant::now).elapsed() > WAIT {
                return Err("the other end does not answer".into());
            }
            self.listener.timed_wait(|_| (), WAIT)?;
        }
        Ok(())
    }
}

impl System for Iceoryx2WithEvents {
    fn name(&self) -> &'static str {
        "iceoryx2, event"
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        workload == Workload::Wake
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        let (ports, ticket) = Ports::create(setup)?;
        let [there, back] = there_and_back(&ticket)?;
        let service = |name| ports.node.service_builder(name).event().create();
        let services = [service(&there)?, service(&back)?];
        Ok(Opened { near: Box::new(Sleeping::new(services, ports)?), ticket })
    }

    fn join(&self, setup: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        let ports = Ports::open(setup, ticket)?;
        let [there, back] = there_and_back(ticket)?;
        let service = |name| ports.node.service_builder(name).event().open();
        let services = [service(&back)?, service(&there)?];
        Ok(Box::new(Sleeping::new(services, ports)?))
    }
}
