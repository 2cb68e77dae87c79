//! What the frames of claims say, folded one after the other.

use std::collections::BTreeMap;

use shm_primitives::fleet::{FleetFrame, Position};

use super::{FleetCursor, FleetRing};
use crate::error::ClaimError;

pub(super) const CLAIM: u8 = 1;
pub(super) const RENEW: u8 = 2;
pub(super) const RELEASE: u8 = 3;
pub(super) const VERSION: u16 = 1;
/// Token, incarnation, when made, until when good.
pub(super) const HEAD: usize = 8 + 16 + 8 + 8;

#[derive(Debug)]
pub(super) struct State {
    cursor: FleetCursor,
    /// All unreleased claims that the ring keeps, by subject and token, expired ones and
    /// invalid ones among them.
    pub(super) claims: BTreeMap<Vec<u8>, BTreeMap<Position, Claim>>,
    /// The claims of this handle, by token.
    pub(super) own: BTreeMap<Position, Own>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) node: u32,
    pub(super) incarnation: u128,
    pub(super) expires: u64,
    /// The newest frame that says so.
    pub(super) anchor: Position,
}

#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) subject: Vec<u8>,
    pub(super) expires: u64,
    pub(super) anchor: Position,
    pub(super) standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Published,
    Held,
    Lost,
}

impl State {
    pub(super) fn new(cursor: FleetCursor) -> Self {
        Self { cursor, claims: BTreeMap::new(), own: BTreeMap::new() }
    }

    /// Claims of a subject that are unreleased and good beyond a moment.
    pub(super) fn good(
        &self,
        subject: &[u8],
        moment: u64,
    ) -> impl Iterator<Item = (Position, Claim)> {
        let claims = self.claims.get(subject).into_iter().flatten();
        claims.map(|(token, claim)| (*token, *claim)).filter(move |(_, c)| c.expires > moment)
    }

    pub(super) fn holds(&self, token: Position) -> bool {
        self.own.get(&token).is_some_and(|own| own.standing == Standing::Held)
    }

    pub(super) fn own_expiry(&self, token: Position) -> u64 {
        self.own.get(&token).map_or(0, |own| own.expires)
    }

    /// Takes notice of all that is in the ring now.
    pub(super) fn follow(&mut self, ring: &FleetRing) -> Result<(), ClaimError> {
        let end = ring.end();
        while self.cursor.position() < end {
            let Some(next) = self.cursor.next().map_err(ClaimError::Corrupt)? else { break };
            if next.lost > 0 {
                // Among the lost ones may be a claim that one of ours lost against.
                self.claims.clear();
                for own in self.own.values_mut() {
                    own.standing = Standing::Lost;
                }
            }
            self.apply(&next.frame);
        }
        // What the ring no longer keeps, who joins now does not see.
        let oldest = ring.oldest();
        self.claims.retain(|_, claims| {
            claims.retain(|_, claim| claim.anchor >= oldest);
            !claims.is_empty()
        });
        for own in self.own.values_mut().filter(|own| own.anchor < oldest) {
            own.standing = Standing::Lost;
        }
        Ok(())
    }

    fn apply(&mut self, frame: &FleetFrame) {
        let Some(Said { token, incarnation, made, expires, subject }) = Said::of(frame) else {
            return;
        };
        let (position, node) = (frame.position(), frame.id().node());
        match frame.kind() {
            CLAIM => {
                let token = position;
                let valid = self.good(subject, made).next().is_none();
                for (own_token, own) in &mut self.own {
                    if *own_token == token && own.standing == Standing::Published {
                        own.standing = if valid { Standing::Held } else { Standing::Lost };
                    } else if *own_token < token && own.subject == subject && own.expires <= made {
                        own.standing = Standing::Lost;
                    }
                }
                let claim = Claim { node, incarnation, expires, anchor: position };
                self.claims.entry(subject.to_vec()).or_default().insert(token, claim);
            }
            RENEW => {
                let new = Claim { node, incarnation, expires, anchor: position };
                let claims = self.claims.entry(subject.to_vec()).or_default();
                let claim = claims.entry(token).or_insert(new);
                claim.expires = claim.expires.max(expires);
                claim.anchor = position;
                if let Some(own) = self.own.get_mut(&token) {
                    own.expires = own.expires.max(expires);
                    own.anchor = position;
                }
            }
            RELEASE => {
                if let Some(claims) = self.claims.get_mut(subject) {
                    claims.remove(&token);
                }
                if let Some(own) = self.own.get_mut(&token) {
                    own.standing = Standing::Lost;
                }
            }
            _ => {}
        }
    }
}

/// What a frame says.
pub(super) struct Said<'a> {
    pub(super) token: Position,
    pub(super) incarnation: u128,
    pub(super) made: u64,
    pub(super) expires: u64,
    pub(super) subject: &'a [u8],
}

impl<'a> Said<'a> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD.saturating_add(self.subject.len()));
        bytes.extend_from_slice(&self.token.number().to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.made.to_le_bytes());
        bytes.extend_from_slice(&self.expires.to_le_bytes());
        bytes.extend_from_slice(self.subject);
        bytes
    }

    /// Nothing if it is no frame of claims.
    fn of(frame: &'a FleetFrame) -> Option<Self> {
        let (token, rest) = frame.payload().split_first_chunk()?;
        let (incarnation, rest) = rest.split_first_chunk()?;
        let (made, rest) = rest.split_first_chunk()?;
        let (expires, subject) = rest.split_first_chunk()?;
        (frame.version() == VERSION).then_some(Self {
            token: Position::new(u64::from_le_bytes(*token)),
            incarnation: u128::from_le_bytes(*incarnation),
            made: u64::from_le_bytes(*made),
            expires: u64::from_le_bytes(*expires),
            subject,
        })
    }
}
