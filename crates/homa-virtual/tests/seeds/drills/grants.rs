//! Whom a host lets send, and how much.

use std::time::Duration;

use homa_core::Config;
use homa_virtual::{Dice, Response};
use homa_wire::{Data, Reason};

use crate::script::{FULL, HOST, Remote, Script, Sent, client_id};
use crate::{MS, US, between, log_between, percent, pick};

/// A message that a peer sends as far as it is allowed to.
#[derive(Clone, Debug)]
struct Message {
    from: Remote,
    id: u64,
    call: usize,
    length: u32,
    sent: u32,
    granted: u32,
    /// Priority of its last GRANT.
    priority: u8,
    over: bool,
}

impl Message {
    fn remaining(&self) -> u32 {
        self.length - self.sent
    }

    /// Granted bytes on their way.
    fn outstanding(&self) -> u32 {
        if self.over { 0 } else { self.granted.saturating_sub(self.sent) }
    }
}

/// A host that grants `overcommit` messages at a time, `max_incoming` bytes in all.
fn with_windows(dice: &mut Dice, overcommit: u64, max_incoming: u32) -> Script {
    let config = Config::exact().with(|config| {
        config.grants.max_overcommit = overcommit as u8;
        config.grants.max_incoming_bytes = max_incoming;
    });
    Script::new(dice, config)
}

fn begin(script: &mut Script, from: Remote, length: u32, unscheduled: u32) -> Message {
    let call = script.plan(&from, length, 100, Response::After { service_ns: 0 });
    let id = client_id(&mut script.dice);
    let (pattern, sent) = (script.request_of(call), unscheduled.min(length));
    let announce = |data: &mut Data| data.incoming = sent;
    script.data_with(&from, id, pattern, 0..sent, announce);
    Message { from, id, call, length, sent, granted: sent, priority: 0, over: false }
}

/// Sends up to `upto`.
fn send(script: &mut Script, message: &mut Message, upto: u32) {
    let pattern = script.request_of(message.call);
    script.data_with(&message.from, message.id, pattern, message.sent..upto, |data| {
        data.incoming = FULL.min(data.message_length);
    });
    message.sent = upto;
    message.over = upto == message.length;
}

/// Applies GRANTs, which never fall, and returns the messages that they are for.
fn heed(messages: &mut [Message], sent: &[Sent]) -> Vec<u64> {
    let mut granted = Vec::new();
    for sent in sent {
        let Some(grant) = sent.grant() else { continue };
        assert_eq!(sent.priority, 7, "a GRANT goes before data: {sent:?}");
        let id = sent.id() & !1;
        let message = messages.iter_mut().find(|it| it.id == id && it.from.address == sent.to);
        let message = message.expect("a message of somebody");
        assert!(grant.offset >= message.granted, "less than before: {message:?}, {grant:?}");
        assert!(grant.offset <= message.length, "beyond its end: {message:?}, {grant:?}");
        (message.granted, message.priority) = (grant.offset, grant.priority);
        granted.push(id);
    }
    granted
}

/// Whoever began and is neither over nor granted to the end.
fn open(messages: &[Message]) -> impl Iterator<Item = &Message> {
    messages.iter().filter(|it| !it.over)
}

/// Finishes all messages as they are granted; they end within the time that it takes to hand out
/// windows.
fn finish(script: &mut Script, messages: &mut [Message], chunk: u32) {
    for _ in 0..200_000 {
        let can = |it: &Message| !it.over && it.sent < it.granted;
        let able: Vec<usize> = (0..messages.len()).filter(|at| can(&messages[*at])).collect();
        if able.is_empty() {
            break;
        }
        let at = able[script.dice.below(able.len() as u64) as usize];
        let upto = messages[at].granted.min(messages[at].sent + chunk);
        send(script, &mut messages[at], upto);
        let sent = script.react();
        heed(messages, &sent);
    }
    let left: Vec<_> = open(messages).collect();
    assert!(left.is_empty(), "nothing is granted any more: {left:?}");
    for message in messages.iter() {
        assert_eq!(script.ran(message.call), 1);
        script.ack(&message.from, message.id);
    }
}

/// Any number of messages from any number of hosts: at most so many are granted at a time, the
/// shortest first, each host before another gets two; no more is on its way than may be, and no
/// less as long as somebody waits.
pub(super) fn windows_and_places(dice: &mut Dice) -> Script {
    let overcommit = between(dice, 1, 8);
    let max_incoming = pick(dice, &[60_000, 200_000, 400_000, 800_000]);
    let mut script = with_windows(dice, overcommit, max_incoming);
    let hosts = script.remotes(between(dice, 1, 6) as u8);
    let count = between(dice, 1, 12);
    let mut messages: Vec<Message> = Vec::new();
    let mut steps = 0;
    while (messages.len() as u64) < count || open(&messages).next().is_some() {
        let can: Vec<usize> = (0..messages.len())
            .filter(|at| !messages[*at].over && messages[*at].sent < messages[*at].granted)
            .collect();
        let begins = (messages.len() as u64) < count && (can.is_empty() || percent(dice, 30));
        if begins {
            let from = hosts[dice.below(hosts.len() as u64) as usize];
            let length = between(dice, 20_000, 900_000) as u32;
            let unscheduled = pick(dice, &[FULL, FULL, 10_000]);
            let message = begin(&mut script, from, length, unscheduled);
            messages.push(message);
        } else if percent(dice, 5) {
            // Its sender does not go on.
            let at = dice.below(messages.len() as u64) as usize;
            if !messages[at].over {
                let (from, id) = (messages[at].from, messages[at].id);
                script.unknown(&from, id, Reason::Cancelled, 0);
                messages[at].over = true;
            }
        } else {
            assert!(!can.is_empty(), "nobody may send: {messages:?}");
            let at = can[dice.below(can.len() as u64) as usize];
            let most = messages[at].granted - messages[at].sent;
            let bytes = between(dice, 1, u64::from(most.min(20_000))) as u32;
            let upto = messages[at].sent + bytes;
            send(&mut script, &mut messages[at], upto);
        }
        let before: Vec<u32> = messages.iter().map(Message::outstanding).collect();
        let heard = script.react();
        heed(&mut messages, &heard);
        steps += 1;
        if steps > 4_000 {
            break;
        }
        let all: u32 = messages.iter().map(Message::outstanding).sum();
        let window = |active: u32| max_incoming / (active + 1);
        // Windows were wider before others began.
        for (message, before) in messages.iter().zip(&before) {
            let now = message.outstanding();
            assert!(now <= window(1).max(*before).max(1_000), "{now} B granted ahead: {message:?}");
        }
        assert!(all <= max_incoming.max(1_000), "{all} B granted ahead");
    }
    // What is left over goes on as well.
    let mut rest: Vec<Message> = messages.into_iter().filter(|it| !it.over).collect();
    finish(&mut script, &mut rest, 20_000);
    script
}

/// One place: it goes to the shortest, in the order of what is left, and to the next as soon as it
/// is free.
pub(super) fn the_shortest_goes_first(dice: &mut Dice) -> Script {
    let mut script = Script::new(
        dice,
        Config::exact().with(|config| {
            config.grants.max_overcommit = 1;
            config.grants.max_incoming_bytes = 1_600_000;
        }),
    );
    let hosts = script.remotes(5);
    let count = between(dice, 2, 5) as usize;
    let mut messages = Vec::new();
    for from in hosts.iter().take(count) {
        let length = between(dice, 30_000, 300_000) as u32;
        let message = begin(&mut script, *from, length, FULL);
        messages.push(message);
        if percent(dice, 50) {
            let sent = script.react();
            heed(&mut messages, &sent);
        }
    }
    let sent = script.react();
    heed(&mut messages, &sent);
    while open(&messages).next().is_some() {
        let best = open(&messages).map(Message::remaining).min().expect("some are open");
        let shortest: Vec<u64> =
            open(&messages).filter(|it| it.remaining() == best).map(|it| it.id).collect();
        let allowed = |it: &Message| it.granted > it.sent;
        let of_shortest = open(&messages).find(|it| shortest.contains(&it.id) && allowed(it));
        assert!(of_shortest.is_some(), "the shortest waits: {messages:?}");
        let id = of_shortest.map(|it| it.id).expect("found above");
        let at = messages.iter().position(|it| it.id == id).expect("it is one of them");
        if percent(dice, 15) {
            let (from, id) = (messages[at].from, messages[at].id);
            script.unknown(&from, id, Reason::Cancelled, 0);
            messages[at].over = true;
        } else {
            let upto = messages[at].granted.min(messages[at].sent + 20_000);
            send(&mut script, &mut messages[at], upto);
        }
        let sent = script.react();
        heed(&mut messages, &sent);
    }
    script
}

/// With as many priorities as messages the shorter has the higher one, the longest the lowest of
/// all.
pub(super) fn priorities_follow_what_is_left(dice: &mut Dice) -> Script {
    let mut script = Script::new(
        dice,
        Config::exact().with(|config| {
            config.grants.max_overcommit = 6;
            config.grants.max_incoming_bytes = 1_000_000;
        }),
    );
    let count = between(dice, 1, 4) as usize;
    let hosts = script.remotes(count as u8);
    let mut messages: Vec<Message> = Vec::new();
    let mut lengths: Vec<u32> = (0..count).map(|number| 600_000 + 60_000 * number as u32).collect();
    for at in (1..count).rev() {
        lengths.swap(at, dice.below(at as u64 + 1) as usize);
    }
    for (from, length) in hosts.iter().zip(&lengths) {
        let message = begin(&mut script, *from, *length, FULL);
        messages.push(message);
        let sent = script.react();
        heed(&mut messages, &sent);
    }
    for message in 0..count {
        let upto = messages[message].sent + FULL;
        send(&mut script, &mut messages[message], upto);
        let sent = script.react();
        if !heed(&mut messages, &sent).contains(&messages[message].id) {
            continue;
        }
        let longer =
            messages.iter().filter(|it| it.remaining() > messages[message].remaining()).count();
        assert_eq!(usize::from(messages[message].priority), longer, "{message}: {messages:?}");
    }
    finish(&mut script, &mut messages, 30_000);
    script
}

/// Each host has a place before another has two.
pub(super) fn places_are_shared_by_hosts(dice: &mut Dice) -> Script {
    let overcommit = between(dice, 2, 4);
    let mut script = with_windows(dice, overcommit, 4_000_000);
    let hosts = script.remotes(overcommit as u8);
    let mut messages: Vec<Message> = Vec::new();
    // One host has all of the places with short messages, then the others come with longer ones.
    for _ in 0..overcommit {
        let message = begin(&mut script, hosts[0], between(dice, 100_000, 200_000) as u32, FULL);
        messages.push(message);
    }
    let sent = script.react();
    heed(&mut messages, &sent);
    for from in &hosts[1..] {
        let message = begin(&mut script, *from, between(dice, 300_000, 900_000) as u32, FULL);
        messages.push(message);
        let sent = script.react();
        heed(&mut messages, &sent);
        let last = messages.last().expect("just begun");
        assert!(last.granted > last.sent, "a host without a place: {last:?}");
    }
    finish(&mut script, &mut messages, 50_000);
    script
}

/// The oldest message gets its share however many shorter ones come, at most a window at a time;
/// unvalidated clients have none.
pub(super) fn the_oldest_has_a_share(dice: &mut Dice) -> Script {
    let permille = between(dice, 100, 500);
    let increment = between(dice, 5_000, 150_000) as u32;
    let max_incoming = pick(dice, &[100_000, 200_000, 400_000]);
    let mut script = Script::new(
        dice,
        Config::exact().with(|config| {
            config.grants.max_overcommit = 1;
            config.grants.fifo_permille = permille as u16;
            config.fixed.fifo_grant_bytes = increment;
            config.grants.max_incoming_bytes = max_incoming;
        }),
    );
    let (old, busy, unvalidated) =
        (script.remote(1), script.remote(2), script.remote(3).unvalidated());
    let strange = percent(dice, 50).then(|| {
        let message = begin(&mut script, unvalidated, 950_000, FULL);
        script.react();
        message
    });
    let mut messages = vec![begin(&mut script, old, 1_000_000, FULL)];
    let another = script.remote(4);
    let sent = script.react();
    heed(&mut messages, &sent);
    let (mut to_others, mut to_oldest, mut at_once) = (0_u64, 0_u64, 0);
    let length = between(dice, 60_000, 200_000) as u32;
    let mut open_now = vec![
        begin(&mut script, busy, length, FULL),
        begin(&mut script, another, length + 10_000, FULL),
    ];
    messages.append(&mut open_now);
    for _ in 0..1_500 {
        let before: Vec<u32> = messages.iter().map(|it| it.granted).collect();
        let sent = script.react();
        for sent in &sent {
            assert!(
                sent.grant().is_none() || sent.to != unvalidated.address,
                "unvalidated clients have none"
            );
        }
        heed(&mut messages, &sent);
        for (at, (message, before)) in messages.iter().zip(before).enumerate() {
            let more = message.granted - before;
            match at {
                0 => to_oldest += u64::from(more),
                _ => to_others += u64::from(more),
            }
            at_once = at_once.max(if at == 0 { more } else { 0 });
        }
        if messages[0].granted > messages[0].sent {
            let upto = messages[0].granted.min(messages[0].sent + 20_000);
            send(&mut script, &mut messages[0], upto);
            if messages[0].over {
                break;
            }
            continue;
        }
        let Some(at) = (1..messages.len()).find(|at| {
            let it = &messages[*at];
            !it.over && it.granted > it.sent
        }) else {
            break;
        };
        let upto = messages[at].granted.min(messages[at].sent + 20_000);
        if upto == messages[at].length && messages.len() < 14 {
            // There are always two that are shorter.
            let from = messages[at].from;
            let message = begin(&mut script, from, length, FULL);
            messages.push(message);
        }
        send(&mut script, &mut messages[at], upto);
        let shorter = (1..messages.len()).filter(|at| !messages[*at].over).count();
        if shorter < 2 {
            break;
        }
    }
    let window = u64::from(max_incoming / 2);
    // Its share is earned by what others are granted, an increment at a time.
    let earned = to_others * permille / 1000;
    assert!(to_oldest > 0 || earned < 2 * u64::from(increment), "{to_others} B for others only");
    // Near its end it is the shortest as well, and has its place besides its share.
    let share = window.min(u64::from(increment));
    assert!(u64::from(at_once) <= window + share + 1_000, "{at_once} B at once");
    if let Some(message) = strange {
        script.unknown(&message.from, message.id, Reason::Cancelled, 0);
    }
    script.unknown(&old, messages[0].id, Reason::Cancelled, 0);
    script.react();
    script
}

/// A sender that does not react leaves its place to others within a few milliseconds, and has one
/// again when it speaks.
pub(super) fn silent_senders_leave_their_places(dice: &mut Dice) -> Script {
    let mut script = Script::new(
        dice,
        Config::exact().with(|config| {
            config.grants.max_overcommit = 1;
            config.recovery.resend_interval = Duration::from_millis(5);
        }),
    );
    let (silent, other) = (script.remote(1), script.remote(2));
    let mut messages = vec![begin(&mut script, silent, 500_000, FULL)];
    let sent = script.react();
    heed(&mut messages, &sent);
    assert!(messages[0].granted > messages[0].sent);
    let length = between(dice, 600_000, 900_000) as u32;
    let message = begin(&mut script, other, length, FULL);
    messages.push(message);
    let sent = script.pass(4 * MS);
    heed(&mut messages, &sent);
    assert!(messages[1].granted > messages[1].sent, "who reacts has the place");
    let began_ns = script.now_ns();
    // It goes on as well, as soon as it speaks.
    let upto = messages[0].sent + between(dice, 1, 3_000) as u32;
    send(&mut script, &mut messages[0], upto);
    let before = messages[0].granted;
    let mut waited_ns = 0;
    while messages[0].granted == before && waited_ns < 300 * MS {
        for at in [1, 0] {
            let able = messages[at].granted.min(messages[at].sent + 30_000);
            if able > messages[at].sent {
                send(&mut script, &mut messages[at], able);
            }
        }
        let sent = script.react();
        heed(&mut messages, &sent);
        waited_ns = script.now_ns() - began_ns;
        if messages[0].granted == messages[0].sent && messages[0].granted == before {
            assert!(waited_ns < 100 * MS, "it is never granted again");
        }
    }
    finish(&mut script, &mut messages, 50_000);
    script
}

/// A sender whose message ranks behind others that move keeps its place: its silence is explained.
pub(super) fn who_waits_behind_others_is_excused(dice: &mut Dice) -> Script {
    let mut script =
        Script::new(dice, Config::exact().with(|config| config.grants.max_overcommit = 2));
    let hosts = script.remotes(3);
    let mut messages = vec![
        begin(&mut script, hosts[0], 300_000, FULL),
        begin(&mut script, hosts[1], 600_000, FULL),
        begin(&mut script, hosts[2], 900_000, FULL),
    ];
    let sent = script.react();
    heed(&mut messages, &sent);
    let third = messages[2].granted;
    // The first moves all the time, the second does not.
    let rounds = between(dice, 40, 60);
    for _ in 0..rounds {
        let upto = messages[0].granted.min(messages[0].sent + 4_500);
        if messages[0].over || upto == messages[0].sent {
            break;
        }
        send(&mut script, &mut messages[0], upto);
        let sent = script.pass(250 * US);
        heed(&mut messages, &sent);
    }
    assert_eq!(messages[2].granted, third, "the place of the second is its own");
    finish(&mut script, &mut messages, 50_000);
    script
}

/// Unvalidated clients have one place together, behind all others, and make way for whoever has
/// proved its address.
pub(super) fn unvalidated_clients_are_behind_all_others(dice: &mut Dice) -> Script {
    let overcommit = between(dice, 1, 4);
    let mut script = with_windows(dice, overcommit, 4_000_000);
    let hosts = script.remotes(10);
    let mut strange = Vec::new();
    for (number, from) in (0..).zip(&hosts[..5]) {
        let length = 100_000 + 20_000 * number + between(dice, 0, 10_000) as u32;
        let message = begin(&mut script, from.unvalidated(), length, FULL);
        strange.push(message);
    }
    let sent = script.react();
    heed(&mut strange, &sent);
    let with_grant = strange.iter().filter(|it| it.granted > it.sent).count();
    assert!(with_grant <= 1, "{with_grant} unvalidated clients are granted");
    let mut messages = Vec::new();
    for from in &hosts[5..5 + overcommit as usize] {
        let message = begin(&mut script, *from, between(dice, 300_000, 900_000) as u32, FULL);
        messages.push(message);
        let sent = script.react();
        let ours: Vec<Sent> = sent
            .into_iter()
            .filter(|it| messages.iter().any(|m: &Message| m.from.address == it.to))
            .collect();
        heed(&mut messages, &ours);
        let last = messages.last().expect("just begun");
        assert!(last.granted > last.sent, "an unvalidated client makes way: {last:?}");
    }
    // A place that is free goes to who waits for it, not to unvalidated clients.
    let waits = begin(&mut script, hosts[9], 950_000, FULL);
    let sent = script.react();
    let of = |sent: &[Sent], to: &Remote| {
        sent.iter().any(|sent| sent.grant().is_some() && sent.to == to.address)
    };
    assert!(!of(&sent, &waits.from));
    script.unknown(&messages[0].from, messages[0].id, Reason::Cancelled, 0);
    let sent = script.react();
    assert!(of(&sent, &waits.from), "the free place is taken by who waits");
    assert!(hosts[..5].iter().all(|it| !of(&sent, it)));
    for message in messages.iter().skip(1).chain(&strange).chain([&waits]) {
        script.unknown(&message.from, message.id, Reason::Cancelled, 0);
    }
    script.react();
    script
}

/// A slow reader of a stream holds its sender back: no more waits unread than may, and as it reads
/// more is granted.
pub(super) fn readers_hold_their_senders_back(dice: &mut Dice) -> Script {
    let unread_max = between(dice, 65_536, 150_000) as u32;
    let read_ns = between(dice, 1, 20) * MS;
    let mut script = Script::with_plan(dice, |plan| {
        plan.config = Config::exact();
        plan.config.fixed.unread_bytes_max = unread_max;
        plan.stream_requests = true;
        plan.read_delay_ns = read_ns;
    });
    let from = script.remote(1);
    let length = between(dice, 300_000, 900_000) as u32;
    let mut messages = vec![begin(&mut script, from, length, FULL)];
    let mut idle = 0;
    while !messages[0].over {
        let sent = script.pass(100 * US);
        heed(&mut messages, &sent);
        let read = script.world.shard(HOST).and_then(|shard| {
            let rpc = shard.engine().rpcs().find(|rpc| rpc.id == messages[0].id | 1)?;
            shard.store().incoming(rpc.rpc).map(|(_, taken)| taken)
        });
        let (read, granted) = (read.unwrap_or(0), messages[0].granted);
        assert!(granted <= read + unread_max, "{granted} B granted, {read} B read of {unread_max}");
        let held = script.stats().receive_memory_bytes;
        assert!(held <= u64::from(unread_max) + 2 * 65_536, "{held} B held, {read} B read");
        if granted > messages[0].sent {
            idle = 0;
            let upto = granted.min(messages[0].sent + 20_000);
            send(&mut script, &mut messages[0], upto);
        } else {
            idle += 1;
            assert!(idle < 10 * (read_ns / MS + 2), "it has read and grants nothing: {messages:?}");
        }
    }
    script.pass_ms(50);
    assert_eq!(script.ran(messages[0].call), 1);
    script.ack(&from, messages[0].id);
    script
}

/// However many messages a host sends, it is granted little more than half of what may be on its
/// way, and of what it announces a window counts.
pub(super) fn no_host_is_granted_everything(dice: &mut Dice) -> Script {
    let config = Config::exact().with(|config| config.grants.max_overcommit = 8);
    let mut script = Script::new(dice, config);
    let (greedy, honest) = (script.remote(1), script.remote(2));
    let mut messages = Vec::new();
    let unscheduled = pick(dice, &[0, 39_000]);
    for _ in 0..between(dice, 8, 14) {
        let length = between(dice, 500_000, 900_000) as u32;
        let call = script.plan(&greedy, length, 100, Response::After { service_ns: 0 });
        let (id, pattern) = (client_id(dice), script.request_of(call));
        script
            .data_with(&greedy, id, pattern, 0..FULL, |data| data.incoming = FULL.max(unscheduled));
        let granted = FULL.max(unscheduled);
        messages.push(Message {
            from: greedy,
            id,
            call,
            length,
            sent: FULL,
            granted,
            priority: 0,
            over: false,
        });
    }
    let sent = script.react();
    heed(&mut messages, &sent);
    let given: u32 = messages.iter().map(|it| it.granted - FULL.max(unscheduled)).sum();
    assert!(given <= 200_000 + 400_000 / 9 + 9, "{given} B granted to one host");
    let counted = script.stats().incoming_bytes;
    assert!(counted <= u64::from(given) + 400_000 / 9 + 9, "{counted} B count for {given} B");
    let message = begin(&mut script, honest, 300_000, FULL);
    let mut ours = vec![message];
    let sent: Vec<Sent> =
        script.react().into_iter().filter(|sent| sent.to == honest.address).collect();
    heed(&mut ours, &sent);
    assert!(ours[0].granted > ours[0].sent, "something is left for others");
    for message in messages.iter().chain(&ours) {
        script.unknown(&message.from, message.id, Reason::Cancelled, 0);
    }
    script.react();
    script
}

/// The beginnings of many messages get lost, and nothing else: what is asked for at a time is
/// limited, and each is asked for in the end, soon.
pub(super) fn resends_fit_what_may_come(dice: &mut Dice) -> Script {
    let mut script = Script::new(dice, Config::default());
    let from = script.remote(1);
    let rounds = between(dice, 15, 40);
    for number in 1..=rounds {
        let call = script.plan(&from, 30_000, 100, Response::After { service_ns: 0 });
        let (id, pattern) = (client_id(dice), script.request_of(call));
        script.data(&from, id, pattern, 0..FULL);
        let sent = script.pass_ms(20);
        let asked: u32 = sent.iter().filter_map(Sent::resend).map(|it| it.length).sum();
        assert!(asked >= 30_000 - FULL, "message {number}: {asked} B are asked for");
        script.data(&from, id, pattern, FULL..30_000);
        script.react();
        assert_eq!(script.ran(call), 1);
        script.ack(&from, id);
    }
    // While others speak one packet is asked for first.
    let call = script.plan(&from, 30_000, 100, Response::After { service_ns: 0 });
    let (id, pattern) = (client_id(dice), script.request_of(call));
    script.data(&from, id, pattern, 0..FULL);
    let mut asked = Vec::new();
    for _ in 0..20 {
        asked.extend(script.pass_ms(1).iter().filter_map(Sent::resend).map(|it| it.length));
        if !asked.is_empty() {
            break;
        }
        let (_, sent) = script.ask(&from, client_id(dice), 100, 100);
        drop(sent);
    }
    assert!(asked.len() == 1 && asked[0] <= FULL, "{asked:?}");
    script.data(&from, id, pattern, FULL..30_000);
    script.react();
    script
}

/// One long packet, of an unvalidated client or long ago, does not change what is granted.
pub(super) fn long_packets_are_forgotten(dice: &mut Dice) -> Script {
    let mut script =
        Script::new(dice, Config::default().with(|config| config.grants.fifo_permille = 0));
    let (long, other) = (script.remote(1), script.remote(2));
    let strange = percent(dice, 50);
    let from = if strange { long.unvalidated() } else { long };
    let call = script.plan(&from, 60_000, 100, Response::After { service_ns: 0 });
    let (id, pattern) = (client_id(dice), script.request_of(call));
    let header = script.data_header(&from, id, 60_000, 0);
    let payload: Vec<u8> = pattern.range(0, 50_000).iter().flat_map(|part| part.to_vec()).collect();
    script.header(&from, &header, &payload);
    script.react();
    script.unknown(&from, id, Reason::Cancelled, 0);
    script.react();
    if !strange {
        script.pass_ms(between(dice, 1_100, 4_000));
    }
    let mut messages = vec![begin(&mut script, other, 900_000, FULL)];
    let sent = script.react();
    heed(&mut messages, &sent);
    let ahead = messages[0].outstanding();
    assert!(ahead <= 200_000, "{ahead} B granted ahead of packets of {FULL} B");
    script.unknown(&other, messages[0].id, Reason::Cancelled, 0);
    script.react();
    script
}

/// However little may be on its way, messages go on.
pub(super) fn however_little_may_come_it_comes(dice: &mut Dice) -> Script {
    let max_incoming = log_between(dice, 1, 3_000) as u32;
    let mut script = Script::new(
        dice,
        Config::exact().with(|config| config.grants.max_incoming_bytes = max_incoming),
    );
    let mut messages = Vec::new();
    for from in script.remotes(3) {
        let length = between(dice, 2_000, 30_000) as u32;
        let message = begin(&mut script, from, length, FULL);
        messages.push(message);
        let sent = script.react();
        heed(&mut messages, &sent);
    }
    finish(&mut script, &mut messages, 1_400);
    script
}

/// Room that a message leaves when it ends is given to those that lack some, at once, the shortest
/// first.
pub(super) fn room_that_is_left_is_given_to_others(dice: &mut Dice) -> Script {
    let max_incoming = between(dice, 100_000, 400_000) as u32;
    let mut script = Script::new(
        dice,
        Config::exact().with(|config| {
            config.grants.max_overcommit = 8;
            config.grants.max_incoming_bytes = max_incoming;
        }),
    );
    let hosts = script.remotes(5);
    let mut messages = Vec::new();
    for from in &hosts {
        let message = begin(&mut script, *from, between(dice, 500_000, 900_000) as u32, FULL);
        messages.push(message);
        let sent = script.react();
        heed(&mut messages, &sent);
    }
    let ends_now = (0..5).find(|at| !messages[*at].over && messages[*at].outstanding() > 2_000);
    if let Some(at) = ends_now {
        // Who has less than a window.
        let open: u32 = open(&messages).count() as u32;
        let window = max_incoming / (open + 1);
        let lacks = messages
            .iter()
            .any(|it| !it.over && it.id != messages[at].id && it.outstanding() + 1_000 < window);
        let left: u32 = messages.iter().map(Message::outstanding).sum();
        let ends = percent(dice, 50);
        if ends {
            let (from, id) = (messages[at].from, messages[at].id);
            script.unknown(&from, id, Reason::Cancelled, 0);
            messages[at].over = true;
        } else {
            let upto = messages[at].granted;
            send(&mut script, &mut messages[at], upto);
        }
        let sent = script.react();
        let granted = heed(&mut messages, &sent);
        assert!(!lacks || !granted.is_empty(), "{left} B of {max_incoming}: {messages:?}");
    }
    for message in messages.iter().filter(|it| !it.over) {
        script.unknown(&message.from, message.id, Reason::Cancelled, 0);
    }
    script.react();
    script
}
