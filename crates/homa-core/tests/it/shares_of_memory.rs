//! Receive memory when one host wants all of it.

use std::net::SocketAddr;

use crate::harness::*;
use homa_core::{Config, DropReason, Event, FailReason, Received};
use homa_wire::{Body, Reason};

fn greedy() -> SocketAddr {
    address(66, 6)
}

fn honest() -> SocketAddr {
    address(8, 800)
}

/// The first byte of a request of 1 MB, all of which is said to come without a grant.
fn announce(solo: &mut Solo, from: SocketAddr, id: u64) -> Received {
    let mut header = solo.data_header(from, id, 1_000_000, 0);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.incoming = 1_000_000;
    solo.header(from, &header, 1)
}

fn used(solo: &Solo) -> u64 {
    solo.engine.stats().receive_memory_bytes
}

fn placed(received: &Received) -> bool {
    matches!(received, Received::Place(_))
}

#[test]
fn a_host_that_announces_without_end_leaves_three_quarters_of_the_memory_to_others() {
    let mut solo = Solo::new(Config::default());
    let memory = solo.engine.config().limits.receive_memory_bytes;
    for id in 1..=3_000 {
        let _ = announce(&mut solo, greedy(), 2 * id);
    }
    assert!((memory / 5..=memory / 4 + 1_000_000).contains(&used(&solo)), "{}", used(&solo));
    solo.events();
    solo.drain();
    for (id, length) in [(2, 100), (4, 3_000), (6, 1_000_000)] {
        let received = solo.data(honest(), id, length, (0, length.min(FULL)));
        assert!(placed(&received), "{length}: {received:?}");
    }
}

#[test]
fn honest_requests_are_taken_while_others_announce_all_the_time() {
    let mut solo = Solo::new(Config::default());
    let (mut id, mut taken) = (0, 0);
    for ms in 0..3_000 {
        for _ in 0..3 {
            id += 2;
            let _ = announce(&mut solo, greedy(), id);
        }
        if ms % 10 == 0 {
            taken += u32::from(placed(&solo.data(honest(), 2 * ms + 2, 100, (0, 100))));
        }
        for event in solo.events() {
            if let Event::RequestArrived { rpc, .. } = event {
                solo.engine.abort(solo.now(), rpc, FailReason::Rejected).unwrap();
            }
        }
        solo.advance(1);
    }
    assert_eq!(taken, 300);
}

#[test]
fn several_greedy_hosts_leave_enough_to_one_more() {
    let mut solo = Solo::new(Config::default());
    for host in 0..8 {
        for id in 1..=3_000 {
            let _ = announce(&mut solo, address(100 + host, 6), 2 * id);
        }
        solo.events();
    }
    for id in 1..=20 {
        assert!(placed(&announce(&mut solo, honest(), 2 * id)), "{id}");
    }
}

/// The first packet of a request.
fn begin(solo: &mut Solo, from: SocketAddr, id: u64, length: u32) -> Received {
    solo.data(from, id, length, (0, 1000))
}

/// Room for seven messages and one more, that is set aside. One host has its share, one message
/// besides, and one that takes what is set aside: the requests 2, 4 and 6.
fn greedy_has_its_share() -> Solo {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 8 * 65_536;
        config.unscheduled.bytes = 65_536;
    }));
    for id in [2, 4, 6] {
        assert!(placed(&begin(&mut solo, greedy(), id, 60_000)), "{id}");
    }
    solo
}

#[test]
fn a_message_that_waits_for_its_hosts_share_delays_none_of_others() {
    let mut solo = greedy_has_its_share();
    let refused = Received::Dropped(DropReason::NoMemory);
    assert_eq!(begin(&mut solo, greedy(), 8, 50_000), refused);
    for host in 10..14 {
        assert!(placed(&begin(&mut solo, address(host, 800), 2, 60_000)), "{host}");
    }
    assert_eq!(begin(&mut solo, honest(), 2, 65_000), refused, "it is full");
    solo.drain();
    let _ = solo.control(address(10, 800), 2, Body::RpcUnknown, Reason::Cancelled, 0);
    solo.events();
    let sent = solo.drain();
    let asked: Vec<SocketAddr> =
        sent.iter().filter(|sent| sent.resend().is_some()).map(|sent| sent.path.remote).collect();
    assert_eq!(asked, [honest()], "the shorter one waits for its own host: {sent:?}");
}

#[test]
fn messages_that_wait_for_their_hosts_share_keep_their_order() {
    let mut solo = greedy_has_its_share();
    let cancel = |solo: &mut Solo, from, id| {
        let _ = solo.control(from, id, Body::RpcUnknown, Reason::Cancelled, 0);
        solo.events();
        let sent = solo.drain();
        let asked = sent.iter().filter(|sent| sent.resend().is_some());
        asked.map(|sent| sent.header.common.local_id()).collect::<Vec<_>>()
    };
    for (id, length) in [(8, 50_000), (10, 64_000), (12, 45_000), (14, 55_000)] {
        let received = begin(&mut solo, greedy(), id, length);
        assert_eq!(received, Received::Dropped(DropReason::NoMemory), "{id}");
    }
    assert!(placed(&begin(&mut solo, honest(), 2, 60_000)));
    solo.drain();
    assert_eq!(cancel(&mut solo, honest(), 2), [], "all of them are passed over");
    assert_eq!(cancel(&mut solo, greedy(), 6), [12]);
    assert_eq!(cancel(&mut solo, greedy(), 4), [8]);
    assert_eq!(cancel(&mut solo, greedy(), 2), [], "the two hold more than the share lets them");
    assert_eq!(cancel(&mut solo, greedy(), 12), [14, 10]);
}

#[test]
fn what_a_host_gave_back_it_may_hold_again() {
    let mut solo = Solo::new(Config::default());
    for round in 0..3 {
        for id in 1..=3_000 {
            let _ = announce(&mut solo, greedy(), 2 * (id + 3_000 * round));
        }
        assert!(used(&solo) > 60_000_000, "{}", used(&solo));
        for id in 1..=3_000 {
            let id = 2 * (id + 3_000 * round);
            let _ = solo.control(greedy(), id, Body::RpcUnknown, Reason::Cancelled, 0);
        }
        solo.events();
        assert_eq!(used(&solo), 0);
    }
}

#[test]
fn a_holder_of_the_reserved_slot_that_only_says_it_is_busy_makes_way() {
    let config = Config::default().with(|config| config.limits.receive_memory_bytes = 1 << 20);
    let mut solo = Solo::new(config);
    assert!(placed(&announce(&mut solo, greedy(), 2)), "it holds what is set aside");
    assert_eq!(solo.data(honest(), 2, 500_000, (0, 1000)), Received::Dropped(DropReason::NoMemory));
    for _ in 0..300 {
        let _ = solo.control(greedy(), 2, Body::Busy, Reason::None, 0);
        let _ = solo.control(honest(), 2, Body::Busy, Reason::None, 0);
        solo.advance(10);
    }
    assert!(placed(&solo.data(honest(), 2, 500_000, (0, 1000))));
}

#[test]
fn a_holder_of_the_reserved_slot_that_sends_a_byte_now_and_then_makes_way() {
    let config = Config::default().with(|config| config.limits.receive_memory_bytes = 1 << 20);
    let mut solo = Solo::new(config);
    assert!(placed(&announce(&mut solo, greedy(), 2)), "it holds what is set aside");
    assert_eq!(solo.data(honest(), 2, 500_000, (0, 1000)), Received::Dropped(DropReason::NoMemory));
    for upto in 1..=300 {
        let _ = solo.data(greedy(), 2, 1_000_000, (upto, upto + 1));
        let _ = solo.control(honest(), 2, Body::Busy, Reason::None, 0);
        solo.advance(10);
    }
    assert!(placed(&solo.data(honest(), 2, 500_000, (0, 1000))));
}
