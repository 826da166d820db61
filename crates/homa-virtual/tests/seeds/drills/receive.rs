//! What a host takes, and what it answers to those whom it does not know.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use homa_core::{Config, FailReason};
use homa_virtual::{CallEnd, Dice, Pattern, Response};
use homa_wire::{Body, Common, Data, Extension, Header, RESEND_ALL, Reason, Resend};

use super::acks;
use crate::script::{FULL, HOST, Script, Sent, client_id};
use crate::{MS, between, percent, pick};

fn told(sent: &[Sent], why: Reason) -> bool {
    sent.iter().any(|sent| sent.unknown() == Some(why))
}

/// A message arrives in any pieces, in any order, some of them twice, some padded: its bytes are
/// those that came first.
pub(super) fn bytes_in_any_order(dice: &mut Dice) -> Script {
    let mut script = Script::with_plan(dice, |plan| {
        plan.config.unscheduled.bytes = 10_000_000;
        plan.config.fixed.gaps_max = 1_000;
    });
    let from = script.remote(1);
    let length = pick(dice, &[2_000, 40_000, 70_000, 140_000, 200_000]);
    let length = between(dice, length / 2, length) as u32;
    let (id, call) =
        (client_id(dice), script.plan(&from, length, 100, Response::After { service_ns: 0 }));
    let pattern = script.request_of(call);
    let mut starts: Vec<u32> = (0..length).step_by(600).collect();
    for at in (1..starts.len()).rev() {
        starts.swap(at, dice.below(at as u64 + 1) as usize);
    }
    if percent(dice, 30) {
        starts.sort_unstable();
    }
    let mut came = vec![false; length as usize];
    for start in starts {
        let start = start.saturating_sub(dice.below(300) as u32);
        let end = length.min(start + between(dice, 600, u64::from(FULL)) as u32);
        let end = end.max(length.min(start + 900));
        let mut header = script.data_header(&from, id, length, start);
        if let Body::Data(data) = &mut header.body {
            data.incoming = length;
        }
        let mut payload: Vec<u8> =
            pattern.range(start, end).iter().flat_map(|part| part.to_vec()).collect();
        // What has come already at either end does not count, whatever it is.
        let there = &came[start as usize..end as usize];
        let front = there.iter().take_while(|came| **came).count();
        let back = there.iter().rev().take_while(|came| **came).count();
        payload.iter_mut().take(front).for_each(|byte| *byte ^= 0xFF);
        if front < payload.len() {
            payload.iter_mut().rev().take(back).for_each(|byte| *byte ^= 0xFF);
        }
        came[start as usize..end as usize].fill(true);
        if end == length {
            payload.resize(payload.len() + dice.below(40) as usize, 0);
        }
        script.header(&from, &header, &payload);
        if percent(dice, 30) {
            script.react();
        }
    }
    script.react();
    assert_eq!(script.ran(call), 1, "all of it has come");
    script.ack(&from, id);
    script
}

/// What is too long, for a port that does not serve, without an incarnation, or in another format
/// is not executed, and whoever can understand it is told.
pub(super) fn what_is_not_taken_is_refused(dice: &mut Dice) -> Script {
    let serves = percent(dice, 70);
    let longest = between(dice, 2_000, 100_000) as u32;
    let mut script = Script::with_plan(dice, |plan| {
        plan.serves = serves;
        plan.config.limits.max_message_bytes = longest;
    });
    let from = script.remote(1);
    let too_long = script.plan(&from, longest + 1, 100, Response::After { service_ns: 0 });
    let pattern = script.request_of(too_long);
    script.data(&from, client_id(dice), pattern, 0..FULL.min(longest));
    let why = if serves { Reason::TooLong } else { Reason::NoService };
    let sent = script.react();
    assert!(told(&sent, why), "{sent:?}");
    let (call, sent) = script.ask(&from, client_id(dice), 100, 100);
    assert_eq!(script.ran(call), u32::from(serves));
    assert!(serves || told(&sent, Reason::NoService), "{sent:?}");
    // Pure Linux format over UDP, and a sender without a number.
    let asked = client_id(dice);
    let nobody = script.plan(&from, 100, 100, Response::After { service_ns: 0 });
    let payload: Vec<u8> =
        script.request_of(nobody).range(0, 100).iter().flat_map(|part| part.to_vec()).collect();
    let data = Data { message_length: 100, incoming: 100, seg_offset: 0, ..Data::default() };
    let linux = Common::data(900, 4000, asked, 0);
    let unknown = script.remote(2);
    for (who, common) in [
        (from, linux),
        (unknown, linux),
        (from, linux.with_native_profile(0)),
        (unknown, linux.with_native_profile(0)),
    ] {
        let header = Header { common, body: Body::Data(data), extension: None };
        script.header(&who, &header, &payload);
        let sent = script.react();
        assert!(sent.iter().all(|sent| sent.data().is_none()), "{sent:?}");
    }
    assert_eq!((script.ran(nobody), script.world.ledger.forged_executions), (0, 0));
    // A response may be too long as well.
    let (call, id, _) = script.called(&from, 100, 100);
    script.data(&from, id, Pattern::response(call as u32, longest + 1), 0..FULL.min(longest));
    let sent = script.react();
    assert!(told(&sent, Reason::TooLong), "{sent:?}");
    assert_eq!(script.end(call), Some(CallEnd::Failed(FailReason::ResponseTooLong)));
    // What a response answers is not kept when it begins.
    let (call, id, _) = script.called(&from, between(dice, 2, 2_000) as u32, 2_000);
    let response = script.response_of(call);
    script.data(&from, id, response, 0..1_000);
    script.react();
    let kept = script.world.shard(HOST).map_or(0, |shard| shard.store().outgoing_bytes());
    let serving = script.rpcs().iter().filter(|rpc| rpc.id & 1 == 1).count() as u64;
    assert!(kept <= 100 * serving, "{kept} B of requests and {serving} responses");
    script.data(&from, id, response, 1_000..2_000);
    script.react();
    assert_eq!(script.end(call), Some(CallEnd::Answered));
    script
}

/// An address that has proved nothing is sent no more than three times what came from it, and
/// nothing that is longer than what asked for it but data.
pub(super) fn unvalidated_hosts_draw_little(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let from = script.remote(1).unvalidated();
    let (mut came, mut went, mut ids) = (0_u64, 0_u64, Vec::new());
    let knock = |script: &mut Script, id: u64, body: Body, extension| {
        let common = Common::control(900, 4000, id).with_native_profile(from.incarnation);
        let header = Header { common, body, extension };
        script.header(&from, &header, &[]);
        header.encoded_bytes() as u64
    };
    for _ in 0..between(dice, 5, 40) {
        let known = ids.get(dice.below(ids.len() as u64 + 1) as usize).copied();
        let id = known.unwrap_or_else(|| client_id(dice));
        let request = between(dice, 2, 1_400) as u32;
        let words = Some(Extension { echo: 0, reason: Reason::None, value: 0 });
        let extension = if percent(dice, 50) { words } else { None };
        let (before, alone) = (went, dice.below(4));
        let bytes = match alone {
            0 => {
                let reply = between(dice, 1, 60_000) as u32;
                script.ask(&from, id, request, reply).1.iter().for_each(|sent| {
                    went += u64::from(sent.bytes);
                });
                ids.push(id);
                u64::from(request) + 56
            }
            1 => knock(&mut script, id, Body::NeedAck, extension),
            2 => {
                let all = Resend { offset: 0, length: RESEND_ALL, priority: 7 };
                knock(&mut script, id, Body::Resend(all), extension)
            }
            _ => knock(&mut script, client_id(dice) | 1, Body::NeedAck, extension),
        };
        came += bytes;
        let sent = script.pass_ms(between(dice, 1, 20));
        for sent in &sent {
            went += u64::from(sent.bytes);
        }
        if alone > 0 && known.is_none() && ids.is_empty() {
            assert!(went - before <= bytes, "{} B for {bytes} B", went - before);
        }
        assert!(went <= 3 * came, "{went} B for {came} B");
    }
    went += script.pass_ms(30_000).iter().map(|sent| u64::from(sent.bytes)).sum::<u64>();
    assert!(went <= 3 * came, "{went} B for {came} B in the end");
    // Whoever proves its address by what it was told is served as everybody is.
    let validated = script.remotes(2)[1];
    let (_, sent) = script.ask(&validated, client_id(dice), 100, 30_000);
    let data = sent.iter().filter(|sent| sent.data().is_some()).count();
    assert!(data > 20, "{data} packets");
    script
}

/// However many packets about unknown RPCs come at a time, few are answered, half of them to
/// unvalidated clients at most; and of a message of many packets one per resend interval.
pub(super) fn few_answers_to_what_is_unknown(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let (validated, unvalidated) = (script.remote(1), script.remote(2).unvalidated());
    let answers = |sent: &[Sent], to: SocketAddr| {
        sent.iter().filter(|sent| sent.unknown().is_some() && sent.to == to).count()
    };
    let count = between(dice, 600, 1_500);
    for _ in 0..count {
        script.resend_all(&unvalidated, client_id(dice));
    }
    let began_ns = script.now_ns();
    let said = answers(&script.pass(500_000), unvalidated.address);
    let earned = (script.now_ns() - began_ns) as usize / 10_000 + 1;
    assert!(said <= 500 + earned && said >= 400, "{said} answers to unvalidated clients");
    script.resend_all(&validated, client_id(dice));
    assert_eq!(answers(&script.react(), validated.address), 1, "who is known is answered");
    for _ in 0..1_500 {
        script.resend_all(&validated, client_id(dice));
    }
    let said = answers(&script.pass(500_000), validated.address);
    assert!(said <= 1_000 + earned + 60, "{said} answers in a burst");
    script.pass_ms(100);
    // A message that nobody here knows.
    let (id, interval_ns) = (client_id(dice) | 1, 5 * MS);
    let pattern = Pattern::response(0, 30_000);
    let (mut said, began_ns) = (0, script.now_ns());
    for _ in 0..between(dice, 1, 8) {
        script.data(&validated, id, pattern, 0..20_000);
        said += answers(&script.pass(between(dice, 100, 4_000) * 1_000), validated.address);
    }
    let intervals = (script.now_ns() - began_ns) / interval_ns + 1;
    assert!((1..=intervals).contains(&(said as u64)), "{said} answers in {intervals} intervals");
    script
}

/// Bytes of a message come from its sender, in its incarnation, and of its length; words about a
/// call from its server.
pub(super) fn nobody_speaks_for_others(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let (a, b) = (script.remote(1), script.remote(2));
    // Requests: the same id of another client is another request.
    let id = client_id(dice);
    let call = script.plan(&a, 3_000, 100, Response::After { service_ns: 0 });
    let (pattern, wrong) = (script.request_of(call), Pattern::response(7, 3_000));
    script.data(&a, id, pattern, 0..1_000);
    script.react();
    script.data(&b, id, wrong, 1_000..2_000);
    script.data(&a.restarted(), id, wrong, 1_000..2_000);
    script.data(&a.restarted().unvalidated(), id, wrong, 1_000..2_000);
    script.data(&a, id, Pattern::response(7, 2_500), 1_000..2_000);
    script.react();
    script.data(&a, id, pattern, 1_000..3_000);
    script.react();
    let ran = script.ran(call);
    assert!(ran <= 1, "it ran {ran} times");
    script.ack(&a, id);
    // Responses.
    let (call, id, _) = script.called(&a, 100, 3_000);
    let response = script.response_of(call);
    let half = percent(dice, 50);
    if half {
        script.data(&a, id, response, 0..1_000);
    }
    script.react();
    for who in [b, a.unvalidated(), a.restarted().unvalidated()] {
        script.data(&who, id, Pattern::request(9, 3_000), 1_000..2_000);
        script.unknown(&who, id, pick(dice, &[1, 2, 3, 5, 6, 8]).into(), 0);
        script.busy(&who, id);
        script.grant(&who, id, 100, 100);
        script.react();
        assert_eq!(script.end(call), None, "others speak of it: {who:?}");
        assert!(script.rpc(id ^ 1).is_some_and(|rpc| rpc.rx_received == u32::from(half) * 1_000));
    }
    if half && percent(dice, 50) {
        script.data(&a.restarted(), id, Pattern::request(9, 3_000), 1_000..2_000);
        script.react();
        assert_eq!(script.end(call), Some(CallEnd::Failed(FailReason::Restarted)));
    } else {
        script.reply(&a, id, call);
        script.react();
        assert_eq!(script.end(call), Some(CallEnd::Answered));
    }
    // What an address is told proves no other, and ids to one server tell nothing of those to
    // another.
    assert_ne!(a.echo, b.echo);
    let ids: BTreeSet<u64> = [a, b].iter().map(|to| script.called(to, 100, 100).1 >> 16).collect();
    assert_eq!(ids.len(), 2, "they are near each other");
    script
}

/// A host that closes its port tells everybody who waits for it, and every call of its own ends.
pub(super) fn whoever_closes_says_so(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let remotes = script.remotes(3);
    let ids: Vec<u64> = (0..3).map(|_| client_id(dice)).collect();
    for (from, id) in remotes.iter().zip(&ids) {
        script.ask_for(from, *id, 100, 100, Response::After { service_ns: 500 * MS });
    }
    let many = pick(dice, &[1, 20, 1_500, 3_500]);
    let calls: Vec<usize> = (0..many).map(|_| script.call(&remotes[0], 100, 100)).collect();
    let (mut answered, mut waits) = (Vec::new(), Vec::new());
    script.pass_ms(1);
    for (number, call) in calls.iter().enumerate().take(12) {
        let Some(id) = script.id_of(*call) else { continue };
        if number % 2 == 0 {
            script.reply(&remotes[0], id | 1, *call);
            answered.push(id);
        } else {
            waits.push(id);
        }
    }
    let mut acknowledged = Vec::new();
    acks::acknowledged(&script.react(), &mut acknowledged);
    let now_ns = script.now_ns();
    script.world.close(HOST, now_ns);
    let sent = script.pass_ms(3);
    acks::acknowledged(&sent, &mut acknowledged);
    for id in &ids {
        let closing = |sent: &&Sent| sent.unknown() == Some(Reason::Closing) && sent.id() == id | 1;
        assert_eq!(sent.iter().filter(closing).count(), 1, "who waits is told");
    }
    for id in &waits {
        let said = |sent: &&Sent| sent.unknown() == Some(Reason::Cancelled) && sent.id() == *id;
        assert_eq!(sent.iter().filter(said).count(), 1, "the server need not go on");
    }
    for call in &calls {
        assert!(script.end(*call).is_some(), "every call ends");
    }
    for id in answered {
        assert!(acknowledged.contains(&id), "nobody could be asked any more");
    }
    script
}

/// A host serves no more requests than it may, and one client leaves places to others.
pub(super) fn places_are_limited(dice: &mut Dice) -> Script {
    let rpcs_max = between(dice, 40, 200) as u32;
    let config = Config::default().with(|config| config.limits.max_rpcs = rpcs_max);
    let mut script = Script::new(dice, config);
    let remotes = script.remotes(8);
    let (serving_max, mut served) = (rpcs_max - rpcs_max / 4, 0_u32);
    for (number, from) in remotes.iter().enumerate() {
        let before = served;
        for _ in 0..rpcs_max {
            let service = Response::After { service_ns: 2_000 * MS };
            let call = script.plan(from, 100, 100, service);
            let (id, pattern) = (client_id(dice), script.request_of(call));
            script.data(from, id, pattern, 0..100);
        }
        script.pass_ms(2);
        served = script.rpcs().len() as u32;
        assert!(served <= serving_max, "{served} of {serving_max} places");
        if number < 2 {
            assert!(served > before, "something is left for host {number}");
        }
    }
    assert!(served + 4 >= serving_max, "{served} of {serving_max} places");
    // Its own calls have room.
    let call = script.call(&remotes[0], 100, 100);
    assert!(script.react().iter().any(|sent| sent.id() & 1 == 0), "it may call");
    let id = script.id_of(call).expect("it is under way") | 1;
    script.reply(&remotes[0], id, call);
    // What is over makes room.
    for sent in script.pass_ms(2_010) {
        if sent.data().is_some() && sent.id() & 1 == 1 {
            let from = remotes.iter().find(|from| from.address == sent.to).copied();
            script.ack(&from.expect("one of them"), sent.id() & !1);
        }
    }
    script.pass_ms(1);
    let (call, _) = script.ask(&remotes[0], client_id(dice), 100, 100);
    assert_eq!(script.ran(call), 1, "there are places again");
    script
}

/// However many pieces come with gaps between them, no more gaps are remembered than may be, and
/// the message completes.
pub(super) fn gaps_are_limited(dice: &mut Dice) -> Script {
    let gaps_max = between(dice, 16, 40) as u16;
    let config = Config::default().with(|config| config.fixed.gaps_max = gaps_max);
    let mut script = Script::new(dice, config);
    let from = script.remote(1);
    let (id, call) =
        (client_id(dice), script.plan(&from, 39_000, 100, Response::After { service_ns: 0 }));
    let pattern = script.request_of(call);
    for number in 0..60 {
        script.data(&from, id, pattern, number * 600..number * 600 + 300);
    }
    let sent = script.pass_ms(8);
    let asked = sent.iter().filter(|sent| sent.resend().is_some()).count();
    assert!((1..=usize::from(gaps_max) + 1).contains(&asked), "{asked} RESENDs");
    for _ in 0..3 {
        script.data(&from, id, pattern, 0..39_000);
        script.react();
    }
    assert_eq!(script.ran(call), 1, "all of it has come");
    script.ack(&from, id);
    script
}

/// Once a client has proved its address nobody else can ask in its name, or speak of what it asked
/// for.
pub(super) fn a_proved_client_is_itself(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let client = script.remote(1);
    let validated = percent(dice, 60);
    let itself = if validated { client } else { client.unvalidated() };
    let liar = client.restarted().unvalidated();
    let id = client_id(dice);
    let service_ns = between(dice, 2, 20) * MS;
    let (call, _) = script.ask_for(&itself, id, 100, 100, Response::After { service_ns });
    assert_eq!(script.ran(call), 1);
    // In the name of the client.
    let forged = script.plan(&client, 100, 100, Response::After { service_ns: 0 });
    let (forged_id, pattern) = (client_id(dice), script.request_of(forged));
    script.data(&liar, forged_id, pattern, 0..100);
    let sent = script.react();
    if validated {
        assert_eq!(script.ran(forged), 0, "it has to prove itself");
        assert!(told(&sent, Reason::NeverSeen), "and is told how: {sent:?}");
    }
    script.unknown(&liar, id, Reason::Cancelled, 0);
    script.ack(&liar, id);
    let sent = script.pass(service_ns + MS);
    let answered = sent.iter().any(|sent| sent.data().is_some() && sent.id() == id | 1);
    assert!(answered, "its request is answered");
    script.unknown(&liar, id, Reason::Cancelled, 0);
    script.ack(&liar, id);
    script.react();
    assert!(script.rpc(id | 1).is_some(), "others do not acknowledge for it");
    script.ack(&itself, id);
    script.react();
    script.pass_ms(20);
    script
}

/// A client that has to prove its address, and got nothing, is asked to when it asks for more.
pub(super) fn an_unvalidated_client_is_asked_to_prove_itself(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let client = script.remote(1).unvalidated();
    let id = client_id(dice);
    let request = between(dice, 500, 850) as u32;
    let (_, sent) = script.ask(&client, id, request, between(dice, 1_500, 2_500) as u32);
    assert!(sent.iter().any(|sent| sent.data().is_some()), "{sent:?}");
    script.resend(&client, id, 0..1_400);
    let sent = script.react();
    assert!(sent.iter().any(Sent::is_need_ack), "{sent:?}");
    script
}
