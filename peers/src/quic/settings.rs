//! How QUIC is tuned for RPCs within a data center.

use std::{sync::Arc, time::Duration};

use homa_bench::spec::HostSpec;
use quinn::{EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt, congestion::CubicConfig};

/// Streams that a client may have open at a time: more than RPCs of a usual load.
const STREAMS_MAX: u32 = 16_384;
/// Unacknowledged and unread bytes per connection: a thousand messages of 1 MB.
const CONNECTION_BYTES_MAX: u32 = 1 << 30;
/// Before the handshake has measured it; the default, 333 ms, is the Internet's.
const INITIAL_RTT: Duration = Duration::from_millis(5);
/// A load with pauses must not lose its connections (by default after 30 s).
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// What waits in the kernel, as time of the link.
const SEND_BUFFER_MS: usize = 2;
/// A send buffer that holds a train of ten packets.
const SEND_BUFFER_BYTES_MIN: usize = 16 << 10;
/// What every path of QUIC carries, in bytes.
const PACKET_BYTES_MIN: u16 = 1_200;
/// Ten packets, a train of quinn, are within the 64 kB that the kernel takes at a time.
const PACKET_BYTES_MAX: u16 = 6_500;
/// Headers of IP and UDP.
const IPV4_UDP_BYTES: u32 = 20 + 8;
const IPV6_UDP_BYTES: u32 = 40 + 8;

/// The longest payload of a packet: that of the link, in the limits of QUIC and of trains.
fn packet_bytes(spec: &HostSpec) -> u16 {
    let headers = if spec.listen.is_ipv4() { IPV4_UDP_BYTES } else { IPV6_UDP_BYTES };
    let packet = spec.homa.output.mtu_max.saturating_sub(headers);
    u16::try_from(packet).unwrap_or(u16::MAX).clamp(PACKET_BYTES_MIN, PACKET_BYTES_MAX)
}

/// Settings of the socket: it takes the longest packets, by default those of an MTU of 1,500.
pub(super) fn endpoint(spec: &HostSpec) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    // Lengths from the shortest on are valid.
    let _ = config.max_udp_payload_size(packet_bytes(spec));
    config
}

/// Settings of every connection.
///
/// * Flow control never limits: a stream's window is the longest message, a connection's a thousand
///   of 1 MB. (By default a stream has 1.25 MB, and a connection sends 10 MB.)
/// * Packets have the length of the link from the begin, as far as the plan knows it and trains
///   allow it; what the path really carries is still probed for, and black holes are detected.
/// * CUBIC, the default, as the kernel's TCP has it; segmentation offload and the delay of
///   acknowledgements (25 ms at most, every second packet at once) are the defaults as well.
///   Streams share a connection in turns.
pub(super) fn transport(spec: &HostSpec) -> TransportConfig {
    let packet = packet_bytes(spec);
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(packet);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(spec.message_bytes_max.clamp(65_536, 1 << 30)))
        .receive_window(VarInt::from_u32(CONNECTION_BYTES_MAX))
        .send_window(u64::from(CONNECTION_BYTES_MAX))
        .datagram_receive_buffer_size(None)
        .initial_rtt(INITIAL_RTT)
        .initial_mtu(packet)
        .mtu_discovery_config(Some(discovery))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .congestion_controller_factory(Arc::new(CubicConfig::default()));
    transport
}

/// Send buffer for a link of this rate; none where the rate is unknown.
///
/// What the socket has taken leaves in order, of all connections together. The kernel keeps TCP
/// from handing over more than a millisecond's worth; over UDP only this buffer does. By default it
/// holds 11 ms of 100 Mbit/s, which each short message would wait for; with this, quinn chooses
/// among streams that much later.
pub(super) fn send_buffer_bytes(link_mbps: Option<u32>) -> Option<usize> {
    let bytes = link_mbps? as usize * 1_000 / 8 * SEND_BUFFER_MS;
    Some(bytes.max(SEND_BUFFER_BYTES_MIN))
}

#[cfg(test)]
mod tests {
    use homa_bench::{
        settings::{self, LinkFacts},
        spec::Reply,
        transport::Transport,
        workload::Workload,
    };

    use super::*;

    #[test]
    fn packets_are_as_long_as_the_link_and_trains_allow() {
        let sizes = Workload::load("w2").unwrap();
        for (mtu_bytes, packet) in [(1_000, 1_200), (1_500, 1_472), (3_000, 2_972), (9_000, 6_500)]
        {
            let link = LinkFacts { rate_mbps: 100, rtt_us: 100.0, timer_us: 10.0, mtu_bytes };
            let spec = HostSpec {
                host: 0,
                listen: [127, 0, 0, 1].into(),
                port: 0,
                transport: Transport::Quic { connections: 1 },
                homa: settings::derive(&link, &sizes, 100_000),
                reply: Reply::Echo,
                message_bytes_max: 100_000,
                service_us: 0,
            };
            assert_eq!(packet_bytes(&spec), packet);
            assert_eq!(endpoint(&spec).get_max_udp_payload_size(), u64::from(packet));
        }
    }

    #[test]
    fn the_send_buffer_follows_the_link() {
        assert_eq!(send_buffer_bytes(None), None);
        assert_eq!(send_buffer_bytes(Some(10)), Some(16 << 10));
        assert_eq!(send_buffer_bytes(Some(100)), Some(25_000));
        assert_eq!(send_buffer_bytes(Some(10_000)), Some(2_500_000));
    }
}
