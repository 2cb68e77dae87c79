//! Model-checked: the count of what was dropped.

use loom_tests::models::dropped;

#[test]
fn a_frame_brings_the_count_of_what_was_dropped_before_it() {
    dropped::gap_before_frame();
}
