//! Model-checked: goodbye.

use loom_tests::models::goodbye;

#[test]
fn the_last_frame_before_a_goodbye_is_never_missed() {
    goodbye::last_frame();
}
