//! What the library says through `tracing`: at attach, detach, death, recovery, growth and
//! back-pressure, with the documented targets and fields, and never for a message.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::Duration,
};

use shm_tests::{Place, WAIT, eventually, peer, small};
use shm_transport::{Guest, Host, Link, trace};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// An event, or a span when it began.
#[derive(Clone, Debug)]
struct Said {
    target: String,
    /// The message of an event, or the name of a span.
    text: String,
    fields: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<Said>>>);

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let text = fields.remove("message").unwrap_or_default();
        let target = event.metadata().target().to_owned();
        self.0.lock().unwrap().push(Said { target, text, fields });
    }

    fn on_new_span(&self, span: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        span.record(&mut Fields(&mut fields));
        let (target, text) = (span.metadata().target(), span.metadata().name());
        let said = Said { target: target.to_owned(), text: format!("span {text}"), fields };
        self.0.lock().unwrap().push(said);
    }
}

/// All that is said in this process: other threads say something, too. Tests tell what is theirs
/// by its fields.
fn capture() -> &'static Capture {
    static CAPTURE: OnceLock<Capture> = OnceLock::new();
    CAPTURE.get_or_init(|| {
        let capture = Capture::default();
        let subscriber = tracing_subscriber::registry().with(capture.clone());
        tracing::subscriber::set_global_default(subscriber).unwrap();
        capture
    })
}

impl Capture {
    fn all(&self, target: &str, text: &str, field: (&str, &str)) -> Vec<Said> {
        let said = self.0.lock().unwrap();
        let is_it = |said: &&Said| {
            said.target == target
                && said.text == text
                && said.fields.get(field.0).is_some_and(|value| value == field.1)
        };
        said.iter().filter(is_it).cloned().collect()
    }

    /// What was said, once it was; with these fields and no others.
    fn the(&self, target: &str, text: &str, field: (&str, &str), fields: &[&str]) -> Said {
        let said = eventually(|| self.all(target, text, field).pop());
        assert_eq!(said.fields.keys().collect::<Vec<_>>(), fields, "{said:?}");
        said
    }
}

#[test]
fn attach_detach_death_and_recovery_are_said_with_their_names() {
    let capture = capture();
    let place = Place::new();
    let hub = place.hub().to_str().unwrap().to_owned();
    let of_hub = ("hub", hub.as_str());
    let mut host = place.small_host();
    capture.the(trace::ATTACH, "host created", of_hub, &["hub"]);

    // A guest in this process, so that both sides are heard.
    let path = place.hub();
    let attaching = thread::spawn(move || Guest::attach(path, WAIT).unwrap());
    let mut link = host.accept(WAIT).unwrap();
    let guest = attaching.join().unwrap();
    capture.the(trace::ATTACH, "span attach", of_hub, &["hub"]);
    let said = capture.the(trace::ATTACH, "guest attached", of_hub, &["hub", "peer", "pid"]);
    assert_eq!(said.fields["peer"], link.peer().to_string());
    let pid = std::process::id().to_string();
    capture.the(trace::ATTACH, "attached to a host", ("pid", &pid), &["peer", "pid"]);
    guest.detach(WAIT).unwrap();
    capture.the(trace::DETACH, "span detach", ("pid", &pid), &["peer", "pid"]);
    assert!(link.recv(WAIT).is_err());
    capture.the(trace::DETACH, "peer has left", ("pid", &pid), &["peer", "pid"]);
    drop(link);

    let mut process = peer!("guest", place.hub());
    let link = host.accept(WAIT).unwrap();
    let pid = process.pid().to_string();
    process.kill();
    capture.the(trace::DEATH, "peer has died", ("pid", &pid), &["peer", "pid"]);
    drop((link, host));

    let other = place.file("other").to_str().unwrap().to_owned();
    std::os::unix::net::UnixListener::bind(&other).unwrap();
    drop(Host::create(&other).unwrap());
    let of_other = ("hub", other.as_str());
    capture.the(trace::RECOVERY, "path of a dead host taken over", of_other, &["hub"]);
}

#[test]
fn growth_is_said_for_each_extent_and_pressure_once_for_each_period() {
    let capture = capture();
    let place = Place::new();
    let mut host = place.small_host();
    let process = peer!("guest", place.hub());
    let mut link = host.accept(WAIT).unwrap();
    let pid = process.pid().to_string();
    let of_it = ("pid", pid.as_str());
    link.send(&[1; 500], WAIT).unwrap();
    let fields = ["class", "peer", "pid", "size", "slots"];
    let grown = capture.the(trace::GROWTH, "slot pool grows by an extent", of_it, &fields);
    assert_eq!((&*grown.fields["slots"], &*grown.fields["size"]), ("2", "2048"));

    let before = capture.0.lock().unwrap().len();
    while link.try_send(&[7; 100]).is_ok() {}
    for _ in 0..1000 {
        assert!(link.try_send(&[7; 100]).is_err());
    }
    let full = "no room for a message";
    let said = capture.all(trace::PRESSURE, full, of_it);
    // The period goes on while there is no room; a machine that stands still for a second ends it.
    assert!((1..=20).contains(&said.len()), "{said:?}");
    assert_eq!(said[0].fields.keys().collect::<Vec<_>>(), ["on", "peer", "pid"]);
    assert_eq!(said[0].fields["on"], "Ring");
    assert!(before > 0);
    let so_far = said.len();
    thread::sleep(Duration::from_millis(1200));
    assert!(link.try_send(&[7; 100]).is_err());
    assert!(capture.all(trace::PRESSURE, full, of_it).len() > so_far, "a new period");
    drop(process);
}

#[test]
fn nothing_is_said_for_a_message() {
    let capture = capture();
    let (mut left, mut right) = Link::pair(&small()).unwrap();
    let own = |said: &&Said| {
        let pid = std::process::id().to_string();
        // Links of a pair are peer 0.1 of this process; other tests have none such.
        said.fields.get("pid") == Some(&pid)
            && said.fields.get("peer").is_some_and(|peer| peer == "0.1")
            && (said.target == trace::GROWTH || said.target == trace::PRESSURE)
    };
    for len in [10, 500, 3_000, 20_000] {
        left.send(&vec![7; len], WAIT).unwrap();
        right.recv(WAIT).unwrap();
    }
    let before = capture.0.lock().unwrap().iter().filter(own).count();
    for _ in 0..1000 {
        for len in [10, 500, 3_000, 20_000] {
            left.send(&vec![7; len], WAIT).unwrap();
            right.recv(WAIT).unwrap();
        }
    }
    let after = capture.0.lock().unwrap().iter().filter(own).count();
    assert_eq!(before, after);
    assert!(before >= 2, "its pools have grown");
}
