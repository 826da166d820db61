//! Every call ends in a clear error when it cannot be answered: network errors, refusals,
//! cancellation, deadlines, versions, limits of the interface.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::*;
use homa_core::{
    Config, DropReason, Event, FailReason, IcmpKind, Instant, PortError, PortOptions, Received,
    RequestOptions, ResponseOptions, RpcError, SendError, TransmitError,
};
use homa_wire::{Ack, Body, Data, RESEND_ALL, Reason, Resend, VERSION, VERSION_MAGIC};

fn solo() -> Solo {
    Solo::new(Config::default())
}

fn icmp(solo: &mut Solo, kind: IcmpKind, remote: SocketAddr, quoted: &[u8]) {
    let now = solo.now();
    solo.engine.icmp_error(now, kind, path(PORT, remote), quoted);
    solo.events();
}

// Scenario: E1, E3, E2
#[test]
fn a_network_error_ends_all_calls_to_that_peer_and_no_other() {
    let reasons = [
        (IcmpKind::PortUnreachable, FailReason::NoService),
        (IcmpKind::HostUnreachable, FailReason::HostUnreachable),
        (IcmpKind::ProtocolUnreachable, FailReason::ProtocolUnreachable),
    ];
    for (kind, reason) in reasons {
        let mut solo = solo();
        let (first, _, sent) = solo.called(address(9, 99), 100);
        let (second, _, _) = solo.called(address(9, 99), 100);
        let (other_port, _, _) = solo.called(address(9, 98), 100);
        let (other_host, _, _) = solo.called(address(8, 99), 100);
        icmp(&mut solo, kind, address(9, 99), &sent[0].bytes);
        assert_eq!(solo.failure(first), Some(reason), "E1, E2, E3");
        assert_eq!(solo.failure(second), Some(reason), "E1");
        assert_eq!(solo.failure(other_port), None);
        assert_eq!(solo.failure(other_host), None);
        assert_eq!(solo.engine.stats().icmp_errors, 1);
    }
}

#[test]
fn nobody_serves_any_more_where_the_request_may_have_arrived() {
    let server = address(9, 99);
    let refuse = |solo: &mut Solo, sent: &[u8]| {
        icmp(solo, IcmpKind::PortUnreachable, server, sent);
    };
    let mut solo = solo();
    // The server lives: it answers a first call.
    let (answered, id, _) = solo.called(server, 100);
    let _ = solo.data(server, id, 100, (0, 100));
    solo.events();
    assert_eq!(solo.failure(answered), None);
    let (before, _, _) = solo.called(server, 100);
    let (refused, _, sent) = solo.called(server, 100);
    refuse(&mut solo, &sent[0].bytes);
    assert_eq!(solo.failure(before), Some(FailReason::ServiceGone));
    assert_eq!(solo.failure(refused), Some(FailReason::NoService), "its only copy was refused");

    let (asked, _, sent) = solo.called(server, 100);
    assert!(!solo.advance(100).is_empty(), "it was asked about");
    refuse(&mut solo, &sent[0].bytes);
    assert_eq!(solo.failure(asked), Some(FailReason::ServiceGone));
}

#[test]
fn a_request_whose_later_packet_is_refused_may_have_begun() {
    let server = address(9, 99);
    for reason in [Reason::NoService, Reason::NotExecuted] {
        let mut solo = solo();
        let (rpc, id, _) = solo.called(server, 5_000);
        let _ = solo.control(server, id, Body::RpcUnknown, reason, Reason::MAY_HAVE_BEGUN);
        solo.events();
        assert_eq!(solo.failure(rpc), Some(FailReason::ServiceGone), "{reason:?}");
    }
    for (packet, expected) in [(0, FailReason::NoService), (1, FailReason::ServiceGone)] {
        let mut solo = solo();
        let (rpc, _, sent) = solo.called(server, 5_000);
        let quoted: Vec<_> = sent.iter().filter(|sent| sent.is_data()).collect();
        icmp(&mut solo, IcmpKind::PortUnreachable, server, &quoted[packet].bytes);
        assert_eq!(solo.failure(rpc), Some(expected), "packet {packet} is quoted");

        let mut solo = self::solo();
        let (rpc, _, sent) = solo.called(server, 5_000);
        icmp(&mut solo, IcmpKind::PortUnreachable, server, &sent[packet].bytes[..28]);
        assert_eq!(solo.failure(rpc), Some(FailReason::ServiceGone), "its header is not quoted");
    }
}

#[test]
fn first_packets_are_refused_and_the_refusal_says_whether_they_were_sent_again() {
    let (from, first, later) = (address(9, 900), (0, 1_000), (1_000, 2_000));
    let told = |solo: &mut Solo, id, range: (u32, u32), echo, again: bool| {
        let mut header = solo.data_header(from, id, 2_000, range.0);
        if let Body::Data(data) = &mut header.body {
            data.echo = if echo { data.echo } else { 0 };
            data.flags |= if again { Data::RETRANSMISSION } else { 0 };
        }
        let _ = solo.header(from, &header, range.1 - range.0);
        let sent = solo.drain();
        sent.iter().find_map(|sent| {
            let extension = sent.header.extension?;
            sent.unknown().map(|reason| (reason, extension.value))
        })
    };
    let begun = Reason::MAY_HAVE_BEGUN;
    let mut closed = solo();
    let now = closed.now();
    closed.engine.close_port(now, PORT);
    // What overtakes the first packet gets no answer.
    for (id, range, again, value) in
        [(10, first, false, Some(0)), (20, later, false, None), (30, first, true, Some(begun))]
    {
        let expected = value.map(|value| (Reason::NoService, value));
        assert_eq!(told(&mut closed, id, range, true, again), expected, "{range:?}, {again}");
    }
    let _ = closed.control(from, 20, Body::NeedAck, Reason::None, 0);
    let asked = closed.drain();
    assert_eq!(asked[0].header.extension.map(|extension| extension.value), Some(begun));

    let mut draining = solo();
    draining.engine.drain_port(now, PORT);
    // One that names this incarnation went to no other.
    for (id, range, echo, again, value) in [
        (10, first, false, false, Some(0)),
        (20, later, false, false, None),
        (30, first, false, true, Some(begun)),
        (40, later, true, false, Some(0)),
        (50, first, true, true, Some(0)),
    ] {
        let expected = value.map(|value| (Reason::NotExecuted, value));
        assert_eq!(told(&mut draining, id, range, echo, again), expected, "{range:?}, {echo}");
    }
}

#[test]
fn a_new_engine_takes_only_requests_that_name_it_for_its_quiet_time() {
    let mut config = Config::default();
    config.recovery.quiet_time = Duration::from_millis(10);
    let mut solo = Solo::new(config);
    let from = address(9, 900);
    let request = |solo: &mut Solo, id, start, named: bool| {
        let mut header = solo.data_header(from, id, 2_000, start);
        if let (Body::Data(data), false) = (&mut header.body, named) {
            data.echo = 0;
        }
        let received = solo.header(from, &header, 1_000);
        let told = solo.drain().iter().find_map(Sent::unknown);
        (matches!(received, Received::Dropped(_)), told)
    };
    assert_eq!(request(&mut solo, 10, 0, false), (true, Some(Reason::NeverSeen)));
    assert_eq!(request(&mut solo, 20, 1_000, false), (true, None), "the first packet may come");
    assert_eq!(request(&mut solo, 10, 0, true), (false, None), "its client learnt the name");
    solo.advance(10);
    assert_eq!(request(&mut solo, 30, 0, false), (false, None), "nothing is late for so long");

    // A call that finds a quiet server costs a round trip more.
    let mut config = Config::default();
    config.recovery.quiet_time = Duration::from_secs(1);
    let mut net = Net::new(&config, 2);
    for (answered, length) in [(1, 100), (2, 100_000)] {
        let rpc = net.call(0, 1, length);
        net.run(10);
        assert_eq!(net.failure(0, rpc), None);
        assert_eq!(net.hosts[0].engine.stats().responses_received, answered);
    }
}

#[test]
fn framed_messages_may_have_a_frame_more_than_the_longest() {
    let mut config = Config::default();
    (config.limits.max_message_bytes, config.limits.frame_bytes) = (1_000, 100);
    let mut net = Net::new(&config, 2);
    let now = net.now();
    let path = path(net.hosts[0].address.port(), net.hosts[1].address);
    for (length, framed, fits) in
        [(1_000, false, true), (1_001, false, false), (1_100, true, true), (1_101, true, false)]
    {
        let options = RequestOptions { framed, ..RequestOptions::default() };
        let sent = net.hosts[0].engine.send_request(now, path, length, 0, options);
        assert_eq!(sent.is_ok(), fits, "{length}");
    }
    let mut solo = Solo::new(config);
    for (id, length, framed, fits) in
        [(10, 1_001, false, false), (20, 1_100, true, true), (30, 1_101, true, false)]
    {
        let mut header = solo.data_header(address(9, 900), id, length, 0);
        if let (Body::Data(data), true) = (&mut header.body, framed) {
            data.flags |= Data::FRAMED;
        }
        let received = solo.header(address(9, 900), &header, length);
        assert_eq!(received != Received::Dropped(DropReason::TooLong), fits, "{length}");
        let told = solo.drain().iter().find_map(Sent::unknown);
        assert_eq!(told, (!fits).then_some(Reason::TooLong));
    }
}

// Scenario: E8
#[test]
fn a_network_error_counts_only_if_it_quotes_a_live_rpc_of_that_peer() {
    let mut solo = solo();
    let server = address(9, 99);
    let (rpc, id, sent) = solo.called(server, 100);
    let quoted = sent[0].bytes.clone();
    icmp(&mut solo, IcmpKind::PortUnreachable, address(9, 98), &quoted);
    icmp(&mut solo, IcmpKind::PortUnreachable, address(8, 99), &quoted);
    icmp(&mut solo, IcmpKind::PortUnreachable, server, &quoted[..27]);
    icmp(&mut solo, IcmpKind::PortUnreachable, server, &[0; 64]);
    let mut forged = quoted.clone();
    forged[27] ^= 2;
    icmp(&mut solo, IcmpKind::PortUnreachable, server, &forged);
    assert_eq!(solo.failure(rpc), None);
    assert_eq!(solo.engine.stats().icmp_errors, 0);
    let _ = solo.data(server, id, 100, (0, 100));
    icmp(&mut solo, IcmpKind::PortUnreachable, server, &quoted);
    assert_eq!(solo.failure(rpc), None, "E8: it has its answer");
    icmp(&mut solo, IcmpKind::PortUnreachable, server, &quoted[..28]);
    assert_eq!(solo.engine.stats().icmp_errors, 0);
}

#[test]
fn the_error_for_a_quote_of_28_bytes_is_enough() {
    let mut solo = solo();
    let (rpc, _, sent) = solo.called(address(9, 99), 100);
    icmp(&mut solo, IcmpKind::PortUnreachable, address(9, 99), &sent[0].bytes[..28]);
    assert_eq!(solo.failure(rpc), Some(FailReason::NoService));
}

// Scenario: E6
#[test]
fn a_response_to_a_client_that_is_gone_ends_with_the_network_error() {
    let mut solo = solo();
    let from = address(9, 900);
    let answered = solo.request(from, 10, 100);
    let waiting = solo.request(from, 20, 100);
    let sent = solo.answer(answered, 100);
    let data = sent.iter().find(|sent| sent.is_data()).unwrap().bytes.clone();
    icmp(&mut solo, IcmpKind::PortUnreachable, from, &data);
    assert!(solo.ended(answered), "E6");
    assert!(!solo.ended(waiting), "its answer will find out by itself");
}

#[test]
fn each_refusal_has_its_error() {
    let cases = [
        (Reason::NoService, FailReason::NoService),
        (Reason::Closing, FailReason::Closing),
        (Reason::Rejected, FailReason::Rejected),
        (Reason::TooLong, FailReason::PeerLimit { max_bytes: None }),
        (Reason::Overloaded, FailReason::Overloaded),
        (Reason::NotExecuted, FailReason::NotExecuted),
        (Reason::Finished, FailReason::Forgotten),
    ];
    for (why, expected) in cases {
        let mut solo = solo();
        let server = address(9, 900);
        let (rpc, id, _) = solo.called(server, 100);
        let _ = solo.control(server, id, Body::RpcUnknown, why, 0);
        solo.events();
        assert_eq!(solo.failure(rpc), Some(expected));
        assert!(solo.ended(rpc));
        assert!(solo.log.contains(&Event::Released { rpc, upto: 100 }));
    }
}

#[test]
fn a_request_too_long_for_its_server_fails_with_the_limit_of_the_server() {
    // A peer that names no limit, or one that the request keeps, has named none.
    for (value, max_bytes) in [(60, Some(60)), (0, None), (100, None), (u32::MAX, None)] {
        let mut solo = solo();
        let server = address(9, 900);
        let (rpc, id, _) = solo.called(server, 100);
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::TooLong, value);
        solo.events();
        assert_eq!(solo.failure(rpc), Some(FailReason::PeerLimit { max_bytes }));
    }
}

#[test]
fn a_reason_of_a_later_version_is_taken_for_never_seen() {
    let mut solo = solo();
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = solo.control(server, id, Body::RpcUnknown, Reason::from(200), 0);
    solo.events();
    assert_eq!(solo.failure(rpc), None);
    assert_eq!(solo.drain().iter().filter(|sent| sent.is_data()).count(), 1);
}

#[test]
fn a_request_to_a_port_where_nobody_serves_fails_at_once() {
    let mut net = Net::new(&Config::default(), 2);
    let port = net.hosts[1].address.port();
    let now = net.now();
    net.hosts[1].engine.close_port(now, port);
    net.hosts[1].engine.bind_port(port, PortOptions::CLIENT).unwrap();
    let rpc = net.call(0, 1, 100_000);
    net.run(1);
    assert_eq!(net.failure(0, rpc), Some(FailReason::NoService));
    net.run(50);
    net.assert_quiet();
}

// Scenario: C12
#[test]
fn a_closing_endpoint_tells_its_clients_and_servers() {
    let mut net = Net::new(&Config::default(), 3);
    net.hosts[1].service = Service::Hold;
    net.hosts[2].service = Service::Hold;
    let to_closing = net.call(0, 1, 100);
    let from_closing = net.call(1, 2, 100);
    net.run(10);
    let port = net.hosts[1].address.port();
    let now = net.now();
    net.hosts[1].engine.close_port(now, port);
    net.run(1);
    assert_eq!(net.failure(0, to_closing), Some(FailReason::Closing));
    assert_eq!(net.failure(1, from_closing), Some(FailReason::EndpointClosed));
    let at_server = net.hosts[2].arrived[0];
    assert_eq!(net.failure(2, at_server), Some(FailReason::Cancelled));
    net.run(50);
    net.assert_quiet();
}

/// What an application may refuse a request for, and what its client is told.
const REFUSALS: [(FailReason, Reason, FailReason); 4] = [
    (FailReason::Rejected, Reason::Rejected, FailReason::Rejected),
    (FailReason::Aborted, Reason::Rejected, FailReason::Rejected),
    (FailReason::Overloaded, Reason::Overloaded, FailReason::Overloaded),
    (FailReason::NotExecuted, Reason::NotExecuted, FailReason::NotExecuted),
];

#[test]
fn a_refused_request_is_told_why_until_it_is_acknowledged() {
    for ((why, reason, told), lost) in
        REFUSALS.into_iter().flat_map(|refusal| [0, 1, 3].map(|lost| (refusal, lost)))
    {
        let mut net = Net::new(&Config::default(), 2);
        net.hosts[1].service = Service::Refuse(why);
        let mut left = lost;
        net.lose = Box::new(move |_, sent| {
            let lose = sent.unknown() == Some(reason) && left > 0;
            left -= u32::from(lose);
            lose
        });
        let rpc = net.call(0, 1, 100);
        net.run(50);
        assert_eq!(net.failure(0, rpc), Some(told), "{why:?}, {lost} lost");
        net.assert_quiet();
    }
}

#[test]
fn a_refused_request_is_told_the_same_whatever_its_client_asks() {
    for (why, reason, _) in REFUSALS {
        let mut solo = solo();
        let from = address(9, 900);
        let rpc = solo.request(from, 10, 100);
        solo.engine.abort(solo.now(), rpc, why).unwrap();
        let told = |sent: Vec<Sent>| sent.iter().filter_map(Sent::unknown).collect::<Vec<_>>();
        assert_eq!(told(solo.drain()), [reason]);
        let resend = Resend { offset: 0, length: RESEND_ALL, priority: 7 };
        for body in [Body::Resend(resend), Body::NeedAck] {
            let _ = solo.control(from, 10, body, Reason::None, 0);
            assert_eq!(told(solo.drain()), [reason], "{body:?}");
        }
        assert_eq!(told(solo.advance(3))[..1], [reason], "silence");
        let _ = solo.control(from, 10, Body::Ack(Ack::default()), Reason::None, 0);
        solo.advance(1);
        assert!(solo.ended(rpc));
    }
}

#[test]
fn a_refusal_whose_acknowledgement_is_lost_ends_too() {
    for (why, _, told) in REFUSALS {
        let mut net = Net::new(&Config::default(), 2);
        net.hosts[1].service = Service::Refuse(why);
        let mut left = 1;
        net.lose = Box::new(move |_, sent| {
            let lose = sent.is_ack() && left > 0;
            left -= u32::from(lose);
            lose
        });
        let rpc = net.call(0, 1, 100);
        net.run(50);
        assert_eq!(net.failure(0, rpc), Some(told));
        net.assert_quiet();
    }
}

#[test]
fn a_refusal_at_a_limit_is_not_acknowledged_since_nobody_waits_for_that() {
    let mut solo = solo();
    let server = address(9, 900);
    let (_, id, _) = solo.called(server, 100);
    for _ in 0..2 {
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::Overloaded, 0);
        solo.events();
        assert!(!solo.drain().iter().any(Sent::is_ack));
    }
}

// Scenario: X26, D8
#[test]
fn a_cancelled_call_ends_at_the_server() {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Hold;
    let rpc = net.call(0, 1, 100);
    net.run(1);
    let now = net.now();
    net.hosts[0].engine.abort(now, rpc, FailReason::Aborted).unwrap();
    assert_eq!(net.hosts[0].engine.abort(now, rpc, FailReason::Aborted), Err(RpcError::Stale));
    net.run(1);
    let at_server = net.hosts[1].arrived[0];
    assert_eq!(net.failure(1, at_server), Some(FailReason::Cancelled));
    assert_eq!(net.failure(0, rpc), None, "the caller knows");
    assert!(net.hosts[0].log.contains(&Event::Ended { rpc }));
    net.run(50);
    net.assert_quiet();
}

#[test]
fn a_cancellation_that_got_lost_costs_one_answer() {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Hold;
    let rpc = net.call(0, 1, 100);
    net.run(1);
    net.lose = Box::new(|_, sent| sent.unknown() == Some(Reason::Cancelled));
    let now = net.now();
    net.hosts[0].engine.abort(now, rpc, FailReason::Aborted).unwrap();
    net.run(1);
    let at_server = net.hosts[1].arrived[0];
    net.answer(1, at_server, 5000);
    net.run(10);
    net.assert_quiet();
}

#[test]
fn a_call_never_sent_is_cancelled_silently() {
    let mut solo = solo();
    let rpc = solo.call(address(9, 900), 100);
    solo.engine.abort(solo.now(), rpc, FailReason::Aborted).unwrap();
    assert!(solo.drain().is_empty());
    assert_eq!(solo.events(), [Event::Released { rpc, upto: 100 }, Event::Ended { rpc }]);
}

#[test]
fn a_deadline_ends_the_call_and_tells_the_server() {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Hold;
    let deadline = Some(Instant::from_nanos(net.now_ns + 50 * MS));
    let rpc = net.call_with(0, 1, 100, RequestOptions { deadline, ..Default::default() });
    net.run(49);
    assert_eq!(net.failure(0, rpc), None);
    net.run(2);
    assert_eq!(net.failure(0, rpc), Some(FailReason::DeadlineExceeded { sent: true }));
    let at_server = net.hosts[1].arrived[0];
    assert_eq!(net.failure(1, at_server), Some(FailReason::Cancelled));
    net.run(50);
    net.assert_quiet();
}

#[test]
fn a_deadline_before_the_next_resend_or_in_the_past_is_kept() {
    for (after_ns, wait_ms) in [(1, 1), (MS, 2), (0, 1)] {
        let mut solo = solo();
        let deadline = Some(solo.now() + Duration::from_nanos(after_ns));
        let options = RequestOptions { deadline, ..Default::default() };
        let rpc = solo.call_with(address(9, 900), 100, options).unwrap();
        solo.advance(wait_ms);
        assert_eq!(solo.failure(rpc), Some(FailReason::DeadlineExceeded { sent: true }));
    }
}

#[test]
fn a_deadline_that_passes_before_anything_is_sent_says_so() {
    let mut solo = solo();
    let deadline = Some(solo.now() + Duration::from_nanos(MS));
    let options = RequestOptions { deadline, ..Default::default() };
    let rpc = solo.call_with(address(9, 900), 100, options).unwrap();
    solo.now_ns += 2 * MS;
    solo.engine.handle_timeout(solo.now(), true);
    solo.events();
    assert_eq!(solo.failure(rpc), Some(FailReason::DeadlineExceeded { sent: false }));
    assert!(solo.drain().is_empty(), "nor is it sent afterwards");
}

#[test]
fn a_complete_answer_is_not_lost_to_a_deadline() {
    let mut solo = solo();
    let server = address(9, 900);
    let deadline = Some(solo.now() + Duration::from_millis(10));
    let options = RequestOptions { deadline, ..Default::default() };
    let rpc = solo.call_with(server, 100, options).unwrap();
    let id = solo.drain()[0].header.common.sender_id | 1;
    let _ = solo.data(server, id, 100, (0, 100));
    solo.advance(1000);
    assert_eq!(solo.failure(rpc), None);
    solo.engine.consumed(solo.now(), rpc, 100).unwrap();
}

#[test]
fn another_version_fails_the_call_and_names_itself() {
    let mut solo = solo();
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let mut header = solo.data_header(server, id, 100, 0);
    header.common.window = VERSION_MAGIC | 7;
    let elsewhere = address(8, 900);
    assert_eq!(solo.header(elsewhere, &header, 100), Received::Dropped(DropReason::Version));
    solo.events();
    assert_eq!(solo.failure(rpc), None, "not from another address");
    assert_eq!(solo.header(server, &header, 100), Received::Dropped(DropReason::Version));
    solo.events();
    assert_eq!(solo.failure(rpc), Some(FailReason::VersionMismatch { theirs: 7 }));
    assert_eq!(solo.engine.stats().last_foreign_version, 7);
}

#[test]
fn a_request_in_another_version_is_answered_with_ours() {
    let mut solo = solo();
    let mut header = solo.data_header(address(9, 900), 1000, 100, 0);
    header.common.window = VERSION_MAGIC | 7;
    assert_eq!(solo.header(address(9, 900), &header, 100), Received::Dropped(DropReason::Version));
    let sent = solo.drain();
    assert_eq!(sent[0].unknown(), Some(Reason::Version));
    assert_eq!(sent[0].header.extension.unwrap().value, u32::from(VERSION));
    assert_eq!(sent[0].header.common.version(), Some(VERSION));
    header.body = Body::Busy;
    assert_eq!(solo.header(address(9, 900), &header, 0), Received::Dropped(DropReason::Version));
    assert!(solo.drain().is_empty(), "no answers to answers");
    let (rpc, id, _) = solo.called(address(9, 900), 100);
    let _ = solo.control(address(9, 900), id, Body::RpcUnknown, Reason::Version, 3);
    solo.events();
    assert_eq!(solo.failure(rpc), Some(FailReason::VersionMismatch { theirs: 3 }));
}

#[test]
fn a_response_too_long_for_us_fails_the_call_and_frees_the_server() {
    let mut solo = solo();
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let received = solo.data(server, id, 1_000_001, (0, 100));
    assert_eq!(received, Received::Dropped(DropReason::TooLong));
    solo.events();
    assert_eq!(solo.failure(rpc), Some(FailReason::ResponseTooLong));
    assert!(solo.drain().iter().any(|sent| sent.unknown() == Some(Reason::TooLong)));
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_limit_and_changes_nothing() {
    let mut solo = solo();
    let server = address(9, 900);
    let mut send = |to, length| solo.call_with(to, length, RequestOptions::default());
    assert_eq!(send(server, 0), Err(SendError::EmptyMessage));
    assert_eq!(send(server, 1_000_001), Err(SendError::TooLong { max: 1_000_000 }));
    assert_eq!(send(SocketAddr::from(([10, 0, 0, 9], 0)), 1), Err(SendError::BadAddress));
    assert_eq!(send(SocketAddr::from(([0, 0, 0, 0], 9)), 1), Err(SendError::BadAddress));
    assert_eq!(send(SocketAddr::from(([224, 0, 0, 1], 9)), 1), Err(SendError::BadAddress));
    let now = solo.now();
    let unbound = path(1, server);
    let sent = solo.engine.send_request(now, unbound, 1, 0, RequestOptions::default());
    assert_eq!(sent, Err(SendError::NoSuchPort));
    assert_eq!(solo.engine.stats().live_rpcs, 0);
    assert!(solo.drain().is_empty());
    solo.call_with(server, 1_000_000, RequestOptions::default()).unwrap();
    assert_eq!(solo.engine.bind_port(PORT, PortOptions::SERVE), Err(PortError::InUse));
}

#[test]
fn at_the_limits_of_rpcs_and_peers_sending_is_refused() {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.limits.max_rpcs = 20;
        config.peers.max = 4;
    }));
    for _ in 0..20 {
        solo.call(address(9, 900), 100);
    }
    let refused = solo.call_with(address(9, 900), 100, RequestOptions::default());
    assert_eq!(refused, Err(SendError::RpcLimit));
    let mut solo = Solo::new(Config::default().with(|config| config.peers.max = 4));
    for host in 0..4 {
        solo.call(address(host, 900), 100);
    }
    let refused = solo.call_with(address(9, 900), 100, RequestOptions::default());
    assert_eq!(refused, Err(SendError::PeersLimit));
}

// Scenario: X6, X7, B13
#[test]
fn replies_at_the_wrong_time_are_errors_and_leave_the_rpc() {
    let mut solo = solo();
    let from = address(9, 900);
    let _ = solo.data(from, 1000, 2000, (0, 1000));
    let rpc = match solo.events()[..] {
        [Event::RequestStarted { rpc, .. }] => rpc,
        ref other => panic!("{other:?}"),
    };
    let now = solo.now();
    assert_eq!(
        solo.engine.send_response(now, rpc, 1, ResponseOptions::default()),
        Err(SendError::NotInService)
    );
    assert_eq!(solo.engine.consumed(now, rpc, 1001), Err(RpcError::OutOfRange));
    let _ = solo.data(from, 1000, 2000, (1000, 2000));
    solo.events();
    assert_eq!(
        solo.engine.send_response(now, rpc, 0, ResponseOptions::default()),
        Err(SendError::EmptyMessage)
    );
    assert_eq!(solo.engine.send_response(now, rpc, 5, ResponseOptions::default()), Ok(()));
    assert_eq!(
        solo.engine.send_response(now, rpc, 5, ResponseOptions::default()),
        Err(SendError::NotInService)
    );
    assert_eq!(solo.engine.supply(now, rpc, 6), Err(RpcError::OutOfRange));
    solo.drain();
    let _ = solo.control(from, 1000, Body::Ack(Ack::default()), Reason::None, 0);
    assert_eq!(
        solo.engine.send_response(now, rpc, 5, ResponseOptions::default()),
        Err(SendError::Stale)
    );
    solo.events();
    assert_eq!(solo.engine.supply(now, rpc, 1), Err(RpcError::Stale));
    assert_eq!(solo.engine.consumed(now, rpc, 1), Err(RpcError::Stale));
    assert_eq!(solo.engine.set_streaming(now, rpc), Err(RpcError::Stale));
}

// Scenario: X26
#[test]
fn a_stale_key_never_reaches_the_rpc_that_has_its_place_now() {
    let mut solo = solo();
    let first = solo.call(address(9, 900), 100);
    solo.engine.abort(solo.now(), first, FailReason::Aborted).unwrap();
    solo.events();
    let second = solo.call(address(9, 900), 100);
    assert_eq!(first.index, second.index);
    assert_eq!(solo.engine.abort(solo.now(), first, FailReason::Aborted), Err(RpcError::Stale));
    assert_eq!(solo.engine.stats().live_rpcs, 1);
}

// Scenario: E1, E7
#[test]
fn a_network_error_finds_the_calls_from_all_ports_of_the_endpoint() {
    let mut solo = solo();
    let server = address(9, 99);
    solo.engine.bind_port(5000, PortOptions::CLIENT).unwrap();
    let (here, _, sent) = solo.called(server, 100);
    let now = solo.now();
    let options = RequestOptions::default();
    let there = solo.engine.send_request(now, path(5000, server), 100, 8, options).unwrap();
    let elsewhere =
        solo.engine.send_request(now, path(5000, address(9, 98)), 100, 9, options).unwrap();
    solo.drain();
    solo.engine.icmp_error(now, IcmpKind::PortUnreachable, path(PORT, server), &sent[0].bytes);
    solo.events();
    assert_eq!(solo.failure(here), Some(FailReason::NoService));
    assert_eq!(solo.failure(there), Some(FailReason::NoService), "from another port of ours");
    assert_eq!(solo.failure(elsewhere), None, "another port of the server's host");
    assert!(solo.log.contains(&Event::Failed {
        rpc: there,
        cookie: 8,
        reason: FailReason::NoService
    }));
}

// Scenario: E2, E6
#[test]
fn an_unreachable_client_ends_the_answer_on_its_way_to_it() {
    for kind in [IcmpKind::HostUnreachable, IcmpKind::ProtocolUnreachable] {
        let mut solo = solo();
        let from = address(9, 900);
        let rpc = solo.request(from, 10, 100);
        let sent = solo.answer(rpc, 30_000);
        let data = sent.iter().find(|sent| sent.is_data()).unwrap().bytes.clone();
        let now = solo.now();
        solo.engine.icmp_error(now, kind, path(PORT, from), &data);
        assert_eq!(
            solo.events(),
            [Event::Released { rpc, upto: 30_000 }, Event::Ended { rpc }],
            "the service is not told: it has answered"
        );
        assert_eq!(solo.engine.stats().live_rpcs, 0);
        assert_eq!(solo.engine.poll_timeout(), None);
    }
}

// Scenario: E8
#[test]
fn a_network_error_about_an_rpc_that_is_over_changes_nothing() {
    let mut solo = solo();
    let server = address(9, 99);
    let (rpc, _, sent) = solo.called(server, 100);
    let (other, _, _) = solo.called(server, 100);
    solo.engine.abort(solo.now(), rpc, FailReason::Aborted).unwrap();
    let now = solo.now();
    solo.engine.icmp_error(now, IcmpKind::PortUnreachable, path(PORT, server), &sent[0].bytes);
    solo.events();
    assert_eq!((solo.failure(rpc), solo.failure(other)), (None, None));
    assert_eq!(solo.engine.stats().icmp_errors, 0);
}

/// What becomes of a call whose first packets the driver refuses with `why`.
fn refused(why: TransmitError) -> Option<FailReason> {
    let mut solo = solo();
    let rpc = solo.call(address(9, 900), 5000);
    let now = solo.now();
    let transmit = solo.engine.poll_transmit(now, &mut solo.segments).unwrap();
    solo.engine.transmit_failed(now, &transmit, &solo.segments, 0, why);
    solo.events();
    solo.failure(rpc)
}

// Scenario: E9
#[test]
fn a_call_without_a_route_fails_at_once_with_the_reason() {
    assert_eq!(refused(TransmitError::Unreachable), Some(FailReason::HostUnreachable));
    assert_eq!(refused(TransmitError::Refused), Some(FailReason::Refused));
    assert_eq!(refused(TransmitError::NoRoom), None, "a full queue is not the end");
}

// Scenario: E10
#[test]
fn a_route_that_is_gone_for_a_while_costs_an_answer_only_time() {
    let mut solo = solo();
    let from = address(9, 900);
    let rpc = solo.request(from, 10, 100);
    let now = solo.now();
    solo.engine.send_response(now, rpc, 5000, ResponseOptions::default()).unwrap();
    let transmit = solo.engine.poll_transmit(now, &mut solo.segments).unwrap();
    solo.engine.transmit_failed(now, &transmit, &solo.segments, 0, TransmitError::Unreachable);
    solo.drain();
    let sent = solo.advance(300);
    assert!(!solo.ended(rpc), "the driver looks for a way again with every packet");
    assert!(sent.iter().any(|sent| sent.is(&Body::NeedAck)), "and one is sent: {sent:?}");
}
