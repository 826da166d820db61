//! What a client does about its calls, and how each of them ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use homa_core::{Config, FailReason};
use homa_virtual::{CallEnd, Dice, MtuChange, RefusalRates, Response};
use homa_wire::{RESEND_ALL, Reason};

use crate::script::{FULL, HOST, Remote, Script, Sent, client_id};
use crate::{MS, SECOND, US, between, percent, pick};

/// Credit that an engine takes for a packet besides its payload.
const PER_PACKET: u64 = 256;

/// What is on its way to a server without a reaction, by id.
#[derive(Default)]
struct InFlight {
    charged: BTreeMap<u64, u64>,
    /// The probe that waits for its answer, and what was on its way before it.
    question: Option<(u64, BTreeMap<u64, u64>)>,
    /// Bytes sent of each call.
    sent: BTreeMap<u64, u32>,
    asked: u32,
}

impl InFlight {
    fn note(&mut self, sent: &[Sent], unscheduled: u32) {
        for sent in sent {
            if let Some(range) = sent.range() {
                let so_far = self.sent.entry(sent.id()).or_default();
                *so_far = range.end.max(*so_far);
                if range.start < unscheduled {
                    let cost = u64::from(range.end - range.start) + PER_PACKET;
                    *self.charged.entry(sent.id()).or_default() += cost;
                    // A message that goes on takes all that is charged for it beyond the probe.
                    if let Some((_, before)) = &mut self.question {
                        before.remove(&sent.id());
                    }
                }
            } else if sent.is_need_ack() {
                self.asked += 1;
                if self.question.as_ref().is_none_or(|(id, _)| *id != sent.id()) {
                    self.question = Some((sent.id(), self.charged.clone()));
                }
            }
        }
    }

    fn bytes(&self) -> u64 {
        self.charged.values().sum()
    }

    /// The server said something about a call.
    fn reacted(&mut self, id: u64) {
        self.charged.remove(&id);
        if let Some((_, before)) = self.question.take_if(|(asked, _)| *asked == id) {
            for (id, bytes) in before {
                if let Some(left) = self.charged.get_mut(&id) {
                    *left = left.saturating_sub(bytes);
                }
            }
        }
        if let Some((_, before)) = &mut self.question {
            before.remove(&id);
        }
    }
}

/// No more unscheduled bytes are on their way to a server than may be, and as soon as it reacts
/// others follow; if it says nothing it is asked.
pub(super) fn room_at_a_server(dice: &mut Dice) -> Script {
    let most = between(dice, 4_000, 60_000);
    let unscheduled = between(dice, 1_000, 50_000) as u32;
    let config = Config::default().with(|config| {
        config.unscheduled.in_flight_max_bytes = most as u32;
        config.unscheduled.bytes = unscheduled;
        config.unscheduled.remainder_bytes = 0;
    });
    let mut script = Script::new(dice, config);
    let server = script.remote(1);
    let longest = pick(dice, &[100, 2_000, 2_000, 30_000, 70_000]);
    let mut calls = BTreeMap::new();
    let mut flight = InFlight::default();
    for _ in 0..between(dice, 10, 60) {
        let length = between(dice, 2, longest) as u32;
        let call = script.call(&server, length, 3_000);
        calls.insert(call, length);
    }
    flight.note(&script.react(), unscheduled);
    let mut ids: BTreeMap<u64, usize> =
        calls.keys().filter_map(|call| Some((script.id_of(*call)?, *call))).collect();
    assert_eq!(ids.len(), calls.len());
    while !ids.is_empty() {
        let one_packet = u64::from(FULL) + PER_PACKET;
        let bytes = flight.bytes();
        assert!(bytes <= most.max(one_packet), "{bytes} B on their way, {most} may be");
        let waits = |(id, call): (&u64, &usize)| {
            flight.sent.get(id).copied().unwrap_or(0) < calls[call].min(unscheduled)
        };
        let blocked = ids.iter().any(waits);
        assert!(!blocked || bytes + one_packet > most, "{bytes} B of {most}: others may go");
        if blocked && percent(dice, 25) {
            // It says nothing until it is asked, or answers that it has the request.
            let before = flight.asked;
            flight.note(&script.pass(2 * MS), unscheduled);
            assert!(flight.question.is_some(), "{before}: it is asked");
            if let (Some((id, _)), true) = (flight.question.clone(), percent(dice, 80)) {
                script.busy(&server, id | 1);
                flight.reacted(id);
                flight.note(&script.react(), unscheduled);
                continue;
            }
        }
        let sent: Vec<u64> =
            ids.keys().filter(|id| flight.sent.contains_key(id)).copied().collect();
        let id = sent[dice.below(sent.len() as u64) as usize];
        let (call, upto) = (ids[&id], flight.sent[&id]);
        let complete = upto == calls[&call];
        match dice.below(4) {
            0 if complete => {
                script.reply(&server, id | 1, call);
                ids.remove(&id);
            }
            1 if complete => {
                let response = script.response_of(call);
                script.data(&server, id | 1, response, 0..1_000);
            }
            2 if upto >= unscheduled => script.grant(&server, id | 1, calls[&call], upto),
            3 if complete => {
                script.unknown(&server, id | 1, Reason::Overloaded, 0);
                ids.remove(&id);
            }
            _ if !complete && upto >= unscheduled => {
                script.grant(&server, id | 1, calls[&call], upto);
            }
            _ => script.busy(&server, id | 1),
        }
        flight.reacted(id);
        flight.note(&script.react(), unscheduled);
    }
    script
}

/// A response is sent as its receiver says: as far as it is granted, nothing that it has, what it
/// misses in the same packets as before, and not the same twice in a short time.
pub(super) fn what_is_missed_is_sent_again(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let client = script.remote(1);
    let (id, length) = (client_id(dice), between(dice, 50_000, 300_000) as u32);
    let (_, sent) = script.ask(&client, id, 100, length);
    let ends: BTreeSet<u32> = sent.iter().filter_map(Sent::range).map(|it| it.end).collect();
    assert_eq!(ends.last(), Some(&40_000), "what needs no grant");
    let (mut released, mut granted) = (0_u32, 40_000_u32);
    let mut all_ends = ends;
    all_ends.insert(0);
    let response = script.response_of(script.world.ledger.calls.len() - 1);
    let check = |sent: &[Sent]| {
        for sent in sent {
            let Some(range) = sent.range() else { continue };
            let right: Vec<u8> =
                response.range(range.start, range.end).iter().flat_map(|it| it.to_vec()).collect();
            assert!(sent.payload == right, "wrong bytes in {range:?}");
        }
    };
    for _ in 0..between(dice, 4, 20) {
        match dice.below(4) {
            0 => {
                // The later of two GRANTs overtakes the earlier one.
                let more = between(dice, 1, 40_000) as u32;
                let received = between(dice, u64::from(released), u64::from(granted)) as u32;
                let upto = length.min(granted + more);
                script.grant(&client, id, upto, received);
                script.grant(&client, id, upto - (upto - granted) / 2, released);
                let sent = script.react();
                check(&sent);
                let new: u32 =
                    sent.iter().filter_map(Sent::range).map(|it| it.end - it.start).sum();
                assert_eq!(new, upto - granted, "what was granted");
                all_ends.extend(sent.iter().filter_map(Sent::range).map(|it| it.end));
                (released, granted) = (received, upto);
            }
            1 => {
                // It asks, and says in the same moment that it has some of it.
                let start = between(dice, 0, u64::from(granted) - 1) as u32;
                let end = granted.min(start + between(dice, 1, 10_000) as u32);
                script.resend(&client, id, start..end);
                let received = between(dice, u64::from(released), u64::from(granted)) as u32;
                let moved = percent(dice, 50);
                if moved {
                    script.grant(&client, id, granted, received);
                    released = received;
                }
                let sent = script.react();
                check(&sent);
                let ranges: Vec<_> = sent.iter().filter_map(Sent::range).collect();
                let least = start.max(released);
                assert!(ranges.iter().all(|range| range.start >= released), "it has {released}");
                let came = |at: u32| ranges.iter().any(|range| range.contains(&at));
                assert!(
                    least >= end || (came(least) && came(end - 1)),
                    "{least} to {end}: {ranges:?}"
                );
                for range in &ranges {
                    let smaller = script.stats().mtu_black_holes > 0;
                    let whole = smaller
                        || moved
                        || all_ends.contains(&range.start)
                        || range.start == released;
                    // Behind that segments end where grants did.
                    assert!(
                        whole || range.end > 40_000,
                        "{range:?} was not sent like this: asked {start} to {end}, {released} of {granted} released"
                    );
                }
                // The same packet again.
                script.resend(&client, id, start..end);
                let again = script.react();
                assert!(again.iter().all(|sent| sent.data().is_none()), "twice: {again:?}");
                script.pass_ms(5);
            }
            2 => {
                script.resend(&client, id, granted..granted + 1);
                let sent = script.react();
                check(&sent);
                if granted < length {
                    assert!(sent.iter().any(|sent| sent.data().is_some()), "it was a lost GRANT");
                    let end = sent.iter().filter_map(Sent::range).map(|it| it.end).max();
                    granted = end.unwrap_or(granted);
                    all_ends.insert(granted);
                } else {
                    assert!(sent.iter().any(|sent| sent.unknown() == Some(Reason::Finished)));
                    break;
                }
            }
            _ => {
                let beyond = length + dice.below(1_000) as u32;
                script.resend(&client, id, beyond..beyond + 100);
                let sent = script.react();
                let said = sent.iter().any(|sent| sent.unknown() == Some(Reason::Finished));
                assert!(said, "there are no such bytes: {sent:?}");
            }
        }
        script.pass_ms(5);
    }
    script.ack(&client, id);
    script.react();
    script
}

/// All that was sent is sent again once, then a packet at a time; and to a host no more in a resend
/// interval than may be granted ahead.
pub(super) fn everything_is_sent_again_once(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let client = script.remote(1);
    let count = between(dice, 12, 20);
    let first = client_id(dice);
    let ids: Vec<u64> = (0..count).map(|number| first.wrapping_add(2 * number)).collect();
    let mut sent = Vec::new();
    for id in &ids {
        sent.extend(script.ask(&client, *id, 100, 40_000).1);
        script.busy(&client, *id);
        sent.extend(script.react());
    }
    sent.extend(script.pass_ms(3));
    let bytes = |sent: &[Sent]| {
        sent.iter()
            .filter_map(Sent::range)
            .map(|range| u64::from(range.end - range.start))
            .sum::<u64>()
    };
    assert!(bytes(&sent) >= count * 40_000, "all of them left");
    for round in 0..3 {
        let began_ns = script.now_ns();
        ids.iter().for_each(|id| script.resend_all(&client, *id));
        let copies = bytes(&script.pass(3 * MS));
        assert!(copies > 0, "round {round}");
        let most = 400_000 + count * u64::from(FULL);
        assert!(copies <= most, "{copies} B again at a time");
        script.pass(began_ns + 6 * MS - script.now_ns());
    }
    let one = ids[0];
    script.resend_all(&client, one);
    let again = bytes(&script.pass(3 * MS));
    assert!(again <= 2 * u64::from(FULL), "{again} B again and again");
    ids.iter().for_each(|id| script.ack(&client, *id));
    script.react();
    script
}

/// Calls to a server that says it has them wait for as long as it answers probes, which are few;
/// each is asked about in turn; and they end soon when it falls silent, however many there are.
pub(super) fn calls_wait_for_who_answers(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let server = script.remote(1);
    let many = pick(dice, &[2, 3, 5, 8, 1_500]);
    let calls: Vec<usize> = (0..many).map(|_| script.call(&server, 100, 100)).collect();
    let ids: BTreeSet<u64> = {
        script.react();
        calls.iter().filter_map(|call| script.id_of(*call)).collect()
    };
    // Whatever arrives is said to be in service.
    let mut confirmed = BTreeSet::new();
    for round in 0..400 {
        let answer = |script: &mut Script, sent: &[Sent], confirmed: &mut BTreeSet<u64>| {
            for sent in sent.iter().filter(|sent| sent.data().is_some() || sent.is_need_ack()) {
                if confirmed.insert(sent.id()) || sent.is_need_ack() {
                    script.busy(&server, sent.id() | 1);
                }
            }
        };
        if round == 0 {
            for id in ids.iter().take(200) {
                confirmed.insert(*id);
                script.busy(&server, *id | 1);
            }
        }
        let sent = script.pass(100 * US);
        answer(&mut script, &sent, &mut confirmed);
        if round > 20 && confirmed.len() == ids.len() {
            break;
        }
    }
    let wait_s = between(dice, 12, 25);
    let (mut asked, mut about) = (0, BTreeSet::new());
    for _ in 0..wait_s * 20 {
        for sent in script.pass_ms(50) {
            assert!(many > 8 || sent.resend().is_none(), "it has said that it has the request");
            if sent.is_need_ack() {
                asked += 1;
                about.insert(sent.id());
                script.busy(&server, sent.id() | 1);
            }
        }
    }
    let waits = calls.iter().all(|call| script.end(*call).is_none());
    assert!(many > 8 || waits, "it says that they are in service");
    assert!(asked <= 5 * wait_s + 60, "{asked} RESENDs in {wait_s} s");
    assert!(
        about.len() as u64 >= (many as u64).min(8),
        "{} of {many} are asked about",
        about.len()
    );
    script.pass_ms(2_200);
    for call in &calls {
        assert_eq!(script.end(*call), Some(CallEnd::Failed(FailReason::Timeout)), "it is silent");
    }
    script
}

/// A server that speaks of other things is borne with for a while, but not for ever.
pub(super) fn whoever_does_not_answer_is_given_up(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let server = script.remote(1);
    let (call, id, _) = script.called(&server, 100, 100);
    script.busy(&server, id);
    script.react();
    let mut asked_ns = None;
    let first = client_id(dice);
    for number in 0..400_u64 {
        for sent in script.pass_ms(25) {
            if sent.is_need_ack() && asked_ns.is_none() {
                asked_ns = Some(script.now_ns());
            }
        }
        // Requests of its own.
        let id = first.wrapping_add(2 * number);
        script.ask(&server, id, 100, 100);
        script.ack(&server, id);
        let silent_ns = asked_ns.map_or(0, |since| script.now_ns() - since);
        if silent_ns < 4_900 * MS {
            assert_eq!(script.end(call), None, "it lives: {silent_ns} ns");
        }
        if silent_ns > 5_200 * MS {
            break;
        }
    }
    assert_eq!(script.end(call), Some(CallEnd::Failed(FailReason::Timeout)));
    script
}

/// A server is told when nobody waits any more: for a deadline, by the caller's wish, and when it
/// is given up.
pub(super) fn servers_are_told_of_cancelled_calls(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let (server, silent) = (script.remote(1), script.remote(2));
    let cancelled = |sent: &[Sent], id: u64| {
        let said = |sent: &&Sent| sent.unknown() == Some(Reason::Cancelled) && sent.id() == id & !1;
        sent.iter().filter(said).count()
    };
    let mut after_ns = between(dice, 1, 300) * MS;
    for how in 0..3 {
        let server = if how == 2 { silent } else { server };
        let call = script.call_with(&server, 100, 10_000, |plan| match how {
            0 => plan.deadline_ns = Some(after_ns),
            1 => plan.abort_after_ns = Some(after_ns),
            _ => {}
        });
        script.react();
        let id = script.id_of(call).expect("it is under way") | 1;
        match dice.below(3) {
            0 if how < 2 => script.busy(&server, id),
            1 if how < 2 => {
                let response = script.response_of(call);
                script.data(&server, id, response, 0..FULL);
            }
            _ => {}
        }
        if how == 2 {
            after_ns = 3_500 * MS;
        }
        let sent = script.pass(after_ns + 2 * MS);
        assert!(script.end(call).is_some(), "it is over");
        assert_eq!(cancelled(&sent, id), 1, "the server need not go on");
    }
    // And heeds it when it is one itself.
    let id = client_id(dice);
    let service = Response::After { service_ns: SECOND };
    let whole = percent(dice, 50);
    let plan = script.plan(&server, 3_000, 100, service);
    let pattern = script.request_of(plan);
    script.data(&server, id, pattern, 0..if whole { 3_000 } else { 1_000 });
    script.react();
    assert!(script.rpc(id | 1).is_some());
    script.unknown(&server, id, Reason::Cancelled, 0);
    let sent = script.pass_ms(1_100);
    assert!(sent.iter().all(|sent| sent.data().is_none()), "nobody waits for the answer");
    assert!(script.rpc(id | 1).is_none());
    script
}

/// A client that stops in the middle of its request is asked, given up, and told so.
pub(super) fn requests_that_stop_are_given_up(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let client = script.remote(1);
    let call = script.plan(&client, 30_000, 100, Response::After { service_ns: 0 });
    let (id, pattern) = (client_id(dice), script.request_of(call));
    let mut upto = between(dice, 1_500, 10_000) as u32;
    script.data(&client, id, pattern, 0..upto);
    for _ in 0..between(dice, 1, 4) {
        // Asked less and less often, and soon again when it goes on.
        let sent = script.pass_ms(between(dice, 40, 200));
        let asked: Vec<u64> =
            sent.iter().filter(|sent| sent.resend().is_some()).map(|sent| sent.at_ns).collect();
        assert!(asked.len() >= 2, "{asked:?}");
        let more = upto + between(dice, 100, 3_000) as u32;
        script.data(&client, id, pattern, upto..more);
        upto = more;
        let began_ns = script.now_ns();
        let sent = script.pass_ms(8);
        let first = sent.iter().find(|sent| sent.resend().is_some()).map(|sent| sent.at_ns);
        let soon = first.is_some_and(|at_ns| at_ns - began_ns <= 6 * MS);
        assert!(soon, "asked at {first:?} after {began_ns}");
    }
    let sent = script.pass_ms(1_300);
    assert!(sent.iter().any(|sent| sent.unknown() == Some(Reason::Finished)), "it is told");
    assert!(script.rpc(id | 1).is_none());
    script
}

/// A server in a new incarnation has lost its calls: one word of it is enough, and they are sent
/// again only if the former incarnation cannot have had them.
pub(super) fn a_server_that_starts_anew_is_believed(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let server = script.remote(1);
    let (call, id, _) = script.called(&server, 100, 100);
    script.reply(&server, id, call);
    script.react();
    let restarted = server.restarted();
    let (call, id, _) = script.called(&server, 100, 100);
    let in_service = percent(dice, 50);
    if in_service {
        script.busy(&server, id);
    }
    script.pass_ms(between(dice, 5, 50));
    let (why, age_us) = match dice.below(3) {
        0 if !in_service => (Reason::Restarted, 10_000_000),
        1 => (Reason::Restarted, 1_000),
        _ => (Reason::NeverSeen, 1_000),
    };
    script.unknown(&restarted, id, why, age_us);
    let sent = script.react();
    let copies = sent.iter().filter(|sent| sent.data().is_some()).count();
    if age_us == 1_000 {
        assert_eq!(copies, 0, "the former incarnation may have executed it");
        assert_eq!(script.end(call), Some(CallEnd::Failed(FailReason::Restarted)));
    } else {
        assert_eq!(copies, 1, "it was not there when it was sent");
        script.reply(&restarted, id, call);
        script.react();
        assert_eq!(script.end(call), Some(CallEnd::Answered));
    }
    script
}

fn asked(sent: &[Sent]) -> BTreeSet<u64> {
    sent.iter().filter(|sent| sent.is_need_ack()).map(Sent::id).collect()
}

/// Calls that a server says it has.
fn in_service(script: &mut Script, server: &Remote, count: u64) -> Vec<u64> {
    let called = |script: &mut Script| {
        let (_, id, _) = script.called(server, 100, 100);
        script.busy(server, id);
        script.react();
        id & !1
    };
    (0..count).map(|_| called(script)).collect()
}

/// When a server has lost a call, or this host was stopped for long, all calls are asked about
/// without a pause.
pub(super) fn all_calls_are_checked_when_one_is_lost(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let server = script.remote(1);
    let count = between(dice, 20, 120);
    let ids = in_service(&mut script, &server, count);
    if percent(dice, 50) {
        // The pauses between probes have become long.
        for _ in 0..60 {
            for sent in script.pass_ms(100) {
                if sent.is_need_ack() {
                    script.busy(&server, sent.id() | 1);
                }
            }
        }
    }
    let paused = percent(dice, 50);
    if paused {
        let until_ns = script.now_ns() + between(dice, 6, 20) * SECOND;
        script.world.pause(HOST, until_ns);
        script.pass(until_ns - script.now_ns() - 1);
    } else {
        script.unknown(&server, ids[0] | 1, Reason::Finished, 0);
    }
    let (mut about, mut at_once) = (BTreeSet::new(), 0);
    for _ in 0..600 {
        let sent = script.pass(500 * US);
        at_once = at_once.max(asked(&sent).len() as u64);
        for id in asked(&sent) {
            about.insert(id);
            script.busy(&server, id | 1);
        }
    }
    assert!(at_once > 1, "one at a time");
    assert!(about.len() + 1 >= ids.len().min(32), "{} of {count} in 300 ms", about.len());
    script
}

/// Nothing is asked for, or given up, while packets wait unread.
pub(super) fn silence_is_judged_when_all_is_read(dice: &mut Dice) -> Script {
    let mut script = Script::with_plan(dice, |plan| {
        plan.config.recovery.resend_interval = Duration::from_millis(3)
    });
    let client = script.remote(1);
    let call = script.plan(&client, 10_000, 100, Response::After { service_ns: 0 });
    let (id, pattern) = (client_id(dice), script.request_of(call));
    script.data(&client, id, pattern, 0..2_000);
    script.react();
    let until_ns = script.now_ns() + between(dice, 4, 18) * MS;
    script.world.pause(HOST, until_ns);
    for _ in 0..between(dice, 150, 400) {
        let header = script.data_header(&client, client_id(dice) | 1, 100, 0);
        script.header(&client.unvalidated(), &header, &[]);
    }
    script.data(&client, id, pattern, 2_000..10_000);
    let sent = script.pass(until_ns - script.now_ns() + MS);
    assert!(sent.iter().all(|sent| sent.resend().is_none()), "it had come");
    assert_eq!(script.ran(call), 1);
    script.ack(&client, id);
    script
}

/// A host that always gets its turns late gives up all the same.
pub(super) fn always_late_is_no_excuse(dice: &mut Dice) -> Script {
    let gap_ns = between(dice, 25, 60) * MS;
    let mut script = Script::with_plan(dice, |plan| plan.turn_gap_ns = gap_ns);
    let server = script.remote(1);
    let call = script.call(&server, 100, 100);
    let mut asked = 0;
    for _ in 0..400 {
        // Something comes all the time.
        script.look();
        asked += script.pass(gap_ns).iter().filter(|sent| sent.resend().is_some()).count();
        if script.end(call).is_some() {
            break;
        }
    }
    assert!(asked > 0 && script.now_ns() < 14 * SECOND, "at {} ns", script.now_ns());
    assert_eq!(script.end(call), Some(CallEnd::Failed(FailReason::Timeout)));
    script
}

/// Loss of full packets is mere loss as long as others of them arrive.
pub(super) fn a_path_that_carries_full_packets_is_no_black_hole(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let client = script.remote(1);
    let length = 400_000;
    let id = client_id(dice);
    script.ask(&client, id, 100, length);
    let (mut upto, mut received) = (40_000, 0);
    for _ in 0..between(dice, 3, 8) {
        // All behind some point got lost, and then it came.
        script.pass_ms(5);
        script.resend(&client, id, received..upto);
        script.react();
        received = upto;
        upto += 10_000;
        script.grant(&client, id, upto, received);
        let sent = script.react();
        let longest = sent.iter().filter_map(Sent::range).map(|it| it.end - it.start).max();
        assert_eq!(longest, Some(FULL), "full packets got through");
    }
    assert_eq!(script.stats().mtu_black_holes, 0);
    script.ack(&client, id);
    script
}

/// Responses wait for room at their client: they are kept while it takes others, and given up when
/// it only speaks.
pub(super) fn responses_wait_for_who_takes_them(dice: &mut Dice) -> Script {
    let config = Config::default().with(|config| config.unscheduled.in_flight_max_bytes = 3_000);
    let mut script = Script::new(dice, config);
    let client = script.remote(1);
    let first = client_id(dice);
    let count = between(dice, 8, 14);
    let ids: BTreeSet<u64> = (0..count).map(|number| first.wrapping_add(2 * number)).collect();
    let mut sent = Vec::new();
    for id in &ids {
        sent.extend(script.ask(&client, *id, 100, 2_000).1);
    }
    let takes = percent(dice, 60);
    let mut taken = BTreeSet::new();
    for number in 0..count + 3 {
        let came: BTreeSet<u64> =
            sent.iter().filter(|sent| sent.data().is_some()).map(|sent| sent.id() & !1).collect();
        sent = Vec::new();
        // Within the time that responses are kept.
        for _ in 0..4 {
            sent.extend(script.pass_ms(300));
            let other = first.wrapping_add(10_000 + 20 * number + 2 * dice.below(8));
            script.unknown(&client, other, Reason::Cancelled, 0);
        }
        if takes {
            for id in came {
                script.ack(&client, id);
                taken.insert(id);
            }
        }
        sent.extend(script.react());
    }
    let left = script.rpcs().iter().filter(|rpc| ids.contains(&(rpc.id & !1))).count();
    match takes {
        true => assert_eq!(taken, ids, "one after the other is sent"),
        false => assert_eq!(left, 0, "it took nothing for {} ms", 1_200 * (count + 3)),
    }
    script
}

/// What only asks for nothing keeps no response.
pub(super) fn resends_for_nothing_keep_nothing(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let client = script.remote(1);
    let (id, length) = (client_id(dice), between(dice, 1, 35_000) as u32);
    script.ask(&client, id, 100, length);
    let pause_ms = between(dice, 20, 400);
    // What it has is not there any more.
    let has_some = length > 4 * FULL && percent(dice, 50);
    if has_some {
        script.grant(&client, id, length, length / 2);
    }
    for _ in 0..12_000 / pause_ms {
        let start = if has_some && percent(dice, 50) { 0 } else { length };
        script.resend(&client, id, start..start + 10);
        script.pass_ms(pause_ms);
    }
    assert!(script.rpc(id | 1).is_none(), "nobody wants it");
    script
}

/// A call that was in service and is granted after all has its response asked for.
pub(super) fn a_granted_call_is_watched_again(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let server = script.remote(1);
    let length = between(dice, 45_000, 90_000) as u32;
    let (call, id, _) = script.called(&server, length, 3_000);
    script.busy(&server, id);
    script.pass(between(dice, 20, 2_000) * US);
    script.grant(&server, id, length, 0);
    let sent = script.pass_ms(50);
    assert!(sent.iter().any(|sent| sent.range().is_some_and(|range| range.end == length)));
    let all = |sent: &Sent| sent.resend().is_some_and(|resend| resend.length == RESEND_ALL);
    assert!(sent.iter().any(all), "the response is asked for");
    // A response of which the rest does not come is waited for while its server says that it will.
    let response = script.response_of(call);
    script.data(&server, id, response, 0..1_000);
    let mut asked = 0;
    for _ in 0..between(dice, 30, 80) {
        for sent in script.pass_ms(100) {
            if sent.resend().is_some() {
                asked += 1;
                script.busy(&server, id);
            }
        }
        assert_eq!(script.end(call), None, "it said that it lives");
    }
    assert!(asked > 5);
    script.data(&server, id, response, 1_000..3_000);
    script.react();
    assert_eq!(script.end(call), Some(CallEnd::Answered));
    script
}

/// Whoever asks for more of a response than there is yet is told to wait.
pub(super) fn who_has_nothing_yet_says_so(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let client = script.remote(1);
    let (id, piece_bytes) = (client_id(dice), between(dice, 500, 3_000) as u32);
    let response = Response::InPieces { service_ns: 20 * MS, piece_bytes };
    script.ask_for(&client, id, 100, 4 * piece_bytes, response);
    let sent = script.pass_ms(between(dice, 21, 35));
    let upto = sent.iter().filter_map(Sent::range).map(|range| range.end).max();
    let upto = upto.expect("the first piece");
    assert!(upto < 4 * piece_bytes);
    script.resend(&client, id, upto..upto + 100);
    let sent = script.react();
    assert!(sent.iter().any(Sent::is_busy), "{sent:?}");
    let sent = script.pass_ms(100);
    let all = sent.iter().filter_map(Sent::range).map(|range| range.end).max();
    assert_eq!(all, Some(4 * piece_bytes), "and the rest follows");
    script.ack(&client, id);
    script
}

/// A driver without room is tried again after a while, the longer the more often it refuses, and
/// what it refused leaves as soon as there is room; the clock of the link does not count it.
pub(super) fn a_driver_without_room_is_left_alone(dice: &mut Dice) -> Script {
    let mbps = between(dice, 40, 100);
    let mut script =
        Script::with_plan(dice, |plan| plan.config.output.link_mbps = Some(mbps as u32));
    let server = script.remote(1);
    let length = between(dice, 300_000, 900_000) as u32;
    let none = RefusalRates { no_room_ppm: 1_000_000, ..RefusalRates::default() };
    script.world.refuse(HOST, none);
    let call = script.call(&server, length, 100);
    let (blocked_ms, before) = (between(dice, 20, 60), script.world.turns(HOST));
    let sent = script.pass_ms(blocked_ms);
    assert!(sent.iter().all(|sent| sent.range().is_none_or(|it| it.end < length)));
    let turns = script.world.turns(HOST) - before;
    assert!(turns <= 3 * blocked_ms + 50, "{turns} turns in {blocked_ms} ms");
    let half = RefusalRates { no_room_ppm: between(dice, 0, 300_000) as u32, ..none };
    script.world.refuse(HOST, half);
    let began_ns = script.now_ns();
    let (mut upto, mut id) = (0, 0);
    let line_ns = u64::from(length) * 8_000 / mbps;
    let limit_ns = 2 * line_ns + 150 * MS;
    while upto < length {
        for sent in script.pass(200 * US) {
            if let Some(range) = sent.range() {
                upto = range.end.max(upto);
                id = sent.id() | 1;
                script.grant(&server, id, length, upto);
            }
        }
        let took_ns = script.now_ns() - began_ns;
        assert!(took_ns < limit_ns, "{upto} of {length} B in {took_ns} ns, a line takes {line_ns}");
    }
    script.reply(&server, id, call);
    script.react();
    assert_eq!(script.end(call), Some(CallEnd::Answered));
    script
}

/// What the network says of the length of packets is believed at once.
pub(super) fn what_the_network_says_is_believed(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let server = script.remote(1);
    let mtu = between(dice, 1_280, 1_490) as u32;
    let change = MtuChange { from: HOST, to: server.index, mtu, known: false };
    let now_ns = script.now_ns();
    let length = between(dice, 2_000, 30_000) as u32;
    script.called(&server, 3_000, 100);
    script.world.change_mtu(now_ns, change);
    let (_, _, sent) = script.called(&server, length, 100);
    assert!(sent.iter().all(|sent| sent.bytes + 28 <= mtu), "longer ones do not pass");
    let (call, id, sent) = script.called(&server, length, 100);
    assert!(sent.iter().filter_map(Sent::data).count() > 0);
    assert_eq!(script.stats().transmit_too_big, 0, "the driver need not refuse any");
    script.reply(&server, id, call);
    script.react();
    assert_eq!(script.end(call), Some(CallEnd::Answered));
    script
}

/// Others at the address of a server that says nothing do not keep calls to it.
pub(super) fn others_are_no_sign_of_life(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let server = script.remote(1).unvalidated();
    let calls: Vec<usize> =
        (0..between(dice, 120, 200)).map(|_| script.call(&server, 1_000, 100)).collect();
    for _ in 0..35 {
        script.pass_ms(100);
        // Each an incarnation of its own.
        let incarnation = between(dice, 1, 0x00FF_FFFF) as u32;
        let other = Remote { incarnation, ..server };
        let call = script.plan(&other, 3_000, 100, Response::After { service_ns: 0 });
        let (id, pattern) = (client_id(dice), script.request_of(call));
        script.data(&other, id, pattern, 0..1_000);
    }
    for call in &calls {
        assert_eq!(
            script.end(*call),
            Some(CallEnd::Failed(FailReason::Timeout)),
            "nobody is there"
        );
    }
    script
}
