#![allow(unsafe_code)]

use std::{
    mem::MaybeUninit,
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use iceoryx2::{
    node::NodeState,
    port::{BackpressureAction, publisher::Publisher, subscriber::Subscriber},
    prelude::*,
    sample_mut_uninit::SampleMutUninit,
    service::port_factory::publish_subscribe,
};
use shm_benches::{Error, Opened, Runner, Setup, Side, System, WAIT, Workload, poll};

/// Publish and subscribe of iceoryx2, one service each way, polled.
pub struct Iceoryx2;

/// How many messages may wait: one if each is answered, as in the benchmarks of iceoryx2,
/// which makes a round trip a fifth faster than with hundreds; about 64 KiB in a stream, where
/// the number makes no difference.
fn buffer_size(setup: &Setup) -> usize {
    match setup.workload {
        Workload::Pingpong | Workload::Wake => 1,
        Workload::Stream => ((64 << 10) / setup.size).clamp(4, 256),
    }
}

type Loan = SampleMutUninit<ipc::Service, [MaybeUninit<u8>], ()>;

/// A publisher of one service and a subscriber of another.
pub(crate) struct Ports {
    /// Memory for the next message, which is asked for before it is needed: so do the
    /// benchmarks of iceoryx2.
    loan: Option<Loan>,
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    size: usize,
    /// The services and the ports need it.
    pub node: Node<ipc::Service>,
}

// SAFETY: what keeps the types of iceoryx2 in one thread are the counters of `Rc`s. All that
// share one, the node and its ports, are in this value and move together, and no reference
// to them leaves it.
unsafe impl Send for Ports {}

/// A name that no other service has.
fn unique_name() -> String {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    format!("shm-peers/{}/{}", process::id(), OPENED.fetch_add(1, Ordering::Relaxed))
}

/// A name's two services, from the near end to the far one and back.
pub(crate) fn there_and_back(name: &str) -> Result<[ServiceName; 2], Error> {
    Ok([format!("{name}/there").as_str().try_into()?, format!("{name}/back").as_str().try_into()?])
}

type Service = publish_subscribe::PortFactory<ipc::Service, [u8], ()>;

impl Ports {
    /// The near end makes the services, and the name that they are found by.
    pub fn create(setup: &Setup) -> Result<(Self, String), Error> {
        let name = unique_name();
        let [there, back] = there_and_back(&name)?;
        let ports = Self::new(setup, |node| {
            Ok([Self::service(node, &there, setup)?, Self::service(node, &back, setup)?])
        })?;
        Ok((ports, name))
    }

    /// The far end opens them.
    pub fn open(setup: &Setup, name: &str) -> Result<Self, Error> {
        let [there, back] = there_and_back(name)?;
        Self::new(setup, |node| {
            Ok([
                node.service_builder(&back).publish_subscribe::<[u8]>().open()?,
                node.service_builder(&there).publish_subscribe::<[u8]>().open()?,
            ])
        })
    }

    fn service(
        node: &Node<ipc::Service>,
        name: &ServiceName,
        setup: &Setup,
    ) -> Result<Service, Error> {
        let builder = node.service_builder(name).publish_subscribe::<[u8]>();
        let builder = builder.max_publishers(1).max_subscribers(1).history_size(0);
        // Messages must not be lost: a publisher waits for room.
        let builder = builder.enable_safe_overflow(false);
        Ok(builder.subscriber_max_buffer_size(buffer_size(setup)).create()?)
    }

    fn new(
        setup: &Setup,
        services: impl FnOnce(&Node<ipc::Service>) -> Result<[Service; 2], Error>,
    ) -> Result<Self, Error> {
        set_log_level(LogLevel::Error);
        // Ctrl-C is to end the benchmark.
        let node = NodeBuilder::new()
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;
        let [outgoing, incoming] = services(&node)?;
        let publisher = outgoing
            .publisher_builder()
            .initial_max_slice_len(setup.size)
            .set_backpressure_handler(|backpressure| {
                if backpressure.elapsed_time < WAIT {
                    BackpressureAction::Retry
                } else {
                    BackpressureAction::DiscardDataAndFail
                }
            })
            .create()?;
        let subscriber = incoming.subscriber_builder().create()?;
        let loan = Some(publisher.loan_slice_uninit(setup.size)?);
        Ok(Self { loan, publisher, subscriber, size: setup.size, node })
    }

    /// Copies the next message, if there is one.
    #[inline]
    pub fn take(&mut self, buffer: &mut [u8]) -> Result<bool, Error> {
        let Some(sample) = self.subscriber.receive()? else { return Ok(false) };
        buffer.copy_from_slice(sample.payload());
        Ok(true)
    }
}

impl Side for Ports {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        let loan = self.loan.take().ok_or("there was no memory to write to")?;
        loan.write_from_slice(message).send()?;
        self.loan = Some(self.publisher.loan_slice_uninit(self.size)?);
        Ok(())
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let mut result = self.take(buffer);
        if matches!(result, Ok(false)) {
            poll(|| {
                result = self.take(buffer);
                !matches!(result, Ok(false))
            })?;
        }
        result.map(drop)
    }
}

impl System for Iceoryx2 {
    fn name(&self) -> &'static str {
        "iceoryx2"
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        workload != Workload::Wake
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        let (near, ticket) = Ports::create(setup)?;
        Ok(Opened { near: Box::new(near), ticket })
    }

    fn join(&self, setup: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        Ok(Box::new(Ports::open(setup, ticket)?))
    }
}

/// Removes the files of processes that were killed with an end of iceoryx2 open.
pub fn clean_up() {
    set_log_level(LogLevel::Fatal);
    // What cannot be removed now is removed by the next process that makes a node.
    let _ = Node::<ipc::Service>::list(Config::global_config(), |node| {
        if let NodeState::Dead(node) = node {
            let _ = node.blocking_remove_stale_resources(Duration::from_secs(1));
        }
        CallbackProgression::Continue
    });
}
