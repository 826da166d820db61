//! Memory for incoming messages, and what of a server one host may take.

use std::collections::{BTreeMap, BTreeSet};

use homa_core::Config;
use homa_virtual::{Dice, Response};
use homa_wire::{Body, Data, Reason};

use crate::script::{FULL, Remote, Script, Sent, client_id};
use crate::{MS, US, between, percent, pick};

/// A message whose sender does as it is told, and nothing by itself.
#[derive(Debug)]
struct Message {
    from: Remote,
    id: u64,
    call: usize,
    length: u32,
    began_ns: u64,
}

fn begin(script: &mut Script, from: Remote, length: u32, service_ns: u64) -> Message {
    let call = script.plan(&from, length, 100, Response::After { service_ns });
    let id = client_id(&mut script.dice);
    let pattern = script.request_of(call);
    let upto = length.min(40_000);
    script.data_with(&from, id, pattern, 0..upto, |data| data.incoming = upto);
    Message { from, id, call, length, began_ns: script.now_ns() }
}

/// Sends what is granted and what is asked for.
fn obey(script: &mut Script, messages: &[Message], told: &mut BTreeMap<u64, u32>, sent: &[Sent]) {
    for sent in sent {
        let id = sent.id() & !1;
        let Some(message) = messages.iter().find(|it| it.id == id) else { continue };
        let pattern = script.request_of(message.call);
        let upto = told.entry(id).or_insert(message.length.min(40_000));
        if let Some(grant) = sent.grant() {
            let from = std::mem::replace(upto, grant.offset.max(*upto));
            let range = from..grant.offset;
            script.data(&message.from, id, pattern, range);
        } else if let Some(resend) = sent.resend() {
            let range = resend.offset..(resend.offset + resend.length).min(message.length);
            *upto = range.end.max(*upto);
            script.data_with(&message.from, id, pattern, range, |data| {
                data.flags = Data::RETRANSMISSION
            });
        } else if sent.is_need_ack() {
            script.busy(&message.from, id);
        } else if sent.data().is_some() {
            script.ack(&message.from, id);
        }
    }
}

/// With little memory messages wait, and are asked for as soon as there is some: without a loss, no
/// silence is needed.
pub(super) fn who_waits_for_memory_is_asked_at_once(dice: &mut Dice) -> Script {
    let longest = between(dice, 66_000, 200_000) as u32;
    let memory = u64::from(longest) + between(dice, 0, 300_000);
    let mut script = Script::new(
        dice,
        Config::exact().with(|config| {
            config.limits.max_message_bytes = longest;
            config.limits.receive_memory_bytes = memory;
            // What waits for a timeout shows.
            config.recovery.resend_interval = std::time::Duration::from_secs(2);
            config.recovery.timeout = std::time::Duration::from_secs(20);
        }),
    );
    let hosts = script.remotes(4);
    let (mut messages, mut told) = (Vec::new(), BTreeMap::new());
    // What is asked for at a time fits what may be granted.
    let count = between(dice, 2, 9);
    for _ in 0..count {
        let from = hosts[dice.below(4) as usize];
        let length = pick(dice, &[2_000, 40_000, 60_000, 66_000, u64::from(longest)]);
        let length = between(dice, length / 2, length) as u32;
        let message = begin(&mut script, from, length, 0);
        messages.push(message);
        if percent(dice, 50) {
            let sent = script.react();
            obey(&mut script, &messages, &mut told, &sent);
        }
    }
    for _ in 0..5_000 {
        let sent = script.react();
        obey(&mut script, &messages, &mut told, &sent);
        if messages.iter().all(|it| script.ran(it.call) > 0) {
            break;
        }
        let longest_ns = 400 * MS;
        let late = messages
            .iter()
            .find(|it| script.ran(it.call) == 0 && script.now_ns() > it.began_ns + longest_ns);
        let seen = script.rpcs();
        assert!(late.is_none(), "{late:?} waits for memory that is there: {seen:?}");
        script.pass(100 * US).iter().for_each(|sent| {
            obey(&mut script, &messages, &mut told, std::slice::from_ref(sent));
        });
    }
    let sent = script.react();
    obey(&mut script, &messages, &mut told, &sent);
    script.react();
    script
}

/// Who waits for memory is not asked for data, and answers RESENDs by BUSY; who is not heard of any
/// more is given up.
pub(super) fn without_memory_nobody_is_asked(dice: &mut Dice) -> Script {
    let longest = between(dice, 66_000, 100_000) as u32;
    let mut script = Script::new(
        dice,
        Config::default().with(|config| {
            config.limits.max_message_bytes = longest;
            config.limits.receive_memory_bytes = u64::from(longest);
        }),
    );
    let (holder, waits, server) = (script.remote(1), script.remote(2), script.remote(3));
    // A request that its handler has, and does not take yet: what is granted of it holds the
    // memory.
    let call = script.plan(&holder, longest, 100, Response::After { service_ns: 0 });
    let (id, pattern) = (client_id(dice), script.request_of(call));
    script.data(&holder, id, pattern, 0..FULL);
    script.react();
    let message = begin(&mut script, waits, 60_000, 0);
    let (call, response_id, _) = script.called(&server, 100, longest - 10);
    let response = script.response_of(call);
    script.data(&server, response_id, response, 0..FULL);
    let mut sent = script.react();
    for _ in 0..between(dice, 3, 10) {
        script.busy(&holder, id);
        script.control(&server, response_id, Body::NeedAck, Reason::None, 0);
        script.control(&waits, message.id, Body::NeedAck, Reason::Probe, 0);
        let answer = script.react();
        let busy = answer.iter().filter(|sent| sent.is_busy()).count();
        assert!(busy >= 1, "{answer:?}");
        sent.extend(answer);
        sent.extend(script.pass_ms(between(dice, 1, 60)));
    }
    let about: BTreeSet<u64> = sent
        .iter()
        .filter(|it| it.resend().is_some() || it.grant().is_some())
        .map(Sent::id)
        .collect();
    for other in [message.id | 1, response_id & !1] {
        assert!(!about.contains(&other), "it has no memory: {about:x?}, {other:x}");
    }
    // Nobody is heard of any more: all ends.
    script.pass_ms(9_000);
    assert!(script.rpcs().is_empty(), "{:?}", script.rpcs());
    script
}

/// What unvalidated clients announce takes a quarter of the memory at most; whoever proves its
/// address leaves it to others, and packets far beyond what may come take nothing.
pub(super) fn announcements_leave_memory_to_others(dice: &mut Dice) -> Script {
    let longest = between(dice, 66_000, 100_000) as u32;
    let ordinary = between(dice, 800_000, 1_500_000);
    let set_aside = u64::from(longest.div_ceil(65_536) * 65_536);
    let mut script = Script::new(
        dice,
        Config::default().with(|config| {
            config.limits.max_message_bytes = longest;
            config.limits.receive_memory_bytes = set_aside + ordinary;
        }),
    );
    let hosts = script.remotes(60);
    let announce = |script: &mut Script, from: Remote| {
        let before = script.rpcs().len();
        let call = script.plan(&from, longest, 100, Response::After { service_ns: 0 });
        let (id, pattern) = (client_id(&mut script.dice), script.request_of(call));
        script.data(&from, id, pattern, 0..FULL);
        let sent = script.react();
        (script.rpcs().len() > before, id, pattern, sent)
    };
    let mut admitted = Vec::new();
    for from in &hosts[..40] {
        let (taken, id, pattern, sent) = announce(&mut script, from.unvalidated());
        if !taken {
            assert!(sent.iter().any(|it| it.unknown() == Some(Reason::NeverSeen)), "{sent:?}");
            break;
        }
        assert!(sent.iter().any(Sent::is_need_ack), "it is asked who it is");
        admitted.push((*from, id, pattern));
    }
    let announced = admitted.len() as u64 * 65_536;
    assert!(announced <= ordinary / 4, "{announced} B of {ordinary} for unvalidated clients");
    assert!(!admitted.is_empty());
    let used = script.stats().receive_memory_bytes;
    assert!(used <= ordinary / 4 + set_aside, "{used} B of {ordinary}");
    // One of them proves its address: there is room for another.
    let (from, id, pattern) = admitted[dice.below(admitted.len() as u64) as usize];
    script.data(&from, id, pattern, FULL..2 * FULL);
    script.react();
    assert!(announce(&mut script, hosts[50].unvalidated()).0, "there is room for one again");
    assert!(!announce(&mut script, hosts[51].unvalidated()).0);
    // Far ahead of what it may send.
    let used = script.stats().receive_memory_bytes;
    let mut last = 0;
    for from in &hosts[52..58] {
        let call = script.plan(from, longest, 100, Response::After { service_ns: 0 });
        let (id, pattern) = (client_id(dice), script.request_of(call));
        script.data_with(from, id, pattern, 0..100, |data| data.incoming = 100);
        script.data_with(from, id, pattern, longest - 10..longest, |data| data.incoming = 100);
        script.react();
        last = script.stats().receive_memory_bytes;
    }
    let strange = (last - used) / 65_536;
    assert!(strange <= 6 * 2, "{strange} pieces for what is far ahead");
    script
}

/// One host leaves three quarters of the memory to others, has its messages served one after the
/// other beyond that, and delays none of theirs.
pub(super) fn no_host_takes_all_memory(dice: &mut Dice) -> Script {
    let mut script = Script::new(
        dice,
        Config::default().with(|config| {
            config.limits.max_message_bytes = 100_000;
            config.limits.receive_memory_bytes = 131_072 + 2_000_000;
        }),
    );
    let (greedy, honest) = (script.remote(1), script.remote(2));
    let mut held = Vec::new();
    for _ in 0..between(dice, 30, 60) {
        let call = script.plan(&greedy, 100_000, 100, Response::After { service_ns: 0 });
        let (id, pattern) = (client_id(dice), script.request_of(call));
        script.data(&greedy, id, pattern, 0..FULL);
        held.push((id, pattern, call));
        script.react();
    }
    let used = script.stats().receive_memory_bytes;
    assert!(used <= 500_000 + 2 * 131_072, "{used} B of 2 MB for one host");
    // Others are taken at once.
    for _ in 0..5 {
        let length = between(dice, 5_000, 60_000) as u32;
        let call = script.plan(&honest, length, 100, Response::After { service_ns: 0 });
        let (id, pattern) = (client_id(dice), script.request_of(call));
        script.data(&honest, id, pattern, 0..length.min(40_000));
        let sent = script.react();
        let granted = sent.iter().filter_map(Sent::grant).map(|it| it.offset).max();
        if length > 40_000 {
            assert_eq!(granted, Some(length), "it is granted: {sent:?}");
            script.data(&honest, id, pattern, 40_000..length);
            script.react();
        }
        assert_eq!(script.ran(call), 1, "what waits for the share of its host is in nobody's way");
        script.ack(&honest, id);
    }
    // One after the other of its own is served as well.
    let mut told = BTreeMap::new();
    let mut done = 0;
    let messages: Vec<Message> = held
        .iter()
        .map(|(id, _, call)| Message {
            from: greedy,
            id: *id,
            call: *call,
            length: 100_000,
            began_ns: 0,
        })
        .collect();
    for message in &messages {
        told.insert(message.id, 100_000);
    }
    for _ in 0..400 {
        for message in &messages {
            let alive = script.rpc(message.id | 1);
            if alive.is_some_and(|rpc| rpc.rx_received > 0 && rpc.rx_received < 100_000) {
                let pattern = script.request_of(message.call);
                script.data(&greedy, message.id, pattern, FULL..100_000);
                break;
            }
        }
        let sent = script.pass_ms(1);
        obey(&mut script, &messages, &mut told, &sent);
        done = messages.iter().filter(|it| script.ran(it.call) > 0).count();
        if done == messages.len() {
            break;
        }
    }
    assert!(done >= 10, "{done} of {} are served", messages.len());
    script
}

/// Of the responses that are kept, the host that keeps most loses those that have made no progress
/// for longest.
pub(super) fn the_host_with_most_unacknowledged_bytes_gives_way(dice: &mut Dice) -> Script {
    let most = between(dice, 200_000, 400_000);
    let mut script = Script::new(
        dice,
        Config::default().with(|config| config.responses.unacknowledged_bytes = most),
    );
    let (greedy, honest) = (script.remote(1), script.remote(2));
    let mut kept: Vec<u64> = Vec::new();
    let small = client_id(dice);
    script.ask(&honest, small, 100, 10_000);
    let mut bytes = 10_000;
    let reply = between(dice, 20_000, 38_000);
    while bytes + reply <= most {
        let id = client_id(dice);
        script.ask(&greedy, id, 100, reply as u32);
        script.busy(&greedy, id);
        script.react();
        bytes += reply;
        kept.push(id);
    }
    // The oldest makes progress.
    let moved = percent(dice, 50);
    if moved {
        script.grant(&greedy, kept[0], reply as u32, FULL);
        script.react();
        kept.rotate_left(1);
        bytes -= u64::from(FULL);
    }
    let mut honest_bytes = 10_000;
    for number in 0..between(dice, 1, 3) {
        let id = client_id(dice);
        // The one that keeps most is found among those that keep about as much.
        let fewer = (honest_bytes + reply) * 2 < reply * kept.len() as u64;
        let from = if percent(dice, 50) && fewer { honest } else { greedy };
        honest_bytes += if from.address == honest.address { reply } else { 0 };
        let (_, sent) = script.ask(&from, id, 100, reply as u32);
        script.busy(&from, id);
        let mut sent = sent;
        sent.extend(script.react());
        bytes += reply;
        let mut lost = Vec::new();
        while bytes > most && !kept.is_empty() {
            lost.push(kept.remove(0));
            bytes -= reply;
        }
        for id in &lost {
            assert!(
                script.rpc(id | 1).is_none(),
                "round {number}: the oldest of the greedy one goes"
            );
            let told =
                sent.iter().any(|it| it.unknown() == Some(Reason::Finished) && it.id() == id | 1);
            assert!(told, "its client is told");
        }
        for id in &kept {
            assert!(script.rpc(id | 1).is_some(), "round {number}: the others stay");
        }
        if from.index == greedy.index {
            kept.push(id);
        }
        assert!(script.rpc(small | 1).is_some(), "whoever keeps little keeps it");
    }
    let all: Vec<u64> = script.rpcs().iter().map(|rpc| rpc.id & !1).collect();
    for from in [greedy, honest] {
        all.iter().for_each(|id| script.ack(&from, *id));
    }
    script.react();
    // Who kept much once is not the first to lose something later.
    let other = client_id(dice);
    script.ask(&greedy, other, 100, 10_000);
    let mut ids = Vec::new();
    for _ in 0..most / reply + 2 {
        let id = client_id(dice);
        script.ask(&honest, id, 100, reply as u32);
        script.busy(&honest, id);
        script.react();
        ids.push(id);
    }
    assert!(script.rpc(other | 1).is_some(), "the other keeps more now");
    assert!(script.rpc(ids[0] | 1).is_none());
    script.ack(&greedy, other);
    ids.iter().for_each(|id| script.ack(&honest, *id));
    script.react();
    script
}

/// A new client is kept out neither by requests in others' names nor by one address with many; and
/// what they displace is not what has proved itself.
pub(super) fn unvalidated_clients_keep_nobody_out(dice: &mut Dice) -> Script {
    let rpcs_max = between(dice, 40, 120) as u32;
    let mut script =
        Script::new(dice, Config::default().with(|config| config.limits.max_rpcs = rpcs_max));
    let hosts = script.remotes(250);
    let service = Response::After { service_ns: 3_000 * MS };
    let one_address = percent(dice, 40);
    // A few that have proved themselves.
    let mut validated = Vec::new();
    for from in &hosts[240..244] {
        let id = client_id(dice);
        script.ask_for(from, id, 100, 100, service);
        validated.push((*from, id));
    }
    let mut first = None;
    for number in 0..rpcs_max as usize + 30 {
        let from = hosts[if one_address { 0 } else { number % 200 }].unvalidated();
        let id = client_id(dice);
        let (_, sent) = script.ask_for(&from, id, 100, 100, service);
        let told = |why: Reason| why == Reason::Overloaded || why == Reason::NeverSeen;
        if first.is_none() && sent.iter().any(|it| it.unknown().is_some_and(told)) {
            first = Some(number);
        }
    }
    if one_address {
        assert!(first.is_some(), "whoever wants more than there is is told");
    }
    for (_, id) in &validated {
        assert!(script.rpc(id | 1).is_some(), "proved clients stay");
    }
    let id = client_id(dice);
    let (call, _) = script.ask(&hosts[245].unvalidated(), id, 100, 100);
    assert_eq!(script.ran(call), 1, "there is room for one more");
    script.pass_ms(20_000);
    script
}
