//! Decoder, follower and checker joined: frames in, explained packets out.

use std::collections::BTreeMap;

use homa_wire::PacketType;

use crate::check::{Check, Checker, Finding, Severity};
use crate::decode::{BadPacket, Decoded, Decoder, Frame, IcmpError};
use crate::file::Recorded;
use crate::follow::{DataStep, Follow, Rpc, RpcKey, key_of, quoted_key};

/// What one Homa packet, or what should be one, means.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Number of the frame in the recording, from 1. The packets of a train share it.
    pub frame_number: u64,
    /// When it was recorded, in ns since 1970.
    pub time_ns: u64,
    /// What it is.
    pub what: What<'a>,
    /// The RPC it belongs to, as it is with this packet, if it is followed.
    pub rpc: Option<&'a Rpc>,
    /// What the checker found in it.
    pub findings: &'a [Finding],
}

/// What was observed.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// A Homa packet, and what it brought if it is DATA.
    Packet(&'a Frame<'a>, DataStep),
    /// What should be one.
    Bad(&'a BadPacket),
    /// An ICMP error about one.
    Icmp(&'a IcmpError),
}

impl Observation<'_> {
    /// The RPC it names, followed or not.
    pub fn key(&self) -> Option<RpcKey> {
        match self.what {
            What::Packet(frame, _) => Some(key_of(frame)),
            What::Icmp(error) => quoted_key(&error.quoted),
            What::Bad(_) => None,
        }
    }
}

/// Counts over a whole recording.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Frames, of whatever kind.
    pub frames: u64,
    /// Frames that hold nothing of Homa.
    pub other_frames: u64,
    /// Homa packets of each type, in the order of [`PacketType::ALL`].
    pub packets: [u64; PacketType::ALL.len()],
    /// Message bytes in DATA packets, repeated ones included.
    pub payload_bytes: u64,
    /// ICMP errors about Homa packets.
    pub icmp_errors: u64,
    /// What should be Homa packets and are none, by the name of the reason.
    pub bad: BTreeMap<&'static str, u64>,
    /// Findings of the checker.
    pub findings: BTreeMap<Check, u64>,
    /// Time of the earliest and the latest frame, in ns since 1970.
    pub times_ns: Option<(u64, u64)>,
}

impl Totals {
    /// Homa packets of all types.
    pub fn homa_packets(&self) -> u64 {
        self.packets.iter().sum()
    }

    /// Number of violations.
    pub fn violations(&self) -> u64 {
        let violations = |check: &&Check| check.severity() == Severity::Violation;
        self.findings.iter().filter(|(check, _)| violations(check)).map(|(_, count)| count).sum()
    }

    fn count_findings(&mut self, findings: &[Finding]) {
        for finding in findings {
            *self.findings.entry(finding.check).or_default() += 1;
        }
    }
}

/// Explains the frames of a recording one by one, in bounded memory.
#[derive(Debug)]
pub struct Analysis {
    decoder: Decoder,
    follow: Follow,
    checker: Checker,
    totals: Totals,
}

impl Analysis {
    /// An analysis that follows at most `rpcs_max` RPCs at a time.
    pub fn new(decoder: Decoder, rpcs_max: usize) -> Self {
        Self {
            decoder,
            follow: Follow::new(rpcs_max),
            checker: Checker::new(),
            totals: Totals::default(),
        }
    }

    /// Explains a frame: `observe` is called for each Homa packet in it, or what should be one.
    pub fn frame(&mut self, recorded: &Recorded<'_>, mut observe: impl FnMut(&Observation<'_>)) {
        let Self { decoder, follow, checker, totals } = self;
        totals.frames += 1;
        let times = totals.times_ns.get_or_insert((recorded.time_ns, recorded.time_ns));
        *times = (times.0.min(recorded.time_ns), times.1.max(recorded.time_ns));
        let (frame_number, time_ns) = (totals.frames, recorded.time_ns);
        decoder.decode(recorded.link, recorded.data, recorded.original_bytes, |decoded| {
            let mut findings = Vec::new();
            let (what, number) = match &decoded {
                Decoded::Homa(frame) => {
                    let number = follow.open(time_ns, frame);
                    let rpc = number.and_then(|number| follow.rpc(number));
                    checker.check(frame, rpc, follow, &mut findings);
                    let step = follow.update(number, time_ns, frame);
                    count_packet(totals, frame);
                    (What::Packet(frame, step), number)
                }
                Decoded::Bad(bad) => {
                    *totals.bad.entry(bad.reason.name()).or_default() += 1;
                    findings.extend(checker.check_bad(bad));
                    (What::Bad(bad), None)
                }
                Decoded::Icmp(error) => {
                    totals.icmp_errors += 1;
                    (What::Icmp(error), follow.icmp(time_ns, error))
                }
                Decoded::Other => {
                    totals.other_frames += 1;
                    return;
                }
            };
            totals.count_findings(&findings);
            if let Some(rpc) = number.and_then(|number| follow.rpc_mut(number)) {
                rpc.violations += count_violations(&findings);
            }
            let rpc = number.and_then(|number| follow.rpc(number));
            observe(&Observation { frame_number, time_ns, what, rpc, findings: &findings });
        });
    }

    /// Counts so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The RPCs so far.
    pub fn follow(&self) -> &Follow {
        &self.follow
    }
}

fn count_packet(totals: &mut Totals, frame: &Frame<'_>) {
    if let Some(count) = totals.packets.get_mut(frame.header.packet_type().index()) {
        *count += 1;
    }
    totals.payload_bytes += u64::from(frame.payload_bytes());
}

fn count_violations(findings: &[Finding]) -> u64 {
    findings.iter().filter(|finding| finding.check.severity() == Severity::Violation).count() as u64
}
