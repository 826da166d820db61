//! Output for people: a line per packet, a paragraph per RPC, and totals.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use homa_wire::{PacketType, RpcId};

use crate::analysis::{Observation, Totals, What};
use crate::check::{Check, Finding, Severity};
use crate::decode::Frame;
use crate::follow::{Direction, Follow, Message, Rpc, is_from_client};
use crate::words;

/// One line for an observed packet and one more for each finding. `start_ns` is the time that
/// counts as 0.
pub fn packet_line(observation: &Observation<'_>, start_ns: u64) -> String {
    let mut line = seconds(observation.time_ns.saturating_sub(start_ns));
    let _ = match observation.what {
        What::Packet(frame, _) => write!(
            line,
            "  {} > {}  {:<11}  {}  level {}{}  {}",
            address(frame.source, frame.header.common.source_port),
            address(frame.destination, frame.header.common.destination_port),
            frame.header.packet_type(),
            id(frame),
            frame.level(),
            marks(frame),
            words::meaning(observation),
        ),
        What::Bad(bad) => {
            let (from, to) = bad.ports.unwrap_or((0, 0));
            let (source, destination) = (address(bad.source, from), address(bad.destination, to));
            let meaning = words::meaning(observation);
            write!(line, "  {source} > {destination}  {:<11}  {meaning}", "BAD")
        }
        What::Icmp(error) => {
            let id = error
                .quoted
                .sender_id
                .map_or(String::new(), |id| format!("rpc {}  ", RpcId(id).of_client().0));
            let meaning = words::meaning(observation);
            write!(
                line,
                "  {} > {}  {:<11}  {id}{meaning}",
                error.source, error.destination, "ICMP"
            )
        }
    };
    line.push('\n');
    for finding in observation.findings {
        finding_line(&mut line, finding);
    }
    line
}

fn finding_line(line: &mut String, finding: &Finding) {
    let check = finding.check;
    let severity = match check.severity() {
        Severity::Violation => "VIOLATION",
        Severity::Note => "note",
    };
    let _ = writeln!(
        line,
        "            {severity} {}: {}: {} [{}]",
        check.name(),
        finding.detail,
        check.explanation(),
        check.spec(),
    );
}

/// A paragraph about an RPC: what became of it, its messages, its times.
pub fn rpc_text(rpc: &Rpc, start_ns: u64) -> String {
    let key = &rpc.key;
    let client = address(key.client, rpc.client_port);
    let mut text =
        format!("rpc {} ({:#x})  {client} > {}  {}", key.id, key.id, key.server, words::state(rpc));
    match rpc.acknowledged_ns {
        Some(at) => {
            let _ = write!(text, ", acknowledged after {}", milliseconds(at, rpc.first_ns));
        }
        None => text.push_str(", not acknowledged"),
    }
    if !rpc.from_start {
        text.push_str(" (its beginning is not in the recording)");
    }
    let _ = writeln!(text, ", first packet at {}", seconds(rpc.first_ns.saturating_sub(start_ns)));
    message_text(&mut text, rpc, Direction::Request);
    message_text(&mut text, rpc, Direction::Response);
    let mut counts = String::new();
    let other = [PacketType::NeedAck, PacketType::Ack, PacketType::RpcUnknown, PacketType::Freeze];
    for packet_type in other {
        let count = rpc.count(packet_type);
        if count > 0 {
            let _ = write!(counts, "  {packet_type} {count}");
        }
    }
    if rpc.icmp_errors > 0 {
        let _ = write!(counts, "  ICMP {}", rpc.icmp_errors);
    }
    if rpc.violations > 0 {
        let _ = write!(counts, "  violations {}", rpc.violations);
    }
    if !counts.is_empty() {
        let _ = writeln!(text, "   {counts}");
    }
    text
}

fn message_text(text: &mut String, rpc: &Rpc, direction: Direction) {
    let message = rpc.message(direction);
    let _ = write!(text, "    {:<8}  ", direction.name());
    let Some(length) = message.length else {
        text.push_str("not recorded");
        message_counts(text, message);
        text.push('\n');
        return;
    };
    let _ = write!(text, "{length} B");
    if !message.is_complete() {
        let _ = write!(text, " ({} recorded)", message.recorded_bytes());
    }
    if let Some(first) = message.first_ns {
        let _ = write!(text, ", first byte after {}", milliseconds(first, rpc.first_ns));
    }
    if let Some(complete) = message.complete_ns {
        let _ = write!(text, ", complete after {}", milliseconds(complete, rpc.first_ns));
    }
    message_counts(text, message);
    text.push('\n');
}

fn message_counts(text: &mut String, message: &Message) {
    let counts = [
        (PacketType::Data.name(), message.packets),
        ("retransmitted", message.retransmitted_packets),
        ("bytes repeated", message.repeated_bytes),
        (PacketType::Grant.name(), message.grants),
        (PacketType::Resend.name(), message.resends),
        (PacketType::Busy.name(), message.busys),
    ];
    for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
        let _ = write!(text, ", {name} {count}");
    }
}

/// The totals of a recording.
pub fn totals_text(totals: &Totals, follow: &Follow) -> String {
    let mut text = format!("{} frames", totals.frames);
    if let Some((first, last)) = totals.times_ns {
        let _ = write!(text, " in {} s", seconds(last.saturating_sub(first)).trim_start());
    }
    let _ = write!(text, ", {} Homa packets:", totals.homa_packets());
    for (packet_type, count) in PacketType::ALL.iter().zip(totals.packets) {
        if count > 0 {
            let _ = write!(text, " {packet_type} {count}");
        }
    }
    if totals.icmp_errors > 0 {
        let _ = write!(text, "; ICMP errors {}", totals.icmp_errors);
    }
    text.push('\n');
    let states =
        |name: &str| follow.rpcs().filter(|rpc| words::state(rpc).starts_with(name)).count();
    let _ = write!(
        text,
        "{} RPCs: {} complete, {} failed, {} unfinished",
        follow.rpcs().count(),
        states("complete"),
        states("failed"),
        states("unfinished"),
    );
    if follow.given_up() > 0 {
        let _ = write!(text, " (and {} earlier ones no longer followed)", follow.given_up());
    }
    text.push('\n');
    if !totals.bad.is_empty() {
        text.push_str("bad packets:");
        for (name, count) in &totals.bad {
            let _ = write!(text, " {name} {count}");
        }
        text.push('\n');
    }
    findings_text(&mut text, "violations", Severity::Violation, totals);
    findings_text(&mut text, "notes", Severity::Note, totals);
    text
}

fn findings_text(text: &mut String, title: &str, severity: Severity, totals: &Totals) {
    let found = || totals.findings.iter().filter(|(check, _)| check.severity() == severity);
    if found().next().is_none() {
        if severity == Severity::Violation {
            text.push_str("no violations\n");
        }
        return;
    }
    let _ = write!(text, "{title}:");
    for (check, count) in found() {
        let check: &Check = check;
        let _ = write!(text, " {} {count}", check.name());
    }
    text.push('\n');
}

/// The id in the client's form, and who sent the packet.
fn id(frame: &Frame<'_>) -> String {
    let role = if is_from_client(frame) { "client" } else { "server" };
    format!("rpc {} {role}", RpcId(frame.header.common.sender_id).of_client().0)
}

/// What is not plain about how the packet travels.
fn marks(frame: &Frame<'_>) -> String {
    let mut marks = String::new();
    if frame.carriage != crate::decode::Carriage::Ip {
        let _ = write!(marks, "  {}", frame.carriage.name());
    }
    if let Some(vlan) = frame.vlan {
        let _ = write!(marks, "  vlan {vlan}");
    }
    marks
}

fn address(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

fn seconds(ns: u64) -> String {
    format!("{:>4}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
}

fn milliseconds(at_ns: u64, from_ns: u64) -> String {
    format!("{:.3} ms", at_ns.saturating_sub(from_ns) as f64 / 1e6)
}
