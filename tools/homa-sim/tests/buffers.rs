//! What transports use of a switch's buffer.

use std::ops::ControlFlow;

use homa_sim::reproduce::buffers::{Point, settings, unrestricted};

const MESSAGES: u32 = 2_000;

/// The most bytes that waited in the switch.
fn used(point: &Point) -> u64 {
    let outcome = point.run.run(|_| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!((outcome.failed, outcome.samples.unfinished), (0, 0));
    outcome.switches[0].used_bytes_max
}

#[test]
fn tcp_uses_most_of_the_buffer_and_dctcp_more_with_offload_than_without() {
    let [homa, dctcp, tcp] = &unrestricted(MESSAGES, 1)[..] else { unreachable!() };
    let settings = settings(MESSAGES, 1);
    let is_without = |point: &&Point| point.study == "offload" && point.setting == "none";
    let without = settings.iter().find(is_without).unwrap();
    let [homa, dctcp, tcp, without] = [homa, dctcp, tcp, without].map(used);
    assert!(2 * homa < tcp && 5 * dctcp < tcp, "{homa} {dctcp} {tcp}");
    assert!(10 * dctcp > 11 * without, "{dctcp} {without}");
}
