//! What is kept per peer: data in flight, proof of its address, MTU, settings, eviction.

use std::net::SocketAddr;

use crate::harness::{FULL, Host, Remote, Sent, data_bytes, data_of, exact, grants};
use homa_core::{
    Config, DropReason, Event, FailReason, PeerSettings, Received, RequestOptions, ResponseOptions,
    SendError,
};
use homa_wire::{Body, Reason};

/// What two messages of 40,000 bytes and two more packets cost is just below the default limit.
const FITS: u32 = 80_000 + 2 * FULL;

/// Ten calls of 40,000 bytes to one peer; returns what left.
fn ten_calls(config: Config) -> (Host, Remote, Vec<Sent>) {
    let mut host = Host::new(config);
    let remote = host.remote(1, 1);
    for _ in 0..10 {
        host.call(&remote, 40_000);
    }
    let sent = host.sent();
    (host, remote, sent)
}

fn probes(sent: &[Sent]) -> Vec<u64> {
    sent.iter().filter(|sent| sent.is_probe()).map(Sent::id).collect()
}

#[test]
fn a_bounded_amount_of_unscheduled_data_is_on_its_way_to_a_peer() {
    let (mut host, _, sent) = ten_calls(exact());
    assert_eq!(data_bytes(&sent), FITS);
    let other = host.remote(2, 1);
    host.call(&other, 40_000);
    assert_eq!(data_bytes(&host.sent()), 40_000, "other peers have their own limit");
}

#[test]
fn a_peer_may_have_a_limit_of_its_own() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let settings = PeerSettings::default().with(|settings| {
        settings.unscheduled_in_flight_max_bytes = Some(10 * (FULL + 256));
        settings.unscheduled_bytes = Some(8 * FULL);
    });
    assert!(host.engine.set_peer(host.now(), remote.path(), settings));
    host.events();
    for _ in 0..3 {
        host.call(&remote, 40_000);
    }
    let sent = host.sent();
    assert_eq!(data_bytes(&sent), 10 * FULL);
    assert!(sent.iter().filter_map(Sent::data).all(|data| data.incoming == 8 * FULL));
}

#[test]
fn a_probe_asks_the_peer_soon_and_its_answer_makes_room() {
    let (mut host, remote, sent) = ten_calls(exact());
    let last = sent.last().unwrap().id();
    assert_eq!(probes(&host.pass_ns(199_999)), []);
    assert_eq!(probes(&host.pass_ns(1)), [last], "about the RPC that was sent last");
    assert_eq!(data_bytes(&host.pass_ms(1)), 0);
    host.take(&remote, remote.control(last | 1, Body::Busy, Reason::None, 0));
    assert_eq!(data_bytes(&host.sent()), FITS);
}

#[test]
fn what_is_sent_after_the_probe_stays_on_its_way_when_the_probe_is_answered() {
    // Two messages fit exactly.
    let limit = 2 * (40_000 + 29 * 256);
    let config = exact().with(|config| config.unscheduled.in_flight_max_bytes = limit);
    let (mut host, remote, sent) = ten_calls(config);
    assert_eq!(data_bytes(&sent), 80_000);
    let (first, second) = (sent[0].id(), sent.last().unwrap().id());
    assert_eq!(probes(&host.pass_ns(200_000)), [second]);
    host.take(&remote, remote.grant(first | 1, 40_000, 0));
    assert_eq!(data_bytes(&host.sent()), 40_000, "the third in place of the first");
    host.take(&remote, remote.control(second | 1, Body::Busy, Reason::None, 0));
    assert_eq!(data_bytes(&host.sent()), 40_000, "the fourth in place of the second");
}

#[test]
fn a_lost_probe_is_repeated_with_back_off() {
    let (mut host, remote, sent) = ten_calls(exact());
    let asked = probes(&host.pass_ms(100)).len();
    assert!((3..=8).contains(&asked), "{asked} probes in 100 ms");
    let last = sent.last().unwrap().id();
    host.take(&remote, remote.control(last | 1, Body::Busy, Reason::None, 0));
    assert!(data_bytes(&host.sent()) > 0);
}

#[test]
fn calls_to_a_peer_that_never_answers_fail_and_leave_nothing() {
    let (mut host, _, _) = ten_calls(exact());
    host.pass_ms(3000);
    let failed = |event: &Event| matches!(event, Event::Failed { reason: FailReason::Timeout, .. });
    assert_eq!(host.events().iter().filter(|event| failed(event)).count(), 10);
    assert_eq!(host.stats().live_rpcs, 0);
    let before = host.stats().packets_sent;
    host.pass_ms(10_000);
    assert_eq!(host.stats().packets_sent, before, "and nothing goes on asking");
}

#[test]
fn a_response_or_the_end_of_a_call_makes_room_at_once() {
    let (mut host, remote, sent) = ten_calls(exact());
    let first = sent[0].id();
    host.take(&remote, remote.data(first | 1, 0..10, 10, 10));
    let freed = data_bytes(&host.sent());
    assert!((38_000..=42_000).contains(&freed), "{freed}");
}

#[test]
fn waiting_calls_go_on_in_order_of_their_bytes() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    for _ in 0..3 {
        host.call(&remote, 40_000);
    }
    let last = host.sent().last().unwrap().id();
    host.call(&remote, 30_000);
    host.call(&remote, 20_000);
    assert_eq!(data_bytes(&host.sent()), 0);
    host.pass_ns(200_000);
    host.take(&remote, remote.control(last | 1, Body::Busy, Reason::None, 0));
    let order: Vec<u64> = data_of(&host.sent()).iter().map(|data| data.0).collect();
    let first_of = |id: u64| order.iter().position(|other| *other == id);
    assert!(first_of(last + 4) < first_of(last + 2), "20,000 before 30,000");
    assert!(first_of(last + 2) < first_of(last), "30,000 before what is left of 40,000");
}

#[test]
fn granted_data_is_not_bounded_by_the_limit_for_unscheduled_data() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.call(&remote, 1_000_000);
    let id = host.sent()[0].id();
    host.take(&remote, remote.grant(id | 1, 1_000_000, 0));
    assert_eq!(data_bytes(&host.sent()), 960_000);
}

#[test]
fn a_peer_may_have_a_timeout_of_its_own() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let timeout = Some(std::time::Duration::from_millis(100));
    let settings = PeerSettings::default().with(|settings| settings.timeout = timeout);
    assert!(host.engine.set_peer(host.now(), remote.path(), settings));
    let rpc = host.call(&remote, 10);
    host.pass_ms(99);
    assert_eq!(host.events(), []);
    host.pass_ms(30);
    let failed = Event::Failed { rpc, cookie: 0, reason: FailReason::Timeout };
    assert!(host.events().contains(&failed));
}

/// A peer that does not know our incarnation: perhaps its address is not its own.
fn unvalidated(host: &Host) -> Remote {
    Remote { echo: 0, ..host.remote(1, 1) }
}

fn wire_bytes(sent: &[Sent]) -> u64 {
    sent.iter().map(|sent| u64::from(sent.wire_bytes)).sum()
}

#[test]
fn a_peer_that_has_not_proved_its_address_gets_at_most_three_times_what_it_sent() {
    for reply in [1, 100, 1000, 900_000] {
        let mut host = Host::new(exact());
        let remote = unvalidated(&host);
        let request = remote.data(2, 0..1, 1, 1);
        let received = request.0.encoded_bytes() as u64 + 1;
        host.take(&remote, request);
        let rpc = host.arrived();
        host.engine.send_response(host.now(), rpc, reply, ResponseOptions::default()).unwrap();
        let sent = host.pass_ms(20_000);
        assert!(wire_bytes(&sent) <= 3 * received, "{} for {received}", wire_bytes(&sent));
        host.events();
        assert_eq!(host.stats().live_rpcs, 0, "and the response is given up, {reply} bytes");
    }
}

#[test]
fn half_a_request_of_an_unvalidated_peer_earns_it_at_most_three_times_its_bytes() {
    let mut host = Host::new(exact());
    let remote = unvalidated(&host);
    let mut received = 0;
    for packet in [5, 1, 3] {
        let at = packet * FULL;
        let request = remote.data(2, at..at + 1, 900_000, 40_000);
        received += request.0.encoded_bytes() as u64 + 1;
        host.take(&remote, request);
    }
    host.events();
    let sent = host.pass_ms(20_000);
    assert!(wire_bytes(&sent) <= 3 * received, "{} for {received}", wire_bytes(&sent));
    host.events();
    assert_eq!(host.stats().live_rpcs, 0);
}

#[test]
fn a_small_first_call_needs_no_extra_round_trip() {
    for length in [1, 100, 1000] {
        let mut host = Host::new(exact());
        let remote = unvalidated(&host);
        let packet = {
            let (mut header, payload) = remote.data(2, 0..length, length, length);
            if let Body::Data(data) = &mut header.body {
                data.cutoff_version = 0;
            }
            (header, payload)
        };
        host.take(&remote, packet);
        let rpc = host.arrived();
        host.engine
            .send_response(host.now(), rpc, length.min(40), ResponseOptions::default())
            .unwrap();
        assert_eq!(data_bytes(&host.sent()), length.min(40), "{length}");
    }
}

#[test]
fn a_peer_that_echoes_our_incarnation_gets_its_response() {
    let mut host = Host::new(exact());
    let remote = unvalidated(&host);
    host.take(&remote, remote.data(2, 0..1, 1, 1));
    let rpc = host.arrived();
    host.engine.send_response(host.now(), rpc, 20_000, ResponseOptions::default()).unwrap();
    let sent = host.pass_ms(1);
    assert_eq!(data_bytes(&sent), 0);
    assert_eq!(probes(&sent), [3], "it is asked, so that it can prove itself");
    let validated = Remote { echo: host.remote(1, 1).echo, ..remote };
    host.take(&validated, validated.control(2, Body::Busy, Reason::None, 0));
    assert_eq!(data_bytes(&host.sent()), 20_000);
}

#[test]
fn an_echo_of_another_incarnation_proves_nothing() {
    let mut host = Host::new(exact());
    let remote = unvalidated(&host);
    host.take(&remote, remote.data(2, 0..1, 1, 1));
    let rpc = host.arrived();
    host.engine.send_response(host.now(), rpc, 20_000, ResponseOptions::default()).unwrap();
    host.pass_ms(1);
    let guess = Remote { echo: host.remote(1, 1).echo ^ 1, ..remote };
    host.take(&guess, guess.control(2, Body::Busy, Reason::None, 0));
    assert_eq!(data_bytes(&host.sent()), 0);
}

#[test]
fn a_call_to_a_peer_of_which_nothing_is_known_is_not_held_back() {
    let mut host = Host::new(exact());
    let remote = unvalidated(&host);
    host.call(&remote, 40_000);
    assert_eq!(data_bytes(&host.sent()), 40_000);
}

#[test]
fn responses_that_wait_for_a_peer_that_fell_silent_end_together() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    for n in 0..100 {
        host.serve(&remote, 2 + 2 * n, 10, 40_000);
    }
    assert_eq!(data_bytes(&host.sent()), FITS);
    host.pass_ms(13_000);
    host.events();
    assert_eq!(host.stats().live_rpcs, 0);
    assert!(host.stats().responses_abandoned >= 100);
}

/// A call of 10,000 bytes over a path that is said to take 9,000 bytes but swallows such packets.
fn into_a_black_hole() -> (Host, Remote, u64) {
    let mut host = Host::new(exact());
    host.mtu = Some(9000);
    let remote = host.remote(1, 1);
    host.call(&remote, 10_000);
    let sent = host.sent();
    let full = 9000 - 28 - 56;
    let id = sent[0].id();
    assert_eq!(data_of(&sent), [(id, 0..full, 6), (id, full..10_000, 6)]);
    (host, remote, id)
}

fn longest(sent: &[Sent]) -> u64 {
    sent.iter().map(|sent| u64::from(sent.wire_bytes)).max().unwrap_or(0)
}

#[test]
fn after_two_lost_rounds_of_full_packets_a_path_falls_to_1280_bytes() {
    for busy_between in [false, true] {
        let (mut host, remote, id) = into_a_black_hole();
        host.take(&remote, remote.resend(id | 1, 0, 8916));
        assert_eq!(longest(&host.sent()), 9000 - 28);
        if busy_between {
            // It has the short last packet, so it knows the RPC.
            host.take(&remote, remote.control(id | 1, Body::Busy, Reason::None, 0));
        }
        host.now_ns += 5_000_000;
        host.take(&remote, remote.resend(id | 1, 0, 8916));
        let sent = host.sent();
        assert_eq!(data_bytes(&sent), 8916);
        assert!(longest(&sent) <= 1280 - 28, "busy between: {busy_between}");
        assert_eq!(host.stats().mtu_black_holes, 1);
    }
}

#[test]
fn five_minutes_after_a_black_hole_full_packets_are_tried_again() {
    let (mut host, remote, id) = into_a_black_hole();
    for _ in 0..2 {
        host.take(&remote, remote.resend(id | 1, 0, 8916));
        host.sent();
        host.now_ns += 5_000_000;
    }
    host.take(&remote, remote.data(id | 1, 0..10, 10, 10));
    let fell = host.now_ns;
    // The longest packet of a call that is answered at once.
    let call = |host: &mut Host| {
        host.call(&remote, 10_000);
        let sent = host.sent();
        let id = sent.iter().find(|sent| sent.data().is_some()).unwrap().id();
        host.take(&remote, remote.data(id | 1, 0..10, 10, 10));
        longest(&sent)
    };
    for second in (0..300).step_by(23) {
        let at = fell + second * 1_000_000_000;
        host.pass_ns(at.saturating_sub(host.now_ns));
        assert!(call(&mut host) <= 1280 - 28, "after {second} s");
    }
    host.pass_ms(1000);
    assert_eq!(call(&mut host), 9000 - 28);
    // It is still as it was: two more rounds are lost, then short packets are used for another five
    // minutes.
    host.call(&remote, 10_000);
    let id = host.sent()[0].id();
    for _ in 0..2 {
        host.take(&remote, remote.resend(id | 1, 0, 8916));
        host.sent();
        host.now_ns += 5_000_000;
    }
    assert_eq!(host.stats().mtu_black_holes, 2);
    assert!(call(&mut host) <= 1280 - 28);
}

#[test]
fn a_message_of_longer_packets_that_arrives_at_the_first_attempt_refutes_a_black_hole() {
    for copied in [false, true] {
        let (mut host, remote, id) = into_a_black_hole();
        host.call(&remote, 20_000);
        let other = host.sent()[0].id();
        for _ in 0..2 {
            host.take(&remote, remote.resend(id | 1, 0, 8916));
            host.sent();
            host.now_ns += 5_000_000;
        }
        assert_eq!(host.stats().mtu_black_holes, 1);
        if copied {
            host.take(&remote, remote.resend(other | 1, 0, 8916));
            assert!(longest(&host.sent()) <= 1280 - 28);
        }
        host.take(&remote, remote.data(other | 1, 0..10, 10, 10));
        host.call(&remote, 20_000);
        let expected = if copied { 1280 - 28 } else { 9000 - 28 };
        assert_eq!(longest(&host.sent()), expected, "copied: {copied}");
    }
}

#[test]
fn a_grant_for_a_short_packet_does_not_prove_that_full_ones_pass() {
    let mut host = Host::new(exact());
    host.mtu = Some(9000);
    let remote = host.remote(1, 1);
    host.call(&remote, 100_000);
    let id = host.sent()[0].id();
    // The last unscheduled packet is short; it arrived and earned a grant, nothing before it did.
    host.take(&remote, remote.grant(id | 1, 60_000, 0));
    for _ in 0..2 {
        host.take(&remote, remote.resend(id | 1, 0, 35_000));
        host.sent();
        host.now_ns += 5_000_000;
    }
    assert_eq!(host.stats().mtu_black_holes, 1);
}

#[test]
fn small_losses_say_nothing_about_the_mtu() {
    let (mut host, remote, id) = into_a_black_hole();
    for _ in 0..5 {
        host.take(&remote, remote.resend(id | 1, 8916, 1084));
        host.sent();
        host.now_ns += 5_000_000;
    }
    assert_eq!(host.stats().mtu_black_holes, 0);
}

#[test]
fn an_mtu_reported_for_an_address_counts_for_all_its_ports() {
    let mut host = Host::new(exact());
    let (one, other) = (host.remote(1, 1), host.remote(1, 2));
    let elsewhere = host.remote(2, 1);
    for remote in [&one, &other, &elsewhere] {
        host.call(remote, 1);
        host.sent();
        host.events();
    }
    let mut no_port = one.path();
    no_port.remote.set_port(0);
    host.engine.path_changed(host.now(), no_port, 1300, None);
    assert_eq!(host.stats().mtu_shrinks, 2);
    for (remote, full) in [(&one, 1300 - 28), (&other, 1300 - 28), (&elsewhere, 1500 - 28)] {
        host.call(remote, 5_000);
        assert_eq!(longest(&host.sent()), full);
    }
    // With a port it is that peer's alone.
    host.engine.path_changed(host.now(), other.path(), 1280, None);
    assert_eq!(host.stats().mtu_shrinks, 3);
}

#[test]
fn until_the_mtu_is_known_packets_are_as_long_as_ipv6_guarantees() {
    let mut host = Host::new(exact());
    host.mtu = None;
    let remote = host.remote(1, 1);
    host.call(&remote, 10_000);
    assert_eq!(longest(&host.sent()), 1280 - 28);
    let six = Remote { address: SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 5)), ..remote };
    host.call(&six, 10_000);
    assert_eq!(longest(&host.sent()), 1280 - 48);
}

#[test]
fn the_configured_longest_packet_counts_whatever_the_path_takes() {
    let mut host = Host::new(exact().with(|config| config.output.mtu_max = 1000));
    let remote = host.remote(1, 1);
    host.call(&remote, 10_000);
    assert_eq!(longest(&host.sent()), 1000 - 28);
}

#[test]
fn an_ipv4_address_in_ipv6_form_is_the_same_peer() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.take(&remote, remote.data(2, 0..10, 10, 10));
    let mapped = "[::ffff:10.0.0.1]:1".parse().unwrap();
    let mapped = Remote { address: mapped, ..remote };
    host.take(&mapped, mapped.data(4, 0..10, 10, 10));
    assert_eq!(host.stats().live_peers, 1);
}

fn four_peers() -> Config {
    exact().with(|config| config.peers.max = 4)
}

/// A peer asks something and is done at once.
fn visit(host: &mut Host, n: u8) -> Received {
    let remote = host.remote(n, 1);
    let received = host.receive(&remote, remote.data(2, 0..10, 10, 10));
    let _ = host.receive(&remote, remote.control(2, Body::RpcUnknown, Reason::Cancelled, 0));
    host.events();
    host.sent();
    received
}

#[test]
fn more_peers_than_allowed_are_refused_while_all_are_in_use() {
    let mut host = Host::new(four_peers());
    for n in 1..=4 {
        let remote = host.remote(n, 1);
        host.take(&remote, remote.data(2, 0..10, 10, 10));
    }
    assert_eq!(visit(&mut host, 5), Received::Dropped(DropReason::Limit));
    let remote = host.remote(6, 1);
    let (now, options) = (host.now(), RequestOptions::default());
    let refused = host.engine.send_request(now, remote.path(), 1, 0, options);
    assert_eq!(refused, Err(SendError::PeersLimit));
    assert_eq!(host.stats().live_peers, 4);
}

// Scenario: K9
#[test]
fn a_new_peer_takes_the_place_of_those_idle_for_ten_seconds_or_else_of_one() {
    for (idle_ms, left) in [(0, 4), (9_000, 4), (10_000, 1)] {
        let mut host = Host::new(four_peers());
        for n in 1..=4 {
            let _ = visit(&mut host, n);
            host.pass_ms(10);
        }
        host.pass_ms(idle_ms);
        assert!(matches!(visit(&mut host, 5), Received::Place(_)));
        assert_eq!(host.stats().live_peers, left, "after {idle_ms} ms");
    }
}

// Scenario: K11
#[test]
fn a_peer_with_a_live_rpc_or_settings_of_its_own_is_never_evicted() {
    let mut host = Host::new(four_peers());
    let working = host.remote(1, 1);
    host.take(&working, working.data(2, 0..10, 10, 10));
    let rpc = host.arrived();
    let special = host.remote(2, 1);
    let settings = PeerSettings::default().with(|settings| settings.window_bytes = Some(1000));
    assert!(host.engine.set_peer(host.now(), special.path(), settings));
    for n in 3..=4 {
        let _ = visit(&mut host, n);
    }
    host.pass_ms(300_000);
    for n in 5..=9 {
        assert!(matches!(visit(&mut host, n), Received::Place(_)), "{n}");
    }
    assert_eq!(host.stats().live_peers, 4);
    host.take(&special, special.data(2, 0..FULL, 900_000, FULL));
    assert_eq!(grants(&host.sent()), [(2, FULL + 1000, 0)]);
    host.engine.send_response(host.now(), rpc, 30, ResponseOptions::default()).unwrap();
    assert_eq!(data_bytes(&host.sent()), 30);
}

// Scenario: K8, K9
#[test]
fn peers_idle_for_two_minutes_are_forgotten_without_need() {
    let mut host = Host::new(exact());
    for n in 1..=4 {
        let _ = visit(&mut host, n);
    }
    host.pass_ms(119_000);
    let _ = visit(&mut host, 5);
    assert_eq!(host.stats().live_peers, 5);
    host.pass_ms(2_000);
    assert_eq!(host.stats().live_peers, 1);
}

// Scenario: K11
#[test]
fn an_evicted_peer_is_known_again_as_soon_as_it_is_needed() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let _ = visit(&mut host, 1);
    host.pass_ms(130_000);
    assert_eq!(host.stats().live_peers, 0);
    host.take(&remote, remote.data(4, 0..10, 10, 10));
    let rpc = host.arrived();
    host.engine.send_response(host.now(), rpc, 30, ResponseOptions::default()).unwrap();
    assert_eq!(data_bytes(&host.sent()), 30);
    host.call(&remote, 5000);
    assert!(longest(&host.sent()) > 1280, "it was announced again, so its MTU is known");
}
