//! Claims: of all members, one holds a subject at a time.
//!
//! A ring of a fleet puts three kinds of frames in one order: a *claim* of a subject, a
//! *renewal* and a *release*. Each claim is known by its position, its token. Claims and
//! renewals say when they were made and until when they are good, by the one clock that all
//! processes of a machine share.
//!
//! - A claim is valid if, where it stands in the order, no other claim of its subject is
//!   unreleased and good beyond the moment at which this one was made. Its claimant folds
//!   the ring up to it and knows.
//! - A holder that comes to a later claim, made when its own was no longer good, has lost
//!   it. A renewal that stands after such a claim is too late, so nobody comes back over
//!   another one.
//! - A claim whose member is dead is released by who finds it in the way; the kernel tells
//!   that it is dead, and death is final.
//!
//! Why two never hold at once: let `a` stand before `b`, both valid. For `b`'s claimant `a`
//! was released, or good until some moment `e` no later than when `b` was made. The renewals
//! that `a`'s holder counts before `b` are among those that `b`'s claimant saw, so the
//! holder of `a` stopped holding at `e` by the clock.
//!
//! A claim counts as long as the ring keeps the frame that it was made or last renewed by.
//! New claims are refused while the oldest such frame of a living holder is more than half
//! the ring old, and renewals while it is three quarters, so that none is overwritten.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shm_primitives::fleet::{Position, Start};

use super::{
    Fleet, FleetRing, RingConfig,
    claim_fold::{CLAIM, HEAD, Own, RELEASE, RENEW, Said, Standing, State, VERSION},
};
use crate::{
    error::{ClaimError, RingError},
    os::named::boot_nanoseconds,
};

/// How often a claimant begins again because others were faster and went.
const ATTEMPTS: u32 = 64;

/// The claims that all members of a fleet make on a ring that is for them alone. Clones are
/// the same.
///
/// ```
/// use std::time::Duration;
/// use shm_transport::fleet::{ClaimError, Claims, Fleet, RingConfig};
/// # let directory = tempfile::tempdir()?;
/// # let join = |node| Fleet::builder().directory(directory.path()).join("workers", node);
///
/// // In two processes:
/// let (left, right) = (join(0)?, join(1)?);
/// let ours = Claims::open(&left, 0x30, &RingConfig::default())?;
/// let theirs = Claims::open(&right, 0x30, &RingConfig::default())?;
///
/// let guard = ours.claim(b"shard 7", Duration::from_secs(10))?;
/// assert!(matches!(
///     theirs.claim(b"shard 7", Duration::from_secs(10)),
///     Err(ClaimError::Held { node: 0, .. })
/// ));
/// drop(guard);
/// let guard = theirs.claim(b"shard 7", Duration::from_secs(10))?;
/// assert!(guard.is_held()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Claims(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: FleetRing,
    state: Mutex<State>,
}

/// Who holds a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its node.
    pub node: u32,
    /// Its process; 0 if it is not known.
    pub pid: u32,
    /// Its claim's token.
    pub token: Position,
    /// For how long from now, unless it renews or releases.
    pub left: Duration,
}

impl Claims {
    /// The claims on the ring of this kind, which is for them alone.
    ///
    /// # Errors
    ///
    /// As [`Fleet::ring`].
    pub fn open(fleet: &Fleet, kind: u8, config: &RingConfig) -> Result<Self, RingError> {
        let ring = fleet.ring(kind, config)?;
        let cursor = ring.cursor(Start::Oldest);
        let state = State::new(cursor);
        Ok(Self(Arc::new(Shared { ring, state: Mutex::new(state) })))
    }

    /// Claims a subject for a time. It does not wait.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Held`] says who holds it.
    pub fn claim(&self, subject: &[u8], ttl: Duration) -> Result<ClaimGuard, ClaimError> {
        let shared = &*self.0;
        let max = (shared.ring.max_payload() as usize).saturating_sub(HEAD);
        if subject.len() > max {
            return Err(ClaimError::SubjectTooLong { len: subject.len(), max });
        }
        let mut state = shared.state();
        for _ in 0..ATTEMPTS {
            state.follow(&shared.ring)?;
            if let Some(holder) = shared.holder(&mut state, subject)? {
                return Err(ClaimError::Held {
                    node: holder.node,
                    pid: holder.pid,
                    left: holder.left,
                });
            }
            shared.check_room(&mut state, shared.ring.capacity() / 2)?;
            let now = boot_nanoseconds();
            let expires = after(now, ttl);
            let token = shared.publish(CLAIM, Position::new(0), now, expires, subject)?;
            let (subject, anchor) = (subject.to_vec(), token);
            state
                .own
                .insert(token, Own { subject, expires, anchor, standing: Standing::Published });
            state.follow(&shared.ring)?;
            if state.own.get(&token).is_some_and(|own| own.standing == Standing::Held) {
                return Ok(ClaimGuard { claims: self.clone(), token });
            }
            shared.give_up(&mut state, token);
        }
        Err(ClaimError::Busy)
    }

    /// Who holds a subject now; none if nobody does.
    ///
    /// # Errors
    ///
    /// If the ring or the operating system does not tell.
    pub fn holder(&self, subject: &[u8]) -> Result<Option<Holder>, ClaimError> {
        let mut state = self.0.state();
        state.follow(&self.0.ring)?;
        self.0.holder(&mut state, subject)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(
        &self,
        what: u8,
        token: Position,
        now: u64,
        expires: u64,
        subject: &[u8],
    ) -> Result<Position, ClaimError> {
        let incarnation = self.ring.membership().incarnation();
        let said = Said { token, incarnation, made: now, expires, subject };
        Ok(self.ring.publish(what, VERSION, &said.bytes())?.position)
    }

    /// The earliest claim of a subject that is good and whose member lives. Those of dead
    /// members are released.
    fn holder(&self, state: &mut State, subject: &[u8]) -> Result<Option<Holder>, ClaimError> {
        let members = self.ring.membership();
        let now = boot_nanoseconds();
        let good: Vec<_> = state.good(subject, now).collect();
        for (token, claim) in good {
            if members.lives(claim.node, claim.incarnation)? {
                let pid = members.member(claim.node)?.map_or(0, |member| member.pid);
                let left = Duration::from_nanos(claim.expires.saturating_sub(now));
                return Ok(Some(Holder { node: claim.node, pid, token, left }));
            }
            self.publish(RELEASE, token, now, 0, subject)?;
        }
        // The releases come first, for all.
        state.follow(&self.ring)?;
        Ok(None)
    }

    /// Refuses if a frame that holds a claim would soon be overwritten.
    fn check_room(&self, state: &mut State, most: u64) -> Result<(), ClaimError> {
        let (now, end) = (boot_nanoseconds(), self.ring.end());
        let old: Vec<_> = state
            .claims
            .iter()
            .flat_map(|(subject, claims)| claims.iter().map(move |claim| (subject, claim)))
            .filter(|(_, (_, claim))| claim.expires > now && end.since(claim.anchor) >= most)
            .map(|(subject, (token, claim))| (subject.clone(), *token, *claim))
            .collect();
        for (subject, token, claim) in old {
            if self.ring.membership().lives(claim.node, claim.incarnation)? {
                return Err(ClaimError::Full { node: claim.node, subject });
            }
            self.publish(RELEASE, token, now, 0, &subject)?;
        }
        Ok(())
    }

    /// Releases an own claim. If that cannot be published, it ends by itself.
    fn give_up(&self, state: &mut State, token: Position) {
        if let Some(own) = state.own.remove(&token) {
            let _ = self.publish(RELEASE, token, boot_nanoseconds(), 0, &own.subject);
        }
    }
}

fn after(now: u64, ttl: Duration) -> u64 {
    now.saturating_add(u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX))
}

/// A subject that this member holds. Dropping it releases the subject.
///
/// It is a lease in time: it ends when it is not renewed, and a process can be stopped for
/// longer than that between a look at [`is_held`](Self::is_held) and what it does next. What
/// must not be done by two goes with the [`token`](Self::token): a later holder has a larger
/// one, and who is asked for something refuses a token that is smaller than one it has seen.
#[derive(Debug)]
#[must_use = "the subject is released when this is dropped"]
pub struct ClaimGuard {
    claims: Claims,
    token: Position,
}

impl ClaimGuard {
    /// What is held.
    #[must_use]
    pub fn subject(&self) -> Vec<u8> {
        let state = self.claims.0.state();
        state.own.get(&self.token).map(|own| own.subject.clone()).unwrap_or_default()
    }

    /// The claim's place in the order of all claims: later holders have larger ones.
    #[must_use]
    pub fn token(&self) -> Position {
        self.token
    }

    /// Whether it is held now.
    ///
    /// # Errors
    ///
    /// If the ring does not tell.
    pub fn is_held(&self) -> Result<bool, ClaimError> {
        let shared = &*self.claims.0;
        let mut state = shared.state();
        state.follow(&shared.ring)?;
        Ok(state.holds(self.token) && state.own_expiry(self.token) > boot_nanoseconds())
    }

    /// Holds it for `ttl` from now on.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Lost`] if it is held no longer. A claim that has run out can be
    /// renewed as long as nobody else claimed the subject.
    pub fn renew(&self, ttl: Duration) -> Result<(), ClaimError> {
        let shared = &*self.claims.0;
        let mut state = shared.state();
        state.follow(&shared.ring)?;
        let Some(own) = state.own.get(&self.token).filter(|own| own.standing == Standing::Held)
        else {
            return Err(ClaimError::Lost);
        };
        let (subject, anchor) = (own.subject.clone(), own.anchor);
        let (capacity, end) = (shared.ring.capacity(), shared.ring.end());
        // Others' frames may be overwritten only when there is no danger to ours: renewing
        // moves our own.
        if end.since(anchor) < capacity / 2 {
            shared.check_room(&mut state, capacity / 4 * 3)?;
        }
        let now = boot_nanoseconds();
        shared.publish(RENEW, self.token, now, after(now, ttl), &subject)?;
        state.follow(&shared.ring)?;
        if state.holds(self.token) { Ok(()) } else { Err(ClaimError::Lost) }
    }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        let shared = &*self.claims.0;
        // In a forked child the subject is its parent's, and the ring is not there.
        if shared.ring.membership().is_ours() {
            shared.give_up(&mut shared.state(), self.token);
        }
    }
}
