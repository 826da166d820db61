//! What an engine counts and tells about itself: scenarios O1, O6, O7, X27, X28.

use crate::harness::*;
use homa_core::{Config, CutoffSource, Cutoffs, LargeMessages, LengthBin, Received, RpcInfo};
use homa_wire::{Body, Common, Data, Header};

fn filled(solo: &Solo) -> Vec<LengthBin> {
    let (bins, _) = solo.engine.message_lengths().unwrap();
    bins.filter(|bin| bin.bytes > 0).collect()
}

// Scenario: O1
#[test]
fn messages_are_counted_by_their_length() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    for (id, length) in [(2, 100), (4, 5000), (6, 100), (8, 200_000)] {
        let _ = solo.data(from, id, length, (0, 100));
        solo.message(from, id, length);
    }
    // What is merely announced is not.
    let _ = solo.data(from, 10, 300_000, (0, 100));
    let (small, large) = (
        LengthBin { lower_bytes: 64, upper_bytes: 128, bytes: 200 },
        LengthBin { lower_bytes: 4096, upper_bytes: 5120, bytes: 5000 },
    );
    assert_eq!(filled(&solo), [small, large]);
    let (_, beyond) = solo.engine.message_lengths().unwrap();
    assert_eq!(beyond, LargeMessages { count: 1, bytes: 200_000 });
    let (_, id, _) = solo.called(from, 100);
    let _ = solo.data(from, id, 120, (0, 120));
    assert_eq!(filled(&solo)[0].bytes, 320, "responses count, too");
    let fixed = CutoffSource::Fixed(Cutoffs::default());
    assert!(
        Solo::new(Config::default().with(|config| config.priorities.cutoffs = fixed))
            .engine
            .message_lengths()
            .is_none()
    );
}

// Scenario: O6
#[test]
fn a_freeze_packet_is_counted_whatever_port_it_names_and_changes_nothing() {
    let mut solo = Solo::new(Config::default());
    let rpc = solo.request(address(9, 900), 2, 100);
    for port in [PORT, 9] {
        let common = Common::control(900, port, 2).with_native_profile(THEIRS);
        let header = Header { common, body: Body::Freeze, extension: None };
        assert_eq!(solo.header(address(9, 900), &header, 0), Received::Consumed);
    }
    assert_eq!(solo.engine.stats().freezes_received, 2);
    assert!(solo.drain().is_empty() && solo.events().is_empty());
    assert_eq!(solo.answer(rpc, 100).iter().filter(|sent| sent.is_data()).count(), 1);
}

// Scenario: O7, R15
#[test]
fn packets_sent_again_are_counted_by_their_use() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let again = |solo: &mut Solo, range: (u32, u32)| {
        let mut header = solo.data_header(from, 2, 3000, range.0);
        let Body::Data(Data { flags, .. }) = &mut header.body else { unreachable!() };
        *flags = Data::RETRANSMISSION;
        let _ = solo.header(from, &header, range.1 - range.0);
        let stats = solo.engine.stats();
        (stats.retransmissions_used, stats.retransmissions_unneeded)
    };
    let _ = solo.data(from, 2, 3000, (0, 1000));
    let _ = solo.data(from, 2, 3000, (0, 1000));
    assert_eq!(
        again(&mut solo, (1000, 2000)),
        (1, 0),
        "a copy of a first packet is not one of them"
    );
    assert_eq!(again(&mut solo, (0, 1000)), (1, 1));
    assert_eq!(again(&mut solo, (1500, 2500)), (2, 1), "half of it is new");
    assert_eq!(again(&mut solo, (2500, 3000)), (3, 1));
    assert_eq!(again(&mut solo, (2500, 3000)), (3, 2), "the request is in service");
    assert_eq!(solo.engine.stats().dropped_duplicate, 3);
}

// Scenario: X27
#[test]
fn all_live_rpcs_can_be_listed_or_some_of_them_and_counted() {
    let mut solo = Solo::new(Config::default());
    let peer = address(9, 900);
    let served = solo.request(peer, 2, 3000);
    let (called, id, _) = solo.called(peer, 100_000);
    let (over, over_id, _) = solo.called(peer, 100);
    let _ = solo.data(peer, over_id, 50, (0, 50));
    let infos: Vec<RpcInfo> = solo.engine.rpcs().collect();
    assert_eq!((infos.len(), solo.engine.rpcs().take(2).count()), (3, 2));
    assert_eq!(solo.engine.stats().live_rpcs, 3);
    let info = |rpc| *infos.iter().find(|info| info.rpc == rpc).unwrap();
    let server = info(served);
    assert_eq!((server.id, server.cookie, server.path.remote), (3, 0, peer));
    assert_eq!((server.tx_length, server.rx_length, server.rx_received), (0, 3000, 3000));
    assert!(server.is_ready);
    let client = info(called);
    assert_eq!((client.id, client.cookie), (id & !1, 77));
    assert_eq!((client.tx_length, client.tx_sent, client.tx_granted), (100_000, 40_000, 40_000));
    assert_eq!((client.rx_length, client.is_ready), (0, false));
    assert!(info(over).is_ready);
    solo.engine.consumed(solo.now(), over, 50).unwrap();
    solo.events();
    assert_eq!(solo.engine.rpcs().count(), 2);
}

// Scenario: X28
#[test]
fn a_message_with_holes_tells_how_many_and_how_large_they_are() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    for range in [(0, 1000), (2000, 3000), (5000, 5500)] {
        let _ = solo.data(from, 2, 9000, range);
    }
    let info = solo.engine.rpcs().next().unwrap();
    assert_eq!((info.rx_gaps, info.rx_gap_bytes), (2, 3000));
    assert_eq!((info.rx_received, info.rx_granted, info.is_ready), (2500, 9000, false));
    let _ = solo.data(from, 2, 9000, (1000, 2000));
    let info = solo.engine.rpcs().next().unwrap();
    assert_eq!((info.rx_gaps, info.rx_gap_bytes), (1, 2000));
}
