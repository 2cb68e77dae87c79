//! The host: serves half of its guests in one thread with a [`LinkSet`], as a server does,
//! and each of the others in two threads of its own.

use std::{
    collections::HashMap,
    thread::{self, Scope},
    time::{Duration, Instant},
};

use shm_transport::{
    Host, Link, LinkEnd, LinkEvent, LinkKey, LinkSet, Missed, Receiver, RecvError, SendError,
    SlowGuest,
};

use super::{
    checker::{self, Checker, Kind, TO_ALL},
    life::{Concluded, Lives, Served},
};
use crate::{WAIT, pattern::Random};

/// What is done for one link before the next has its turn.
const TURN: usize = 32;
/// How long the set waits if nobody has sent: those to whom is sent do not tell of room.
const PAUSE: Duration = Duration::from_millis(1);
/// How often one message goes to all of the set.
const TO_ALL_EVERY: Duration = Duration::from_millis(50);

/// Serves until no guest is left; returns how many links are.
pub fn serve(mut host: Host, lives: &Lives) -> usize {
    thread::scope(|scope| {
        let mut set = Set::new(lives);
        let mut end = None;
        loop {
            set.turn(&mut host, scope);
            if lives.are_over() {
                let end = *end.get_or_insert_with(|| Instant::now() + WAIT);
                let left = lives.links();
                if left == 0 || Instant::now() > end {
                    return left;
                }
            }
        }
    })
}

struct Set<'a> {
    lives: &'a Lives,
    links: LinkSet,
    served: HashMap<LinkKey, Served>,
    events: Vec<LinkEvent>,
    random: Random,
    to_all: u64,
    next_to_all: Instant,
    message: Vec<u8>,
}

impl<'a> Set<'a> {
    fn new(lives: &'a Lives) -> Self {
        Self {
            lives,
            links: LinkSet::new().expect("a set"),
            served: HashMap::new(),
            events: Vec::new(),
            random: Random::new(0),
            to_all: 0,
            next_to_all: Instant::now(),
            message: Vec::new(),
        }
    }

    fn turn<'s>(&mut self, host: &mut Host, scope: &'s Scope<'s, '_>)
    where
        'a: 's,
    {
        let mut events = std::mem::take(&mut self.events);
        if let Err(error) = self.links.wait_with(host, &mut events, PAUSE) {
            self.lives.fail(format!("waiting with the host: {error:?}"));
        }
        for event in &events {
            match *event {
                LinkEvent::Attached(key) => self.attached(key, scope),
                LinkEvent::Ready(key) => self.receive(key),
                _ => self.lives.fail(format!("{event:?}")),
            }
        }
        self.events = events;
        self.send();
        if Instant::now() >= self.next_to_all {
            self.next_to_all = Instant::now() + TO_ALL_EVERY;
            self.send_to_all();
        }
    }

    fn attached<'s>(&mut self, key: LinkKey, scope: &'s Scope<'s, '_>)
    where
        'a: 's,
    {
        let Some(link) = self.links.get_mut(key) else { return };
        let pid = link.peer_pid();
        let Some(life) = self.lives.of(pid) else {
            self.lives.fail(format!("process {pid} attached and was not started"));
            self.links.remove(key);
            return;
        };
        let served = Served::new(life);
        if served.life.number.is_multiple_of(2) {
            self.served.insert(key, served);
        } else if let Some(link) = self.links.remove(key) {
            let lives = self.lives;
            scope.spawn(move || serve_alone(link, served, lives));
        }
    }

    fn receive(&mut self, key: LinkKey) {
        let (Some(link), Some(served)) = (self.links.get_mut(key), self.served.get_mut(&key))
        else {
            return;
        };
        let mut end = None;
        for _ in 0..TURN {
            match link.try_recv() {
                Ok(Some(message)) => served.checker.take(message),
                Ok(None) => break,
                Err(RecvError::Ended(how)) => {
                    end = Some(how);
                    break;
                }
                Err(error) => {
                    self.lives.fail(format!("receiving: {error:?}"));
                    break;
                }
            }
        }
        if served.checker.is_over {
            served.checker.release();
        }
        if let Some(end) = end {
            self.ended(key, end);
        }
    }

    fn ended(&mut self, key: LinkKey, end: LinkEnd) {
        let (Some(mut link), Some(mut served)) = (self.links.remove(key), self.served.remove(&key))
        else {
            return;
        };
        served.checker.release();
        let concluded = Concluded {
            life: &served.life,
            end,
            checker: &served.checker,
            sent: served.traffic.sent(),
            in_flight: link.sender.slots_in_flight(),
        };
        self.lives.conclude(link.peer_pid(), concluded);
    }

    fn send(&mut self) {
        for (key, link) in self.links.iter_mut() {
            let Some(served) = self.served.get_mut(&key) else { continue };
            if served.life.record.is_to_leave() {
                served.traffic.finish();
            }
            for _ in 0..TURN {
                match served.traffic.push(&mut link.sender, None) {
                    Ok(true) => {}
                    // Its end is received in its turn.
                    Ok(false) | Err(SendError::Ended(_)) => break,
                    Err(error) => {
                        self.lives.fail(format!("sending: {error:?}"));
                        break;
                    }
                }
            }
        }
    }

    /// Those who were asked to leave may be gone when it comes, so nobody is then sent to.
    fn send_to_all(&mut self) {
        let is_leaving = |served: &Served| served.life.record.is_to_leave();
        if self.served.values().any(is_leaving) {
            return;
        }
        let len = [64, 3000, 80 << 10][self.random.below(3) as usize];
        self.message.resize(len, 0);
        checker::write(&mut self.message, Kind::ToAll, self.to_all, TO_ALL);
        self.to_all += 1;
        match self.links.send_to_all(&self.message, SlowGuest::Drop) {
            Ok(all) => {
                for (_, missed) in &all.missed {
                    if !matches!(missed, Missed::Dropped | Missed::Ended(_)) {
                        self.lives.fail(format!("sending to all: {missed:?}"));
                    }
                }
            }
            Err(error) => self.lives.fail(format!("sending to all: {error:?}")),
        }
    }
}

/// Serves one guest until its link ends.
fn serve_alone(link: Link, served: Served, lives: &Lives) {
    let pid = link.peer_pid();
    let (mut sender, mut receiver) = link.split();
    let Served { life, mut checker, mut traffic } = served;
    let end = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            while !traffic.is_finished() {
                if life.record.is_to_leave() {
                    traffic.finish();
                }
                match traffic.push(&mut sender, Some(WAIT)) {
                    Ok(true) => {}
                    // The socket is full of descriptors.
                    Ok(false) => thread::yield_now(),
                    Err(SendError::Ended(_)) => break,
                    Err(error) => return lives.fail(format!("sending: {error:?}")),
                }
            }
        });
        let end = receive_all(&mut receiver, &mut checker);
        sending.join().expect("the sending thread does not panic");
        end
    });
    checker.release();
    match end {
        Ok(end) => {
            let in_flight = sender.slots_in_flight();
            let (life, checker, sent) = (&*life, &checker, traffic.sent());
            lives.conclude(pid, Concluded { life, end, checker, sent, in_flight });
        }
        Err(error) => lives.fail(format!("receiving from guest {}: {error:?}", life.number)),
    }
}

fn receive_all(receiver: &mut Receiver, checker: &mut Checker) -> Result<LinkEnd, RecvError> {
    loop {
        match receiver.recv(WAIT) {
            Ok(message) => checker.take(message),
            Err(RecvError::Ended(end)) => return Ok(end),
            Err(error) => return Err(error),
        }
        if checker.is_over {
            checker.release();
        }
    }
}
