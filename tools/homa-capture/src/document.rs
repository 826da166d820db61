//! Output for programs: what packets, RPCs and totals look like in JSON (`docs/capture.md`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use homa_wire::{AckEntry, Body, PacketType, RpcId};
use serde::Serialize;

use crate::analysis::{Observation, Totals, What};
use crate::check::{Check, Finding, Severity};
use crate::decode::{Checksum, Frame};
use crate::follow::{Follow, Message, Rpc, State, is_from_client};
use crate::words;

/// A packet. Fields that its type does not have are absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PacketRecord {
    frame: u64,
    time: String,
    kind: &'static str,
    source: String,
    destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_port: Option<u16>,
    carriage: &'static str,
    #[serde(flatten)]
    fields: Option<Fields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<IcmpRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bad: Option<&'static str>,
    meaning: String,
    findings: Vec<FindingRecord>,
}

/// The fields of a Homa header, and of the IP header before it.
#[derive(Clone, Debug, Default, Serialize)]
struct Fields {
    tos: u8,
    level: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<u16>,
    #[serde(rename = "type")]
    packet_type: &'static str,
    rpc: String,
    sender_id: String,
    role: &'static str,
    packet_bytes: u32,
    header_whole: bool,
    sequence: u32,
    incarnation: u32,
    doff: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum_state: Option<&'static str>,
    urgent: u16,
    #[serde(flatten)]
    body: BodyFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<ExtensionRecord>,
}

/// What the packet types say.
#[derive(Clone, Debug, Default, Serialize)]
struct BodyFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incoming: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seg_offset: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retransmit: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    framed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    echo: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cutoff_version: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cutoffs: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_acks: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    acks: Vec<AckRecord>,
}

#[derive(Clone, Debug, Serialize)]
struct AckRecord {
    client_id: String,
    server_port: u16,
}

#[derive(Clone, Debug, Serialize)]
struct ExtensionRecord {
    echo: u32,
    reason: u8,
    value: u32,
}

#[derive(Clone, Debug, Serialize)]
struct IcmpRecord {
    #[serde(rename = "type")]
    kind: u8,
    code: u8,
    error: &'static str,
    quoted_source: IpAddr,
    quoted_destination: IpAddr,
    quoted_type: Option<&'static str>,
    quoted_sender_id: Option<String>,
    rpc: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct FindingRecord {
    name: &'static str,
    severity: &'static str,
    detail: String,
    explanation: &'static str,
    spec: &'static str,
}

impl PacketRecord {
    /// The record of an observed packet.
    pub fn new(observation: &Observation<'_>) -> Self {
        let mut record = Self {
            frame: observation.frame_number,
            time: time(observation.time_ns),
            meaning: words::meaning(observation),
            findings: observation.findings.iter().map(FindingRecord::new).collect(),
            ..Self::default()
        };
        match observation.what {
            What::Packet(frame, _) => record.fill(frame),
            What::Bad(bad) => {
                record.kind = "bad";
                record.source = bad.source.to_string();
                record.destination = bad.destination.to_string();
                record.carriage = bad.carriage.name();
                (record.source_port, record.destination_port) = bad.ports.unzip();
                record.bad = Some(bad.reason.name());
            }
            What::Icmp(error) => {
                let quoted = &error.quoted;
                record.kind = "icmp";
                record.source = error.source.to_string();
                record.destination = error.destination.to_string();
                record.source_port = Some(quoted.source_port);
                record.destination_port = Some(quoted.destination_port);
                record.carriage = quoted.carriage.name();
                record.icmp = Some(IcmpRecord {
                    kind: error.kind,
                    code: error.code,
                    error: error.meaning.name(),
                    quoted_source: quoted.source,
                    quoted_destination: quoted.destination,
                    quoted_type: quoted.packet_type.map(PacketType::name),
                    quoted_sender_id: quoted.sender_id.map(|id| id.to_string()),
                    rpc: quoted.sender_id.map(|id| RpcId(id).of_client().0.to_string()),
                });
            }
        }
        record
    }

    fn fill(&mut self, frame: &Frame<'_>) {
        let common = &frame.header.common;
        self.kind = "packet";
        self.source = frame.source.to_string();
        self.destination = frame.destination.to_string();
        self.source_port = Some(common.source_port);
        self.destination_port = Some(common.destination_port);
        self.carriage = frame.carriage.name();
        self.fields = Some(Fields {
            tos: frame.tos,
            level: frame.level(),
            vlan: frame.vlan,
            packet_type: frame.header.packet_type().name(),
            rpc: RpcId(common.sender_id).of_client().0.to_string(),
            sender_id: common.sender_id.to_string(),
            role: if is_from_client(frame) { "client" } else { "server" },
            packet_bytes: frame.packet_bytes,
            header_whole: frame.header_whole,
            sequence: common.sequence,
            incarnation: common.incarnation,
            doff: common.doff >> 4,
            flags: common.flags,
            window: common.window,
            checksum: common.checksum,
            checksum_state: match frame.checksum {
                Checksum::Correct => Some("correct"),
                Checksum::Offloaded => Some("offloaded"),
                Checksum::Wrong => Some("wrong"),
                Checksum::Unchecked => None,
            },
            urgent: common.urgent,
            body: if frame.header_whole || matches!(frame.header.body, Body::Ack(_)) {
                body_fields(frame)
            } else {
                BodyFields::default()
            },
            extension: frame.header.extension.map(|extension| ExtensionRecord {
                echo: extension.echo,
                reason: extension.reason.code(),
                value: extension.value,
            }),
        });
    }
}

fn body_fields(frame: &Frame<'_>) -> BodyFields {
    let common = &frame.header.common;
    let native = common.version().is_some();
    match &frame.header.body {
        Body::Data(data) => BodyFields {
            offset: Some(data.offset(frame.header.common.sequence)),
            message_length: Some(data.message_length),
            incoming: Some(data.incoming),
            payload_bytes: Some(frame.payload_bytes()),
            seg_offset: Some(data.seg_offset),
            retransmit: Some(data.is_retransmission(common).into()),
            framed: native.then(|| data.is_framed(common)),
            open: native.then(|| data.is_open(common)),
            echo: Some(data.echo),
            cutoff_version: Some(data.cutoff_version),
            acks: data.acknowledged().iter().map(AckRecord::new).collect(),
            ..BodyFields::default()
        },
        Body::Grant(grant) => BodyFields {
            offset: Some(grant.offset),
            priority: Some(grant.priority),
            ..BodyFields::default()
        },
        Body::Resend(resend) => BodyFields {
            offset: Some(resend.offset),
            length: Some(resend.length),
            priority: Some(resend.priority),
            ..BodyFields::default()
        },
        Body::Cutoffs(cutoffs) => BodyFields {
            cutoffs: Some(cutoffs.levels.to_vec()),
            cutoff_version: Some(cutoffs.version),
            ..BodyFields::default()
        },
        Body::Ack(ack) => BodyFields {
            num_acks: Some(ack.count),
            acks: ack.entries().iter().map(AckRecord::new).collect(),
            ..BodyFields::default()
        },
        Body::RpcUnknown | Body::Busy | Body::Freeze | Body::NeedAck => BodyFields::default(),
    }
}

impl AckRecord {
    fn new(entry: &AckEntry) -> Self {
        Self { client_id: entry.client_id.to_string(), server_port: entry.server_port }
    }
}

impl FindingRecord {
    fn new(finding: &Finding) -> Self {
        Self {
            name: finding.check.name(),
            severity: severity(finding.check),
            detail: finding.detail.clone(),
            explanation: finding.check.explanation(),
            spec: finding.check.spec(),
        }
    }
}

fn severity(check: Check) -> &'static str {
    match check.severity() {
        Severity::Violation => "violation",
        Severity::Note => "note",
    }
}

/// An RPC.
#[derive(Clone, Debug, Serialize)]
pub struct RpcRecord {
    rpc: String,
    client: IpAddr,
    client_port: u16,
    server: IpAddr,
    server_port: u16,
    carriage: &'static str,
    state: &'static str,
    failure: Option<&'static str>,
    from_start: bool,
    first_time: String,
    last_time: String,
    acknowledged_time: Option<String>,
    request: MessageRecord,
    response: MessageRecord,
    packets: BTreeMap<&'static str, u64>,
    icmp_errors: u64,
    violations: u64,
}

#[derive(Clone, Debug, Serialize)]
struct MessageRecord {
    length: Option<u32>,
    recorded_bytes: u64,
    complete: bool,
    first_time: Option<String>,
    complete_time: Option<String>,
    unscheduled: u32,
    granted: u32,
    data_packets: u64,
    retransmitted_packets: u64,
    repeated_bytes: u64,
    grants: u64,
    resends: u64,
    busys: u64,
}

impl MessageRecord {
    fn new(message: &Message) -> Self {
        Self {
            length: message.length,
            recorded_bytes: message.recorded_bytes(),
            complete: message.is_complete(),
            first_time: message.first_ns.map(time),
            complete_time: message.complete_ns.map(time),
            unscheduled: message.unscheduled,
            granted: message.granted,
            data_packets: message.packets,
            retransmitted_packets: message.retransmitted_packets,
            repeated_bytes: message.repeated_bytes,
            grants: message.grants,
            resends: message.resends,
            busys: message.busys,
        }
    }
}

impl RpcRecord {
    /// The record of an RPC.
    pub fn new(rpc: &Rpc) -> Self {
        let (state, failure) = match rpc.state() {
            State::Complete => ("complete", None),
            State::Unfinished => ("unfinished", None),
            State::Failed(failure) => ("failed", Some(words::failure(failure))),
        };
        Self {
            rpc: rpc.key.id.to_string(),
            client: rpc.key.client,
            client_port: rpc.client_port,
            server: rpc.key.server.ip(),
            server_port: rpc.key.server.port(),
            carriage: rpc.carriage.name(),
            state,
            failure,
            from_start: rpc.from_start,
            first_time: time(rpc.first_ns),
            last_time: time(rpc.last_ns),
            acknowledged_time: rpc.acknowledged_ns.map(time),
            request: MessageRecord::new(&rpc.request),
            response: MessageRecord::new(&rpc.response),
            packets: by_type(&rpc.packets),
            icmp_errors: rpc.icmp_errors,
            violations: rpc.violations,
        }
    }
}

/// Counts over a whole recording.
#[derive(Clone, Debug, Serialize)]
pub struct TotalsRecord {
    frames: u64,
    other_frames: u64,
    packets: BTreeMap<&'static str, u64>,
    payload_bytes: u64,
    icmp_errors: u64,
    bad: BTreeMap<&'static str, u64>,
    violations: BTreeMap<&'static str, u64>,
    notes: BTreeMap<&'static str, u64>,
    rpcs: usize,
    rpcs_given_up: u64,
    first_time: Option<String>,
    last_time: Option<String>,
}

impl TotalsRecord {
    /// The record of the totals.
    pub fn new(totals: &Totals, follow: &Follow) -> Self {
        let findings = |wanted: Severity| {
            let found = totals.findings.iter();
            let found = found.filter(|(check, _)| check.severity() == wanted);
            found.map(|(check, count)| (check.name(), *count)).collect()
        };
        Self {
            frames: totals.frames,
            other_frames: totals.other_frames,
            packets: by_type(&totals.packets),
            payload_bytes: totals.payload_bytes,
            icmp_errors: totals.icmp_errors,
            bad: totals.bad.clone(),
            violations: findings(Severity::Violation),
            notes: findings(Severity::Note),
            rpcs: follow.rpcs().count(),
            rpcs_given_up: follow.given_up(),
            first_time: totals.times_ns.map(|times| time(times.0)),
            last_time: totals.times_ns.map(|times| time(times.1)),
        }
    }
}

fn by_type(counts: &[u64; PacketType::ALL.len()]) -> BTreeMap<&'static str, u64> {
    let counts = PacketType::ALL.iter().zip(counts);
    counts.filter(|(_, count)| **count > 0).map(|(kind, count)| (kind.name(), *count)).collect()
}

/// Seconds since 1970 with nine decimals: more digits than a JSON number keeps.
fn time(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}
