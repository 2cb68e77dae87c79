//! A guest that sends values of a type.

use shm_tests::{
    WAIT,
    typed::{LongReading, Order, Reading, later},
};
use shm_transport::{
    Guest,
    typed::{Postcard, TypedReceiver, TypedSender},
};

/// Sends two values of the type that it is told, and receives one.
pub(crate) fn run(path: &str, what: &str) {
    let guest = Guest::attach(path, WAIT).expect("a host");
    let (sender, receiver) = guest.link.split();
    match what {
        "reading" => {
            let mut sender = TypedSender::<Reading>::new(sender);
            for number in 1..=2 {
                sender.send(&Reading { number, value: 0.5 }, WAIT).expect("sent");
            }
            let mut receiver = TypedReceiver::<Reading>::new(receiver);
            match receiver.recv(WAIT) {
                Ok(reading) => crate::say(&format!("{reading:?}")),
                Err(error) => crate::say(&error.to_string()),
            }
        }
        "long-reading" => {
            let mut sender = TypedSender::<LongReading>::new(sender);
            sender.send(&LongReading { numbers: [1; 3] }, WAIT).expect("sent");
            let mut receiver = TypedReceiver::<LongReading>::new(receiver);
            crate::say(&receiver.recv(WAIT).expect_err("another type").to_string());
        }
        "order" => {
            let mut sender = TypedSender::<Order, Postcard>::new(sender);
            let order = Order::Buy { what: "tea".into(), amounts: vec![1, 200], until: Some(-1) };
            sender.send(&order, WAIT).expect("sent");
            sender.send(&Order::Nothing, WAIT).expect("sent");
            let mut receiver = TypedReceiver::<Order, Postcard>::new(receiver);
            crate::say(&format!("{:?}", receiver.recv(WAIT).expect("received")));
        }
        _ => {
            let mut sender = TypedSender::<later::Order, Postcard>::new(sender);
            sender.send(&later::Order::Nothing, WAIT).expect("sent");
            let mut receiver = TypedReceiver::<later::Order, Postcard>::new(receiver);
            crate::say(&receiver.recv(WAIT).expect_err("another type").to_string());
        }
    }
}
