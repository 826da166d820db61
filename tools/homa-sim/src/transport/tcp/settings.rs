//! Settings of TCP. Defaults are those of Linux 6.

use super::segment::{MSS, PACKET};
use crate::time::Span;

/// What sets the congestion window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 5681 and 6582.
    Reno,
    /// RFC 9438, without HyStart: its least threshold, 4 ms, is beyond the queues of a data center.
    Cubic,
    /// RFC 8257: packets bear ECN-capable transport, receivers echo each mark.
    Dctcp,
}

/// How messages share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// So many from a host to each other one, open all the time. Messages take them in turn, and
    /// wait in the stream of theirs.
    PerPair(u16),
    /// One for each message: it opens, carries the message and closes.
    PerMessage,
}

/// Probes of a connection on which nothing is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first one.
    pub idle: Span,
    /// From one to the next.
    pub interval: Span,
    /// Unanswered ones that end the connection.
    pub probes: u32,
}

/// What NIC and kernel do with several packets at a time.
///
/// What the window has room for is handed to the NIC at once, which sends a burst of each
/// connection in turn; it is not taken back when the window shrinks. An ACK waits for its turn as
/// well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Most bytes that a connection hands to the NIC at a time; they leave as one burst (TSO).
    pub send_bytes: u32,
    /// Most bytes of packets of a connection that are received as one segment (GRO).
    pub receive_bytes: u32,
    /// Least time from an interrupt of the NIC to the next, unless so many packets have come.
    pub interrupt_gap: Span,
    /// See [`interrupt_gap`](Self::interrupt_gap).
    pub interrupt_packets: usize,
}

impl Offload {
    /// That of Linux, with interrupts as mlx5 has them.
    ///
    /// Segments are as long as they can be where the shortest round trip is below 512 µs, whatever
    /// the rate (`tcp_tso_rtt_log`).
    pub const LINUX: Self = Self {
        send_bytes: 65_536,
        receive_bytes: 65_536,
        interrupt_gap: Span::from_ns(16_000),
        interrupt_packets: 32,
    };
}

/// Settings of TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What sets the congestion window.
    pub algorithm: Algorithm,
    /// How messages share connections.
    pub connections: Connections,
    /// The congestion window of a new connection, and after a pause, in segments.
    pub initial_window: u32,
    /// Bytes that a receiver can hold for a connection.
    pub receive_buffer_bytes: u32,
    /// The retransmission timeout: before a round trip is known, at least, at most.
    pub rto_initial: Span,
    /// See [`rto_initial`](Self::rto_initial).
    pub rto_min: Span,
    /// See [`rto_initial`](Self::rto_initial).
    pub rto_max: Span,
    /// Times that a SYN, and any other segment, is sent again before the connection fails.
    pub syn_retries: u32,
    /// See [`syn_retries`](Self::syn_retries).
    pub retries: u32,
    /// How long an ACK may wait for another segment.
    pub delayed_ack: Span,
    /// Whether silent connections are probed, and when.
    pub keep_alive: Option<KeepAlive>,
    /// How long a closed connection waits for the other end to close.
    pub fin_wait_2: Span,
    /// How long the end that closed first remembers a connection: twice the life of a segment.
    pub time_wait: Span,
    /// Connections that a listener remembers before they are established.
    pub backlog: u32,
    /// Bytes of link time that wait at a port of a switch when DCTCP's packets are marked, unless
    /// the network says other.
    pub marking_bytes: u32,
    /// Whether a listener whose backlog is full answers from the SYN alone.
    pub syn_cookies: bool,
    /// Whether packets are sent and received several at a time, and how; each by itself otherwise.
    pub offload: Option<Offload>,
}

/// A number of milliseconds.
pub(super) const fn ms(count: u64) -> Span {
    Span::from_ns(count * 1_000_000)
}

impl Settings {
    /// Those of Linux without offload, with an algorithm.
    pub fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            connections: Connections::PerPair(8),
            initial_window: 10,
            // Half of what Linux lets a buffer grow to: the other half is for its own use.
            receive_buffer_bytes: 3 << 20,
            rto_initial: ms(1_000),
            rto_min: ms(200),
            rto_max: ms(120_000),
            syn_retries: 6,
            retries: 15,
            delayed_ack: ms(40),
            keep_alive: None,
            fin_wait_2: ms(60_000),
            time_wait: ms(60_000),
            backlog: 128,
            // 65 packets: what its authors use at 10 Gbit/s.
            marking_bytes: 65 * PACKET.wire_bytes(MSS),
            syn_cookies: true,
            offload: None,
        }
    }
}
