use std::{
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use shm_primitives::lease::{Damage, Found, Generation, LeaseHeader, LeaseState};

use super::{
    Beat, Outcome,
    data::DataFile,
    page::Page,
    reading::{occupied, version},
};
use crate::{
    error::{BeatError, LeaseError, PageFailure},
    host::random,
    trace::RECOVERY,
};

/// How often the file is looked for and made, if others remove and put files there.
const ATTEMPTS: u32 = 100;

/// What the owner of a data file has: it alone writes headers and makes the file.
#[derive(Debug)]
pub(crate) struct Owner {
    header: LeaseHeader,
    page: Page,
}

impl Owner {
    /// Becomes the owner, under its lock. `known` is the newest generation that was seen.
    pub(crate) fn begin(
        data: &DataFile,
        known: Option<Generation>,
    ) -> Result<(Self, Outcome), LeaseError> {
        let incarnation = random()?;
        let new_header = |last: Option<&LeaseHeader>| LeaseHeader {
            pid: process::id(),
            generation: Generation::after(known.max(last.map(|last| last.generation)), clock()),
            incarnation,
            readers: 0,
            state: LeaseState::Owned,
            heartbeat: 0,
        };
        let (page, header, outcome) = write_or_create(data, |found| match found {
            None => (new_header(None), Outcome::Created),
            Some(Found::Whole(last)) => match last.state {
                LeaseState::Closed => (new_header(Some(last)), Outcome::Reopened),
                _ => (new_header(Some(last)), Outcome::Recovered),
            },
            Some(Found::Damaged { damage, header }) => {
                (new_header(header.as_ref()), Outcome::Healed(*damage))
            }
            Some(_) => (new_header(None), Outcome::Healed(Damage::Magic)),
        })?;
        // Everything is written before others are told. From here on they attach.
        if !data.announce(header.generation)? {
            return Err(LeaseError::Busy(data.path().to_owned()));
        }
        let (path, generation) = (data.path().display(), header.generation);
        tracing::debug!(target: RECOVERY, %path, %generation, ?outcome, "owner of a data file");
        Ok((Self { header, page }, outcome))
    }

    pub(crate) fn generation(&self) -> Generation {
        self.header.generation
    }

    pub(crate) fn beat(&mut self, data: &DataFile) -> Result<Beat, BeatError> {
        data.check_path()?;
        let readers = u32::try_from(data.slots()?.len()).unwrap_or(u32::MAX);
        let heartbeat = self.header.heartbeat.wrapping_add(1);
        let path = data.shm_path();
        let last = self.header;
        self.header = LeaseHeader { readers, heartbeat, ..last };
        if self.page.size_at(&path).is_some() {
            // Whatever it holds now, it is the file that this owner made or took over.
            let beat = match self.page.read()?.found {
                Found::Whole(header) if header == last => Beat::Sound,
                Found::Whole(_) => Beat::Healed(Damage::Stale),
                Found::Damaged { damage, .. } => Beat::Healed(damage),
                _ => Beat::Healed(Damage::Magic),
            };
            self.page.write(&self.header)?;
            if let Beat::Healed(damage) = beat {
                tracing::warn!(target: RECOVERY, path = %path.display(), %damage, "file of a lease healed");
            }
            return Ok(beat);
        }
        let (page, _, damage) = write_or_create(data, |found| {
            (self.header, if found.is_none() { Damage::Missing } else { Damage::Stale })
        })?;
        self.page = page;
        tracing::warn!(target: RECOVERY, path = %path.display(), %damage, "file of a lease healed");
        Ok(Beat::Healed(damage))
    }

    /// Says that the data file was given up. If that does not succeed, it looks as after a
    /// death, from which nothing suffers.
    pub(crate) fn close(mut self, data: &DataFile) {
        if data.check_path().is_err() {
            // What stands beside a new file at this path is its owner's to write.
            return;
        }
        self.header.state = LeaseState::Closed;
        self.header.heartbeat = self.header.heartbeat.wrapping_add(1);
        let _ = self.page.write(&self.header);
    }
}

/// Writes a header into the file, which is made if there is none. `decide` says which header,
/// by what stands there.
fn write_or_create<T>(
    data: &DataFile,
    mut decide: impl FnMut(Option<&Found>) -> (LeaseHeader, T),
) -> Result<(Page, LeaseHeader, T), PageFailure> {
    let path = data.shm_path();
    for _ in 0..ATTEMPTS {
        let Some(page) = Page::open(&path, true)? else {
            let (header, result) = decide(None);
            match Page::create(&path, data.file(), &header)? {
                Some(page) => return Ok((page, header, result)),
                None => continue,
            }
        };
        let found = page.read()?.found;
        match found {
            Found::Version(found) => return Err(version(data, found)),
            Found::Foreign => return Err(occupied(data)),
            _ if page.is_locked()? => return Err(occupied(data)),
            _ => {}
        }
        let (header, result) = decide(Some(&found));
        page.write(&header)?;
        return Ok((page, header, result));
    }
    Err(occupied(data))
}

/// Microseconds since 1970.
fn clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
