//! A guest at a link of calls.

use shm_tests::{calls::Side, tasks};
use shm_transport::{asynchronous::AsyncGuest, call::CallConfig};

/// Serves calls until the host goes, and says how that was. It calls the host `calls` times
/// itself, which must answer.
pub(crate) fn run(path: &str, calls: u64) {
    tasks::current_thread().block_on(async {
        let guest = AsyncGuest::attach(path).await.expect("a host");
        let side = Side::new(guest.link, &CallConfig::default());
        for number in 0..calls {
            let request = format!("guest's {number}");
            let answer = side.caller.call_by(request.clone().into(), shm_tests::WAIT).await;
            assert_eq!(answer.expect("an answer"), request);
        }
        crate::say("called");
        let end = side.driver.await.expect("no panic").expect("no fault");
        crate::say(&format!("{end:?}"));
    });
}
