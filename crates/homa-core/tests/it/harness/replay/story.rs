//! What a recording tells: which RPCs there were, between whom, how long their messages were, when
//! they began and when their servers answered. All of it comes from the packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use homa_wire::{Body, CUTOFF_LEVELS, Cutoffs};

use super::frames::{Content, Frame, Packet};

/// Names an RPC: ids are unique per client host.
pub(crate) type CallKey = (IpAddr, u64);

/// One RPC.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) request: Option<Message>,
    pub(crate) response: Option<Message>,
    /// The first packet of the client.
    pub(crate) begins_ns: Option<u64>,
    /// The first DATA of the server.
    pub(crate) answers_ns: Option<u64>,
}

/// What was recorded of one message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) length: u32,
    /// As its sender said in first transmissions.
    pub(crate) unscheduled: Option<u32>,
    /// Boundaries of its packets.
    pub(crate) segments: BTreeSet<(u32, u32)>,
    /// The priority of first transmissions by the offset where they begin, if the sender knew the
    /// receiver's cutoffs.
    pub(crate) levels: BTreeMap<u32, u8>,
}

impl Message {
    fn new(length: u32) -> Self {
        let (segments, levels) = (BTreeSet::new(), BTreeMap::new());
        Self { length, unscheduled: None, segments, levels }
    }

    /// Whether all of it is in the recording.
    pub(crate) fn is_complete(&self) -> bool {
        let mut upto = 0;
        for (start, end) in &self.segments {
            if *start > upto {
                return false;
            }
            upto = upto.max(*end);
        }
        upto >= self.length
    }
}

#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) frames: Vec<Frame>,
    pub(crate) calls: BTreeMap<CallKey, Call>,
}

impl Story {
    pub(crate) fn new(frames: Vec<Frame>) -> Self {
        let mut story = Self { frames: Vec::new(), calls: BTreeMap::new() };
        for frame in &frames {
            if let Content::Homa(packet) = &frame.content {
                story.note(frame, packet);
            }
        }
        story.frames = frames;
        // Acknowledgements about RPCs of before the recording are no calls.
        story.calls.retain(|_, call| call.request.is_some() || call.response.is_some());
        story
    }

    /// The hosts that sent or were sent Homa packets.
    pub(crate) fn hosts(&self) -> BTreeSet<IpAddr> {
        self.frames
            .iter()
            .filter(|frame| frame.packet().is_some())
            .flat_map(|frame| [frame.source, frame.target])
            .collect()
    }

    fn note(&mut self, frame: &Frame, packet: &Packet) {
        if matches!(packet.header.body, Body::Freeze | Body::Cutoffs(_)) {
            return;
        }
        let key = call_key(frame, packet);
        let from_client = packet.header.common.sender_id & 1 == 0;
        let source = SocketAddr::new(frame.source, packet.header.common.source_port);
        let target = SocketAddr::new(frame.target, packet.header.common.destination_port);
        let (client, server) = if from_client { (source, target) } else { (target, source) };
        let call = self.calls.entry(key).or_insert(Call {
            client,
            server,
            request: None,
            response: None,
            begins_ns: None,
            answers_ns: None,
        });
        if from_client && !matches!(packet.header.body, Body::Ack(_)) {
            call.begins_ns.get_or_insert(frame.at_ns);
        }
        let Body::Data(data) = &packet.header.body else {
            return;
        };
        let message = if from_client {
            &mut call.request
        } else {
            call.answers_ns.get_or_insert(frame.at_ns);
            &mut call.response
        };
        let message = message.get_or_insert_with(|| Message::new(data.message_length));
        let (start, end) = data_range(packet);
        message.segments.insert((start, end));
        if !data.is_retransmission(&packet.header.common) {
            message.unscheduled = Some(data.incoming);
            if data.cutoff_version != 0 {
                message.levels.entry(start).or_insert(packet.level);
            }
        }
    }

    /// Bytes that `host` sends without waiting for grants.
    pub(crate) fn unscheduled_bytes(&self, host: IpAddr) -> u32 {
        let limits = self.sent_by(host).filter_map(|message| {
            message.unscheduled.filter(|unscheduled| *unscheduled < message.length)
        });
        let whole = self.sent_by(host).filter_map(|message| {
            message.unscheduled.filter(|unscheduled| *unscheduled >= message.length)
        });
        limits.min().unwrap_or(40_000.max(whole.max().unwrap_or(0))).max(1)
    }

    /// MTU under which `host` cuts messages as it did in the recording.
    pub(crate) fn mtu(&self, host: IpAddr) -> u32 {
        let longest = self
            .frames
            .iter()
            .filter(|frame| frame.source == host)
            .filter_map(|frame| frame.packet().map(|packet| (frame, packet)))
            .filter(|(_, packet)| {
                let Body::Data(data) = &packet.header.body else { return false };
                // Only a packet with another behind it is as long as the path carries.
                data_range(packet).1 < data.message_length.min(data.incoming.max(1))
            })
            .map(|(_, packet)| packet.transport_len + packet.ip_header_bytes)
            .max();
        longest.unwrap_or(1500)
    }

    /// What `sender` knows of `receiver`'s cutoffs from before the recording: version and
    /// thresholds.
    pub(crate) fn earlier_cutoffs(&self, sender: IpAddr, receiver: IpAddr) -> Option<Cutoffs> {
        const LINUX: [u32; CUTOFF_LEVELS] =
            [i32::MAX as u32, 0, 0, 0, 1_000_000, 15_000, 2_800, 200];
        let between = |frame: &&Frame| frame.source == sender && frame.target == receiver;
        let version = self.frames.iter().filter(between).find_map(|frame| {
            match frame.packet()?.header.body {
                Body::Data(data) => Some(data.cutoff_version),
                _ => None,
            }
        })?;
        let recorded = self.frames.iter().find_map(|frame| match frame.packet()?.header.body {
            Body::Cutoffs(cutoffs)
                if frame.source == receiver
                    && frame.target == sender
                    && cutoffs.version == version =>
            {
                Some(cutoffs.levels)
            }
            _ => None,
        });
        (version != 0).then(|| Cutoffs { levels: recorded.unwrap_or(LINUX), version })
    }

    fn sent_by(&self, host: IpAddr) -> impl Iterator<Item = &Message> {
        self.calls.values().flat_map(move |call| {
            let request = call.request.as_ref().filter(|_| call.client.ip() == host);
            let response = call.response.as_ref().filter(|_| call.server.ip() == host);
            [request, response].into_iter().flatten()
        })
    }
}

/// The RPC that a packet is about.
pub(crate) fn call_key(frame: &Frame, packet: &Packet) -> CallKey {
    let id = packet.header.common.sender_id;
    let client = if id & 1 == 0 { frame.source } else { frame.target };
    (client, id & !1)
}

/// The part of its message that a DATA packet carries.
pub(crate) fn data_range(packet: &Packet) -> (u32, u32) {
    match &packet.header.body {
        Body::Data(data) => {
            let start = data.offset(packet.header.common.sequence);
            (
                start,
                start + packet.transport_len.saturating_sub(homa_wire::DATA_HEADER_BYTES as u32),
            )
        }
        _ => (0, 0),
    }
}
