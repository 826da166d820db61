//! Memory for incoming messages, scenarios B1 to B17. What is a region of pages in the Linux
//! implementation is an account here: space is reserved before data is accepted, in pieces of 64
//! KiB or, for short messages, by their own size. Where the bytes lie is shown by `homa-io`.

use crate::harness::*;
use homa_core::{Config, DropReason, Engine, Event, FailReason, HostBudget, Received};
use homa_wire::{Body, Reason};

const PIECE: u64 = 65_536;

/// Room for two messages of one piece, one of which is set aside.
fn two_pieces() -> Solo {
    let config = Config::default().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 2 * PIECE;
        config.unscheduled.bytes = 65_536;
    });
    Solo::new(config)
}

/// Room for three messages of one piece and one more, for which it is set aside.
fn four_pieces() -> Solo {
    let config = Config::default().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 4 * PIECE;
        config.unscheduled.bytes = 65_536;
    });
    Solo::new(config)
}

fn used(solo: &Solo) -> u64 {
    solo.engine.stats().receive_memory_bytes
}

/// The first bytes of a request come.
fn begin(solo: &mut Solo, id: u64, length: u32) -> Received {
    begin_from(solo, 9, id, length)
}

/// The same from one of several hosts, each of which has a share of the memory.
fn begin_from(solo: &mut Solo, host: u8, id: u64, length: u32) -> Received {
    let mut header = solo.data_header(address(host, 900), id, length, 0);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.incoming = length;
    solo.header(address(host, 900), &header, 100)
}

fn no_memory(received: &Received) -> bool {
    *received == Received::Dropped(DropReason::NoMemory)
}

/// Ids (in the client's form) of the messages that are asked for.
fn asked(sent: &[Sent]) -> Vec<u64> {
    let resend = |sent: &&Sent| sent.resend().is_some();
    sent.iter().filter(resend).map(|sent| sent.header.common.sender_id & !1).collect()
}

// Scenario: B1
#[test]
fn memory_for_less_than_one_message_is_refused_by_name() {
    let config = Config::default().with(|config| config.limits.receive_memory_bytes = 999_999);
    let error = Engine::new(config, HostBudget::local(), 1).unwrap_err();
    assert_eq!(error.setting, "limits.receive_memory_bytes");
    let config = Config::default().with(|config| config.limits.receive_memory_bytes = 1 << 40);
    assert!(Engine::new(config, HostBudget::local(), 1).is_ok(), "there is no upper limit");
}

// Scenario: B2
#[test]
fn the_engine_says_how_much_memory_it_may_use_and_uses() {
    let mut solo = two_pieces();
    assert_eq!(solo.engine.config().limits.receive_memory_bytes, 2 * PIECE);
    assert_eq!(used(&solo), 0);
    let _ = begin(&mut solo, 2, 65_536);
    assert_eq!(used(&solo), PIECE);
}

// Scenario: B3, B4
#[test]
fn a_message_takes_as_many_pieces_as_its_bytes_fill() {
    for (length, pieces) in [(65_536, 1), (65_537, 2), (131_072, 2), (150_000, 3)] {
        let mut solo =
            Solo::new(Config::default().with(|config| config.unscheduled.bytes = 1_000_000));
        let _ = begin(&mut solo, 2, length);
        assert_eq!(used(&solo), pieces * PIECE, "{length} bytes");
    }
}

// Scenario: B5, B6, B17
#[test]
fn short_messages_take_their_own_size_and_leave_all_the_rest_to_others() {
    let mut solo = four_pieces();
    // Three pieces for all and one that is set aside for a single message.
    for id in 1..=9 {
        assert!(!no_memory(&begin_from(&mut solo, 10 + id, 2, 20_000)), "{id}");
    }
    assert!((180_000..9 * 20_256).contains(&used(&solo)), "{}", used(&solo));
    let mut id = 20;
    while !no_memory(&begin(&mut solo, id, 200)) {
        id += 2;
    }
    assert!((3 * PIECE..3 * PIECE + 257).contains(&used(&solo)), "{}", used(&solo));
}

// Scenario: B9
#[test]
fn a_message_without_room_is_kept_and_its_packets_are_counted() {
    let mut solo = two_pieces();
    for id in [2, 4] {
        assert!(!no_memory(&begin(&mut solo, id, 65_536)));
    }
    for _ in 0..3 {
        assert!(no_memory(&begin(&mut solo, 6, 65_536)));
    }
    let stats = solo.engine.stats();
    assert_eq!((stats.live_rpcs, stats.messages_unallocated, stats.dropped_no_memory), (3, 1, 3));
    assert_eq!(used(&solo), 2 * PIECE);
}

// Scenario: B10
#[test]
fn a_message_that_finds_room_at_last_is_asked_for_from_its_start() {
    let mut solo = two_pieces();
    let first = solo.request(address(9, 900), 2, 65_536);
    solo.request(address(9, 900), 4, 65_536);
    assert!(no_memory(&begin(&mut solo, 6, 50_000)));
    solo.drain();
    solo.engine.consumed(solo.now(), first, 65_536).unwrap();
    let sent = solo.drain();
    let resend = sent.iter().find(|sent| sent.resend().is_some()).unwrap();
    assert_eq!(resend.header.common.sender_id, 7);
    assert_eq!(resend.resend(), Some((0, 50_000)), "all that it may send without a grant");
    let Body::Resend(body) = resend.header.body else { unreachable!() };
    assert_eq!(body.priority, 7, "at the highest level, as all that is missing");
    assert!(!no_memory(&begin(&mut solo, 6, 50_000)));
}

// Scenario: B11
#[test]
fn the_first_that_waits_is_not_overtaken_by_longer_ones() {
    let mut solo = four_pieces();
    let from = address(9, 900);
    let small = solo.request(from, 2, 20_000);
    solo.request(from, 4, 20_000);
    let large = [6, 8, 10].map(|id| solo.request(from, id, 65_536));
    for (id, length) in [(20, 60_000), (22, 50_000), (24, 55_000)] {
        assert!(no_memory(&begin(&mut solo, id, length)), "{id}");
    }
    solo.drain();
    solo.engine.consumed(solo.now(), small, 20_000).unwrap();
    assert_eq!(asked(&solo.drain()), [0; 0], "20,000 bytes are not enough for the shortest");
    solo.engine.consumed(solo.now(), large[0], 65_536).unwrap();
    assert_eq!(asked(&solo.drain()), [22]);
    solo.engine.consumed(solo.now(), large[1], 65_536).unwrap();
    assert_eq!(asked(&solo.drain()), [24], "and so on, the shortest first");
}

// Scenario: B12
#[test]
fn a_piece_is_free_when_its_last_byte_was_taken() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let (rpc, id, _) = solo.called(from, 100);
    solo.engine.set_streaming(solo.now(), rpc).unwrap();
    let mut header = solo.data_header(from, id, 150_000, 0);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.incoming = 150_000;
    let _ = solo.header(from, &header, 60_000);
    for start in [60_000, 120_000] {
        let mut next = header;
        next.common.sequence = start;
        let Body::Data(data) = &mut next.body else { unreachable!() };
        data.seg_offset = start;
        let _ = solo.header(from, &next, 60_000.min(150_000 - start));
    }
    assert_eq!(used(&solo), 3 * PIECE);
    for (taken, left) in [(65_535, 3), (65_536, 2), (131_072, 1), (149_999, 1), (150_000, 0)] {
        solo.engine.consumed(solo.now(), rpc, taken).unwrap();
        assert_eq!(used(&solo), left * PIECE, "{taken} bytes taken");
    }
}

// Scenario: B13
#[test]
fn bytes_that_have_not_come_cannot_be_given_back_and_none_twice() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let _ = solo.data(from, 2, 3000, (0, 1000));
    let _ = solo.data(from, 2, 3000, (2000, 3000));
    let Event::RequestStarted { rpc, .. } = solo.events()[0] else { panic!() };
    let now = solo.now();
    let out_of_range = Err(homa_core::RpcError::OutOfRange);
    assert_eq!(solo.engine.consumed(now, rpc, 1001), out_of_range, "there is a gap");
    assert_eq!(solo.engine.consumed(now, rpc, 3000), out_of_range);
    let _ = solo.data(from, 2, 3000, (1000, 2000));
    for _ in 0..2 {
        assert_eq!(solo.engine.consumed(now, rpc, 3000), Ok(()));
        assert_eq!(used(&solo), 0, "giving it back again frees nothing else");
    }
}

// Scenario: B14
#[test]
fn a_message_that_ended_while_it_waited_gets_no_room() {
    for told in [true, false] {
        let mut solo = two_pieces();
        let from = address(9, 900);
        let first = solo.request(from, 2, 65_536);
        solo.request(from, 4, 65_536);
        for (id, length) in [(6, 50_000), (8, 60_000)] {
            assert!(no_memory(&begin(&mut solo, id, length)));
        }
        let _ = solo.control(from, 6, Body::RpcUnknown, Reason::Cancelled, 0);
        if told {
            solo.events();
        }
        solo.drain();
        solo.engine.consumed(solo.now(), first, 65_536).unwrap();
        assert_eq!(asked(&solo.drain()), [8]);
        assert!((125_536..126_000).contains(&used(&solo)), "{}", used(&solo));
    }
}

// Scenario: B16
#[test]
fn a_message_that_ends_before_it_was_taken_gives_all_memory_back() {
    let mut solo = two_pieces();
    let from = address(9, 900);
    let _ = begin(&mut solo, 2, 65_536);
    let complete = solo.request(from, 4, 65_536);
    assert_eq!(used(&solo), 2 * PIECE);
    let _ = solo.control(from, 2, Body::RpcUnknown, Reason::Cancelled, 0);
    solo.events();
    assert_eq!(used(&solo), PIECE);
    solo.engine.abort(solo.now(), complete, FailReason::Aborted).unwrap();
    assert_eq!(used(&solo), 0);
}

// Scenario: B9
#[test]
fn a_message_without_room_gets_no_grant_until_it_has_some() {
    let config = Config::default().with(|config| {
        config.limits.max_message_bytes = 200_000;
        config.limits.receive_memory_bytes = 524_288;
    });
    let mut solo = Solo::new(config);
    let from = address(9, 900);
    let held = [2, 4].map(|id| solo.request(from, id, 200_000));
    assert!(no_memory(&solo.data(from, 6, 200_000, (0, 1000))));
    let grants = |sent: &[Sent]| {
        sent.iter()
            .filter(|sent| sent.header.common.sender_id == 7 && sent.grant().is_some())
            .count()
    };
    assert_eq!(grants(&solo.advance(100)), 0);
    for rpc in held {
        solo.engine.consumed(solo.now(), rpc, 200_000).unwrap();
    }
    assert!(grants(&solo.drain()) > 0);
}
