//! A handler runs at most once for a request.

use std::collections::BTreeMap;
use std::time::Duration;

use homa_core::{Config, FailReason};
use homa_virtual::{CallEnd, Dice, Response};
use homa_wire::{Body, Reason};

use crate::script::{HOST, Remote, Script, Sent, client_id};
use crate::{MS, US, between, percent};

/// A request that is over at the host: who asked, when it ended or a copy came last, and the number
/// of the call.
type Finished = BTreeMap<(usize, u64), (u64, usize)>;

fn finish(script: &mut Script, finished: &mut Finished, from: &Remote, id: u64) {
    let response = match percent(&mut script.dice, 25) {
        true => Response::Rejected,
        false => Response::After { service_ns: 0 },
    };
    let (call, _) = script.ask_for(from, id, 100, 100, response);
    if script.ran(call) == 0 {
        return;
    }
    script.ack(from, id);
    script.react();
    finished.insert((from.index, id), (script.now_ns(), call));
}

/// A copy of a finished request.
fn copy(script: &mut Script, from: &Remote, id: u64, call: usize) {
    let pattern = script.request_of(call);
    script.data(from, id, pattern, 0..pattern.length());
    script.react();
}

/// Whatever ids clients choose, in whatever order they ask, however many of them the host forgets
/// meanwhile: no copy of a request within `recovery.finished_memory` of its end, or of the copy
/// before, has the handler run again.
pub(super) fn late_duplicates_are_recognised(dice: &mut Dice) -> Script {
    let memory_ms = between(dice, 200, 3_000);
    let config = Config::default().with(|config| {
        config.recovery.finished_memory = Duration::from_millis(memory_ms);
        config.peers.max = between(dice, 1, 4) as u32;
        config.fixed.peer_idle_min = Duration::from_millis(between(dice, 1, 300));
        config.fixed.peer_idle_max = Duration::from_millis(between(dice, 300, 3_000));
    });
    let mut script = Script::new(dice, config);
    let remotes = script.remotes(3);
    let first: Vec<u64> = (0..3).map(|_| client_id(dice)).collect();
    let mut finished = Finished::new();
    for _ in 0..between(dice, 20, 60) {
        let who = dice.below(3) as usize;
        let from = remotes[who];
        let id = first[who].wrapping_add(2 * dice.below(8));
        match finished.get(&(from.index, id)).copied() {
            None => finish(&mut script, &mut finished, &from, id),
            Some((at_ns, call)) if script.now_ns() < at_ns + memory_ms * MS - MS => {
                copy(&mut script, &from, id, call);
                finished.insert((from.index, id), (script.now_ns(), call));
            }
            // It may be forgotten.
            Some(_) => {}
        }
        if percent(dice, 10) {
            // One that is not over for a while, and not acknowledged: its client is not forgotten.
            let service_ns = between(dice, 1, 900) * MS;
            let id = first[who].wrapping_add(1_000 + 2 * dice.below(1_000));
            script.ask_for(&from, id, 100, 100, Response::After { service_ns });
        }
        if percent(dice, 60) {
            script.pass_ms(dice.below(memory_ms * 3 / 4));
        }
    }
    script
}

/// Copies that lie unread while the host is stopped are as young as when they came.
pub(super) fn a_pause_makes_no_duplicate_too_old(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let from = script.remote(1);
    let first = client_id(dice);
    let mut finished = Finished::new();
    for round in 0..between(dice, 1, 4) {
        if percent(dice, 50) {
            script.pass_ms(between(dice, 1, 6_000));
        }
        // An idle host that was stopped, and asked right after.
        if percent(dice, 50) {
            let until_ns = script.now_ns() + between(dice, 100, 20_000) * MS;
            script.world.pause(HOST, until_ns);
            script.pass(until_ns - script.now_ns());
        }
        let id = first.wrapping_add(100 * round).wrapping_add(2 * dice.below(20));
        finish(&mut script, &mut finished, &from, id);
        script.pass_ms(dice.below(1_800));
        let Some((_, call)) = finished.get(&(from.index, id)).copied() else { continue };
        let until_ns = script.now_ns() + between(dice, 1, 20_000) * MS;
        script.world.pause(HOST, until_ns);
        let pattern = script.request_of(call);
        script.data(&from, id, pattern, 0..100);
        script.pass(until_ns - script.now_ns() + MS);
        assert_eq!(script.ran(call), 1, "the copy lay unread");
    }
    script
}

fn told(sent: &[Sent], why: Reason) -> bool {
    sent.iter().any(|sent| sent.unknown() == Some(why))
}

/// No more requests are remembered than may be: others are refused, which their clients are told,
/// and taken again when older ones may be forgotten.
pub(super) fn what_is_remembered_is_limited(dice: &mut Dice) -> Script {
    let finished_max = between(dice, 16, 60);
    let config = Config::default().with(|config| config.fixed.finished_max = finished_max as u32);
    let mut script = Script::new(dice, config);
    let from = script.remote(1);
    let (first, mut taken) = (client_id(dice), 0);
    for number in 0..finished_max + between(dice, 1, 40) {
        let id = first.wrapping_add(2 * number);
        let service_ns = if percent(dice, 30) { 500 * MS } else { 0 };
        let (call, sent) = script.ask_for(&from, id, 100, 100, Response::After { service_ns });
        if number < finished_max {
            assert!(!told(&sent, Reason::Overloaded), "there is room for {finished_max}");
            taken += 1;
        } else {
            assert!(told(&sent, Reason::Overloaded), "there is no room for {number}");
            assert_eq!(script.ran(call), 0, "it was refused");
        }
        if service_ns == 0 {
            script.ack(&from, id);
        }
        script.react();
    }
    assert_eq!(taken, finished_max);
    script.pass_ms(500);
    (0..finished_max).for_each(|number| script.ack(&from, first.wrapping_add(2 * number)));
    script.pass_ms(3_000);
    script.look();
    let (call, _) = script.ask(&from, first.wrapping_add(9_000), 100, 100);
    assert_eq!(script.ran(call), 1, "the others are forgotten");
    script.ack(&from, first.wrapping_add(9_000));
    script
}

/// Whoever asks about a request is told whether it was ever seen.
pub(super) fn what_is_over_was_seen(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let from = script.remote(1);
    let id = client_id(dice);
    let (_, _) = script.ask(&from, id, 100, 100);
    script.ack(&from, id);
    script.pass_ms(dice.below(1_900));
    for (asked, why) in [(id, Reason::Finished), (id ^ 0x40, Reason::NeverSeen)] {
        match percent(dice, 50) {
            true => script.resend_all(&from, asked),
            false => script.control(&from, asked, Body::NeedAck, Reason::Probe, 0),
        }
        let sent = script.react();
        assert!(told(&sent, why), "{why}: {sent:?}");
    }
    // What is old is forgotten, without anybody asking.
    script.pass_ms(between(dice, 3_000, 9_000));
    script.look();
    script.resend_all(&from, id);
    let sent = script.react();
    assert!(told(&sent, Reason::NeverSeen), "nobody remembers it: {sent:?}");
    script
}

/// A request for another incarnation of the server is not taken, and says how old this one is.
pub(super) fn another_incarnation_of_the_server(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let from = script.remote(1);
    let former = Remote { echo: from.echo ^ between(dice, 1, 0xFFFF) as u32, ..from };
    let (call, sent) = script.ask(&former, client_id(dice), 100, 100);
    assert!(told(&sent, Reason::Restarted), "{sent:?}");
    assert_eq!(script.ran(call), 0);
    script
}

/// The packets of a request among those sent.
fn copies(sent: &[Sent], id: u64) -> usize {
    sent.iter().filter(|sent| sent.data().is_some() && sent.id() | 1 == id | 1).count()
}

/// A call whose request its server may have is not sent again at a word; one that it cannot have
/// is, once.
pub(super) fn what_may_be_in_service_is_not_repeated(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let server = script.remote(1);
    // The first to a server whose incarnation is not known: it began before, or after.
    let (call, id, sent) = script.called(&server, 100, 100);
    assert_eq!(copies(&sent, id), 1);
    script.pass_ms(between(dice, 1, 400));
    let lived_before = percent(dice, 50);
    let age_us = if lived_before { 10_000_000 } else { 50 };
    script.unknown(&server, id, Reason::NeverSeen, age_us);
    script.unknown(&server, id, Reason::NeverSeen, age_us);
    let sent = script.react();
    if lived_before {
        assert_eq!(copies(&sent, id), 1, "two answers, one repetition");
        assert_eq!(script.stats().restarts, 1);
        script.reply(&server, id, call);
        script.react();
        assert_eq!(script.end(call), Some(CallEnd::Answered));
    } else {
        assert_eq!(copies(&sent, id), 0, "a former incarnation may have executed it");
        assert_eq!(script.end(call), Some(CallEnd::Failed(FailReason::Restarted)));
    }
    // One that is in service, as the server says.
    let (call, id, _) = script.called(&server, 100, 100);
    script.busy(&server, id);
    script.pass_ms(between(dice, 0, 100));
    script.unknown(&server, id, Reason::NeverSeen, 10_000_000);
    let sent = script.react();
    assert_eq!((copies(&sent, id), script.end(call)), (0, None), "one word is not believed");
    for _ in 0..3 {
        script.pass_ms(5);
        script.unknown(&server, id, Reason::NeverSeen, 10_000_000);
    }
    script.react();
    assert_eq!(script.end(call), Some(CallEnd::Failed(FailReason::Forgotten)), "three are");
    // One that is too old to be recognised, should the first copy come after all.
    let (call, id, _) = script.called(&server, 100, 100);
    let mut sent = Vec::new();
    let silent_ms = between(dice, 1_005, 1_500);
    for _ in 0..silent_ms / 5 {
        // Others keep it from being given up.
        let (other, other_id, _) = script.called(&server, 100, 100);
        script.reply(&server, other_id, other);
        script.busy(&server, id);
        sent.extend(script.pass_ms(5));
    }
    script.unknown(&server, id, Reason::NeverSeen, 10_000_000);
    sent.extend(script.react());
    assert_eq!(copies(&sent, id), 0);
    script.unknown(&server, id, Reason::Finished, 0);
    script.react();
    assert!(script.end(call).is_some());
    // A server that tells of a new incarnation, in which it grants what it has begun to get: that
    // incarnation has it.
    let (call, id, sent) = script.called(&server, 60_000, 100);
    assert!(copies(&sent, id) > 20);
    let restarted = server.restarted();
    script.grant(&restarted, id, 60_000, 0);
    script.react();
    script.unknown(&restarted, id, Reason::NeverSeen, 1_000);
    script.pass(100 * US);
    assert_ne!(script.end(call), Some(CallEnd::Failed(FailReason::Restarted)), "it has it");
    script.unknown(&restarted, id, Reason::Finished, 0);
    script.react();
    script
}
