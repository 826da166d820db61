//! Replies to packets for unserved ports (docs/spec/wire-format.md §9 step 3).
//!
//! Peers of this implementation get RPC_UNKNOWN with its reason, Linux peers an ICMP "port
//! unreachable" as from their own kind, which ends calls and what waits for an acknowledgement.
//! Only packets that ask for something are answered, and not more than some per second.

use std::net::IpAddr;

use homa_core::RxMeta;
use homa_sys::address::Family;
use homa_sys::raw::{Filter, Outgoing};
use homa_sys::{RawSocket, Source, monotonic_ns};
use homa_wire::{Body, Common, Extension, Header, IP_PROTOCOL, PacketType, Reason, RpcId, Sum};

/// Answers that may go out at once, and per second in the long run.
const BURST: u64 = 100;
const PER_SECOND: u64 = 1_000;
/// Time in which one more may go out.
const INTERVAL_NS: u64 = 1_000_000_000 / PER_SECOND;

/// IP protocol numbers of ICMP and ICMPv6.
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
/// Type and code of "port unreachable" (RFC 792, RFC 4443).
const PORT_UNREACHABLE: [u8; 2] = [3, 3];
const PORT_UNREACHABLE_V6: [u8; 2] = [1, 4];
/// TOS of network control, as the kernel marks its own.
const ICMP_TOS: u8 = 0xC0;

/// Bytes of a refused packet that are quoted, from its Homa header on.
const QUOTED_BYTES: usize = 128;
/// Bytes of the headers of ICMP and of the quoted IP packet, at most.
const HEADERS_BYTES: usize = 8 + 40;

/// Reply to a packet for an unserved port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// RPC_UNKNOWN with this reason.
    Unknown(Reason),
    /// ICMP port unreachable.
    Icmp,
}

/// The reply that a packet wants; `None`: nothing.
pub(super) fn wanted(packet: &[u8]) -> Option<(Answer, Common)> {
    let transport_len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    let header = Header::parse(packet, transport_len).ok()?;
    let native = header.common.version().is_some();
    let for_server = RpcId(header.common.local_id()).is_server();
    let answer = match (header.packet_type(), for_server, native) {
        (PacketType::Data | PacketType::Resend | PacketType::NeedAck, true, true) => {
            Answer::Unknown(Reason::NoService)
        }
        (PacketType::Data | PacketType::Resend, true, false) => Answer::Icmp,
        // The server of a response to an unserved port need not keep it.
        (PacketType::Data | PacketType::NeedAck, false, true) => Answer::Unknown(Reason::Finished),
        (PacketType::Data | PacketType::NeedAck, false, false) => Answer::Icmp,
        _ => return None,
    };
    Some((answer, header.common))
}

/// Sends answers, not too many.
#[derive(Debug)]
pub(super) struct Answerer {
    /// One per IP version, where they could be opened.
    icmp: Vec<RawSocket>,
    /// When the allowance is whole again.
    full_at_ns: u64,
}

impl Answerer {
    /// For the IP versions of `families`. Without ICMP sockets only RPC_UNKNOWN is sent.
    pub(super) fn new(families: impl Iterator<Item = Family>) -> Self {
        let open = |family| {
            let protocol = match family {
                Family::V4 => ICMP,
                Family::V6 => ICMP6,
            };
            RawSocket::open(family, protocol, &Filter::nothing()).ok()
        };
        Self { icmp: families.filter_map(open).collect(), full_at_ns: 0 }
    }

    /// Whether one more answer may go out now; if so it counts.
    pub(super) fn may(&mut self) -> bool {
        let now_ns = monotonic_ns();
        let full_at_ns = self.full_at_ns.max(now_ns) + INTERVAL_NS;
        let allowed = full_at_ns - now_ns <= BURST * INTERVAL_NS;
        if allowed {
            self.full_at_ns = full_at_ns;
        }
        allowed
    }

    /// Answers a packet that came along `meta`, by `homa` or by ICMP. Says whether that was
    /// possible.
    pub(super) fn send(
        &self,
        homa: &RawSocket,
        meta: &RxMeta,
        packet: &[u8],
        packet_bytes: usize,
        (answer, common): (Answer, Common),
    ) -> bool {
        let path = &meta.path;
        let Some(local_ip) = path.local_ip else {
            return false;
        };
        let source = Some(Source { ip: local_ip, interface: path.interface });
        let mut buffer = [0; HEADERS_BYTES + QUOTED_BYTES];
        let (socket, tos, bytes) = match answer {
            Answer::Unknown(reason) => {
                // Control packets travel at the highest priority.
                (Some(homa), 7 << 5, unknown(&mut buffer, &common, reason))
            }
            Answer::Icmp => {
                let family = homa.family();
                let icmp = self.icmp.iter().find(|socket| socket.family() == family);
                let (from, to) = (path.remote.ip(), local_ip);
                (icmp, ICMP_TOS, unreachable(&mut buffer, from, to, packet, packet_bytes))
            }
        };
        let (Some(socket), Some(bytes)) = (socket, bytes) else {
            return false;
        };
        let mut outgoing = Outgoing::new();
        outgoing.push(|packet| packet.push(bytes));
        socket.send(path.remote, source, tos, &outgoing).is_ok()
    }
}

/// RPC_UNKNOWN in answer to a packet with the header `common`.
fn unknown<'a>(buffer: &'a mut [u8], common: &Common, reason: Reason) -> Option<&'a [u8]> {
    let back = Common::control(common.destination_port, common.source_port, common.local_id());
    let header = Header {
        // An incarnation of 0 is none: this is not the server that may be there later.
        common: back.with_native_profile(0),
        body: Body::RpcUnknown,
        extension: Some(Extension { echo: common.incarnation, reason, value: 0 }),
    };
    let length = header.encode(buffer)?;
    buffer.get(..length)
}

/// ICMP port unreachable that quotes the beginning of a Homa packet of `packet_bytes` from `from`
/// to `to`, in the IP header it came in as far as that is known. The kernel adds the checksum of
/// ICMPv6.
fn unreachable<'a>(
    buffer: &'a mut [u8],
    from: IpAddr,
    to: IpAddr,
    packet: &[u8],
    packet_bytes: usize,
) -> Option<&'a [u8]> {
    let quoted = packet.get(..packet.len().min(QUOTED_BYTES))?;
    let payload_bytes = u16::try_from(packet_bytes).ok()?;
    let mut message: Vec<u8> = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            message.extend(PORT_UNREACHABLE);
            message.extend([0; 6]);
            let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, IP_PROTOCOL, 0, 0].to_vec();
            header[2..4].copy_from_slice(&payload_bytes.checked_add(20)?.to_be_bytes());
            header.extend(from.octets());
            header.extend(to.octets());
            let checksum = Sum::of(&header).checksum();
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            message.extend(header);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            message.extend(PORT_UNREACHABLE_V6);
            message.extend([0; 6]);
            message.extend([0x60, 0, 0, 0]);
            message.extend(payload_bytes.to_be_bytes());
            message.extend([IP_PROTOCOL, 64]);
            message.extend(from.octets());
            message.extend(to.octets());
        }
        _ => return None,
    }
    message.extend(quoted);
    if from.is_ipv4() {
        let checksum = Sum::of(&message).checksum();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    let out = buffer.get_mut(..message.len())?;
    out.copy_from_slice(&message);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(native: bool, sender_id: u64, body: Body) -> Vec<u8> {
        let common = Common::control(32_768, 99, sender_id);
        let common = if native { common.with_native_profile(7) } else { common };
        let extension = native.then(Extension::default);
        let mut bytes = vec![0; 128];
        let length = Header { common, body, extension }.encode(&mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    }

    fn answer(native: bool, sender_id: u64, body: Body) -> Option<Answer> {
        wanted(&packet(native, sender_id, body)).map(|(answer, _)| answer)
    }

    #[test]
    fn only_those_who_ask_are_answered_in_their_own_way() {
        let data = Body::Data(homa_wire::Data { message_length: 1, ..Default::default() });
        assert_eq!(answer(true, 2, data), Some(Answer::Unknown(Reason::NoService)));
        assert_eq!(answer(false, 2, data), Some(Answer::Icmp));
        assert_eq!(answer(true, 3, data), Some(Answer::Unknown(Reason::Finished)));
        assert_eq!(answer(false, 3, data), Some(Answer::Icmp));
        assert_eq!(answer(false, 3, Body::NeedAck), Some(Answer::Icmp));
        for body in [Body::RpcUnknown, Body::Busy, Body::Freeze, Body::Ack(Default::default())] {
            for (native, id) in [(false, 2), (false, 3), (true, 2), (true, 3)] {
                assert_eq!(answer(native, id, body), None, "{body:?}");
            }
        }
        assert_eq!(wanted(&[0; 27]), None);
    }

    #[test]
    fn rpc_unknown_names_the_rpc_as_the_asker_knows_it() {
        let request = packet(true, 2, Body::NeedAck);
        let (_, common) = wanted(&request).unwrap();
        let mut buffer = [0; 176];
        let bytes = unknown(&mut buffer, &common, Reason::NoService).unwrap();
        let header = Header::parse(bytes, bytes.len() as u32).unwrap();
        assert_eq!(header.common.local_id(), 2);
        assert_eq!((header.common.source_port, header.common.destination_port), (99, 32_768));
        assert_eq!(
            header.extension,
            Some(Extension { echo: 7, reason: Reason::NoService, value: 0 })
        );
    }

    #[test]
    fn icmp_quotes_the_packet_with_valid_checksums() {
        let mut buffer = [0; HEADERS_BYTES + QUOTED_BYTES];
        let (from, to) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let bytes = unreachable(&mut buffer, from, to, &[9; 200], 1_000).unwrap();
        assert_eq!(bytes.len(), 8 + 20 + QUOTED_BYTES);
        assert_eq!(bytes[..2], PORT_UNREACHABLE);
        assert_eq!(Sum::of(bytes).checksum(), 0);
        assert_eq!(Sum::of(&bytes[8..28]).checksum(), 0);
        assert_eq!(bytes[10..12], 1_020_u16.to_be_bytes());
    }

    #[test]
    fn answers_are_limited() {
        let mut answerer = Answerer { icmp: Vec::new(), full_at_ns: 0 };
        let allowed = (0..10_000).filter(|_| answerer.may()).count() as u64;
        // One more per millisecond that the loop took.
        assert!((BURST..BURST + 500).contains(&allowed), "{allowed}");
    }
}
