//! Hosts that speak TCP over a wire with a delay, which loses and marks what a test says.

use super::{settings::ms, timers::Timer, *};
use crate::{fabric::Shape, time::Span};

/// From one host to another.
const DELAY: Span = Span::from_ns(5_000);
/// Between two packets of a host.
const GAP: Span = Span::from_ns(500);

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Comes,
    Marked,
    Lost,
}

/// A packet on its way.
#[derive(Clone, Copy)]
struct Flying {
    from: HostId,
    to: HostId,
    segment: Segment,
    message: Option<MessageId>,
}

struct Wire<F> {
    now: Time,
    hosts: Vec<TcpHost>,
    flying: VecDeque<(Time, Flying)>,
    free_at: Vec<Time>,
    fate: F,
    arrived: Vec<MessageId>,
    packets: u64,
    messages: u32,
}

impl<F: FnMut(Time, &Flying) -> Fate> Wire<F> {
    fn new(hosts: u32, settings: &Settings, fate: F) -> Self {
        let shape = Shape::SingleSwitch { hosts };
        let network = Topology { shape, ..Topology::sigcomm18(1) };
        Self {
            now: Time::ZERO,
            hosts: Tcp::new(settings.clone(), 1).hosts(&network),
            flying: VecDeque::new(),
            free_at: vec![Time::ZERO; hosts as usize],
            fate,
            arrived: Vec::new(),
            packets: 0,
            messages: 0,
        }
    }

    fn send(&mut self, from: usize, to: u32, bytes: u32) -> MessageId {
        let message = MessageId(self.messages);
        self.messages += 1;
        assert!(self.hosts[from].send(self.now, message, HostId(to), bytes));
        message
    }

    /// Everything that happens for so long.
    fn run(&mut self, span: Span) {
        let end = self.now + span;
        loop {
            self.turns();
            let due = self.hosts.iter_mut().filter_map(|host| host.timeout(self.now)).min();
            let comes = self.flying.front().map(|(at, _)| *at);
            let free = self.free_at.iter().copied().filter(|at| *at > self.now).min();
            let Some(at) = due.into_iter().chain(comes).chain(free).min() else { break };
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            while self.flying.front().is_some_and(|(at, _)| *at <= self.now) {
                let (_, packet) = self.flying.pop_front().unwrap();
                let fate = (self.fate)(self.now, &packet);
                if fate != Fate::Lost {
                    self.deliver(&packet, fate == Fate::Marked);
                }
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, packet: &Flying, marked: bool) {
        let Flying { from, to, segment, message } = *packet;
        let Some(host) = self.hosts.get_mut(to.0 as usize) else { return };
        let delivered =
            Delivered { from, priority: 0, marked, trimmed: false, message, header: &segment };
        host.receive(self.now, &delivered);
    }

    fn turns(&mut self) {
        for (index, host) in self.hosts.iter_mut().enumerate() {
            host.settle(self.now);
            while let Some(message) = host.arrived(self.now) {
                self.arrived.push(message);
            }
            if self.free_at[index] > self.now {
                continue;
            }
            if let Some(Outgoing { to, message, header, .. }) = host.transmit(self.now) {
                self.packets += 1;
                self.free_at[index] = self.now + GAP;
                let from = HostId(index as u32);
                let packet = Flying { from, to, segment: header, message };
                // All take the same time, so that the order is that of sending.
                self.flying.push_back((self.now + DELAY, packet));
            }
        }
    }

    /// The connection of a host that was opened first.
    fn connection(&mut self, host: usize) -> &mut Connection {
        &mut self.hosts[host].slots[0].as_mut().expect("it is open").connection
    }

    fn counts(&self) -> Counts {
        self.hosts[0].counts()
    }
}

fn settings(algorithm: Algorithm) -> Settings {
    Settings { connections: Connections::PerPair(1), ..Settings::new(algorithm) }
}

fn comes(_: Time, _: &Flying) -> Fate {
    Fate::Comes
}

/// Loses the data segments with these numbers, each in its order of arrival, once.
fn losing(numbers: &'static [u64]) -> impl FnMut(Time, &Flying) -> Fate {
    let mut count = 0;
    move |_, packet| {
        if packet.segment.bytes == 0 {
            return Fate::Comes;
        }
        count += 1;
        if numbers.contains(&(count - 1)) { Fate::Lost } else { Fate::Comes }
    }
}

#[test]
fn a_message_arrives_after_a_handshake_and_the_next_one_without() {
    let mut wire = Wire::new(2, &settings(Algorithm::Cubic), comes);
    let first = wire.send(0, 1, 100_000);
    wire.run(ms(10));
    assert_eq!(wire.arrived, [first]);
    let packets = wire.packets;
    let second = wire.send(0, 1, 100);
    wire.run(ms(10));
    assert_eq!(wire.arrived, [first, second]);
    assert_eq!(wire.packets - packets, 1, "data, and its acknowledgement is delayed");
    wire.run(ms(100));
    assert_eq!(wire.packets - packets, 2);
    assert_eq!(wire.counts(), Counts::default());
}

#[test]
fn messages_of_a_connection_arrive_in_their_order() {
    let mut wire = Wire::new(2, &settings(Algorithm::Cubic), losing(&[3]));
    let sent: Vec<_> = [50_000, 10, 2_000].map(|bytes| wire.send(0, 1, bytes)).into();
    wire.run(ms(50));
    assert_eq!(wire.arrived, sent);
}

#[test]
fn a_connection_per_message_opens_and_closes_and_is_remembered_for_a_while() {
    let each = Settings { connections: Connections::PerMessage, ..Settings::new(Algorithm::Cubic) };
    let mut wire = Wire::new(2, &each, comes);
    let sent: Vec<_> = (0..5).map(|_| wire.send(0, 1, 3_000)).collect();
    wire.run(ms(10));
    wire.arrived.sort_unstable();
    assert_eq!(wire.arrived, sent);
    let states = |host: &TcpHost| -> Vec<_> {
        host.slots.iter().flatten().map(|slot| slot.connection.state()).collect()
    };
    assert_eq!(states(&wire.hosts[0]), [State::TimeWait; 5]);
    assert_eq!(states(&wire.hosts[1]), []);
    wire.run(ms(61_000));
    assert_eq!(states(&wire.hosts[0]), []);
    assert_eq!(wire.hosts[0].failed(), 0);
}

#[test]
fn a_lost_segment_is_sent_again_after_three_acknowledgements_without_a_timeout() {
    let mut wire = Wire::new(2, &settings(Algorithm::Reno), losing(&[4]));
    wire.send(0, 1, 100_000);
    wire.run(ms(5));
    assert_eq!(wire.arrived.len(), 1);
    assert_eq!(wire.counts(), Counts { retransmissions: 1, timeouts: 0 });
}

#[test]
fn several_losses_of_a_window_are_repaired_at_once_and_halve_the_window_once() {
    let mut wire = Wire::new(2, &settings(Algorithm::Reno), losing(&[30, 32, 33, 37, 41]));
    wire.send(0, 1, 400_000);
    wire.run(ms(5));
    assert_eq!(wire.arrived.len(), 1);
    assert_eq!(wire.counts(), Counts { retransmissions: 5, timeouts: 0 });
    let window = wire.connection(0).sender().window_bytes() / 1448;
    assert!((15..40).contains(&window), "{window}");
}

#[test]
fn a_segment_that_is_lost_twice_is_sent_a_third_time_without_a_timeout() {
    // 31 segments pass while the first loss is noticed and repaired.
    let mut seen = HashMap::new();
    let fate = move |_, packet: &Flying| {
        let times = seen.entry(packet.segment.seq).or_insert(0);
        *times += 1;
        let target = packet.message == Some(MessageId(1)) && packet.segment.bytes > 0;
        if target && *times <= 2 { Fate::Lost } else { Fate::Comes }
    };
    let mut wire = Wire::new(2, &settings(Algorithm::Reno), fate);
    wire.send(0, 1, 100_000);
    wire.send(0, 1, 1_000);
    wire.send(0, 1, 400_000);
    wire.run(ms(20));
    assert_eq!(wire.arrived.len(), 3);
    assert_eq!(wire.counts(), Counts { retransmissions: 2, timeouts: 0 });
}

#[test]
fn no_message_is_lost_when_one_packet_of_a_hundred_is() {
    let algorithms = [Algorithm::Reno, Algorithm::Cubic, Algorithm::Dctcp];
    let ends = [Connections::PerPair(2), Connections::PerMessage];
    for settings in algorithms.iter().flat_map(|one| [settings(*one), offloaded(*one)]) {
        for connections in ends {
            let mut rng = fastrand::Rng::with_seed(4);
            let fate =
                move |_, _: &Flying| if rng.u32(..100) == 0 { Fate::Lost } else { Fate::Comes };
            let settings = Settings { connections, ..settings.clone() };
            let mut wire = Wire::new(3, &settings, fate);
            let mut sizes = fastrand::Rng::with_seed(5);
            for _ in 0..300 {
                let (from, to) = (sizes.usize(..3), sizes.u32(1..3));
                wire.send(from, (from as u32 + to) % 3, 1 << sizes.u32(3..19));
                wire.run(ms(1));
            }
            wire.run(ms(60_000));
            assert_eq!(wire.arrived.len(), 300, "{settings:?}");
            assert_eq!(wire.hosts.iter().map(Transport::failed).sum::<u64>(), 0);
            let all: u64 = wire.hosts.iter().map(|host| host.counts().retransmissions).sum();
            assert!(all > 20, "{all} retransmissions");
        }
    }
}

#[test]
fn establishment_a_syn_without_answer_is_repeated_ever_later_until_the_connection_fails() {
    let mut syns = Vec::new();
    let fate = |now: Time, _: &Flying| {
        syns.push(now.as_ns() / 1_000_000);
        Fate::Lost
    };
    let mut wire = Wire::new(2, &settings(Algorithm::Cubic), fate);
    wire.send(0, 1, 100);
    wire.run(ms(200_000));
    assert_eq!(wire.hosts[0].failed(), 1);
    assert!(wire.hosts[0].slots[0].is_none());
    assert_eq!(syns, [0, 1_000, 3_000, 7_000, 15_000, 31_000, 63_000]);
}

#[test]
fn retransmission_a_silent_peer_gets_data_ever_later_until_the_connection_fails() {
    let mut sent = Vec::new();
    let fate = |now: Time, packet: &Flying| {
        if packet.segment.bytes == 0 {
            return Fate::Comes;
        }
        sent.push(now.as_ns() / 1_000_000);
        Fate::Lost
    };
    let few = Settings { retries: 4, ..settings(Algorithm::Cubic) };
    let mut wire = Wire::new(2, &few, fate);
    wire.send(0, 1, 100);
    wire.run(ms(20_000));
    assert_eq!(wire.hosts[0].failed(), 1);
    assert_eq!(wire.counts(), Counts { retransmissions: 4, timeouts: 4 });
    // 200 ms, twice, four and eight times.
    assert_eq!(sent, [0, 200, 600, 1_400, 3_000]);
}

#[test]
fn retransmission_the_last_segment_of_a_message_waits_for_the_timer() {
    let mut wire = Wire::new(2, &settings(Algorithm::Cubic), losing(&[2]));
    wire.send(0, 1, 3 * 1448);
    wire.run(ms(199));
    assert_eq!(wire.arrived.len(), 0);
    wire.run(ms(5));
    assert_eq!(wire.arrived.len(), 1);
    assert_eq!(wire.counts(), Counts { retransmissions: 1, timeouts: 1 });
}

#[test]
fn delayed_ack_a_single_segment_is_acknowledged_after_forty_milliseconds() {
    let mut acks = Vec::new();
    let fate = |now: Time, packet: &Flying| {
        if packet.from == HostId(1) && packet.segment.kind == Kind::Ack {
            acks.push(now.as_ns() / 1_000_000);
        }
        Fate::Comes
    };
    let mut wire = Wire::new(2, &settings(Algorithm::Cubic), fate);
    wire.send(0, 1, 100);
    wire.run(ms(100));
    assert_eq!(acks, [40]);
}

#[test]
fn persist_a_closed_window_is_probed_ever_later_and_data_flows_when_it_opens() {
    let small = Settings { receive_buffer_bytes: 3 * 1448, ..settings(Algorithm::Cubic) };
    let (mut client, mut server) = pair(&small);
    for number in 0..5 {
        client.write(MessageId(number), 1448);
    }
    let mut now = Time::ZERO;
    // The application of the server does not read. The third segment alone is acknowledged late.
    exchange(now, &mut client, &mut server, &small);
    server.timed_out(now, Timer::DelayedAck, &small);
    exchange(now, &mut client, &mut server, &small);
    assert!(client.timers.is_set(Timer::Persist) && !client.timers.is_set(Timer::Retransmission));
    let mut probes = Vec::new();
    for _ in 0..4 {
        now = client.timers.next();
        let timer = client.timers.take_due(now).unwrap();
        assert_eq!(timer, Timer::Persist);
        client.timed_out(now, timer, &small);
        assert_eq!(exchange(now, &mut client, &mut server, &small), 2, "a probe and its answer");
        probes.push(now.as_ns() / 1_000_000);
    }
    assert_eq!(probes, [200, 600, 1_400, 3_000]);
    let arrived = |server: &mut Connection| std::iter::from_fn(|| server.arrived()).count();
    assert_eq!(arrived(&mut server), 3);
    server.read();
    exchange(now, &mut client, &mut server, &small);
    assert_eq!(arrived(&mut server), 2);
    assert!(!client.timers.is_set(Timer::Persist));
}

#[test]
fn keep_alive_a_silent_connection_is_probed_and_ends_when_nobody_answers() {
    let keep_alive = KeepAlive { idle: ms(1_000), interval: ms(100), probes: 3 };
    let alive = Settings { keep_alive: Some(keep_alive), ..settings(Algorithm::Cubic) };
    let mut cut = false;
    let mut probes = 0;
    let fate = |now: Time, packet: &Flying| {
        cut = now.as_ns() > 5_500_000_000;
        probes += u32::from(packet.from == HostId(0) && packet.segment.bytes == 0);
        if cut { Fate::Lost } else { Fate::Comes }
    };
    let mut wire = Wire::new(2, &alive, fate);
    wire.send(0, 1, 100);
    wire.run(ms(5_500));
    assert_eq!(wire.connection(0).state(), State::Established);
    wire.run(ms(2_000));
    assert!(wire.hosts[0].slots[0].is_none(), "it has ended");
    drop(wire);
    assert!(probes >= 5 + 3, "{probes}");
}

#[test]
fn fin_wait_2_ends_when_the_other_end_never_closes() {
    let short = Settings { fin_wait_2: ms(500), ..settings(Algorithm::Cubic) };
    let (mut client, mut server) = pair(&short);
    client.close();
    exchange(Time::ZERO, &mut client, &mut server, &short);
    assert_eq!((client.state(), server.state()), (State::FinWait2, State::CloseWait));
    let now = client.timers.next();
    assert_eq!(now, Time::ZERO + ms(500));
    assert_eq!(client.timers.take_due(now), Some(Timer::FinWait2));
    client.timed_out(now, Timer::FinWait2, &short);
    assert_eq!(client.state(), State::Closed);
}

#[test]
fn time_wait_answers_a_repeated_fin_and_ends() {
    let settings = settings(Algorithm::Cubic);
    let (mut client, mut server) = pair(&settings);
    client.close();
    exchange(Time::ZERO, &mut client, &mut server, &settings);
    server.close();
    // The last acknowledgement is lost.
    let fin = server.transmit(Time::ZERO, &settings).unwrap().segment;
    assert!(fin.fin);
    client.receive(Time::ZERO, &fin, None, false, &settings);
    assert!(client.transmit(Time::ZERO, &settings).is_some());
    assert_eq!((client.state(), server.state()), (State::TimeWait, State::LastAck));
    let now = server.timers.next();
    let timer = server.timers.take_due(now).unwrap();
    server.timed_out(now, timer, &settings);
    exchange(now, &mut client, &mut server, &settings);
    assert_eq!((client.state(), server.state()), (State::TimeWait, State::Closed));
    assert_eq!(client.timers.next(), now + settings.time_wait, "from the last FIN on");
    client.timed_out(client.timers.next(), Timer::TimeWait, &settings);
    assert_eq!(client.state(), State::Closed);
}

// Floods and marks.

/// Calls a host from so many forged addresses, while another one has a message for it.
fn flooded(syn_cookies: bool) -> (usize, usize) {
    let settings = Settings { syn_cookies, ..settings(Algorithm::Cubic) };
    let mut wire = Wire::new(2, &settings, comes);
    for number in 0..10_000 {
        let flow = Flow { port: number, to_listener: true };
        let segment = Segment::new(flow, Kind::Syn, 77, 0);
        let forged = Flying { from: HostId(1_000 + number), to: HostId(1), segment, message: None };
        wire.deliver(&forged, false);
    }
    wire.send(0, 1, 20_000);
    wire.run(ms(20));
    (wire.arrived.len(), wire.hosts[1].slots.len())
}

#[test]
fn a_flood_of_syns_keeps_nobody_out_because_a_full_listener_answers_with_cookies() {
    let (arrived, remembered) = flooded(true);
    assert_eq!((arrived, remembered), (1, 128 + 1));
    assert_eq!(flooded(false).0, 0, "without cookies");
}

#[test]
fn a_segment_for_nobody_is_answered_with_a_reset_which_ends_the_connection() {
    let mut wire = Wire::new(2, &settings(Algorithm::Cubic), comes);
    wire.send(0, 1, 100);
    wire.run(ms(100));
    wire.hosts[1].slots[0] = None;
    wire.hosts[1].by_flow.clear();
    wire.send(0, 1, 100);
    wire.run(ms(100));
    assert_eq!(wire.hosts[0].failed(), 1);
    let next = wire.send(0, 1, 100);
    wire.run(ms(100));
    assert_eq!(wire.arrived.last(), Some(&next), "a new connection");
}

#[test]
fn dctcp_keeps_its_window_near_where_marks_begin() {
    // What is beyond 40 segments in flight would wait.
    let mut acknowledged = 0;
    let fate = |_, packet: &Flying| {
        if packet.from == HostId(1) {
            acknowledged = packet.segment.ack;
        }
        let in_flight = packet.segment.seq.saturating_sub(acknowledged) / 1448;
        if packet.segment.bytes > 0 && in_flight > 40 { Fate::Marked } else { Fate::Comes }
    };
    let mut wire = Wire::new(2, &settings(Algorithm::Dctcp), fate);
    wire.send(0, 1, 40_000_000);
    wire.run(ms(5));
    let window = wire.connection(0).sender().window_bytes() / 1448;
    assert!((25..60).contains(&window), "{window} segments");
    wire.run(ms(100));
    assert_eq!((wire.arrived.len(), wire.counts()), (1, Counts::default()));
}

// Offload.

fn offloaded(algorithm: Algorithm) -> Settings {
    Settings { offload: Some(Offload::LINUX), ..settings(algorithm) }
}

/// Which connections the packets of data are of that leave, by their ports.
fn leaving(host: &mut TcpHost, now: Time) -> Vec<u32> {
    let packets = std::iter::from_fn(|| host.transmit(now));
    packets.filter(|packet| packet.header.bytes > 0).map(|packet| packet.flow).collect()
}

#[test]
fn connections_take_turns_by_bursts_of_half_a_window_or_64_kb_and_by_packets_without_offload() {
    for (settings, burst) in [(settings(Algorithm::Reno), 1), (offloaded(Algorithm::Reno), 5)] {
        let two = Settings { connections: Connections::PerPair(2), ..settings };
        let mut wire = Wire::new(2, &two, comes);
        wire.send(0, 1, 10);
        wire.send(0, 1, 10);
        wire.run(ms(100));
        for bytes in [100_000, 100_000] {
            let message = MessageId(9);
            wire.hosts[0].send(wire.now, message, HostId(1), bytes);
        }
        let left = leaving(&mut wire.hosts[0], wire.now);
        assert_eq!(left.len(), 20, "two windows");
        let turns: Vec<_> = left.chunk_by(|a, b| a == b).map(<[u32]>::len).collect();
        assert_eq!(turns, vec![burst; 20 / burst]);
    }
}

#[test]
fn a_burst_has_up_to_64_kb_and_what_waits_at_the_nic_is_bounded() {
    let offloaded = offloaded(Algorithm::Reno);
    let mut wire = Wire::new(2, &offloaded, comes);
    // The window is what slow start has reached.
    wire.send(0, 1, 4_000_000);
    wire.run(ms(50));
    let window = wire.connection(0).sender().window_bytes();
    assert!(window > 1_000_000, "{window}");
    wire.send(0, 1, 4_000_000);
    let queued = wire.connection(0).sender().queued_bytes();
    assert!((1_000_000..1_000_000 + 2 * 65_536).contains(&queued), "{queued}");
    let longest = wire.connection(0).sender().longest_burst();
    assert_eq!(longest, 45 * 1448);
}

#[test]
fn what_the_nic_has_leaves_although_a_mark_shrinks_the_window() {
    let (offloaded, now) = (offloaded(Algorithm::Dctcp), Time::ZERO);
    let (mut client, mut server) = pair(&offloaded);
    client.write(MessageId(1), 1_000_000);
    client.hand_over(now, &offloaded);
    let first = client.transmit(now, &offloaded).unwrap();
    assert_eq!(client.sender().queued_bytes(), 9 * 1448);
    server.receive(now, &first.segment, first.message, true, &offloaded);
    server.timed_out(now, Timer::DelayedAck, &offloaded);
    let ack = server.transmit(now, &offloaded).unwrap().segment;
    assert!(ack.echo);
    client.receive(now, &ack, None, false, &offloaded);
    client.hand_over(now, &offloaded);
    assert_eq!(client.sender().window_bytes(), 5 * 1448);
    let left = std::iter::from_fn(|| client.transmit(now, &offloaded)).count();
    assert_eq!(left, 9);
}

#[test]
fn a_sender_waits_for_a_third_of_its_window_when_an_ack_is_about_to_come() {
    let offloaded = offloaded(Algorithm::Reno);
    let mut wire = Wire::new(2, &offloaded, comes);
    wire.send(0, 1, 60 * 1448);
    wire.run(ms(100));
    let now = wire.now;
    let client = wire.connection(0);
    let window = client.sender().window_bytes() / 1448;
    assert!(window >= 30, "{window}");
    client.write(MessageId(8), (window as u32 - 5) * 1448);
    client.hand_over(now, &offloaded);
    while client.transmit(now, &offloaded).is_some() {}
    // There is room for five segments, and what is in flight is old.
    client.write(MessageId(9), 40 * 1448);
    let later = now + ms(50);
    client.hand_over(later, &offloaded);
    assert_eq!(client.sender().queued_bytes(), 0);
    client.hand_over(now, &offloaded);
    assert_eq!(client.sender().queued_bytes(), 5 * 1448, "an ACK will be long in coming");
}

#[test]
fn one_ack_answers_what_came_between_two_interrupts() {
    let acks = |settings: &Settings| {
        let mut acks = 0;
        let fate = |_, packet: &Flying| {
            acks += u32::from(packet.from == HostId(1) && packet.segment.bytes == 0);
            Fate::Comes
        };
        let mut wire = Wire::new(2, settings, fate);
        wire.send(0, 1, 2_000_000);
        wire.run(ms(50));
        assert_eq!((wire.arrived.len(), wire.counts()), (1, Counts::default()));
        drop(wire);
        acks
    };
    let (each, merged) = (acks(&settings(Algorithm::Reno)), acks(&offloaded(Algorithm::Reno)));
    assert!((600..800).contains(&each), "{each} ACKs of 1,382 segments");
    assert!(merged < each / 8, "{merged}, {each}");
}

/// Two ends of an established connection.
fn pair(settings: &Settings) -> (Connection, Connection) {
    let mut client = Connection::open(HostId(1), 1, 1_000, settings);
    let syn = client.transmit(Time::ZERO, settings).unwrap().segment;
    let mut server = Connection::accept(HostId(0), &syn, 5_000, settings);
    exchange(Time::ZERO, &mut client, &mut server, settings);
    assert_eq!((client.state(), server.state()), (State::Established, State::Established));
    (client, server)
}

/// Lets both ends send until they have nothing more. Returns how many segments that were.
fn exchange(
    now: Time,
    client: &mut Connection,
    server: &mut Connection,
    settings: &Settings,
) -> usize {
    let mut count = 0;
    loop {
        let before = count;
        while let Some(Sending { segment, message }) = client.transmit(now, settings) {
            server.receive(now, &segment, message, false, settings);
            count += 1;
        }
        while let Some(Sending { segment, message }) = server.transmit(now, settings) {
            client.receive(now, &segment, message, false, settings);
            count += 1;
        }
        if count == before {
            return count;
        }
    }
}
