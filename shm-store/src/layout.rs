//! `layout.json`: what a store is. Written first, never changed, checked at each opening.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    Damage, Durability, OpenError, Options,
    fs::{FileSystem, read_all},
};

/// The version of all files of a store.
pub(crate) const FORMAT: u32 = 1;
/// How a stream's name leads to its shard.
pub(crate) const HASH: &str = "crc32c";
const NAME: &str = "layout.json";
const TEMPORARY: &str = "layout.json.new";
/// More is no layout.
const MAX: u64 = 4096;

/// What is fixed when a store is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shards: u16,
    pub(crate) durability: Durability,
    /// Random. Each file of the store carries it.
    pub(crate) identity: u128,
}

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    format: u32,
    shards: u16,
    hash: String,
    durability: String,
    identity: String,
}

/// The one field that every version has.
#[derive(Debug, Deserialize)]
struct Version {
    format: u32,
}

impl Layout {
    /// Reads a store's layout, or makes a new one durable if the directory holds no store.
    ///
    /// # Errors
    ///
    /// The layout is not the one that the options ask for, is of another version, is damaged,
    /// or is missing beside a store's files.
    pub(crate) fn open_or_create(
        fs: &dyn FileSystem,
        directory: &Path,
        options: &Options,
    ) -> Result<Self, OpenError> {
        options.check()?;
        fs.create_dir_all(directory)?;
        let names = fs.list(directory)?;
        if names.iter().any(|name| name == NAME) {
            return Self::read(fs, directory)?.agrees(options);
        }
        let log = match fs.list(&directory.join("log")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        if !log.is_empty() || names.iter().any(|name| name.starts_with("shard_")) {
            return Err(OpenError::LayoutMissing);
        }
        let layout =
            Self { shards: options.shards, durability: options.durability, identity: identity()? };
        layout.write(fs, directory)?;
        Ok(layout)
    }

    /// Reads the layout of a store that is there.
    ///
    /// # Errors
    ///
    /// Like [`open_or_create`](Self::open_or_create), but nothing is asked for.
    pub(crate) fn read(fs: &dyn FileSystem, directory: &Path) -> Result<Self, OpenError> {
        let damaged = |what| OpenError::Damaged(Damage { file: NAME.into(), position: 0, what });
        let file = fs.open(&directory.join(NAME), false)?;
        let text = read_all(&*file, MAX)?.ok_or(damaged("a layout that is too long"))?;
        let version: Version =
            serde_json::from_slice(&text).map_err(|_| damaged("a layout that is not JSON"))?;
        if version.format != FORMAT {
            return Err(OpenError::Version { found: version.format, expected: FORMAT });
        }
        let text: Text =
            serde_json::from_slice(&text).map_err(|_| damaged("a layout without its fields"))?;
        if text.hash != HASH {
            return Err(mismatch("hash", &text.hash, HASH));
        }
        if !text.shards.is_power_of_two() || text.shards > 256 {
            return Err(damaged("a layout with a wrong number of shards"));
        }
        let digits = text.identity.bytes().all(|byte| byte.is_ascii_hexdigit());
        let identity = match u128::from_str_radix(&text.identity, 16) {
            Ok(identity) if digits && text.identity.len() == 32 => identity,
            _ => return Err(damaged("a layout with a wrong identity")),
        };
        let durability = [Durability::Durable, Durability::Relaxed]
            .into_iter()
            .find(|&durability| word(durability) == text.durability)
            .ok_or(damaged("a layout with an unknown durability"))?;
        Ok(Self { shards: text.shards, durability, identity })
    }

    pub(crate) fn agrees(self, options: &Options) -> Result<Self, OpenError> {
        if self.shards != options.shards {
            return Err(mismatch("shards", self.shards, options.shards));
        }
        if self.durability != options.durability {
            let (found, expected) = (word(self.durability), word(options.durability));
            return Err(mismatch("durability", found, expected));
        }
        Ok(self)
    }

    fn write(&self, fs: &dyn FileSystem, directory: &Path) -> Result<(), OpenError> {
        let text = serde_json::to_vec_pretty(&Text {
            format: FORMAT,
            shards: self.shards,
            hash: HASH.into(),
            durability: word(self.durability).into(),
            identity: format!("{:032x}", self.identity),
        })
        .map_err(io::Error::from)?;
        let temporary = directory.join(TEMPORARY);
        let file = fs.open(&temporary, true)?;
        file.set_len(0)?;
        file.write_all_at(0, &text)?;
        file.sync_data()?;
        fs.rename(&temporary, &directory.join(NAME))?;
        fs.sync_dir(directory)?;
        // The directory itself may be new. Its parent may be one that cannot be synced: of
        // another user, or no directory of a disk.
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty())
            && let Err(error) = fs.sync_dir(parent)
            && !matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
            )
        {
            return Err(error.into());
        }
        Ok(())
    }
}

const fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::Durable => "durable",
        Durability::Relaxed => "relaxed",
    }
}

fn mismatch(what: &'static str, found: impl ToString, expected: impl ToString) -> OpenError {
    OpenError::Layout { what, found: found.to_string(), expected: expected.to_string() }
}

fn identity() -> io::Result<u128> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Fault, SimulatedFs, Survives};

    fn open(fs: &SimulatedFs, options: &Options) -> Result<Layout, OpenError> {
        Layout::open_or_create(fs, Path::new("/store"), options)
    }

    fn rewrite(fs: &SimulatedFs, from: &str, to: &str) {
        let file = fs.open(Path::new("/store/layout.json"), false).unwrap();
        let text = String::from_utf8(read_all(&*file, MAX).unwrap().unwrap()).unwrap();
        assert!(text.contains(from));
        let text = text.replace(from, to);
        file.set_len(0).unwrap();
        file.write_all_at(0, text.as_bytes()).unwrap();
    }

    #[test]
    fn a_layout_is_the_same_at_each_opening_and_another_one_is_refused() {
        let fs = SimulatedFs::default();
        let options = Options::default();
        let layout = open(&fs, &options).unwrap();
        assert_eq!(open(&fs, &options).unwrap(), layout);
        let shards = Options { shards: 8, ..options.clone() };
        assert!(matches!(open(&fs, &shards), Err(OpenError::Layout { what: "shards", .. })));
        let relaxed = Options { durability: Durability::Relaxed, ..options.clone() };
        assert!(matches!(open(&fs, &relaxed), Err(OpenError::Layout { what: "durability", .. })));
        rewrite(&fs, HASH, "other");
        assert!(matches!(open(&fs, &options), Err(OpenError::Layout { what: "hash", .. })));
        rewrite(&fs, "\"format\": 1", "\"format\": 2");
        assert!(matches!(open(&fs, &options), Err(OpenError::Version { found: 2, .. })));
        rewrite(&fs, "{", "");
        assert!(matches!(open(&fs, &options), Err(OpenError::Damaged(_))));
    }

    #[test]
    fn shards_or_a_log_without_a_layout_are_refused() {
        for name in ["/store/shard_00.redb", "/store/log/0000000000000001.log"] {
            let fs = SimulatedFs::default();
            fs.open(Path::new(name), true).unwrap();
            assert!(matches!(open(&fs, &Options::default()), Err(OpenError::LayoutMissing)));
        }
    }

    #[test]
    fn a_loss_of_power_leaves_a_whole_layout_or_none() {
        for operation in 0..=6 {
            let fs = SimulatedFs::default();
            fs.record();
            fs.fail(operation, Fault::Stop);
            open(&fs, &Options::default()).unwrap_err();
            for seed in 0..32 {
                open(&fs.crash(Survives::Some(seed)), &Options::default()).unwrap();
            }
        }
        let fs = SimulatedFs::default();
        fs.record();
        let layout = open(&fs, &Options::default()).unwrap();
        assert_eq!(open(&fs.crash(Survives::Nothing), &Options::default()).unwrap(), layout);
    }
}
