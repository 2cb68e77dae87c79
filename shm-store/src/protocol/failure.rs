//! Errors on their way from the owner to a client.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    Damage, ReadError, WriteError,
    codec::{Malformed, Put, Take},
    state::{put_config, take_config},
};

/// Longer texts of the operating system are cut.
const MAX_TEXT: usize = 200;

pub(super) fn put_write_error(to: &mut Vec<u8>, error: &WriteError) {
    match error {
        WriteError::NotFound => to.put_u8(0),
        WriteError::Tombstone => to.put_u8(1),
        WriteError::Mismatch(config) => {
            to.put_u8(2);
            put_config(to, config);
        }
        WriteError::Closed(end) => {
            to.put_u8(3);
            to.put_offset(*end);
        }
        WriteError::Sequence => to.put_u8(4),
        WriteError::Fenced { epoch } => put_number(to, 5, *epoch),
        WriteError::Gap { expected } => put_number(to, 6, *expected),
        WriteError::AlreadyDone => to.put_u8(7),
        WriteError::BadOffset => to.put_u8(8),
        WriteError::BadName => to.put_u8(9),
        WriteError::Empty => to.put_u8(10),
        WriteError::StreamFull { limit } => put_number(to, 11, *limit),
        WriteError::StoreFull { limit } => put_number(to, 12, *limit),
        WriteError::TooLarge { limit } => put_number(to, 13, *limit),
        WriteError::NoSpace => to.put_u8(14),
        WriteError::Indeterminate => to.put_u8(15),
        WriteError::Poisoned => to.put_u8(16),
        WriteError::TimedOut => to.put_u8(17),
        WriteError::TooDeep { limit } => {
            to.put_u8(19);
            to.put_u8(*limit);
        }
        WriteError::Open(error) => {
            to.put_u8(18);
            put_io(to, &io::Error::other(error.to_string()));
        }
        WriteError::Io(error) => {
            to.put_u8(18);
            put_io(to, error);
        }
    }
}

pub(super) fn take_write_error(from: &mut Take<'_>) -> Result<WriteError, Malformed> {
    Ok(match from.u8()? {
        0 => WriteError::NotFound,
        1 => WriteError::Tombstone,
        2 => WriteError::Mismatch(Box::new(take_config(from)?)),
        3 => WriteError::Closed(from.offset()?),
        4 => WriteError::Sequence,
        5 => WriteError::Fenced { epoch: from.u64()? },
        6 => WriteError::Gap { expected: from.u64()? },
        7 => WriteError::AlreadyDone,
        8 => WriteError::BadOffset,
        9 => WriteError::BadName,
        10 => WriteError::Empty,
        11 => WriteError::StreamFull { limit: from.u64()? },
        12 => WriteError::StoreFull { limit: from.u64()? },
        13 => WriteError::TooLarge { limit: from.u64()? },
        14 => WriteError::NoSpace,
        15 => WriteError::Indeterminate,
        16 => WriteError::Poisoned,
        17 => WriteError::TimedOut,
        18 => WriteError::Io(Arc::new(take_io(from)?)),
        19 => WriteError::TooDeep { limit: from.u8()? },
        _ => return Err(Malformed),
    })
}

pub(super) fn put_read_error(to: &mut Vec<u8>, error: &ReadError) {
    match error {
        ReadError::NotFound => to.put_u8(0),
        ReadError::Tombstone => to.put_u8(1),
        ReadError::BadOffset => to.put_u8(2),
        ReadError::TimedOut => to.put_u8(3),
        ReadError::Damaged(damage) => {
            to.put_u8(4);
            put_damage(to, damage);
        }
        ReadError::Open(error) => {
            to.put_u8(5);
            put_io(to, &io::Error::other(error.to_string()));
        }
        ReadError::Io(error) => {
            to.put_u8(5);
            put_io(to, error);
        }
    }
}

pub(super) fn take_read_error(from: &mut Take<'_>) -> Result<ReadError, Malformed> {
    Ok(match from.u8()? {
        0 => ReadError::NotFound,
        1 => ReadError::Tombstone,
        2 => ReadError::BadOffset,
        3 => ReadError::TimedOut,
        4 => ReadError::Damaged(take_damage(from)?),
        5 => ReadError::Io(Arc::new(take_io(from)?)),
        _ => return Err(Malformed),
    })
}

pub(super) fn put_damage(to: &mut Vec<u8>, Damage { file, position, what }: &Damage) {
    put_text(to, file);
    to.put_u64(*position);
    put_text(to, what);
}

pub(super) fn take_damage(from: &mut Take<'_>) -> Result<Damage, Malformed> {
    let (file, position) = (from.text()?, from.u64()?);
    Ok(Damage { file, position, what: known(&from.text()?) })
}

fn put_number(to: &mut Vec<u8>, kind: u8, number: u64) {
    to.put_u8(kind);
    to.put_u64(number);
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    let mut len = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    to.put_short(&text.as_bytes()[..len]);
}

fn put_io(to: &mut Vec<u8>, error: &io::Error) {
    to.put_option(error.raw_os_error().and_then(|number| u64::try_from(number).ok()));
    put_text(to, &error.to_string());
}

fn take_io(from: &mut Take<'_>) -> Result<io::Error, Malformed> {
    let number = from.option()?;
    let text = from.text()?;
    Ok(match number.and_then(|number| i32::try_from(number).ok()) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(text),
    })
}

/// Kinds of damage of which owners may tell: there are fewer in this library.
const MAX_KNOWN: usize = 100;

/// A text that lives as long as the process: each is kept once.
fn known(text: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(text) {
        Some(known) => known,
        None if known.len() >= MAX_KNOWN => "damage",
        None => {
            let text: &'static str = Box::leak(text.into());
            known.insert(text);
            text
        }
    }
}
