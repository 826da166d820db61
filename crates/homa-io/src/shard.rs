//! Engine, driver and store together, and the turn that moves all of it forward
//! (ARCHITECTURE.md §Who drives).

mod view;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use homa_core::{
    Carriage, DropReason, Engine, Event, IcmpKind, Instant, Path, Received, RxMeta, Segment, Stats,
    TransmitError, Urgency, WakeReason,
};

use homa_wire::Packets;

use crate::driver::{Driver, PacketSink, RxStatus};
use crate::store::Store;

pub use view::ShardView;

/// Segments offered to the engine for one train: what the kernel takes in one gathered call.
pub const SEGMENTS_MAX: usize = 128;
/// Bytes of a packet that the engine looks at.
const HEADER_LOOK_BYTES: usize = 128;
/// Events handed out per turn; more wait for the next one, so that an application that answers
/// every event with an operation cannot keep a turn from ending.
const EVENTS_PER_TURN_MAX: usize = 4096;
/// Refusals by the driver after which a turn stops sending.
const REFUSALS_PER_TURN_MAX: usize = 32;
/// Wait after the driver had no room, if writability is not reported; doubles up to the maximum.
const NO_ROOM_WAIT_MIN: Duration = Duration::from_micros(50);
const NO_ROOM_WAIT_MAX: Duration = Duration::from_millis(1);
/// Longest time without a whole turn, so that the engine gets to its housekeeping.
const QUIET_MAX: Duration = Duration::from_millis(50);
/// Bytes handed to the driver per turn, so that receiving gets its turn too; one train more may go.
const TX_BYTES_PER_TURN_MAX: u64 = 256 << 10;

/// RPCs and peers that a turn looks at on average, where all is checked.
#[cfg(feature = "check")]
const CHECKED_PER_TURN: usize = 64;

/// Told what happened, in order, during [`Shard::turn`].
///
/// Of the engine's events all but [`Event::PeerAdded`] come here (the shard answers that one).
/// Operations on the shard, answers for example, are done through the view; they may be done later
/// as well, through [`Shard::view`].
pub trait EventHandler {
    /// One event. After [`Event::Ended`] or [`Event::ResponseDelivered`] the RPC's key and bytes
    /// are gone.
    fn event(&mut self, event: Event, shard: &mut ShardView<'_>);
}

/// A function is told the parts of each event, see [`Event::parts`].
impl<F: FnMut(Event, &mut ShardView<'_>)> EventHandler for F {
    fn event(&mut self, event: Event, shard: &mut ShardView<'_>) {
        event.parts().for_each(|part| self(part, shard));
    }
}

/// Result of a turn, and when the next one is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Turn {
    /// Whether anything was received, told or sent.
    pub work: bool,
    /// Whether the driver may hold more received packets.
    pub rx: RxStatus,
    /// Call again then at the latest (at once if this is not in the future), or earlier if packets
    /// come. `None`: only packets or operations can make something happen.
    pub next: Option<Instant>,
    /// Reason of the next call, where the engine named a time.
    pub reason: Option<WakeReason>,
    /// The driver had no room: call again as soon as it is writable, after [`Shard::writable`].
    pub wait_writable: bool,
    /// How much it matters that the next turn comes in time.
    pub urgency: Urgency,
}

/// One engine with its driver and its bytes. Not shared: the caller of its turns has exclusive
/// access.
#[derive(Debug)]
pub struct Shard<D> {
    engine: Engine,
    driver: D,
    store: Store,
    segments: Box<[Segment]>,
    /// Nothing is sent before this, unless the driver became writable.
    blocked_until: Option<Instant>,
    no_room_wait: Duration,
    /// The last turn, if it found and left nothing to do: until this time, a packet or an
    /// operation, the next ones only look for packets.
    quiet: Option<(Turn, Instant)>,
    /// Turns since the last full check; `None`: no checks.
    #[cfg(feature = "check")]
    unchecked_turns: Option<usize>,
}

/// Why a turn stopped sending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TxStop {
    /// Nothing is left that may go now.
    Done,
    /// The turn's share is used up.
    Limit,
    /// The driver or the host's queue is full.
    Full,
}

impl<D: Driver> Shard<D> {
    /// Joins an engine and a driver; tells the engine how much the driver can hold, and whether it
    /// knows what has left.
    pub fn new(mut engine: Engine, driver: D) -> Self {
        let capacity = driver.rx_capacity();
        engine.set_receive_capacity(capacity.bytes);
        engine.set_tx_backlog(Instant::ZERO, driver.tx_backlog_bytes());
        Self {
            engine,
            driver,
            store: Store::new(),
            segments: vec![Segment::EMPTY; SEGMENTS_MAX].into_boxed_slice(),
            blocked_until: None,
            no_room_wait: NO_ROOM_WAIT_MIN,
            quiet: None,
            #[cfg(feature = "check")]
            unchecked_turns: Some(0),
        }
    }

    /// Whether turns end with a look at everything that must hold. They do; a test that counts what
    /// a turn costs does without.
    #[cfg(feature = "check")]
    pub fn set_checked(&mut self, checked: bool) {
        self.unchecked_turns = checked.then_some(0);
    }

    /// Looks at all accounts of engine and store.
    ///
    /// # Panics
    /// If one is wrong.
    #[cfg(feature = "check")]
    pub fn check(&self) {
        self.engine.check();
        self.store.check(&self.engine);
    }

    /// A turn is over: looks at everything, the less often the more there is.
    #[cfg(feature = "check")]
    fn check_now_and_then(&mut self) {
        let Some(turns) = &mut self.unchecked_turns else {
            return;
        };
        *turns += 1;
        if *turns > self.engine.check_cost() / CHECKED_PER_TURN {
            *turns = 0;
            self.check();
        }
    }

    /// Receives one batch, lets the engine act on it and on the time, hands out events, and sends
    /// as much as the driver and the bounds of a turn allow.
    ///
    /// # Errors
    /// The driver is unusable (its socket is gone): drop the shard.
    pub fn turn(&mut self, now: Instant, handler: &mut impl EventHandler) -> io::Result<Turn> {
        let mut intake = Intake {
            now,
            engine: &mut self.engine,
            store: &mut self.store,
            carriage: self.driver.carriage(),
            local_port: self.driver.local_addr().port(),
            packets: 0,
            refused_port: false,
        };
        let rx = self.driver.receive(&mut intake)?;
        let received = intake.packets > 0;
        if let Some((turn, until)) = self.quiet {
            if !received && rx == RxStatus::Drained && now < until {
                return Ok(turn);
            }
        }
        self.engine.handle_timeout(now, rx == RxStatus::Drained);
        Ok(self.advance(now, rx, received, handler))
    }

    /// As [`Shard::turn`] without looking for packets: after an operation, to send at once what it
    /// caused. The time is not acted on: nothing is given up or requested again without a look at
    /// what has arrived.
    pub fn push(&mut self, now: Instant, handler: &mut impl EventHandler) -> Turn {
        self.advance(now, RxStatus::More, false, handler)
    }

    /// The driver became writable: the next turn tries to send again.
    pub fn writable(&mut self) {
        self.blocked_until = None;
        self.quiet = None;
    }

    /// The operations of the library, outside a turn. Follow them by [`Shard::push`] or
    /// [`Shard::turn`].
    pub fn view(&mut self, now: Instant) -> ShardView<'_> {
        self.quiet = None;
        ShardView::new(now, &mut self.engine, &mut self.store)
    }

    /// When the next turn is due, as [`Turn::next`]; changes with every operation and turn.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.engine.poll_timeout().map(|due| self.not_while_blocked(due))
    }

    /// How much it matters that the next turn comes in time.
    pub fn urgency(&self) -> Urgency {
        self.engine.urgency()
    }

    /// Counters of the engine.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// The engine, for its settings.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, to bind ports or set peers. Sending belongs to [`Shard::view`], which knows the
    /// bytes.
    pub fn engine_mut(&mut self) -> &mut Engine {
        self.quiet = None;
        &mut self.engine
    }

    /// The driver.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// The driver, to wait on it or to change it.
    pub fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    /// The bytes of all messages on their way.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// When something that the engine names is due: sending not before there may be room.
    fn not_while_blocked(&self, (at, reason): (Instant, WakeReason)) -> Instant {
        match (self.blocked_until, reason) {
            (Some(until), WakeReason::Transmit | WakeReason::Pacer) => at.max(until),
            _ => at,
        }
    }

    /// Everything of a turn but receiving and acting on the time.
    fn advance(
        &mut self,
        now: Instant,
        rx: RxStatus,
        received: bool,
        handler: &mut impl EventHandler,
    ) -> Turn {
        // Events, then what they ask for is sent, then events about what was sent.
        let (mut told, mut transmitted) = (0, None);
        let (sent, stop) = loop {
            told += self.hand_out_events(now, handler);
            match transmitted {
                Some(done) => break done,
                None => transmitted = Some(self.transmit(now)),
            }
        };
        let events_left = told >= EVENTS_PER_TURN_MAX;

        let due = self.engine.poll_timeout();
        let mut next = due.map(|due| self.not_while_blocked(due));
        if events_left {
            next = Some(now);
        }
        let turn = Turn {
            work: received || told > 0 || sent,
            rx,
            next,
            reason: due.map(|(_, reason)| reason),
            wait_writable: stop == TxStop::Full,
            urgency: self.engine.urgency(),
        };
        let quiet = !turn.work && stop == TxStop::Done && rx == RxStatus::Drained;
        self.quiet = None;
        if quiet {
            let until = (now + QUIET_MAX).min(turn.next.unwrap_or(Instant::FAR_FUTURE));
            self.quiet = Some((turn, until));
        }
        #[cfg(feature = "check")]
        self.check_now_and_then();
        turn
    }

    /// Hands out events and does what the shard owes them; returns how many there were.
    // Inlined, since mostly there are none.
    #[inline(always)]
    fn hand_out_events(&mut self, now: Instant, handler: &mut impl EventHandler) -> usize {
        let mut count = 0;
        while count < EVENTS_PER_TURN_MAX {
            let Some(event) = self.engine.poll_event() else {
                break;
            };
            count += 1;
            self.hand_out(event, now, handler);
        }
        count
    }

    fn hand_out(&mut self, event: Event, now: Instant, handler: &mut impl EventHandler) {
        let (mut released, mut ended) = (None, None);
        match event {
            Event::PeerAdded { path } => return self.tell_path(now, path),
            Event::Released { rpc, upto } => self.store.released(rpc, upto),
            Event::ResponseWhole { rpc, released_upto, .. } => {
                released = Some((rpc, released_upto))
            }
            Event::Ended { rpc } | Event::ResponseDelivered { rpc, .. } => ended = Some(rpc),
            _ => {}
        }
        handler.event(event, &mut ShardView::new(now, &mut self.engine, &mut self.store));
        // Mostly the handler has taken the response, and nothing is left of the call.
        if let Some((rpc, upto)) = released {
            self.store.released(rpc, upto);
        }
        if let Some(rpc) = ended {
            self.store.remove(rpc);
        }
    }

    fn tell_path(&mut self, now: Instant, path: Path) {
        if let (Some(mtu), link_mbps) = self.driver.path(path.remote) {
            self.engine.path_changed(now, path, mtu, link_mbps);
        }
    }

    /// Sends until there is nothing left or no room; says whether anything went out, and why it
    /// stopped.
    fn transmit(&mut self, now: Instant) -> (bool, TxStop) {
        if self.blocked_until.is_some_and(|until| now < until) {
            return (false, TxStop::Full);
        }
        self.blocked_until = None;
        let (mut bytes, mut refusals) = (0_u64, 0);
        loop {
            if bytes >= TX_BYTES_PER_TURN_MAX || refusals >= REFUSALS_PER_TURN_MAX {
                return (bytes > 0, TxStop::Limit);
            }
            let Some(transmit) = self.engine.poll_transmit(now, &mut self.segments) else {
                if self.engine.asks_tx_backlog(now) {
                    self.engine.set_tx_backlog(now, self.driver.tx_backlog_bytes());
                    continue;
                }
                return (bytes > 0, TxStop::Done);
            };
            let segments = self.segments.get(..transmit.segments).unwrap_or(&[]);
            match self.driver.transmit(&transmit, segments, &self.store) {
                Ok(()) => {
                    bytes += u64::from(transmit.total_bytes);
                    self.no_room_wait = NO_ROOM_WAIT_MIN;
                }
                Err(unsent) => {
                    refusals += 1;
                    bytes += u64::from(transmit.segment_bytes) * unsent.first as u64;
                    self.engine.transmit_failed(now, &transmit, segments, unsent.first, unsent.why);
                    if unsent.why == TransmitError::NoRoom {
                        self.blocked_until = Some(now + self.no_room_wait);
                        self.no_room_wait = (self.no_room_wait * 2).min(NO_ROOM_WAIT_MAX);
                        return (bytes > 0, TxStop::Full);
                    }
                }
            }
        }
    }
}

/// Receives for engine and store.
struct Intake<'a> {
    now: Instant,
    engine: &'a mut Engine,
    store: &'a mut Store,
    carriage: Carriage,
    local_port: u16,
    packets: u64,
    /// The last packet was for an unserved port.
    refused_port: bool,
}

impl PacketSink for Intake<'_> {
    fn packet(&mut self, meta: &RxMeta, packet: &[u8]) {
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        if self.carriage != Carriage::Udp {
            return self.one_packet(meta, packet, length);
        }
        for (packet, length) in Packets::new(packet, length) {
            self.one_packet(meta, packet, length);
        }
    }

    fn refused_port(&self) -> bool {
        self.refused_port
    }

    fn icmp_error(&mut self, kind: IcmpKind, destination: SocketAddr, quoted: &[u8]) {
        self.packets += 1;
        let path = self.path_to(destination);
        self.engine.icmp_error(self.now, kind, path, quoted);
    }

    fn path_mtu(&mut self, destination: SocketAddr, mtu: u32) {
        self.packets += 1;
        let path = self.path_to(destination);
        self.engine.path_changed(self.now, path, mtu, None);
    }
}

impl Intake<'_> {
    fn one_packet(&mut self, meta: &RxMeta, packet: &[u8], length: u32) {
        self.packets += 1;
        let header = packet.get(..HEADER_LOOK_BYTES).unwrap_or(packet);
        let received = self.engine.handle_packet(self.now, meta, header, length);
        self.refused_port = received == Received::Dropped(DropReason::NoSuchPort);
        if let Received::Place(placement) = received {
            self.store.place(&placement, packet);
        }
    }

    /// A path that names the peer, which is all that matters where it is used.
    fn path_to(&self, remote: SocketAddr) -> Path {
        Path {
            remote,
            local_ip: None,
            local_port: self.local_port,
            interface: 0,
            carriage: self.carriage,
        }
    }
}
