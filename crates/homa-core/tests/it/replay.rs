//! Recorded hosts of the Linux implementation against the engine in the role of the other side:
//! every recording, both roles. `HOMA_CAPTURES=DIR` adds the recordings of a directory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::harness::replay::frames::{Content, Frame, read};
use crate::harness::replay::player::{Answer, Player};
use crate::harness::replay::recordings;
use crate::harness::replay::story::Story;

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs a check for every recording and every host in it; reports all that fail.
fn for_each_role(mut check: impl FnMut(&Path, &Story, IpAddr)) {
    let mut failures = Vec::new();
    let mut roles = 0;
    for path in recordings() {
        let story = Story::new(read(&path));
        assert!(!story.calls.is_empty(), "{}: no RPC in it", path.display());
        for host in story.hosts() {
            roles += 1;
            let result = catch_unwind(AssertUnwindSafe(|| check(&path, &story, host)));
            if let Err(panic) = result {
                let text = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                failures.push(format!("{} as {host}: {}", name(&path), text.unwrap_or_default()));
            }
        }
    }
    assert!(roles > 0);
    assert!(failures.is_empty(), "{} of {roles}:\n{}", failures.len(), failures.join("\n\n"));
}

fn player<'a>(path: &Path, story: &'a Story, host: IpAddr) -> Player<'a> {
    let mut player = Player::new(story, host);
    player.patterned = path.to_string_lossy().contains("testdata/captures");
    player
}

/// Does the other side say that nobody is there?
fn icmp_about(frames: &[Frame], from: IpAddr) -> bool {
    let from_there =
        |frame: &Frame| matches!(&frame.content, Content::Icmp(_)) && frame.source == from;
    frames.iter().any(from_there)
}

#[test]
fn in_either_role_every_rpc_ends_as_in_the_recording() {
    for_each_role(|path, story, host| {
        let mut player = player(path, story, host);
        player.run();
        for (key, call) in &story.calls {
            let view = player.views.get(key);
            if call.client.ip() == host && call.request.is_some() {
                let view = view.expect("it was begun");
                let whole = call.response.as_ref().is_some_and(|response| response.is_complete());
                let refused = icmp_about(&story.frames, call.server.ip());
                let gone = icmp_about(&story.frames, host);
                assert!(view.arrived || !whole || gone, "{key:?} has no answer: {view:?}");
                assert!(view.failed || !refused || view.arrived, "{key:?} goes on: {view:?}");
            }
            let whole = call.request.as_ref().is_some_and(|request| request.is_complete());
            let closed = icmp_about(&story.frames, host);
            if call.server.ip() == host && whole && !closed {
                let view = view.expect("its packets were played");
                assert!(view.arrived, "the request of {key:?} did not arrive: {view:?}");
                if let Some(response) = &call.response {
                    let stopped = icmp_about(&story.frames, call.client.ip());
                    let all = view.sent_all() || !response.is_complete() || stopped;
                    assert!(all, "the response of {key:?} was not sent: {view:?}");
                }
            }
        }
        player.rest();
        for (key, view) in &player.views {
            assert!(
                !view.is_client || view.arrived || view.failed,
                "{key:?} never ended: {view:?}"
            );
        }
    });
}

#[test]
fn messages_are_cut_where_the_recorded_host_cut_them() {
    for_each_role(|path, story, host| {
        let mut player = player(path, story, host);
        player.run();
        for (key, view) in &player.views {
            let recorded = if view.is_client { &view.call.request } else { &view.call.response };
            let Some(recorded) = recorded.as_ref().filter(|message| message.is_complete()) else {
                continue;
            };
            for range in &view.tx_first {
                assert!(
                    recorded.segments.contains(range),
                    "{key:?}: {range:?} not in {recorded:?}"
                );
            }
        }
    });
}

#[test]
fn control_packets_are_answered_as_by_the_recorded_host() {
    let mut answers: BTreeMap<Answer, usize> = BTreeMap::new();
    for_each_role(|path, story, host| {
        let mut player = player(path, story, host);
        player.run();
        let shared_without_loss = player.patterned && !name(path).starts_with("lossy");
        for answer in &player.answers {
            *answers.entry(answer.clone()).or_default() += 1;
            let same = answer.recorded.split('+').any(|kind| kind == answer.ours);
            // Of several RESENDs in a row only the last is followed by the answer.
            let unanswered = answer.recorded.is_empty() || answer.recorded == "RESEND";
            let explained = !shared_without_loss && is_explained_by_loss(answer);
            // Whether it was asked for twice in one interval was checked when it was asked.
            let once_is_enough = answer.question == "RESEND" && answer.ours.is_empty();
            assert!(same || unanswered || explained || once_is_enough, "{answer:?}");
        }
    });
    for (answer, count) in &answers {
        println!("{count:5} {answer:?}");
    }
}

/// Packets that were lost behind the point of recording are in it, and those lost before it are
/// not: the engine knows more, or answers later, than the recorded host.
fn is_explained_by_loss(answer: &Answer) -> bool {
    let known = [
        ("NEED_ACK", "RESEND", "ACK"),
        ("RESEND", "RPC_UNKNOWN", "BUSY"),
        ("RESEND", "RPC_UNKNOWN", "DATA again"),
        ("RESEND", "BUSY", "DATA again"),
        ("RESEND", "DATA again", "BUSY"),
    ];
    known.contains(&(answer.question, answer.recorded.as_str(), answer.ours.as_str()))
}

#[test]
fn whatever_part_of_a_recording_is_lost_the_engine_sends_nothing_wrong() {
    for_each_role(|path, story, host| {
        for seed in 0..4u64 {
            let mut player = player(path, story, host);
            player.lost = Box::new(move |number| {
                let mixed = (number as u64 + 1 + 1000 * seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                (mixed >> 40) % 10 < 1 + 2 * seed
            });
            player.run();
            player.rest();
        }
    });
}
