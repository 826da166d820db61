//! What leaves when: SRPT, the clock of the link, the share of the oldest
//! (docs/spec/protocol.md §7).

use std::time::Duration;

use crate::harness::{FULL, Host, Sent, data_bytes, data_of, exact, grants};
use homa_core::{Config, FailReason, RequestOptions, RpcError, TransmitError, WakeReason};
use homa_wire::Body;

/// A full packet with what it occupies on the link besides, in bytes.
const FULL_ON_LINK: u64 = FULL as u64 + 56 + 70;
/// Eight full packets at 10 Gbit/s: what the link sends in less than 10 µs.
const TRAIN_NS: u64 = 8 * FULL_ON_LINK * 8 / 10;

/// A link of 10 Gbit/s, all of it usable, trains of up to 11,875 bytes.
fn paced() -> Config {
    exact().with(|config| {
        config.output.link_mbps = Some(10_000);
        config.output.max_link_usage_percent = 100;
        config.output.quantum = Duration::from_nanos(9_500);
    })
}

/// A host whose link is busy: a message of 40,000 bytes has begun to leave.
fn busy(config: Config) -> (Host, u64) {
    let mut host = Host::new(config);
    let remote = host.remote(1, 1);
    host.call(&remote, 40_000);
    let sent = host.sent();
    assert_eq!(data_bytes(&sent), 8 * FULL, "a train, for which the link takes 9.8 µs");
    (host, sent[0].id())
}

fn ids(sent: &[Sent]) -> Vec<u64> {
    let mut ids: Vec<u64> = data_of(sent).iter().map(|data| data.0).collect();
    ids.dedup();
    ids
}

// Scenario: P2, P3
#[test]
fn the_estimate_of_the_backlog_grows_by_the_time_on_the_link_and_holds_long_messages_back() {
    let (host, _) = busy(paced());
    let (at, reason) = host.engine.poll_timeout().unwrap();
    assert_eq!((at.as_nanos(), reason), (host.now_ns + TRAIN_NS, WakeReason::Pacer));
}

#[test]
fn held_back_data_leaves_at_the_rate_of_the_link() {
    let (mut host, _) = busy(paced());
    let start = host.now_ns;
    let sent = host.pass_ns(20_000);
    assert_eq!(data_bytes(&sent), 16 * FULL, "a train every 9.8 µs");
    assert!(host.trains.iter().all(|packets| *packets <= 8), "{:?}", host.trains);
    host.now_ns = start + 1_000_000;
    assert_eq!(data_bytes(&host.sent()), 40_000 - 24 * FULL);
}

// Scenario: P1
#[test]
fn after_a_pause_the_estimate_starts_from_now() {
    let (mut host, _) = busy(paced());
    host.pass_ns(1_000_000);
    let remote = host.remote(2, 1);
    host.call(&remote, 40_000);
    assert_eq!(data_bytes(&host.sent()), 8 * FULL, "idle time is not saved up");
}

// Scenario: P12
#[test]
fn without_a_known_speed_nothing_is_held_back() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.call(&remote, 40_000);
    assert_eq!(data_bytes(&host.sent()), 40_000);
}

// Scenario: P26
#[test]
fn the_speed_that_the_driver_reports_counts_unless_one_is_configured() {
    for (configured, bytes) in [(None, 8 * FULL), (Some(40_000), 33 * FULL - FULL)] {
        let mut host = Host::new(paced().with(|config| config.output.link_mbps = configured));
        let remote = host.remote(1, 1);
        host.call(&remote, 40_000);
        host.engine.path_changed(host.now(), remote.path(), 1500, Some(10_000));
        let sent = data_bytes(&host.sent());
        if configured.is_none() {
            assert_eq!(sent, bytes);
        } else {
            assert!(sent > 3 * 8 * FULL, "{sent}");
        }
    }
}

#[test]
fn the_share_of_the_link_that_may_be_used_stretches_the_time() {
    let mut host = Host::new(paced().with(|config| config.output.max_link_usage_percent = 50));
    let remote = host.remote(1, 1);
    host.call(&remote, 40_000);
    assert_eq!(data_bytes(&host.sent()), 4 * FULL, "half of them fill as much time");
}

#[test]
fn more_can_be_handed_over_at_a_time() {
    let config = paced().with(|config| config.output.quantum = Duration::from_millis(1));
    let mut host = Host::new(config);
    let remote = host.remote(1, 1);
    host.call(&remote, 40_000);
    assert_eq!(data_bytes(&host.sent()), 40_000);
}

// Scenario: P4
#[test]
fn a_short_message_never_waits_for_the_clock() {
    let (mut host, _) = busy(paced());
    let remote = host.remote(2, 1);
    host.call(&remote, 999);
    assert_eq!(data_bytes(&host.sent()), 999);
    host.call(&remote, 1000);
    assert_eq!(data_bytes(&host.sent()), 0, "this one is not short");
}

#[test]
fn a_short_message_asks_to_be_sent_now_although_the_clock_holds_others_back() {
    let (mut host, _) = busy(paced());
    assert_eq!(host.engine.poll_timeout().unwrap().1, WakeReason::Pacer);
    let remote = host.remote(2, 1);
    host.call(&remote, 10);
    assert_eq!(host.engine.poll_timeout(), Some((host.now(), WakeReason::Transmit)));
}

#[test]
fn a_short_message_does_not_wait_behind_the_end_of_a_long_one() {
    let mut host = Host::new(paced());
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    // 8 packets leave, 400 bytes remain: fewer than the short message has.
    host.call(&a, 8 * FULL + 400);
    assert_eq!(data_bytes(&host.sent()), 8 * FULL);
    host.call(&b, 900);
    let sent = host.sent();
    assert_eq!(data_bytes(&sent), 900, "the short one alone");
    assert_eq!(data_bytes(&host.pass_ns(11_000)), 400);
}

#[test]
fn a_short_message_does_not_wait_for_the_turn_of_the_oldest() {
    // Two trains of the second message earn the first its turn.
    let mut host = Host::new(paced().with(|config| config.output.fifo_permille = 250));
    let (a, b, c) = (host.remote(1, 1), host.remote(2, 1), host.remote(3, 1));
    host.call(&a, 900_000);
    host.call(&b, 40_000);
    assert_eq!(ids(&host.sent()).len(), 1);
    host.call(&c, 900);
    assert_eq!(data_bytes(&host.sent()), 900);
}

// Scenario: P5
#[test]
fn the_last_short_packet_of_a_long_message_waits_with_those_before_it() {
    let mut host = Host::new(paced());
    let remote = host.remote(1, 1);
    host.call(&remote, 8 * FULL + 400);
    assert_eq!(data_bytes(&host.sent()), 8 * FULL);
    assert_eq!(data_bytes(&host.pass_ns(9_000)), 0);
    assert_eq!(data_bytes(&host.pass_ns(1_000)), 400);
}

#[test]
fn long_data_does_not_ride_along_in_the_train_of_a_short_message() {
    let (mut host, _) = busy(paced());
    let remote = host.remote(1, 1);
    // Same destination, same priority as the waiting one would have.
    host.call(&remote, 900);
    assert_eq!(data_bytes(&host.sent()), 900);
}

// Scenario: P6
#[test]
fn control_packets_never_wait_for_the_clock() {
    let (mut host, id) = busy(paced());
    let remote = host.remote(1, 1);
    // Beyond what was sent: "I am alive, but not sending now".
    host.take(&remote, remote.resend(id | 1, 39_000, 500));
    let sent = host.sent();
    assert!(sent.iter().any(|sent| sent.header.body == Body::Busy), "{sent:?}");
    assert_eq!(data_bytes(&sent), 0);
}

#[test]
fn retransmissions_wait_for_the_clock_go_before_new_data_and_are_charged() {
    let (mut host, id) = busy(paced());
    let remote = host.remote(1, 1);
    let ready = host.engine.poll_timeout().unwrap().0;
    host.take(&remote, remote.resend(id | 1, 0, FULL));
    assert_eq!(data_of(&host.sent()), [], "others' short messages go first");
    host.now_ns = ready.as_nanos();
    let sent = host.train();
    assert_eq!(data_of(&sent)[0], (id, 0..FULL, 7));
    assert!(sent[0].data().unwrap().flags != 0);
    let after = host.engine.poll_timeout().unwrap().0;
    assert!(after.since(ready).as_nanos() as u64 >= FULL_ON_LINK * 8 / 10);
}

// Scenario: P7
#[test]
fn of_two_waiting_messages_the_one_with_fewer_bytes_left_goes_first() {
    let (mut host, first) = busy(paced());
    let (b, c) = (host.remote(2, 1), host.remote(3, 1));
    host.call(&b, 35_000);
    let third = host.call(&c, 20_000);
    assert_eq!(data_bytes(&host.sent()), 0);
    let order = ids(&host.pass_ns(1_000_000));
    // 28,672 bytes are left of the first, 20,000 of the third.
    assert_eq!(order.len(), 3);
    assert_eq!(order[0], host.id_of(third));
    assert_eq!(order[1], first);
}

// Scenario: P8
#[test]
fn with_equally_many_bytes_left_the_older_goes_first() {
    let (mut host, first) = busy(paced());
    let (b, c) = (host.remote(2, 1), host.remote(3, 1));
    let [second, third] = [b, c].map(|remote| {
        let rpc = host.call(&remote, 20_000);
        host.id_of(rpc)
    });
    assert_eq!(ids(&host.pass_ns(1_000_000)), [second, third, first]);
}

#[test]
fn a_newcomer_with_fewer_bytes_left_overtakes_between_two_trains() {
    let (mut host, first) = busy(paced());
    let b = host.remote(2, 1);
    assert_eq!(ids(&host.pass_ns(10_000)), [first]);
    let second = host.call(&b, 2000);
    let second = host.id_of(second);
    assert_eq!(ids(&host.pass_ns(100_000)), [second, first]);
}

// Scenario: P13, P22
#[test]
fn a_message_that_ends_while_it_waits_does_no_harm() {
    let mut host = Host::new(paced());
    let remote = host.remote(1, 1);
    let rpc = host.call(&remote, 40_000);
    host.sent();
    host.engine.abort(host.now(), rpc, FailReason::Aborted).unwrap();
    assert_eq!(data_bytes(&host.pass_ns(1_000_000)), 0);
    host.events();
    assert_eq!(host.stats().live_rpcs, 0);
}

// Scenario: P14
#[test]
fn a_message_without_granted_bytes_left_does_not_wake_the_pacer() {
    let mut host = Host::new(paced());
    let remote = host.remote(1, 1);
    host.call(&remote, 100_000);
    let sent = host.pass_ns(1_000_000);
    assert_eq!(data_bytes(&sent), 40_000, "the unscheduled part");
    let (_, reason) = host.engine.poll_timeout().unwrap();
    assert_ne!(reason, WakeReason::Pacer);
}

/// Sends 20 messages of 40,000 bytes in turn, always the next when one has left, beside an old one
/// with everything granted. Returns the share of the old one's bytes in 1/1000.
fn share_of_oldest(config: Config) -> u32 {
    let mut host = Host::new(config.with(|config| {
        config.unscheduled.in_flight_max_bytes = u32::MAX;
        config.limits.max_message_bytes = 8_000_000;
    }));
    let (old, other) = (host.remote(1, 1), host.remote(2, 1));
    host.call(&old, 8_000_000);
    let first = host.sent();
    let old_id = first[0].id();
    host.take(&old, old.grant(old_id | 1, 8_000_000, 3));
    let (mut of_old, mut all) = (0, 0);
    for _ in 0..100 {
        host.call(&other, 40_000);
        let mut sent_of_other = 0;
        for _ in 0..1000 {
            let train = host.train();
            if train.is_empty() {
                host.now_ns = host.engine.poll_timeout().unwrap().0.as_nanos().max(host.now_ns + 1);
                continue;
            }
            for (id, range, _) in data_of(&train) {
                let bytes = range.end - range.start;
                all += bytes;
                of_old += if id == old_id { bytes } else { 0 };
                sent_of_other += if id == old_id { 0 } else { bytes };
            }
            if sent_of_other == 40_000 {
                break;
            }
        }
    }
    of_old / (all / 1000)
}

// Scenario: P9
#[test]
fn about_five_percent_of_the_bytes_come_from_the_oldest_message_with_and_without_a_clock() {
    for link_mbps in [None, Some(10_000)] {
        let share = share_of_oldest(paced().with(|config| {
            config.output.link_mbps = link_mbps;
            config.output.fifo_permille = 50;
        }));
        assert!((30..=70).contains(&share), "{share}/1000 with {link_mbps:?}");
    }
}

// Scenario: P10
#[test]
fn with_a_share_of_zero_the_order_is_strictly_srpt() {
    assert_eq!(share_of_oldest(paced().with(|config| config.output.fifo_permille = 0)), 0);
}

// Scenario: S18
#[test]
fn what_the_driver_refuses_is_sent_again_in_its_place_and_its_credit_returned() {
    for accepted in 0..4 {
        let mut host = Host::new(paced());
        let remote = host.remote(1, 1);
        host.call(&remote, 40_000);
        let mut sent = host.sent_partly(accepted, TransmitError::NoRoom);
        assert_eq!(data_bytes(&sent), accepted as u32 * FULL);
        sent.extend(host.sent());
        // Had the charge been kept, the link would count as busy with what was refused.
        let packets = if accepted == 0 { 8 } else { accepted };
        assert_eq!(data_bytes(&sent), packets as u32 * FULL, "{accepted} accepted");
        let idle_ns = host.engine.poll_timeout().unwrap().0.as_nanos() - host.now_ns;
        assert!(idle_ns.abs_diff(packets as u64 * FULL_ON_LINK * 8 / 10) < 10, "{idle_ns}");
        sent.extend(host.pass_ns(1_000_000));
        let ranges: Vec<_> = data_of(&sent).into_iter().map(|data| data.1).collect();
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{ranges:?}");
        assert_eq!(ranges.last().unwrap().end, 40_000);
        assert_eq!(host.stats().bytes_sent, 40_000);
        assert_eq!(host.stats().transmit_no_room, 1);
    }
}

#[test]
fn a_refused_grant_or_control_packet_is_sent_again() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.take(&remote, remote.data(2, 0..FULL, 900_000, FULL));
    host.events();
    assert!(host.sent_partly(0, TransmitError::NoRoom).is_empty());
    assert_eq!(grants(&host.sent()), [(2, FULL + 200_000, 0)]);
    host.take(&remote, remote.resend(2, 0, 100));
    assert!(host.sent_partly(0, TransmitError::NoRoom).is_empty());
    assert!(host.sent().iter().any(|sent| sent.header.body == Body::Busy));
}

#[test]
fn a_packet_that_is_too_long_lowers_the_mtu_and_leaves_in_pieces() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.call(&remote, 3000);
    assert!(host.sent_partly(0, TransmitError::TooBig(1000)).is_empty());
    let sent = host.sent();
    assert!(sent.iter().all(|sent| sent.wire_bytes <= 1000 - 28), "{sent:?}");
    assert_eq!(data_bytes(&sent), 3000);
    assert_eq!(host.stats().mtu_shrinks, 1);
}

// Scenario: P25
#[test]
fn pacing_settings_out_of_range_are_refused_by_name() {
    for (config, setting) in [
        (
            exact().with(|config| config.output.max_link_usage_percent = 4),
            "output.max_link_usage_percent",
        ),
        (
            exact().with(|config| config.output.max_link_usage_percent = 101),
            "output.max_link_usage_percent",
        ),
        (exact().with(|config| config.output.fifo_permille = 501), "output.fifo_permille"),
        (exact().with(|config| config.output.link_mbps = Some(0)), "output.link_mbps"),
    ] {
        assert_eq!(config.validate().unwrap_err().setting, setting);
    }
}

// Scenario: S9
#[test]
fn a_grant_to_a_sender_that_has_sent_everything_brings_no_packet() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.call(&remote, 50_000);
    let id = host.sent()[0].id();
    host.take(&remote, remote.grant(id | 1, 50_000, 3));
    assert_eq!(data_bytes(&host.sent()), 10_000);
    for offset in [50_000, 60_000, u32::MAX] {
        host.take(&remote, remote.grant(id | 1, offset, 3));
        assert!(host.sent().is_empty(), "{offset}");
    }
}

// Scenario: S14
#[test]
fn a_call_that_was_aborted_while_it_is_supplied_takes_and_sends_no_more() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let options = RequestOptions { streaming_body: true, ..RequestOptions::default() };
    let rpc = host.call_with(&remote, 30_000, options);
    host.engine.supply(host.now(), rpc, 10_000).unwrap();
    assert_eq!(data_bytes(&host.sent()), 10_000);
    host.engine.abort(host.now(), rpc, FailReason::Aborted).unwrap();
    assert_eq!(host.engine.supply(host.now(), rpc, 30_000), Err(RpcError::Stale));
    assert_eq!(data_bytes(&host.pass_ms(10)), 0);
    host.events();
    assert_eq!(host.engine.supply(host.now(), rpc, 30_000), Err(RpcError::Stale));
    assert_eq!(host.stats().live_rpcs, 0);
}

// Scenario: S18
#[test]
fn an_answer_that_finds_no_route_is_counted_and_recovered_later() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.serve(&remote, 2, 10, 3000);
    host.sent_partly(0, TransmitError::Unreachable);
    assert_eq!(host.stats().transmit_unreachable, 1);
    assert_eq!(host.stats().live_rpcs, 1);
    host.sent();
    host.take(&remote, remote.resend(2, 0, u32::MAX));
    let ranges: Vec<_> = data_of(&host.sent()).into_iter().map(|data| data.1).collect();
    assert_eq!(ranges, [0..FULL, FULL..2 * FULL, 2 * FULL..3000]);
}

// Scenario: S18
#[test]
fn a_call_without_a_route_is_counted_accepted_and_then_fails() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let rpc = host.call(&remote, 3000);
    host.sent_partly(0, TransmitError::Unreachable);
    assert_eq!(host.stats().transmit_unreachable, 1);
    let reason = FailReason::HostUnreachable;
    assert!(host.events().contains(&homa_core::Event::Failed { rpc, cookie: 0, reason }));
}

// Scenario: P11
#[test]
fn a_message_that_its_share_has_helped_goes_on_in_its_new_rank() {
    let train = 4 * FULL;
    let mut host = Host::new(paced().with(|config| {
        config.output.fifo_permille = 500;
        config.output.quantum = Duration::from_nanos(4_750);
    }));
    let [old, other, short] = [1, 2, 3].map(|n| host.remote(n, 1));
    let [old, other, short] =
        [(old, 30_000), (other, 25_000), (short, train)].map(|(to, length)| {
            let rpc = host.call(&to, length);
            host.id_of(rpc)
        });
    let sent = host.pass_ns(1_000_000);
    // The shortest leaves and earns the oldest a turn; then 24,336 bytes are left of that, fewer
    // than 25,000.
    assert_eq!(ids(&sent)[..3], [short, old, other]);
    let of_old: u32 = data_of(&sent)
        .iter()
        .skip(4)
        .take_while(|data| data.0 == old)
        .map(|data| data.1.end - data.1.start)
        .sum();
    assert!(of_old > train, "more than its share at once: {of_old}");
}

// Scenario: P16
#[test]
fn a_new_long_message_does_not_pass_what_waits_with_fewer_bytes_left() {
    let mut host = Host::new(paced());
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    host.call(&a, 40_000);
    let waiting = host.sent()[0].id();
    // The link is idle again, but nobody has looked.
    host.now_ns += 1_000_000;
    host.call(&b, 39_000);
    let sent = host.sent();
    assert_eq!(data_bytes(&sent), 8 * FULL);
    assert_eq!(ids(&sent), [waiting]);
}

// Scenario: P23
#[test]
fn a_packet_that_arrives_lets_go_what_may_leave_by_now() {
    let mut host = Host::new(paced());
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    host.call(&a, 40_000);
    assert_eq!(data_bytes(&host.sent()), 8 * FULL);
    // No timer was looked at: a packet for somebody else comes and the turn ends by sending.
    host.now_ns += 100_000;
    host.take(&b, b.data(2, 0..10, 10, 10));
    assert_eq!(data_bytes(&host.sent()), 8 * FULL);
}
