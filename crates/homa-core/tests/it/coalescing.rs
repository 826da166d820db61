//! Several short packets in one UDP datagram.

use crate::harness::{FULL, Host, Remote, data_bytes, data_of, exact};
use homa_core::{Carriage, Config, CutoffSource, Cutoffs, RequestOptions, TransmitError};
use homa_wire::{Body, PacketType, Reason};

/// UDP payload that every path carries.
const ALWAYS_FITS: u32 = 1_232;
const HEADER: u32 = 56;

/// A host with requests of `lengths` to one server under way.
fn with_calls(config: Config, mtu: u32, lengths: &[u32]) -> (Host, Remote) {
    let mut host = Host::new(config);
    host.mtu = Some(mtu);
    let remote = host.remote(1, 1);
    for length in lengths {
        host.call(&remote, *length);
    }
    (host, remote)
}

/// Payload lengths of one train.
fn lengths_of_train(host: &mut Host) -> Vec<u32> {
    host.train().iter().map(|sent| sent.payload.end - sent.payload.start).collect()
}

#[test]
fn short_messages_of_different_lengths_go_in_one_datagram() {
    let (mut host, _) = with_calls(exact(), 1_500, &[100, 7, 300, 50]);
    assert_eq!(lengths_of_train(&mut host), [7, 50, 100, 300]);
    assert_eq!(host.datagrams, [1]);
    assert!(host.train().is_empty());
}

#[test]
fn a_datagram_of_several_packets_is_no_longer_than_what_every_path_carries() {
    let (mut host, _) = with_calls(exact(), 1_500, &[500, 510, 520, 530]);
    assert_eq!(lengths_of_train(&mut host), [500, 510]);
    const { assert!(2 * HEADER + 500 + 510 <= ALWAYS_FITS) };
    const { assert!(3 * HEADER + 500 + 510 + 520 > ALWAYS_FITS) };
    assert_eq!(lengths_of_train(&mut host), [520, 530]);
    assert_eq!(host.datagrams, [1, 1]);
}

#[test]
fn within_a_host_datagrams_are_longer_but_do_not_hold_up_what_comes_first() {
    let (mut host, _) = with_calls(exact(), 65_536, &[500, 5_000, 9_000, 8_000]);
    assert_eq!(lengths_of_train(&mut host), [500, 5_000, 8_000]);
    assert_eq!(lengths_of_train(&mut host), [9_000]);
    assert_eq!(host.datagrams, [1, 1]);
}

#[test]
fn many_equally_long_packets_become_a_train_of_datagrams() {
    let (mut host, _) = with_calls(exact(), 1_500, &[100; 30]);
    assert_eq!(host.train().len(), 30);
    assert_eq!(host.datagrams, [30]);
}

#[test]
fn what_does_not_reach_the_end_of_its_message_is_the_last_of_its_datagram() {
    // 10,000 bytes leave as full packets and a rest: nothing can follow a full packet in its
    // datagram.
    let (mut host, _) = with_calls(exact(), 65_536, &[60_000, 70_000]);
    let sent = host.sent();
    assert_eq!(data_bytes(&sent), 80_000, "the unscheduled bytes of both");
    assert_eq!(host.datagrams, host.trains, "each packet is a datagram");
    let (mut host, _) = with_calls(exact(), 1_500, &[FULL + 10, 20]);
    let sent = data_of(&host.sent());
    assert_eq!(sent.len(), 3);
    assert_eq!(host.datagrams.iter().sum::<usize>(), 3);
}

#[test]
fn messages_of_a_lower_priority_ride_along_in_a_datagram_but_not_in_a_train() {
    let mut table = [0; 8];
    (table[1], table[0]) = (100, 1_000_000);
    let cutoffs = CutoffSource::Fixed(Cutoffs::new(table));
    let config = exact().with(|config| {
        config.priorities.count = 2;
        config.priorities.cutoffs = cutoffs;
    });
    let mut host = Host::new(config);
    let remote = host.remote(1, 1);
    host.call(&remote, 1);
    host.sent();
    host.datagrams.clear();
    let body = Body::Cutoffs(homa_wire::Cutoffs { levels: table, version: 7 });
    host.take(&remote, remote.control(1, body, Reason::None, 0));
    for length in [50, 150] {
        host.call(&remote, length);
    }
    let sent = host.train();
    assert_eq!(sent.iter().map(|it| it.priority).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(host.datagrams, [1]);
    for length in [90, 1_200] {
        host.call(&remote, length);
    }
    assert_eq!(lengths_of_train(&mut host), [90]);
    assert_eq!(lengths_of_train(&mut host), [1_200]);
}

#[test]
fn no_train_goes_on_behind_a_message_that_rides_along() {
    let (mut host, remote) = with_calls(exact(), 1_500, &[100; 2]);
    host.call_with(&remote, 100, RequestOptions { priority_hint: Some(0), ..Default::default() });
    for _ in 0..30 {
        host.call(&remote, 100);
    }
    assert_eq!(host.train().len(), (ALWAYS_FITS / (HEADER + 100)) as usize);
    assert_eq!(host.datagrams, [1]);
    assert_eq!(host.train().len(), 26);
}

#[test]
fn raw_ip_carries_one_packet_at_a_time() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let mut path = remote.path();
    path.carriage = Carriage::Ip;
    let now = host.now();
    for length in [100, 7, 300] {
        host.engine.send_request(now, path, length, 0, RequestOptions::default()).unwrap();
    }
    host.events();
    host.sent();
    assert_eq!(host.datagrams.iter().sum::<usize>(), 3);
}

#[test]
fn a_refused_datagram_is_sent_again_whole() {
    let (mut host, _) = with_calls(exact(), 1_500, &[100, 7, 300]);
    assert!(host.sent_partly(0, TransmitError::NoRoom).is_empty());
    host.now_ns += 1_000_000;
    assert_eq!(lengths_of_train(&mut host), [7, 100, 300]);
    assert_eq!(host.stats().bytes_retransmitted, 0);
}

#[test]
fn control_packets_of_different_types_share_a_datagram() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.take(&remote, remote.data(6, 0..100, 20_000, 100));
    for id in [9, 11] {
        let _ = host.receive(&remote, remote.control(id, Body::NeedAck, Reason::None, 0));
        let _ = host.receive(&remote, remote.resend(id + 1, 0, 100));
    }
    let sent = host.sent();
    let types: Vec<_> = sent.iter().map(|it| it.header.packet_type()).collect();
    assert!(
        types.contains(&PacketType::RpcUnknown) && types.contains(&PacketType::Ack),
        "{types:?}"
    );
    assert!(host.datagrams.len() < types.len(), "{:?}", host.datagrams);
}
