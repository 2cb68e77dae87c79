//! No wake-up of a task is lost: each side parks for every message, again and again. A lost one
//! hangs, and the runner of the test says so.

use std::time::Duration;

use shm_tests::{
    amount,
    tasks::{current_thread, multi_thread, pair, run},
};
use shm_transport::{
    LinkConfig,
    asynchronous::{AsyncLink, AsyncReceiver, AsyncSender},
};

/// Round trips in which both sides park; each is two wake-ups.
fn round_trips() -> u64 {
    amount("SHM_TEST_TASK_WAKE_UPS", 50_000)
}

async fn echo(mut link: AsyncLink, count: u64) {
    for _ in 0..count {
        let number = link.recv().await.unwrap().read_u64(0).unwrap();
        link.send(&number.to_le_bytes()).await.unwrap();
    }
}

async fn ping(mut link: AsyncLink, count: u64) {
    for number in 0..count {
        link.send(&number.to_le_bytes()).await.unwrap();
        assert_eq!(link.recv().await.unwrap().read_u64(0), Some(number));
    }
}

fn parking(config: &LinkConfig) -> (AsyncLink, AsyncLink) {
    let (mut left, mut right) = pair(config);
    left.set_spin(Duration::ZERO);
    right.set_spin(Duration::ZERO);
    (left, right)
}

#[test]
fn none_is_lost_between_two_tasks_of_one_thread() {
    run(&current_thread(), async {
        let (left, right) = parking(&LinkConfig::default());
        let count = round_trips() / 2;
        let echo = tokio::spawn(echo(right, count));
        ping(left, count).await;
        echo.await.unwrap();
    });
}

#[test]
fn none_is_lost_between_two_threads_with_a_runtime_each() {
    let count = round_trips() / 2;
    let runtime = current_thread();
    let (left, right) =
        runtime.block_on(async { shm_transport::Link::pair(&LinkConfig::default()).unwrap() });
    let other = std::thread::spawn(move || {
        run(&current_thread(), async move {
            let mut link = AsyncLink::new(right).unwrap();
            link.set_spin(Duration::ZERO);
            echo(link, count).await;
        });
    });
    run(&runtime, async move {
        let mut link = AsyncLink::new(left).unwrap();
        link.set_spin(Duration::ZERO);
        ping(link, count).await;
    });
    other.join().unwrap();
}

/// Two tasks wait on each side, one for messages and one for room, over the one socket. The
/// rings are so small that both park all the time.
#[test]
fn the_halves_of_a_link_do_not_steal_each_others() {
    const COUNT: u64 = 10_000;
    async fn send(mut sender: AsyncSender) {
        for number in 0..COUNT {
            // Now and then one in a descriptor of its own: to take it, the receiver reads the
            // socket, with what rings for the sender in it.
            let len = if number % 64 == 0 { 300 } else { 24 };
            let mut message = vec![0; len];
            message[..8].copy_from_slice(&number.to_le_bytes());
            sender.send(&message).await.unwrap();
        }
    }
    async fn receive(mut receiver: AsyncReceiver) {
        for number in 0..COUNT {
            assert_eq!(receiver.recv().await.unwrap().read_u64(0), Some(number));
        }
    }
    let config = LinkConfig {
        ring_capacity: 128,
        size_classes: Vec::new(),
        sealed_limit: 2,
        max_message: 1 << 10,
        ..LinkConfig::default()
    };
    for runtime in [current_thread(), multi_thread()] {
        let config = config.clone();
        run(&runtime, async move {
            let (left, right) = parking(&config);
            let (left, right) = (left.split(), right.split());
            let tasks = [
                tokio::spawn(send(left.0)),
                tokio::spawn(receive(left.1)),
                tokio::spawn(send(right.0)),
                tokio::spawn(receive(right.1)),
            ];
            for task in tasks {
                task.await.unwrap();
            }
        });
    }
}
