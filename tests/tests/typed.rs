//! Values of types over links: round trips, two processes that mean the same or not, and peers
//! that declare anything.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt::Debug,
    marker::PhantomData,
};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shm_tests::{
    Place, WAIT, peer, small,
    typed::{LongReading, Order, Reading},
};
use shm_transport::{
    Deadline, Link, LinkConfig, LinkEnd, RecvError, SendError,
    typed::{
        Declaration, Declared, Identity, MAX_NAME, Postcard, TypedReceiver, TypedRecvError,
        TypedSendError, TypedSender, ValueError,
    },
};

fn pair() -> (Link, Link) {
    Link::pair(&small()).unwrap()
}

fn any_order() -> impl Strategy<Value = Order> {
    let text = proptest::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter);
    let amounts = proptest::collection::vec(any::<u32>(), 0..2000);
    prop_oneof![
        (text, amounts, any::<Option<i64>>()).prop_map(|(what, amounts, until)| Order::Buy {
            what,
            amounts,
            until
        }),
        Just(Order::Nothing),
    ]
}

#[test]
fn values_of_serde_come_back_as_they_were() {
    let (left, right) = pair();
    let sender = RefCell::new(TypedSender::<Order, Postcard>::new(left.sender));
    let receiver = RefCell::new(TypedReceiver::<Order, Postcard>::new(right.receiver));
    proptest!(|(order in any_order())| {
        sender.borrow_mut().send(&order, WAIT).unwrap();
        prop_assert_eq!(receiver.borrow_mut().recv(WAIT).unwrap(), order);
    });
}

#[test]
fn plain_values_come_back_as_they_were() {
    let (left, right) = pair();
    let sender = RefCell::new(TypedSender::<Reading>::new(left.sender));
    let receiver = RefCell::new(TypedReceiver::<Reading>::new(right.receiver));
    proptest!(|(number in any::<u64>(), bits in any::<u64>())| {
        let value = f64::from_bits(bits);
        sender.borrow_mut().try_send(&Reading { number, value }).unwrap();
        let received = receiver.borrow_mut().try_recv().unwrap().unwrap();
        prop_assert_eq!((received.number, received.value.to_bits()), (number, bits));
    });
}

#[test]
fn two_processes_exchange_values_of_a_type() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut guest = peer!("typed", place.hub(), "reading");
    let (sender, receiver) = host.accept(WAIT).unwrap().split();
    let mut receiver = TypedReceiver::<Reading>::new(receiver);
    for number in 1..=2 {
        assert_eq!(receiver.recv(WAIT).unwrap(), Reading { number, value: 0.5 });
    }
    let mut sender = TypedSender::<Reading>::new(sender);
    sender.send(&Reading { number: 3, value: 1.5 }, WAIT).unwrap();
    assert_eq!(guest.answer(), "Reading { number: 3, value: 1.5 }");
    assert!(matches!(
        receiver.recv(WAIT),
        Err(TypedRecvError::Recv(RecvError::Ended(LinkEnd::Departed)))
    ));
    guest.succeeds();

    let mut guest = peer!("typed", place.hub(), "order");
    let (sender, receiver) = host.accept(WAIT).unwrap().split();
    let mut receiver = TypedReceiver::<Order, Postcard>::new(receiver);
    let order = Order::Buy { what: "tea".into(), amounts: vec![1, 200], until: Some(-1) };
    assert_eq!(receiver.recv(WAIT).unwrap(), order);
    assert_eq!(receiver.recv(WAIT).unwrap(), Order::Nothing);
    TypedSender::<Order, Postcard>::new(sender).send(&order, WAIT).unwrap();
    assert_eq!(guest.answer(), format!("{order:?}"));
    guest.succeeds();
}

/// Who refuses the declaration may be gone before the value is sent.
fn sent_or_refused(sent: Result<(), TypedSendError>) {
    match sent {
        Ok(()) | Err(TypedSendError::Send(SendError::Ended(LinkEnd::Departed))) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_plain_type_of_another_size_is_refused_by_both_processes_with_both_shown() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut guest = peer!("typed", place.hub(), "long-reading");
    let (sender, receiver) = host.accept(WAIT).unwrap().split();
    let mut receiver = TypedReceiver::<Reading>::new(receiver);
    // At each call.
    for _ in 0..2 {
        let error = receiver.recv(WAIT).unwrap_err().to_string();
        assert!(error.contains(r#"sends "Reading", plain, of 24 bytes"#), "{error}");
        assert!(error.contains(r#"receives "Reading", plain, of 16 bytes"#), "{error}");
    }
    assert!(matches!(receiver.try_recv(), Err(TypedRecvError::Mismatch { .. })));
    let mut sender = TypedSender::<Reading>::new(sender);
    sent_or_refused(sender.send(&Reading { number: 0, value: 0.0 }, WAIT));
    let error = guest.answer();
    assert!(error.contains(r#"sends "Reading", plain, of 16 bytes"#), "{error}");
    assert!(error.contains(r#"receives "Reading", plain, of 24 bytes"#), "{error}");
    guest.succeeds();
}

#[test]
fn a_type_of_serde_with_another_structure_is_refused_by_both_processes_with_both_shown() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut guest = peer!("typed", place.hub(), "later-order");
    let (sender, receiver) = host.accept(WAIT).unwrap().split();
    let mut receiver = TypedReceiver::<Order, Postcard>::new(receiver);
    let (own, other) = match receiver.recv(WAIT) {
        Err(TypedRecvError::Mismatch { expected, found }) => (expected, found),
        received => panic!("{received:?}"),
    };
    assert_eq!((own.name.as_str(), other.name.as_str()), ("Order", "Order"));
    assert_ne!(own.identity, other.identity);
    let mut sender = TypedSender::<Order, Postcard>::new(sender);
    sent_or_refused(sender.send(&Order::Nothing, WAIT));
    let error = guest.answer();
    assert!(error.contains(&format!("sends {own};")), "{error}");
    assert!(error.contains(&format!("receives {other}:")), "{error}");
    guest.succeeds();
}

#[test]
fn another_encoding_or_name_is_refused() {
    let (left, right) = pair();
    TypedSender::<Reading>::new(left.sender)
        .send(&Reading { number: 0, value: 0.0 }, WAIT)
        .unwrap();
    let error = TypedReceiver::<Order, Postcard>::new(right.receiver).recv(WAIT).unwrap_err();
    let TypedRecvError::Mismatch { expected, found } = error else { panic!("{error}") };
    assert_eq!(
        found,
        Declaration { name: "Reading".into(), identity: Identity::Plain { size: 16 } }
    );
    assert!(expected.to_string().starts_with("\"Order\", in postcard, of structure "));
}

#[test]
fn a_typed_receiver_refuses_a_sender_of_bytes() {
    let (mut left, right) = pair();
    left.send(b"just bytes", WAIT).unwrap();
    left.send(b"and more", WAIT).unwrap();
    let mut receiver = TypedReceiver::<Reading>::new(right.receiver);
    for _ in 0..2 {
        let error = receiver.recv(WAIT).unwrap_err();
        assert!(matches!(error, TypedRecvError::Undeclared { len: 10, .. }), "{error}");
        assert!(error.to_string().contains("\"Reading\""), "{error}");
    }
}

#[test]
fn a_receiver_of_bytes_finds_the_declaration_first() {
    let (left, mut right) = pair();
    let reading = Reading { number: 7, value: 0.0 };
    TypedSender::<Reading>::new(left.sender).send(&reading, WAIT).unwrap();
    let first = right.recv(WAIT).unwrap().to_bytes();
    assert!(first.starts_with(b"shm-type") && first.ends_with(b"Reading"));
    assert_eq!(right.recv(WAIT).unwrap().read_u64(0), Some(7));
}

#[test]
fn a_declaration_without_room_for_its_value_is_sent_once() {
    let (mut left, right) = pair();
    // Room for one more small message, and then for none.
    let mut filled = 0;
    while left.try_send(&[0; 100]).is_ok() {
        filled += 1;
    }
    let mut sender = TypedSender::<LongReading>::new(left.sender);
    let value = LongReading { numbers: [1, 2, 3] };
    let full = |sent: Result<(), TypedSendError>| {
        assert!(matches!(sent, Err(TypedSendError::Send(SendError::Full))), "{sent:?}");
    };
    let mut receiver = right.receiver;
    let mut declarations = 0;
    let mut values = 0;
    let mut receive = |receiver: &mut shm_transport::Receiver| {
        let Some(message) = receiver.try_recv().unwrap() else { return false };
        declarations += u64::from(message.to_bytes().starts_with(b"shm-type"));
        values += u64::from(message.len() == 24);
        filled -= i32::from(message.len() == 100);
        true
    };
    // One message of room at a time: whichever comes first, nothing is sent twice.
    let mut refused = 0;
    while let Err(error) = sender.try_send(&value) {
        full(Err(error));
        refused += 1;
        assert!(receive(&mut receiver));
    }
    while receive(&mut receiver) {}
    assert!(refused > 0);
    assert_eq!((declarations, values, filled), (1, 1, 0));
    // A deadline is one for both.
    let timed_out = loop {
        match sender.send(&value, Deadline::NOW) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(timed_out, TypedSendError::Send(SendError::TimedOut)));
}

/// Bytes that are nearly a declaration.
fn hostile_declaration() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0..4u64, any::<u64>()];
    let name = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        Just(b"Reading".to_vec()),
        "\\PC{0,40}".prop_map(String::into_bytes),
    ];
    let declaration = (number.clone(), number, name).prop_map(|(encoding, identity, name)| {
        [&b"shm-type"[..], &encoding.to_le_bytes(), &identity.to_le_bytes(), &name].concat()
    });
    prop_oneof![declaration, proptest::collection::vec(any::<u8>(), 0..300)]
}

#[test]
fn whatever_is_declared_is_agreed_to_or_refused() {
    proptest!(|(first in hostile_declaration(), value in proptest::collection::vec(any::<u8>(), 0..64))| {
        let (mut left, right) = pair();
        left.send(&first, WAIT).unwrap();
        left.send(&value, WAIT).unwrap();
        let agrees = first == [&b"shm-type"[..], &1u64.to_le_bytes(), &16u64.to_le_bytes(), b"Reading"].concat();
        let received = TypedReceiver::<Reading>::new(right.receiver).recv(WAIT);
        match received {
            Ok(_) => prop_assert!(agrees && value.len() == 16),
            Err(TypedRecvError::Value(_)) => prop_assert!(agrees && value.len() != 16),
            Err(TypedRecvError::Mismatch { found, .. }) => {
                prop_assert!(!agrees && found.name.len() <= MAX_NAME && first.len() <= 24 + MAX_NAME);
            }
            Err(TypedRecvError::Undeclared { len, .. }) => {
                prop_assert!(!agrees && len == first.len());
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    });
}

#[test]
fn whatever_comes_after_an_agreed_declaration_is_a_value_or_an_error() {
    // What an honest sender declares.
    let (left, mut right) = pair();
    TypedSender::<Order, Postcard>::new(left.sender).send(&Order::Nothing, WAIT).unwrap();
    let declaration = right.recv(WAIT).unwrap().to_bytes();

    let (left, right) = pair();
    let left = RefCell::new(left);
    let receiver = RefCell::new(TypedReceiver::<Order, Postcard>::new(right.receiver));
    left.borrow_mut().send(&declaration, WAIT).unwrap();
    let errors = Cell::new(0);
    proptest!(|(bytes in proptest::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..100))| {
        left.borrow_mut().send(&bytes, WAIT).unwrap();
        match receiver.borrow_mut().recv(WAIT) {
            Ok(_) => {}
            Err(TypedRecvError::Value(_)) => errors.set(errors.get() + 1),
            Err(error) => prop_assert!(false, "{}", error),
        }
    });
    let (mut left, mut receiver) = (left.into_inner(), receiver.into_inner());
    // A claim of 4 GiB of text in a message of seven bytes.
    left.send(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1], WAIT).unwrap();
    assert!(matches!(receiver.recv(WAIT), Err(TypedRecvError::Value(_))));
    // Honest values are still received.
    left.send(&[1], WAIT).unwrap();
    assert_eq!(receiver.recv(WAIT).unwrap(), Order::Nothing);
    assert!(errors.get() > 0);
}

/// Receives `bytes` from a sender that declares `T`, and an honest value after it.
fn received<T>(bytes: &[u8], honest: &T) -> Result<T, ValueError>
where
    T: Declared + Serialize + DeserializeOwned + Debug + PartialEq,
{
    let (left, mut right) = Link::pair(&LinkConfig::default()).unwrap();
    TypedSender::<T, Postcard>::new(left.sender).send(honest, WAIT).unwrap();
    let declaration = right.recv(WAIT).unwrap().to_bytes();
    let honest_bytes = right.recv(WAIT).unwrap().to_bytes();

    let (mut left, right) = Link::pair(&LinkConfig::default()).unwrap();
    let mut receiver = TypedReceiver::<T, Postcard>::new(right.receiver);
    left.send(&declaration, WAIT).unwrap();
    left.send(bytes, WAIT).unwrap();
    left.send(&honest_bytes, WAIT).unwrap();
    let received = match receiver.recv(WAIT) {
        Ok(value) => Ok(value),
        Err(TypedRecvError::Value(error)) => Err(error),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(receiver.recv(WAIT).unwrap(), *honest);
    received
}

/// Contains itself in each way there is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Nest {
    End,
    Inside(Box<Nest>),
    Maybe(Option<Box<Nest>>),
    List(Vec<Nest>),
    Map(BTreeMap<u8, Nest>),
}

impl Declared for Nest {
    const NAME: &'static str = "Nest";
}

#[test]
fn values_nested_in_a_hundred_levels_are_received() {
    let nested = (1..100).fold(Nest::End, |inside, _| Nest::Inside(Box::new(inside)));
    let (left, right) = pair();
    TypedSender::<Nest, Postcard>::new(left.sender).send(&nested, WAIT).unwrap();
    assert_eq!(TypedReceiver::<Nest, Postcard>::new(right.receiver).recv(WAIT).unwrap(), nested);
}

#[test]
fn a_message_that_nests_values_without_end_is_an_error_and_the_next_one_is_received() {
    // A variant, and what it takes to be inside: that there is something, one element, one entry
    // with the key 0.
    for step in [&[1][..], &[2, 1], &[3, 1], &[4, 1, 0]] {
        let error = received(&step.repeat(100_000), &Nest::End).unwrap_err();
        assert!(matches!(error, ValueError::TooDeep { limit: 128 }), "{step:?}: {error}");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nothings(Vec<()>);

impl Declared for Nothings {
    const NAME: &'static str = "Nothings";
}

#[test]
fn a_message_that_claims_an_endless_list_of_nothing_is_an_error_and_the_next_one_is_received() {
    let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let error = received(&endless, &Nothings(vec![(); 10_000])).unwrap_err();
    assert!(matches!(error, ValueError::TooMany { limit: 65_616 }), "{error}");
}

/// As many values for each byte as types are likely to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Marked {
    inside: Tagged,
    of: PhantomData<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tagged {
    number: u8,
    of: PhantomData<u8>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Large {
    bytes: Vec<u8>,
    numbers: Vec<u64>,
    marked: Vec<Marked>,
}

impl Declared for Large {
    const NAME: &'static str = "Large";
}

#[test]
fn large_honest_values_are_received() {
    let number = Tagged { number: 7, of: PhantomData };
    let large = Large {
        bytes: vec![1; 1 << 20],
        numbers: (0..1 << 17).collect(),
        marked: vec![Marked { inside: number, of: PhantomData }; 1 << 20],
    };
    let (left, right) = Link::pair(&LinkConfig::default()).unwrap();
    TypedSender::<Large, Postcard>::new(left.sender).send(&large, WAIT).unwrap();
    assert!(TypedReceiver::<Large, Postcard>::new(right.receiver).recv(WAIT).unwrap() == large);
}
