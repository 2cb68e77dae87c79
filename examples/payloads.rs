//! Large payloads: a camera writes its pictures in place, and a viewer looks at them where they
//! lie. Neither side copies one, the viewer can keep some, and nobody can change a picture that
//! the viewer has.
//!
//! `cargo run -p shm-examples --bin payloads`

use std::{collections::VecDeque, env, error::Error, process::Command, time::Duration};

use shm_transport::{CommandExt, Guest, Host, LinkConfig, LinkEnd, RecvError, SealedPayload};

const WAIT: Duration = Duration::from_secs(30);
const PICTURES: u8 = 40;
const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
/// How many of the newest pictures the viewer keeps.
const KEPT: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        None => film(),
        Some("view") => view(),
        Some(other) => Err(format!("unknown role {other:?}").into()),
    }
}

/// The host: fills one picture after the other.
fn film() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    // Without slots, what does not go inline has memory of its own: eight pictures may be under
    // way or kept at a time.
    let config = LinkConfig { size_classes: Vec::new(), sealed_limit: 8, ..LinkConfig::default() };
    let mut host = Host::builder().link(config).create(directory.path().join("hub"))?;
    let mut viewer = Command::new(env::current_exe()?).arg("view").spawn_guest(host.hub())?;
    let mut link = host.accept(WAIT)?;
    for number in 0..PICTURES {
        // Waits while the viewer is behind: there is never more memory than for eight.
        let mut picture = link.sender.grant(WIDTH * HEIGHT, WAIT)?;
        for (row, pixels) in picture.chunks_mut(WIDTH).enumerate() {
            pixels.fill(number.wrapping_add(row as u8));
        }
        picture.commit()?;
    }
    println!("{PICTURES} pictures of {} bytes are sent", WIDTH * HEIGHT);
    link.detach(WAIT)?;
    if !viewer.child.wait()?.success() {
        return Err("the viewer failed".into());
    }
    Ok(())
}

/// The guest: checks each picture and keeps the newest.
fn view() -> Result<(), Box<dyn Error>> {
    let mut guest = Guest::attach_inherited(WAIT)?;
    let mut kept: VecDeque<SealedPayload> = VecDeque::new();
    let mut viewed = 0u8;
    loop {
        let picture = match guest.link.recv(WAIT) {
            Ok(message) => message.into_sealed().map_err(|_| "it came another way")?,
            Err(RecvError::Ended(LinkEnd::Departed)) => break,
            Err(error) => return Err(error.into()),
        };
        for (row, pixels) in picture.chunks(WIDTH).enumerate() {
            let shade = viewed.wrapping_add(row as u8);
            if pixels.iter().any(|pixel| *pixel != shade) {
                return Err(format!("picture {viewed} is torn in row {row}").into());
            }
        }
        viewed += 1;
        kept.push_back(picture);
        if kept.len() > KEPT {
            // Dropping it gives its place back to the host.
            kept.pop_front();
        }
    }
    let shades: Vec<u8> = kept.iter().filter_map(|picture| picture.first().copied()).collect();
    println!("{viewed} pictures are viewed, the newest begin with {shades:?}");
    Ok(())
}
