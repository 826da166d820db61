//! What is acknowledged, and what ends by it.

use std::collections::BTreeSet;

use homa_core::{Config, FailReason};
use homa_virtual::{CallEnd, Dice, Response};
use homa_wire::{AckEntry, Body, Reason, Resend};

use crate::script::{Remote, Script, Sent, client_id};
use crate::{MS, SECOND, between, percent};

/// Ids of server RPCs at the host, in the client's form.
fn served(script: &Script) -> BTreeSet<u64> {
    script.rpcs().iter().filter(|rpc| rpc.id & 1 == 1).map(|rpc| rpc.id & !1).collect()
}

/// Whatever acknowledgements name, in whatever packets, ends at once, and nothing else does.
pub(super) fn exactly_what_is_acknowledged_ends(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let (client, other) = (script.remote(1), script.remote(2));
    let (first, count) = (client_id(dice), between(dice, 70, 150));
    let ids: Vec<u64> = (0..count).map(|number| first.wrapping_add(2 * number)).collect();
    for id in &ids {
        let response = match percent(dice, 20) {
            true => Response::Rejected,
            false => Response::After { service_ns: 0 },
        };
        script.ask_for(&client, *id, between(dice, 2, 3_000) as u32, 100, response);
    }
    let mut kept: BTreeSet<u64> = ids.iter().copied().collect();
    assert_eq!(served(&script), kept, "all wait for their acknowledgements");
    // Of others, for another port, and in a form that no client uses.
    script.acks(&other, first ^ 0x100, &ids[..5]);
    let wrong_port = |data: &mut homa_wire::Data| {
        data.ack = AckEntry { client_id: ids[6], server_port: 4001 };
    };
    let probe = script.plan(&client, 100, 100, Response::After { service_ns: 30 * MS });
    let (id, pattern) = (first.wrapping_add(1_000), script.request_of(probe));
    script.data_with(&client, id, pattern, 0..100, wrong_port);
    script.react();
    kept.insert(id);
    assert_eq!(served(&script), kept, "nobody acknowledged them");
    let mut rest = ids.as_slice();
    while !rest.is_empty() {
        match dice.below(3) {
            0 => {
                let (named, listed) =
                    (rest[0], &rest[1..rest.len().min(1 + dice.below(6) as usize)]);
                script.acks(&client, named, listed);
                rest = &rest[1 + listed.len()..];
                kept.remove(&named);
                kept.retain(|id| !listed.contains(id));
            }
            1 => {
                script.ack(&client, rest[0]);
                kept.remove(&rest[0]);
                rest = &rest[1..];
            }
            _ => {
                // Many at a time, each with a request.
                let many = rest.len().min(between(dice, 1, 100) as usize);
                for acknowledged in &rest[..many] {
                    let call =
                        script.plan(&client, 100, 100, Response::After { service_ns: 2 * SECOND });
                    let (id, pattern) = (acknowledged ^ 1 << 40, script.request_of(call));
                    script.data_with(&client, id, pattern, 0..100, |data| {
                        data.ack = AckEntry { client_id: *acknowledged, server_port: 4000 };
                    });
                    kept.remove(acknowledged);
                    kept.insert(id);
                }
                rest = &rest[many..];
            }
        }
        script.pass(200_000);
        script.look();
        assert_eq!(served(&script), kept, "what was acknowledged is over, the rest is not");
    }
    script
}

/// The acknowledgements in packets: those that ACKs name and list, and those that ride on data.
pub(super) fn acknowledged(sent: &[Sent], into: &mut Vec<u64>) {
    for sent in sent {
        if let Some(ack) = sent.ack() {
            into.push(sent.id());
            into.extend(ack.entries().iter().map(|entry| entry.client_id));
        }
        into.extend(sent.data().and_then(|data| data.acknowledged()).map(|ack| ack.client_id));
    }
}

/// Each response is acknowledged: with the next requests, or by an ACK as soon as more than 64
/// wait; once.
pub(super) fn responses_are_acknowledged(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let server = script.remote(1);
    let count = between(dice, 10, 150) as usize;
    let calls: Vec<_> = (0..count).map(|_| script.called(&server, 100, 100)).collect();
    let mut told = Vec::new();
    for (call, id, sent) in &calls {
        acknowledged(sent, &mut told);
        script.reply(&server, *id, *call);
    }
    acknowledged(&script.pass(200_000), &mut told);
    assert!(told.len() + 64 >= count, "{} of {count} are acknowledged, 64 may wait", told.len());
    for _ in 0..between(dice, 0, 5) {
        let (_, id, sent) = script.called(&server, 100, 100);
        let (waited, before) = (told.len() < count, told.len());
        acknowledged(&sent, &mut told);
        assert!(!waited || told.len() > before, "the next packet takes one along");
        script.unknown(&server, id, Reason::Overloaded, 0);
        script.react();
    }
    // Whoever asks learns it.
    let waiting: Vec<u64> =
        calls.iter().map(|(_, id, _)| id & !1).filter(|id| !told.contains(id)).collect();
    if let Some(id) = waiting.first() {
        script.control(&server, id | 1, Body::NeedAck, Reason::None, 0);
        acknowledged(&script.react(), &mut told);
        assert!(told.contains(id));
    }
    for id in waiting.iter().filter(|id| !told.contains(id)).copied().collect::<Vec<_>>() {
        script.control(&server, id | 1, Body::NeedAck, Reason::None, 0);
        acknowledged(&script.react(), &mut told);
        assert!(told.contains(&id), "asked for in vain");
    }
    for (call, ..) in &calls {
        assert_eq!(script.end(*call), Some(CallEnd::Answered));
    }
    script
}

/// A refusal is repeated until its client acknowledges it, and a client acknowledges each.
pub(super) fn refusals_until_acknowledged(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let (client, server) = (script.remote(1), script.remote(2));
    let id = client_id(dice);
    let refused =
        |sent: &[Sent]| sent.iter().filter(|sent| sent.unknown() == Some(Reason::Rejected)).count();
    let request = between(dice, 100, 20_000) as u32;
    let (_, sent) = script.ask_for(&client, id, request, 100, Response::Rejected);
    assert_eq!(refused(&sent), 1, "the client is told");
    assert_eq!(script.stats().receive_memory_bytes, 0, "the request is not needed any more");
    let silent_ms = between(dice, 20, 2_000);
    let told = refused(&script.pass_ms(silent_ms));
    assert!(told >= 1, "and told again in {silent_ms} ms");
    assert!(told <= 13, "but less and less often: {told} times");
    for body in [Body::NeedAck, Body::Resend(Resend { offset: 0, length: 100, priority: 7 })] {
        script.control(&client, id, body, Reason::None, 0);
        assert_eq!(refused(&script.react()), 1, "whoever asks is told");
    }
    script.ack(&client, id);
    script.react();
    assert!(served(&script).is_empty(), "it is over");
    let (call, id, _) = script.called(&server, 100, 100);
    for _ in 0..between(dice, 1, 4) {
        script.unknown(&server, id, Reason::Rejected, 0);
        let sent = script.react();
        assert!(sent.iter().any(|sent| sent.ack().is_some()), "a refusal is acknowledged");
    }
    assert_eq!(script.end(call), Some(CallEnd::Failed(FailReason::Rejected)));
    script
}

/// Answers each NEED_ACK of the host for so many seconds by BUSY.
fn says_busy(script: &mut Script, client: &Remote, seconds: u64) {
    for _ in 0..seconds * 4 {
        for sent in script.pass_ms(250) {
            if sent.is_need_ack() || sent.unknown() == Some(Reason::Rejected) {
                script.busy(client, sent.id() & !1);
            }
        }
    }
}

/// A response, or a refusal, is kept for a minute at most for a client that is alive and does not
/// take it.
pub(super) fn words_alone_keep_nothing(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let client = script.remote(1);
    let id = client_id(dice);
    let response = match percent(dice, 30) {
        true => Response::Rejected,
        false => Response::After { service_ns: 0 },
    };
    let reply = between(dice, 1, 35_000) as u32;
    script.ask_for(&client, id, 100, reply, response);
    says_busy(&mut script, &client, between(dice, 30, 55));
    assert!(served(&script).contains(&id), "it may be slow");
    says_busy(&mut script, &client, 40);
    assert!(served(&script).is_empty(), "words alone do not keep it");
    script
}

/// A client that was told to wait does not look for its response: it is asked soon whether it has
/// it.
pub(super) fn who_waits_is_asked_soon(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let client = script.remote(1);
    let id = client_id(dice);
    let service_ns = between(dice, 1, 50) * MS;
    script.ask_for(&client, id, 100, 100, Response::After { service_ns });
    match percent(dice, 50) {
        true => script.resend_all(&client, id),
        false => script.control(&client, id, Body::NeedAck, Reason::Probe, 0),
    }
    assert!(script.react().iter().any(Sent::is_busy), "it is in service");
    let sent = script.pass(service_ns + 4 * MS);
    let asked = sent.iter().filter(|sent| sent.is_need_ack()).count();
    assert!(asked >= 1, "asked within 4 ms of its response");
    script.ack(&client, id);
    script.react();
    script
}
