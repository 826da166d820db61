//! Whatever comes from the network: no panic, no hang, no memory beyond the configuration, and the
//! RPCs of honest peers complete.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::*;
use homa_core::{
    Config, DropReason, Event, Instant, PeerSettings, Received, ResponseOptions, RxMeta,
};
use homa_wire::{Ack, AckEntry, Body, Cutoffs, Grant, RESEND_ALL, Reason, Resend};
use proptest::prelude::*;

/// Small limits, so that a test can reach them.
fn small() -> Config {
    Config::default().with(|config| {
        config.limits.max_message_bytes = 100_000;
        config.limits.receive_memory_bytes = 1 << 20;
        config.limits.max_rpcs = 256;
        config.peers.max = 64;
        config.fixed.control_queue_max = 128;
        config.fixed.finished_max = 512;
        config.fixed.gaps_max = 16;
    })
}

/// An engine with live RPCs of honest peers: a call that waits, one whose response half arrived, a
/// request half arrived, one in service, one answered.
struct Honest {
    solo: Solo,
    waiting: (homa_core::RpcKey, u64),
    receiving: (homa_core::RpcKey, u64),
    in_service: homa_core::RpcKey,
    answered: homa_core::RpcKey,
}

const SERVER: u8 = 9;
const CLIENT: u8 = 8;

fn server() -> SocketAddr {
    address(SERVER, 900)
}

fn client() -> SocketAddr {
    address(CLIENT, 800)
}

impl Honest {
    fn new(config: Config) -> Self {
        let mut solo = Solo::new(config);
        let (waiting, waiting_id, _) = solo.called(server(), 50_000);
        let (receiving, receiving_id, _) = solo.called(server(), 100);
        let _ = solo.data(server(), receiving_id, 3000, (0, 1000));
        let in_service = solo.request(client(), 20, 100);
        let answered = solo.request(client(), 30, 100);
        solo.answer(answered, 100);
        let _ = solo.data(client(), 40, 3000, (1000, 2000));
        solo.events();
        solo.drain();
        Self {
            solo,
            waiting: (waiting, waiting_id),
            receiving: (receiving, receiving_id),
            in_service,
            answered,
        }
    }

    /// All that was begun comes to its end.
    fn completes(mut self) {
        let solo = &mut self.solo;
        solo.events();
        assert_eq!(solo.failure(self.waiting.0), None);
        assert_eq!(solo.failure(self.receiving.0), None);
        let _ = solo.data(server(), self.receiving.1, 3000, (1000, 3000));
        let _ = solo.data(server(), self.waiting.1, 100, (0, 100));
        let _ = solo.data(client(), 40, 3000, (0, 1000));
        let _ = solo.data(client(), 40, 3000, (2000, 3000));
        solo.events();
        for rpc in [self.receiving.0, self.waiting.0] {
            assert!(is_answered(&solo.log, rpc, 77), "{:?}", solo.log);
        }
        let requests =
            solo.log.iter().filter(|event| matches!(event, Event::RequestArrived { .. }));
        assert_eq!(requests.count(), 3);
        assert!(solo.answer(self.in_service, 100).iter().any(Sent::is_data));
        assert!(!solo.ended(self.answered), "nobody acknowledged it");
        let _ = solo.control(client(), 30, Body::Ack(Ack::default()), Reason::None, 0);
        solo.events();
        assert!(solo.ended(self.answered));
    }

    fn ids(&self) -> Vec<u64> {
        vec![self.waiting.1, self.receiving.1, 20, 30, 40, 50]
    }
}

fn bounded(solo: &Solo, config: &Config) {
    let stats = solo.engine.stats();
    assert!(stats.live_rpcs <= u64::from(config.limits.max_rpcs), "{stats:?}");
    assert!(stats.live_peers <= u64::from(config.peers.max), "{stats:?}");
    assert!(stats.finished_entries <= u64::from(config.fixed.finished_max), "{stats:?}");
    assert!(stats.receive_memory_bytes <= config.limits.receive_memory_bytes, "{stats:?}");
}

fn bodies() -> Vec<Body> {
    let entry = |client_id| AckEntry { client_id, server_port: PORT };
    let entries = [entry(20), entry(30), entry(40), entry(50), entry(0)];
    vec![
        Body::Grant(Grant { offset: u32::MAX, priority: 255 }),
        Body::Resend(Resend { offset: 0, length: RESEND_ALL, priority: 255 }),
        Body::Resend(Resend { offset: u32::MAX, length: u32::MAX - 1, priority: 0 }),
        Body::RpcUnknown,
        Body::Busy,
        Body::Cutoffs(Cutoffs { levels: [u32::MAX; 8], version: 0 }),
        Body::Freeze,
        Body::NeedAck,
        Body::Ack(Ack { count: u16::MAX, entries }),
    ]
}

#[test]
fn nothing_from_a_wrong_address_touches_a_live_rpc() {
    let wrong = [address(SERVER, 901), address(77, 900), address(CLIENT, 801), address(77, 800)];
    let mut honest = Honest::new(Config::default());
    let ids = honest.ids();
    for from in wrong {
        for id in &ids {
            for why in (0..=12).map(Reason::from) {
                for body in bodies() {
                    let _ = honest.solo.control(from, *id, body, why, u32::MAX);
                }
            }
            if id & 1 == 1 {
                let received = honest.solo.data(from, *id, 3000, (0, 3000));
                let expected = if *id > 1 { DropReason::WrongPeer } else { DropReason::UnknownRpc };
                assert_eq!(received, Received::Dropped(expected));
            }
        }
        let sent = honest.solo.drain();
        assert!(sent.iter().all(|sent| !sent.is_data()), "no data to unvalidated clients");
        for sent in &sent {
            assert_eq!(sent.path.remote, from, "nothing to others: {sent:?}");
        }
        for (data, id) in [(true, 50), (false, 60)] {
            let mut header = honest.solo.data_header(from, id, 100, 0);
            header.common.incarnation = 0x0066_6666;
            if data {
                let Body::Data(data) = &mut header.body else { unreachable!() };
                data.ack = AckEntry { client_id: 30, server_port: PORT };
            }
            let _ = honest.solo.header(from, &header, 10);
            honest.solo.drain();
        }
    }
    honest.completes();
}

#[test]
fn a_forged_source_without_an_id_changes_no_rpc() {
    let mut honest = Honest::new(Config::default());
    for from in [server(), client()] {
        for id in [1001, 2002, u64::MAX, u64::MAX - 1] {
            for why in (0..=12).map(Reason::from) {
                for body in bodies() {
                    if !matches!(body, Body::Ack(_)) {
                        let _ = honest.solo.control(from, id, body, why, 7);
                    }
                }
            }
        }
        let mut header = honest.solo.data_header(from, 7001, 100, 0);
        header.common.incarnation = 0x0012_3456;
        let _ = honest.solo.header(from, &header, 100);
        honest.solo.drain();
    }
    honest.completes();
}

#[test]
fn ids_from_the_future_and_the_largest_are_ordinary() {
    let mut solo = Solo::new(Config::default());
    for id in [u64::MAX - 1, 0, 1 << 63, 2] {
        let rpc = solo.request(client(), id, 100);
        let sent = solo.answer(rpc, 100);
        assert!(sent.iter().any(|sent| sent.header.common.sender_id == id | 1 && sent.is_data()));
    }
    for id in [u64::MAX, 1, 3] {
        let received = solo.data(server(), id, 100, (0, 100));
        assert_eq!(received, Received::Dropped(DropReason::UnknownRpc));
    }
}

#[test]
fn lengths_that_lie_are_harmless() {
    let mut honest = Honest::new(Config::default());
    let header = honest.solo.data_header(client(), 40, 3000, 0);
    let mut bytes = [0; 96];
    let written = header.encode(&mut bytes).unwrap();
    for (given, announced) in
        [(written, 0), (written, 55), (written, 56), (10, 2000), (0, u32::MAX), (0, 0), (27, 28)]
    {
        let received = honest.solo.raw(client(), &bytes[..given], announced);
        assert!(matches!(received, Received::Dropped(_)), "{given} {announced}: {received:?}");
    }
    honest.completes();
    let mut solo = Solo::new(Config::default());
    let received = solo.raw(client(), &bytes[..written], u32::MAX);
    let Received::Place(placement) = received else { panic!("{received:?}") };
    assert_eq!(placement.packet, 56..3056, "the rest is padding");
}

#[test]
fn a_flood_of_requests_from_everywhere_stays_within_the_limits() {
    let config = small();
    let mut honest = Honest::new(config.clone());
    for number in 0..20_000u32 {
        let from =
            SocketAddr::from(([10, 9, (number >> 8) as u8, number as u8], 1 + number as u16));
        let mut header = honest.solo.data_header(from, u64::from(number) * 2, 100_000, 0);
        let Body::Data(data) = &mut header.body else { unreachable!() };
        data.incoming = u32::MAX;
        data.echo = 0;
        let _ = honest.solo.header(from, &header, 1000);
        if number % 64 == 0 {
            honest.solo.events();
            honest.solo.drain();
            bounded(&honest.solo, &config);
        }
    }
    assert!(honest.solo.engine.stats().unvalidated_put_off > 10_000);
    honest.solo.advance(3500);
    assert!(honest.solo.engine.stats().live_rpcs <= 4, "silent unvalidated clients are given up");
}

/// The first packet of a request that announces all of it, from a client that names nobody
/// (`echo` 0) or us.
fn announce(solo: &mut Solo, from: SocketAddr, id: u64, start: u32, echo: u32) -> Received {
    let mut header = solo.data_header(from, id, 1_000_000, start);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.incoming = 1_000_000;
    data.echo = echo;
    solo.header(from, &header, 1000)
}

fn liar(number: u32) -> SocketAddr {
    SocketAddr::from(([10, 9, (number >> 8) as u8, number as u8], 900))
}

#[test]
fn announcements_of_unvalidated_clients_leave_memory_to_others() {
    let config = Config::default().with(|config| config.limits.receive_memory_bytes = 9_000_000);
    let mut solo = Solo::new(config);
    for number in 0..1000 {
        let _ = announce(&mut solo, liar(number), 2, 0, 0);
    }
    let stats = solo.engine.stats();
    assert!(stats.receive_memory_bytes <= 2_000_000, "{stats:?}");
    assert!(stats.live_rpcs > 5, "a few are let in");
    solo.drain();
    solo.request(client(), 4, 900_000);
    let mut header = solo.data_header(liar(2000), 6, 500, 0);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.echo = 0;
    let received = solo.header(liar(2000), &header, 500);
    assert!(
        matches!(received, Received::Place(_)),
        "an unvalidated client's request in one packet: {received:?}"
    );
}

#[test]
fn an_unvalidated_client_that_is_put_off_is_told_who_we_are_and_let_in_when_it_names_us() {
    let config = Config::default().with(|config| config.limits.receive_memory_bytes = 9_000_000);
    let mut solo = Solo::new(config);
    for number in 0..1000 {
        let _ = announce(&mut solo, liar(number), 2, 0, 0);
    }
    solo.advance(1);
    let put_off = Received::Dropped(DropReason::NoMemory);
    assert_eq!(announce(&mut solo, client(), 4, 2000, 0), put_off);
    assert_eq!(solo.drain().len(), 0, "one answer per message is enough");
    assert_eq!(announce(&mut solo, client(), 4, 0, 0), put_off);
    let sent = solo.drain();
    assert_eq!((sent.len(), sent[0].unknown()), (1, Some(Reason::NeverSeen)));
    let ours = solo.ours(client());
    assert_eq!(sent[0].header.common.incarnation, ours);
    let received = announce(&mut solo, client(), 4, 0, ours);
    assert!(matches!(received, Received::Place(_)), "{received:?}");
    // All unvalidated clients are gone: their share is whole again.
    solo.advance(3500);
    let received = announce(&mut solo, liar(3000), 6, 0, 0);
    assert!(matches!(received, Received::Place(_)), "{received:?}");
}

#[test]
fn a_new_client_that_is_put_off_completes_at_once() {
    let config = Config::default().with(|config| config.limits.receive_memory_bytes = 1_200_000);
    let mut net = Net::new(&config, 2);
    let rpc = net.call(0, 1, 300_000);
    net.run(3);
    assert!(net.answered(0, rpc));
    assert!(net.hosts[1].engine.stats().unvalidated_put_off > 0);
}

#[test]
fn what_a_message_announces_reserves_no_more_than_may_come_without_a_reaction() {
    let mut solo = Solo::new(Config::default());
    let from = client();
    let ours = solo.ours(from);
    let _ = announce(&mut solo, from, 2, 0, ours);
    assert_eq!(
        solo.engine.stats().receive_memory_bytes,
        131_072,
        "98,304 bytes in pieces of 64 KiB"
    );
    solo.message(from, 2, 1_000_000);
    assert_eq!(solo.events().len(), 2, "it is taken although it came without grants");
}

#[test]
fn packets_far_beyond_the_grant_leave_memory_to_others() {
    let config = Config::default().with(|config| config.limits.receive_memory_bytes = 9_000_000);
    let mut solo = Solo::new(config);
    for number in 0..100 {
        let ours = solo.ours(liar(number));
        let _ = announce(&mut solo, liar(number), 2, 999_000, ours);
    }
    let taken = solo.engine.stats().receive_memory_bytes;
    assert!(taken <= 4_000_000 + 100 * 131_072, "{taken}");
    let mut solo =
        Solo::new(Config::default().with(|config| config.limits.receive_memory_bytes = 3_000_000));
    let ours = [liar(1), liar(2)].map(|from| solo.ours(from));
    let _ = announce(&mut solo, liar(1), 2, 999_000, ours[0]);
    let received = announce(&mut solo, liar(2), 2, 999_000, ours[1]);
    assert_eq!(received, Received::Dropped(DropReason::NoMemory));
}

#[test]
fn a_flood_of_need_acks_fills_the_control_queue_only() {
    let config = small();
    let mut honest = Honest::new(config.clone());
    for number in 0..100_000u64 {
        let from = SocketAddr::from(([10, 9, 0, 1], 1 + (number % 60_000) as u16));
        let body = bodies()[number as usize % 9];
        let _ = honest.solo.control(from, number, body, Reason::None, 0);
    }
    let sent = honest.solo.drain();
    assert!(sent.len() <= 200, "{}", sent.len());
    assert!(
        honest.solo.engine.stats().control_dropped + honest.solo.engine.stats().replies_suppressed
            > 10_000
    );
    bounded(&honest.solo, &config);
    honest.completes();
}

#[test]
fn a_peer_with_a_short_timeout_that_says_busy_is_not_asked_without_end() {
    let mut solo = Solo::new(Config::default());
    let (from, now) = (address(9, 900), solo.now());
    let settings = PeerSettings::default().with(|it| it.timeout = Some(Duration::ZERO));
    assert!(solo.engine.set_peer(now, path(PORT, from), settings));
    let other = address(8, 800);
    let settings = PeerSettings::default().with(|it| it.timeout = Some(Duration::from_nanos(7)));
    assert!(solo.engine.set_peer(now, path(PORT, other), settings));
    for peer in [from, other] {
        let _ = solo.data(peer, 2, 3000, (0, FULL));
        let _ = solo.control(peer, 2, Body::Busy, Reason::None, 0);
        // Now there is time to ask.
        let settings = PeerSettings::default().with(|it| it.timeout = Some(Duration::from_secs(1)));
        assert!(solo.engine.set_peer(now, path(PORT, peer), settings));
    }
    solo.drain();
    let end = solo.now_ns + 1000 * MS;
    let mut wakeups = 0;
    while let Some((at, _)) = solo.engine.poll_timeout().filter(|(at, _)| at.as_nanos() < end) {
        solo.now_ns = solo.now_ns.max(at.as_nanos());
        solo.engine.handle_timeout(solo.now(), true);
        solo.drain();
        wakeups += 1;
        assert!(wakeups < 100, "it never sleeps");
    }
}

#[test]
fn replies_to_unvalidated_clients_are_never_much_longer_than_what_they_sent() {
    let mut solo = Solo::new(Config::default());
    for body in bodies() {
        for id in [1000, 1001] {
            let before = 28 + 28;
            let _ = solo.control(address(66, 6), id, body, Reason::None, 0);
            let bytes: u32 = solo.drain().iter().map(|sent| sent.wire_bytes + 28).sum();
            assert!(bytes <= 3 * before, "{body:?}: {bytes}");
        }
    }
}

/// One hostile packet.
#[derive(Clone, Debug)]
enum Attack {
    Bytes { from: u8, bytes: Vec<u8>, length: u32 },
    Mutant { from: u8, id: usize, body: usize, flips: Vec<(usize, u8)>, cut: usize, extra: u32 },
    Wait { us: u64 },
}

fn attack() -> impl Strategy<Value = Attack> {
    prop_oneof![
        2 => (0..4u8, prop::collection::vec(any::<u8>(), 0..128), any::<u32>())
            .prop_map(|(from, bytes, length)| Attack::Bytes { from, bytes, length }),
        8 => (
            0..4u8,
            0..8usize,
            0..10usize,
            prop::collection::vec((11..96usize, any::<u8>()), 0..4),
            28..97usize,
            0..3000u32,
        )
            .prop_map(|(from, id, body, flips, cut, extra)| Attack::Mutant {
                from,
                id,
                body,
                flips,
                cut,
                extra,
            }),
        1 => (0..20_000u64).prop_map(|us| Attack::Wait { us }),
    ]
}

/// Addresses the attacker can write on his packets: those of the honest peers too, if `forge`.
fn source(from: u8, forge: bool) -> SocketAddr {
    match (from, forge) {
        (0, true) => server(),
        (1, true) => client(),
        _ => address(100 + from, 900),
    }
}

fn strike(honest: &mut Honest, attack: &Attack, forge: bool) {
    let ids = honest.ids();
    let solo = &mut honest.solo;
    match attack {
        Attack::Bytes { from, bytes, length } => {
            let from = source(*from, forge);
            let meta = RxMeta::new(path(PORT, from));
            let now = solo.now();
            let _ = solo.engine.handle_packet(now, &meta, bytes, *length);
            solo.engine.icmp_error(now, homa_core::IcmpKind::HostUnreachable, meta.path, bytes);
        }
        Attack::Mutant { from, id, body, flips, cut, extra } => {
            let from = source(*from, forge);
            let id = ids.get(*id).copied().unwrap_or(9_999);
            let mut bytes = [0; 96];
            let header = match bodies().get(*body) {
                Some(body) => {
                    let common = homa_wire::Common::control(from.port(), PORT, id)
                        .with_native_profile(THEIRS);
                    let extension = Some(homa_wire::Extension {
                        echo: solo.ours(from),
                        reason: Reason::None,
                        value: 0,
                    });
                    homa_wire::Header { common, body: *body, extension }
                }
                None => solo.data_header(from, id, 3000, 0),
            };
            header.encode(&mut bytes).unwrap();
            for (at, value) in flips {
                bytes[*at] ^= value;
            }
            let length = *cut as u32 + extra;
            let _ = solo.raw(from, &bytes[..*cut], length);
        }
        Attack::Wait { us } => drop(solo.advance_ns(us * 1000)),
    }
    solo.events();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attackers_at_other_addresses_never_disturb_honest_peers(
        attacks in prop::collection::vec(attack(), 1..100),
    ) {
        let config = small();
        let mut honest = Honest::new(config.clone());
        let begin = honest.solo.now_ns;
        for attack in &attacks {
            if let Attack::Wait { us } = attack { if honest.solo.now_ns + us * 1000 > begin + 900 * MS {
                continue;
            } }
            strike(&mut honest, attack, false);
        }
        bounded(&honest.solo, &config);
        honest.solo.drain();
        honest.solo.engine.abort(honest.solo.now(), honest.in_service, homa_core::FailReason::Aborted).unwrap();
        let _ = honest.solo.data(server(), honest.receiving.1, 3000, (1000, 3000));
        let _ = honest.solo.data(server(), honest.waiting.1, 100, (0, 100));
        honest.solo.events();
        for rpc in [honest.receiving.0, honest.waiting.0] {
            prop_assert!(is_answered(&honest.solo.log, rpc, 77), "{:?}", honest.solo.log);
        }
    }

    #[test]
    fn forged_mutants_never_panic_hang_or_grow_and_everything_ends(
        attacks in prop::collection::vec(attack(), 1..150),
    ) {
        let config = small();
        let mut honest = Honest::new(config.clone());
        for attack in &attacks {
            strike(&mut honest, attack, true);
            bounded(&honest.solo, &config);
        }
        let answers: Vec<_> = honest.solo.log.iter().filter_map(|event| match event {
            Event::RequestArrived { rpc, .. } => Some(*rpc),
            _ => None,
        }).collect();
        for rpc in answers {
            let now = honest.solo.now();
            let _ = honest.solo.engine.send_response(now, rpc, 5000, ResponseOptions::default());
        }
        for _ in 0..20 {
            honest.solo.advance(1000);
        }
        let arrived: Vec<_> = honest.solo.log.iter().filter_map(|event| match event {
            Event::ResponseArrived { rpc, .. } => Some(*rpc),
            _ => None,
        }).collect();
        let started: Vec<_> = honest.solo.log.iter().filter_map(|event| match event {
            Event::ResponseStarted { rpc, length, .. } => Some((*rpc, *length)),
            _ => None,
        }).collect();
        for rpc in arrived {
            let length = started.iter().rfind(|(key, _)| *key == rpc).unwrap().1;
            let now = honest.solo.now();
            honest.solo.engine.consumed(now, rpc, length).unwrap();
        }
        honest.solo.advance(1000);
        let stats = honest.solo.engine.stats();
        prop_assert_eq!(stats.live_rpcs, 0, "{:?}", stats);
        prop_assert_eq!((stats.receive_memory_bytes, stats.incoming_bytes), (0, 0));
        honest.solo.advance(5000);
        prop_assert_eq!(honest.solo.engine.poll_timeout(), None);
        let _ = Instant::ZERO;
    }
}
