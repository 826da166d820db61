//! Who is believed to be whom: what forged packets bring about and what they draw, and that honest
//! ends notice nothing of it.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;

use crate::harness::*;
use homa_core::{
    Config, DropReason, Engine, Event, FailReason, HostBudget, Instant, PortOptions, Received,
    RequestOptions, ResponseOptions, RpcKey, RxMeta, Segment,
};
use homa_wire::{
    Ack, Body, Common, Cutoffs, Data, Extension, Grant, Header, RESEND_ALL, Reason, Resend,
};

/// Bytes of a request of 10 bytes on the wire.
const SHORT: u64 = 66;

fn victim() -> SocketAddr {
    address(66, 900)
}

fn bytes(sent: &[Sent]) -> u64 {
    sent.iter().map(|sent| u64::from(sent.wire_bytes)).sum()
}

/// DATA of a message in one packet, whose sender is known by `incarnation` and believes that we are
/// known by `echo`.
fn short(from: SocketAddr, id: u64, length: u32, (incarnation, echo): (u32, u32)) -> Header {
    let common = Common::data(from.port(), PORT, id, 0).with_native_profile(incarnation);
    let data = Data { message_length: length, incoming: length, echo, ..Data::default() };
    Header { common, body: Body::Data(data), extension: None }
}

fn control(
    from: SocketAddr,
    id: u64,
    body: Body,
    incarnation: u32,
    extension: Extension,
) -> Header {
    let common = Common::control(from.port(), PORT, id).with_native_profile(incarnation);
    Header { common, body, extension: Some(extension) }
}

fn arrived(events: &[Event]) -> Option<RpcKey> {
    events.iter().find_map(|event| match event {
        Event::RequestArrived { rpc, .. } => Some(*rpc),
        _ => None,
    })
}

/// Everything of the incoming message is taken and `length` bytes are answered.
fn answer(solo: &mut Solo, rpc: RpcKey, length: u32) {
    let now = solo.now();
    let _ = solo.engine.consumed(now, rpc, 10);
    let _ = solo.engine.send_response(now, rpc, length, ResponseOptions::default());
}

// The proof of an address.

#[test]
fn what_one_address_learns_of_the_server_proves_nothing_for_another() {
    let mut solo = Solo::new(Config::default());
    let liar = address(5, 900);
    let rpc = solo.request(liar, 2, 10);
    let learnt = solo.answer(rpc, 10)[0].header.common.incarnation;
    assert_eq!(learnt, solo.ours(liar));
    for (incarnation, echo) in [(THEIRS, learnt), (THEIRS, 0), (learnt, learnt), (1, 1)] {
        let received = solo.header(victim(), &short(victim(), 0x1000, 10, (incarnation, echo)), 10);
        let mut received_bytes = SHORT;
        let mut sent = solo.drain();
        if let Some(rpc) = arrived(&solo.events()) {
            sent.extend(solo.answer(rpc, 1_000_000));
        }
        let forged = [
            Body::Grant(Grant { offset: 1_000_000, priority: 7 }),
            Body::Resend(Resend { offset: 0, length: 1_000_000, priority: 7 }),
        ];
        for body in forged.iter().cycle().take(100) {
            let extension = Extension { echo, ..Extension::default() };
            let header = control(victim(), 0x1000, *body, incarnation, extension);
            received_bytes += header.encoded_bytes() as u64;
            let _ = solo.header(victim(), &header, 0);
            sent.extend(solo.advance(1));
        }
        let drawn = bytes(&sent);
        assert!(drawn <= 3 * received_bytes, "{received:?}: {drawn} for {received_bytes}");
    }
}

#[test]
fn a_packet_without_an_incarnation_is_nobodys() {
    let mut solo = Solo::new(Config::default());
    let rpc = solo.request(victim(), 2, 10);
    solo.answer(rpc, 10);
    for (id, echo) in [(0x9000, 0), (0x9002, solo.ours(victim()))] {
        let received = solo.header(victim(), &short(victim(), id, 10, (0, echo)), 10);
        assert!(matches!(received, Received::Dropped(_)), "{received:?}");
        assert_eq!(arrived(&solo.events()), None);
        assert!(bytes(&solo.drain()) <= SHORT);
    }
}

#[test]
fn the_number_for_an_address_is_24_bits_without_zero_and_changes_with_the_incarnation() {
    let engine = |seed: u64| Engine::new(Config::default(), HostBudget::local(), seed).unwrap();
    let lives: BTreeSet<u32> =
        (0..1000).map(|seed| engine(seed).incarnation(victim().ip())).collect();
    assert!(lives.len() > 990);
    assert!(lives.iter().all(|incarnation| (1..1 << 24).contains(incarnation)));
}

#[test]
fn several_ports_of_a_host_are_one_incarnation_to_its_peers() {
    let mut solo = Solo::new(Config::default());
    let (one, other) = (address(8, 800), address(8, 801));
    assert_eq!(solo.ours(one), solo.ours(other));
    assert_ne!(solo.ours(one), solo.ours(address(9, 800)));
    let rpc = solo.request(one, 2, 10);
    let sent = solo.answer(rpc, 10);
    assert_eq!(sent[0].header.common.incarnation, solo.ours(other));
}

// Incarnations.

#[test]
fn a_forged_incarnation_takes_nothing_from_a_client_that_has_proved_its_address() {
    let mut solo = Solo::new(Config::default());
    let client = address(8, 800);
    let rpcs: Vec<RpcKey> = (0..10).map(|n| solo.request(client, 2 + 2 * n, 100)).collect();
    for echo in [0, 0x777, solo.ours(address(5, 1))] {
        let extension = Extension { echo, ..Extension::default() };
        for body in [
            Body::Busy,
            Body::RpcUnknown,
            Body::NeedAck,
            Body::Cutoffs(Cutoffs { levels: [1; 8], version: 3 }),
        ] {
            for id in [999_998, 2, 999_999] {
                let _ = solo.header(client, &control(client, id, body, 0x123, extension), 0);
            }
        }
    }
    assert!(solo.engine.stats().impostors >= 36, "{}", solo.engine.stats().impostors);
    solo.drain();
    let sent = solo.answer(rpcs[0], 30_000);
    assert_eq!(sent.iter().filter(|sent| sent.is_data()).count(), 22, "all of it, at once");
    assert_eq!(solo.engine.stats().live_rpcs, 10);
}

#[test]
fn forged_incarnations_of_a_server_delay_no_call() {
    let mut net = Net::new(&Config::default(), 2);
    let rpc = net.call(0, 1, 100);
    net.run(5);
    assert!(net.answered(0, rpc));
    for n in 0..200 {
        for (id, extension) in
            [(0x7777_7777_7777_0001, Extension::default()), (0x7776, Extension::default())]
        {
            let header = control(net.hosts[1].address, id, Body::Busy, 1 + n, extension);
            let mut bytes = [0; 96];
            let written = header.encode(&mut bytes).unwrap();
            let meta = RxMeta::new(path(4000, net.hosts[1].address));
            let now = net.now();
            let _ =
                net.hosts[0].engine.handle_packet(now, &meta, &bytes[..written], written as u32);
        }
        let rpc = net.call(0, 1, 3000);
        net.run(1);
        assert!(net.answered(0, rpc), "call {n}");
    }
    assert_eq!(net.hosts[0].engine.stats().restarts, 0);
    assert_eq!(net.hosts[1].engine.stats().stale_incarnations, 0);
}

#[test]
fn forged_incarnations_before_the_first_contact_delay_no_call() {
    let mut net = Net::new(&Config::default(), 2);
    let forge = |net: &mut Net, host: usize, incarnation: u32| {
        let from = net.hosts[1 - host].address;
        let mut header = short(from, 0x5000 + u64::from(incarnation) * 2, 10, (incarnation, 0));
        header.common.destination_port = net.hosts[host].address.port();
        let mut bytes = [0; 96];
        let written = header.encode(&mut bytes).unwrap();
        let meta = RxMeta::new(path(net.hosts[host].address.port(), from));
        let now = net.now();
        let _ = net.hosts[host].engine.handle_packet(now, &meta, &bytes[..written], 66);
    };
    forge(&mut net, 0, 0x111);
    forge(&mut net, 1, 0x222);
    let rpc = net.call(0, 1, 3000);
    forge(&mut net, 0, 0x333);
    forge(&mut net, 1, 0x444);
    net.run(1);
    assert!(net.answered(0, rpc));
    assert_eq!(net.hosts[0].engine.stats().restarts, 0);
}

#[test]
fn a_client_that_starts_anew_is_answered_after_one_more_round_trip() {
    let config = Config::default();
    let mut net = Net::new(&config, 2);
    let rpc = net.call(0, 1, 100);
    net.run(5);
    assert!(net.answered(0, rpc));
    let again = net.call(0, 1, 100);
    net.run(1);
    assert!(net.answered(0, again));
    net.restart(0, &config, 999);
    let rpc = net.call(0, 1, 100);
    // One round trip takes 20 µs.
    let begin = net.now_ns;
    net.run(1);
    assert!(net.answered(0, rpc));
    assert_eq!(net.hosts[0].engine.stats().restarts, 1);
    assert!(net.now_ns - begin <= MS);
    let next = net.call(0, 1, 100);
    net.run(1);
    assert!(net.answered(0, next));
    assert_eq!(net.hosts[0].engine.stats().restarts, 1, "now it is known");
}

#[test]
fn a_server_that_starts_anew_is_believed_when_it_answers_us() {
    let config = Config::default();
    let mut net = Net::new(&config, 2);
    let rpc = net.call(0, 1, 100);
    net.run(5);
    assert!(net.answered(0, rpc));
    net.restart(1, &config, 999);
    net.run(5);
    let rpc = net.call(0, 1, 100);
    net.run(5);
    assert!(net.answered(0, rpc));
    assert_eq!(net.hosts[1].engine.stats().stale_incarnations, 1);
}

#[test]
fn a_new_client_needs_no_extra_round_trip() {
    let mut net = Net::new(&Config::default(), 2);
    let rpc = net.call(0, 1, 3000);
    net.run(1);
    assert!(net.answered(0, rpc));
    let server = net.hosts[1].engine.stats();
    assert_eq!((server.unvalidated_put_off, server.impostors), (0, 0));
    assert_eq!(net.hosts[0].engine.stats().restarts, 0);
}

// Ids.

#[test]
fn the_ids_of_calls_to_one_server_tell_nothing_about_those_to_another() {
    let mut solo = Solo::new(Config::default());
    let ids: Vec<u64> = (1..=200).map(|host| solo.called(address(host, 900), 10).1).collect();
    let near = |a: u64, b: u64| a.wrapping_sub(b).min(b.wrapping_sub(a)) < 1 << 32;
    for (index, id) in ids.iter().enumerate() {
        assert!(!ids[..index].iter().any(|other| near(*id, *other)), "{ids:x?}");
    }
}

#[test]
fn the_ids_of_calls_to_one_server_count_up_also_when_it_was_forgotten_meanwhile() {
    let config = Config::default().with(|config| config.peers.max = 1);
    let mut solo = Solo::new(config);
    let mut last = None;
    for _ in 0..3 {
        for host in [8, 9] {
            let (rpc, id, _) = solo.called(address(host, 900), 10);
            if host == 8 {
                assert!(last.is_none_or(|last| id > last));
                last = Some(id);
            }
            let now = solo.now();
            solo.engine.abort(now, rpc, FailReason::Aborted).unwrap();
            solo.events();
            solo.advance(20_000);
        }
    }
}

#[test]
fn a_response_is_taken_only_from_who_was_asked() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 10);
    let guesses = [(THEIRS, 0), (0, 0), (THEIRS, solo.ours(address(66, 900))), (0x99, 0x99)];
    for (incarnation, echo) in guesses {
        // Even one who knows the id does not get through.
        let received = solo.header(server, &short(server, id, 5, (incarnation, echo)), 5);
        assert_eq!(received, Received::Dropped(DropReason::WrongPeer));
        for why in (0..=12).map(Reason::from) {
            for body in [
                Body::RpcUnknown,
                Body::Busy,
                Body::NeedAck,
                Body::Grant(Grant { offset: 10, priority: 0 }),
            ] {
                let extension = Extension { echo, reason: why, value: 1 };
                let received =
                    solo.header(server, &control(server, id, body, incarnation, extension), 0);
                assert_eq!(received, Received::Dropped(DropReason::WrongPeer));
            }
        }
    }
    assert_eq!(solo.drain().len(), 0, "and draws nothing");
    assert_eq!(solo.failure(rpc), None);
    let _ = solo.data(server, id, 5, (0, 5));
    solo.events();
    assert!(is_answered(&solo.log, rpc, 77));
}

#[test]
fn a_request_belongs_to_the_client_that_began_it() {
    let mut solo = Solo::new(Config::default());
    let client = address(8, 800);
    let begun = short(client, 2, 3000, (THEIRS, 0));
    assert!(matches!(solo.header(client, &begun, 1000), Received::Place(_)));
    for incarnation in [0x5, 0] {
        let mut forged = begun;
        forged.common.incarnation = incarnation;
        let received = solo.header(client, &forged, 3000);
        assert_eq!(received, Received::Dropped(DropReason::WrongPeer));
        let cancel = control(client, 2, Body::RpcUnknown, incarnation, Extension::default());
        assert_eq!(solo.header(client, &cancel, 0), Received::Dropped(DropReason::WrongPeer));
    }
    assert_eq!(solo.engine.stats().live_rpcs, 1);
    solo.message(client, 2, 3000);
    assert!(arrived(&solo.events()).is_some());
}

// Randomness.

/// The steps of SplitMix64, and back.
mod splitmix {
    pub(crate) const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

    pub(crate) fn mix(mut x: u64) -> u64 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn unmix(mut x: u64) -> u64 {
        x = x ^ (x >> 31) ^ (x >> 62);
        x = x.wrapping_mul(0x3196_42b2_d24d_8ec3);
        x = x ^ (x >> 27) ^ (x >> 54);
        x = x.wrapping_mul(0x96de_1b17_3f11_9089);
        x ^ (x >> 30) ^ (x >> 60)
    }
}

#[test]
fn a_request_does_not_tell_the_seed() {
    let secret = 0xdead_beef_1234_5678u64;
    let mut engine = Engine::new(Config::default(), HostBudget::local(), secret).unwrap();
    engine.bind_port(PORT, PortOptions::CLIENT).unwrap();
    let now = Instant::from_nanos(1);
    engine.send_request(now, path(PORT, victim()), 10, 0, RequestOptions::default()).unwrap();
    let mut segments = vec![Segment::EMPTY; 4];
    engine.poll_transmit(now, &mut segments).unwrap();
    let header = Header::parse(segments[0].header(), segments[0].wire_bytes()).unwrap();
    // Whoever takes the id for the n-th number of a generator that can be run backwards.
    for low in 0..2 {
        let state = splitmix::unmix(header.common.sender_id | low);
        for steps in 0..16 {
            let seed = state.wrapping_sub(splitmix::GAMMA.wrapping_mul(steps));
            assert_ne!(seed, secret);
            let incarnation = splitmix::mix(seed.wrapping_add(splitmix::GAMMA)) % ((1 << 24) - 1);
            assert_ne!(incarnation + 1, u64::from(header.common.incarnation));
        }
    }
}

// Places.

/// One forged request of 10 bytes in each packet, from ever new addresses, answered at once.
fn flood(solo: &mut Solo, requests: u32) -> u32 {
    let mut refused = 0;
    for n in 0..requests {
        let [_, a, b, c] = n.to_be_bytes();
        let from = SocketAddr::from(([10, 20 + a, b, c], 1000));
        let id = 2 * (solo.now_ns + u64::from(n));
        let received = solo.header(from, &short(from, id, 10, (THEIRS, 0)), 10);
        refused += u32::from(!matches!(received, Received::Place(_)));
        if let Some(rpc) = arrived(&solo.events()) {
            answer(solo, rpc, 10);
        }
        solo.drain();
        if n % 64 == 0 {
            solo.advance(1);
        }
    }
    refused
}

fn few_places() -> Config {
    Config::default().with(|config| config.peers.max = 1000)
}

#[test]
fn forged_requests_keep_no_new_client_out() {
    let mut solo = Solo::new(few_places());
    assert_eq!(flood(&mut solo, 5000), 0);
    assert!(solo.engine.stats().live_peers <= 1000);
    for n in 0..100 {
        let client = address(n, 800);
        let header = short(client, 2, 100, (THEIRS, 0));
        assert!(matches!(solo.header(client, &header, 100), Received::Place(_)));
        let rpc = arrived(&solo.events()).unwrap();
        let sent = solo.answer(rpc, 100);
        assert_eq!(sent.iter().filter(|sent| sent.is_data()).count(), 1);
    }
    let call = solo.call_with(address(9, 900), 100, RequestOptions::default());
    assert!(call.is_ok(), "{call:?}");
}

#[test]
fn a_new_client_has_time_to_prove_its_address_among_forged_requests() {
    let mut solo = Solo::new(few_places());
    flood(&mut solo, 3000);
    let client = address(8, 800);
    let _ = solo.header(client, &short(client, 2, 10, (THEIRS, 0)), 10);
    let rpc = arrived(&solo.events()).unwrap();
    // Somewhat more than 6 ms.
    assert_eq!(flood(&mut solo, 400), 0);
    let echo = solo.ours(client);
    let extension = Extension { echo, ..Extension::default() };
    let _ = solo.header(client, &control(client, 2, Body::Busy, THEIRS, extension), 0);
    flood(&mut solo, 5000);
    let sent = solo.answer(rpc, 30_000);
    assert_eq!(sent.iter().filter(|sent| sent.is_data()).count(), 22);
}

#[test]
fn many_requests_from_one_forged_address_keep_nobody_else_out() {
    let mut solo = Solo::new(Config::default().with(|config| config.limits.max_rpcs = 400));
    for n in 0..2000 {
        let _ = solo.header(victim(), &short(victim(), 2 + 2 * n, 10, (THEIRS, 0)), 10);
        solo.events();
    }
    let stats = solo.engine.stats();
    assert_eq!((stats.live_rpcs, stats.unvalidated_put_off), (225, 1775), "its share");
    let told: HashSet<Reason> = solo.drain().iter().filter_map(Sent::unknown).collect();
    assert_eq!(told, HashSet::from([Reason::NeverSeen]), "by which it can prove its address");
    for n in 0..200 {
        // Some have proved their addresses.
        let client = address(n, 800);
        let echo = if n % 2 == 0 { solo.ours(client) } else { 0 };
        let received = solo.header(client, &short(client, 2, 10, (THEIRS, echo)), 10);
        assert!(matches!(received, Received::Place(_)), "{n}: {received:?}");
        solo.events();
    }
    let stats = solo.engine.stats();
    assert_eq!((stats.live_rpcs, stats.unvalidated_displaced), (300, 125));
}

#[test]
fn a_new_client_with_more_calls_than_there_are_places_loses_none_that_was_accepted() {
    let config = Config::default().with(|config| config.limits.max_rpcs = 8);
    let mut net = Net::new(&config, 2);
    net.hosts[1].service = Service::Hold;
    let rpcs: Vec<RpcKey> = (0..8).map(|_| net.call(0, 1, 100)).collect();
    net.run(1);
    let refused = |rpc: &&RpcKey| net.failure(0, **rpc) == Some(FailReason::Overloaded);
    assert_eq!(rpcs.iter().filter(refused).count(), 3, "of six places one is left to others");
    assert_eq!(net.hosts[1].engine.stats().live_rpcs, 5);
}

#[test]
fn clients_that_proved_their_addresses_are_not_displaced() {
    let mut solo = Solo::new(few_places());
    let rpcs: Vec<RpcKey> = (0..200).map(|n| solo.request(address(n, 800), 2, 10)).collect();
    flood(&mut solo, 5000);
    for rpc in rpcs {
        let sent = solo.answer(rpc, 100);
        assert_eq!(sent.iter().filter(|sent| sent.is_data()).count(), 1);
    }
}

// What packets draw.

/// All that can be said in a control packet.
fn bodies() -> [Body; 8] {
    [
        Body::Grant(Grant { offset: 5, priority: 1 }),
        Body::Resend(Resend { offset: 0, length: RESEND_ALL, priority: 7 }),
        Body::RpcUnknown,
        Body::Busy,
        Body::Cutoffs(Cutoffs { levels: [1; 8], version: 3 }),
        Body::Freeze,
        Body::NeedAck,
        Body::Ack(Ack { count: 5, ..Ack::default() }),
    ]
}

#[test]
fn no_control_packet_draws_more_bytes_than_it_has() {
    for body in bodies() {
        for id in [1000, 1001] {
            for port in [PORT, PORT + 1] {
                for why in (0..=12).map(Reason::from) {
                    let extension = Extension { echo: 0, reason: why, value: 1 };
                    for extension in [Some(extension), None] {
                        let mut solo = Solo::new(Config::default());
                        let mut common = Common::control(900, port, id).with_native_profile(THEIRS);
                        common.source_port = victim().port();
                        let header = Header { common, body, extension };
                        let mut bytes = [0; 96];
                        let written = header.encode(&mut bytes).unwrap() as u32;
                        let meta = RxMeta::new(path(port, victim()));
                        let now = solo.now();
                        let _ = solo.engine.handle_packet(
                            now,
                            &meta,
                            &bytes[..written as usize],
                            written,
                        );
                        let drawn: u32 = solo.drain().iter().map(|sent| sent.wire_bytes).sum();
                        assert!(drawn <= written, "{drawn} for {written}: {header:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn requests_of_unvalidated_clients_draw_no_more_control_bytes_than_they_have() {
    for (length, payload) in [(1, 1), (10, 10), (100_000, 1), (100_000, 1000)] {
        let mut solo = Solo::new(Config::default());
        let _ = solo.header(victim(), &short(victim(), 2, length, (THEIRS, 0)), payload);
        solo.events();
        let mut received = 56 + u64::from(payload);
        let mut sent = solo.advance(50);
        for body in bodies().iter().cycle().take(80) {
            let header = control(victim(), 2, *body, THEIRS, Extension::default());
            received += header.encoded_bytes() as u64;
            let _ = solo.header(victim(), &header, 0);
            sent.extend(solo.advance(1));
        }
        sent.retain(|sent| !sent.is_data());
        assert!(bytes(&sent) <= received, "{} for {received}", bytes(&sent));
    }
}

#[test]
fn grants_to_an_unvalidated_client_wait_for_its_proof_if_they_are_longer_than_what_it_sent() {
    let mut solo = Solo::new(Config::default());
    let mut header = short(victim(), 2, 100_000, (THEIRS, 0));
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.incoming = 1;
    let mut received = 0;
    let mut sent = Vec::new();
    for id in 0..100 {
        header.common.sender_id = 2 * id;
        let _ = solo.header(victim(), &header, 1);
        received += 57;
        solo.events();
        sent.extend(solo.advance(1));
    }
    sent.extend(solo.advance(5_000));
    assert!(bytes(&sent) <= received, "{} for {received}", bytes(&sent));
}

#[test]
fn a_grant_that_was_kept_from_an_unvalidated_client_is_told_with_its_proof() {
    let mut solo = Solo::new(Config::default());
    let mut header = short(victim(), 198, 100_000, (THEIRS, 0));
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.incoming = 1;
    let _ = solo.header(victim(), &header, 1);
    solo.events();
    assert!(solo.drain().iter().all(|sent| sent.grant().is_none()));
    let echo = solo.ours(victim());
    let proof = Extension { echo, reason: Reason::None, value: 0 };
    let _ = solo.header(victim(), &control(victim(), 198, Body::Busy, THEIRS, proof), 0);
    assert!(solo.drain().iter().any(|sent| sent.grant().is_some()));
}

#[test]
fn however_many_resends_come_at_once_few_are_answered() {
    let mut solo = Solo::new(Config::default());
    let mut drawn = 0;
    for n in 0..200_000 {
        let header = control(
            address((n % 200) as u8, 6),
            1001 + 2 * n,
            Body::NeedAck,
            THEIRS,
            Extension::default(),
        );
        let _ = solo.header(address((n % 200) as u8, 6), &header, 0);
        if n % 100 == 0 {
            drawn += solo.drain().len();
        }
    }
    assert_eq!(drawn, 500);
    assert_eq!(solo.engine.stats().replies_suppressed, 199_500);
    let validated = address(7, 6);
    let _ = solo.control(validated, 1001, Body::NeedAck, Reason::None, 0);
    assert!(solo.drain()[0].is_ack(), "who has proved its address is answered all the same");
}

#[test]
fn a_server_whose_client_started_anew_is_freed_by_it() {
    let config = Config::default();
    let mut net = Net::new(&config, 2);
    let rpc = net.call(0, 1, 100);
    net.run(1);
    assert!(net.answered(0, rpc));
    net.hosts[1].service = Service::Hold;
    net.call(0, 1, 100);
    net.run(1);
    net.restart(0, &config, 999);
    let rpc = net.hosts[1].arrived.pop().unwrap();
    net.answer(1, rpc, 100);
    net.run(1);
    assert_eq!(net.hosts[1].engine.stats().live_rpcs, 0);
}

#[test]
fn what_waits_for_an_unvalidated_client_is_not_sent_once_its_record_is_gone() {
    let config = Config::default().with(|config| {
        config.peers.max = 2;
        config.responses.unacknowledged_bytes = 1_000;
    });
    let mut solo = Solo::new(config);
    let _ = solo.header(victim(), &short(victim(), 2, 1, (THEIRS, 0)), 1);
    let rpc = arrived(&solo.events()).unwrap();
    // The response is longer than what may be sent there.
    solo.answer(rpc, 900);
    let probes = solo.advance_ns(10_000);
    assert!(probes.iter().all(Sent::is_probe) && probes.len() == 1, "{probes:?}");
    // Another one displaces it, which its client is to be told.
    let client = address(8, 800);
    let echo = solo.ours(client);
    let _ = solo.header(client, &short(client, 2, 1, (THEIRS, echo)), 1);
    let other = arrived(&solo.events()).unwrap();
    solo.engine.send_response(solo.now(), other, 950, ResponseOptions::default()).unwrap();
    assert_eq!(solo.engine.stats().responses_displaced, 1);
    let call = solo.call_with(address(9, 900), 100, RequestOptions::default());
    assert!(call.is_ok(), "the record of the client makes room: {call:?}");
    let sent = solo.drain();
    assert!(sent.iter().all(|sent| sent.path.remote != victim()), "{sent:?}");
    assert_eq!(solo.engine.stats().control_withheld, 1);
}

#[test]
fn a_request_that_is_put_off_when_it_is_first_sent_has_seen_no_other_incarnation() {
    let mut solo = Solo::new(Config::default());
    let client = address(8, 800);
    solo.request(client, 2, 100);
    solo.advance(7);
    // The same address with another incarnation has to prove itself.
    for (id, again) in [(4, false), (6, true)] {
        let mut header = short(client, id, 100, (THEIRS + 1, 0));
        if let Body::Data(data) = &mut header.body {
            data.flags |= if again { Data::RETRANSMISSION } else { 0 };
        }
        let _ = solo.header(client, &header, 100);
        let sent = solo.drain();
        let told = sent.iter().find(|sent| sent.unknown() == Some(Reason::NeverSeen)).unwrap();
        let age_us = told.header.extension.unwrap().value;
        assert_eq!(age_us > 0, again, "sent again: {again}");
    }
}
