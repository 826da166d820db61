//! A connection: its states (RFC 9293 §3.3.2), from the SYN to the end of TIME_WAIT.
//!
//! Only the end that listens is called, so that both ends never open at the same time.

use super::{
    receiver::{Receiver, Urgency},
    segment::{Flow, Kind, Segment, Sending},
    sender::{Counts, Sender},
    settings::Settings,
    timers::{Timer, Timers, backed_off},
};
use crate::{
    event::{HostId, MessageId},
    time::Time,
};

/// States of a connection. A listener is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) peer: HostId,
    /// As segments of this end name it.
    pub(super) flow: Flow,
    state: State,
    sender: Sender,
    receiver: Receiver,
    pub(super) timers: Timers,
    /// A SYN, or its answer, is to be sent.
    synchronizes: bool,
    /// When it was sent, and how often without an answer.
    synchronized_at: Time,
    attempts: u32,
    /// The application wants no more than what it wrote.
    closes: bool,
    acknowledges: bool,
    /// An acknowledgement of what came before a change of marks.
    early: Option<Segment>,
    /// A probe is to be sent, of the window or of life.
    probes: bool,
    persisted: u32,
    heard_at: Time,
    unheard: u32,
}

impl Connection {
    fn new(peer: HostId, flow: Flow, state: State, first: u64, settings: &Settings) -> Self {
        Self {
            peer,
            flow,
            state,
            // The SYN takes a number.
            sender: Sender::new(first + 1, settings),
            receiver: Receiver::new(0, settings.receive_buffer_bytes),
            timers: Timers::new(),
            synchronizes: false,
            synchronized_at: Time::ZERO,
            attempts: 0,
            closes: false,
            acknowledges: false,
            early: None,
            probes: false,
            persisted: 0,
            heard_at: Time::ZERO,
            unheard: 0,
        }
    }

    /// Opens one, with the number `first`.
    pub(super) fn open(peer: HostId, port: u32, first: u64, settings: &Settings) -> Self {
        let flow = Flow { port, to_listener: true };
        let open = Self::new(peer, flow, State::SynSent, first, settings);
        Self { synchronizes: true, ..open }
    }

    /// Answers a SYN.
    pub(super) fn accept(peer: HostId, syn: &Segment, first: u64, settings: &Settings) -> Self {
        let flow = syn.flow.reversed();
        let accepted = Self::new(peer, flow, State::SynReceived, first, settings);
        let receiver = Receiver::new(syn.seq + 1, settings.receive_buffer_bytes);
        Self { synchronizes: true, receiver, ..accepted }
    }

    /// Whose SYN was answered without memory, and which has acknowledged that with `ack`.
    pub(super) fn of_cookie(now: Time, peer: HostId, ack: &Segment, settings: &Settings) -> Self {
        let syn = Segment::new(ack.flow, Kind::Syn, ack.seq - 1, 0);
        let mut accepted = Self::accept(peer, &syn, ack.ack - 1, settings);
        accepted.establish(now, settings);
        accepted
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// What repair of losses did.
    pub(super) fn counts(&self) -> Counts {
        self.sender.counts
    }

    /// Messages of which something was not acknowledged.
    pub(super) fn open_messages(&self) -> u64 {
        self.sender.open_messages()
    }

    /// Whether an acknowledgement waits for nothing but the NIC.
    pub(super) fn is_urgent(&self) -> bool {
        self.acknowledges || self.synchronizes || self.early.is_some()
    }

    /// Hands to the NIC what may leave, if it takes more than it can send at once.
    pub(super) fn hand_over(&mut self, now: Time, settings: &Settings) {
        let sends = !matches!(self.state, State::Closed | State::SynSent | State::SynReceived);
        if sends && settings.offload.is_some() {
            self.sender.hand_over(now, self.sender.rto.timeout(settings), settings);
        }
    }

    /// Whether the NIC has begun a burst of it that it has not ended.
    pub(super) fn is_bursting(&self) -> bool {
        self.sender.is_bursting()
    }

    #[cfg(test)]
    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The application writes a message.
    pub(super) fn write(&mut self, message: MessageId, bytes: u32) {
        self.sender.write(message, bytes);
    }

    /// The next message that has come whole.
    pub(super) fn arrived(&mut self) -> Option<MessageId> {
        self.receiver.arrived()
    }

    /// The application reads everything.
    pub(super) fn read(&mut self) {
        self.acknowledges |= self.receiver.read(self.receiver.unread());
    }

    /// The application has written everything.
    pub(super) fn close(&mut self) {
        self.closes = true;
        self.state = match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            state => state,
        };
        if matches!(self.state, State::FinWait1 | State::LastAck) {
            self.sender.close();
        }
    }

    fn end(&mut self) {
        self.state = State::Closed;
        self.timers.clear_all();
    }

    fn establish(&mut self, now: Time, settings: &Settings) {
        self.state = State::Established;
        self.synchronizes = false;
        self.timers.clear(Timer::Establishment);
        if let Some(keep_alive) = settings.keep_alive {
            self.timers.set(Timer::KeepAlive, now + keep_alive.idle);
        }
        if self.closes {
            self.close();
        }
    }

    /// Takes a segment of the other end; `marked` if the packet bears a mark of congestion.
    pub(super) fn receive(
        &mut self,
        now: Time,
        segment: &Segment,
        message: Option<MessageId>,
        marked: bool,
        settings: &Settings,
    ) {
        (self.heard_at, self.unheard) = (now, 0);
        match (self.state, segment.kind) {
            (_, Kind::Reset) => return self.end(),
            (State::SynReceived, Kind::Syn) => return self.synchronizes = true,
            (State::SynSent, Kind::SynAck) if segment.ack == self.sender.next() => {
                self.receiver = Receiver::new(segment.seq + 1, settings.receive_buffer_bytes);
                self.handshake(now, settings);
                self.acknowledges = true;
            }
            (State::SynReceived, Kind::Ack) if segment.ack >= self.sender.next() => {
                self.handshake(now, settings);
            }
            // One more of what was answered: again the answer.
            (State::Established, Kind::Syn | Kind::SynAck) => self.acknowledges = true,
            (State::SynSent | State::SynReceived | State::Closed, _) => return,
            _ => {}
        }
        self.acknowledged(now, segment, settings);
        if segment.kind == Kind::Ack {
            self.take(now, segment, message, marked, settings);
        }
        self.proceed(now, settings);
    }

    /// The SYN of this end was acknowledged.
    fn handshake(&mut self, now: Time, settings: &Settings) {
        if self.attempts == 1 {
            self.sender.rto.sample(now.since(self.synchronized_at));
        }
        self.establish(now, settings);
    }

    fn acknowledged(&mut self, now: Time, segment: &Segment, settings: &Settings) {
        if self.sender.acknowledge(now, segment) {
            match self.sender.is_idle() {
                true => self.timers.clear(Timer::Retransmission),
                false => self.retransmit_later(now, settings),
            }
        }
        if !self.sender.is_blocked() {
            self.persisted = 0;
            self.timers.clear(Timer::Persist);
        }
    }

    fn retransmit_later(&mut self, now: Time, settings: &Settings) {
        self.timers.set(Timer::Retransmission, now + self.sender.rto.timeout(settings));
    }

    fn take(
        &mut self,
        now: Time,
        segment: &Segment,
        message: Option<MessageId>,
        marked: bool,
        settings: &Settings,
    ) {
        if segment.bytes > 0 {
            if self.receiver.changes_mark(marked) {
                let mut early = self.bare(Kind::Ack);
                self.receiver.acknowledge(&mut early);
                self.early = Some(early);
            }
            self.receiver.mark(marked);
        }
        match self.receiver.receive(segment, message) {
            Urgency::None => {}
            Urgency::Now => self.acknowledges = true,
            Urgency::Later if self.timers.is_set(Timer::DelayedAck) => {}
            Urgency::Later => self.timers.set(Timer::DelayedAck, now + settings.delayed_ack),
        }
    }

    /// The next state, if one of the two streams has come to its end.
    fn proceed(&mut self, now: Time, settings: &Settings) {
        let (sent, received) = (self.sender.is_finished(), self.receiver.is_finished());
        let state = match self.state {
            State::Established if received => State::CloseWait,
            State::FinWait1 | State::FinWait2 if sent && received => State::TimeWait,
            State::FinWait1 if sent => State::FinWait2,
            State::FinWait1 if received => State::Closing,
            State::Closing if sent => State::TimeWait,
            State::LastAck if sent => return self.end(),
            // The other end sends its FIN once more: it lacks the acknowledgement.
            State::TimeWait if self.acknowledges => State::TimeWait,
            _ => return,
        };
        self.state = state;
        match state {
            State::FinWait2 => self.timers.set(Timer::FinWait2, now + settings.fin_wait_2),
            State::TimeWait => {
                self.timers.clear_all();
                self.timers.set(Timer::TimeWait, now + settings.time_wait);
                self.sender.release();
            }
            _ => {}
        }
    }

    /// A timer has run out.
    pub(super) fn timed_out(&mut self, now: Time, timer: Timer, settings: &Settings) {
        match timer {
            Timer::Establishment if self.attempts > settings.syn_retries => self.end(),
            Timer::Establishment => self.synchronizes = true,
            Timer::Retransmission if self.sender.rto.timeouts >= settings.retries => self.end(),
            Timer::Retransmission => self.sender.timed_out(),
            Timer::DelayedAck => self.acknowledges = true,
            Timer::Persist => (self.probes, self.persisted) = (true, self.persisted + 1),
            Timer::KeepAlive => self.ask_for_life(now, settings),
            Timer::FinWait2 | Timer::TimeWait => self.end(),
        }
    }

    fn ask_for_life(&mut self, now: Time, settings: &Settings) {
        let Some(keep_alive) = settings.keep_alive else { return };
        let wanted = self.heard_at + keep_alive.idle;
        if now < wanted {
            return self.timers.set(Timer::KeepAlive, wanted);
        }
        if self.unheard >= keep_alive.probes {
            return self.end();
        }
        (self.probes, self.unheard) = (true, self.unheard + 1);
        self.timers.set(Timer::KeepAlive, now + keep_alive.interval);
    }

    /// The next segment to send.
    pub(super) fn transmit(&mut self, now: Time, settings: &Settings) -> Option<Sending> {
        match self.state {
            State::Closed => return None,
            State::SynSent | State::SynReceived => return self.synchronize(now, settings),
            _ => {}
        }
        if let Some(early) = self.early.take() {
            return Some(early.into());
        }
        if let Some(sending) = self.transmit_data(now, settings) {
            return Some(sending);
        }
        let probes = std::mem::take(&mut self.probes);
        if !(probes || self.acknowledges) {
            return None;
        }
        let mut segment = self.bare(Kind::Ack);
        // A number of the past makes the other end acknowledge.
        segment.seq = if probes { self.sender.acknowledged() - 1 } else { self.sender.next() };
        self.acknowledge(&mut segment);
        Some(segment.into())
    }

    fn synchronize(&mut self, now: Time, settings: &Settings) -> Option<Sending> {
        if !std::mem::take(&mut self.synchronizes) {
            return None;
        }
        let kind = if self.state == State::SynSent { Kind::Syn } else { Kind::SynAck };
        let mut segment = self.bare(kind);
        segment.seq = self.sender.next() - 1;
        segment.window = settings.receive_buffer_bytes;
        if kind == Kind::SynAck {
            self.receiver.acknowledge(&mut segment);
        }
        let patience = backed_off(settings.rto_initial, self.attempts, settings);
        (self.synchronized_at, self.attempts) = (now, self.attempts + 1);
        self.timers.set(Timer::Establishment, now + patience);
        Some(segment.into())
    }

    fn transmit_data(&mut self, now: Time, settings: &Settings) -> Option<Sending> {
        let timeout = self.sender.rto.timeout(settings);
        let Some(sent) = self.sender.transmit(now, timeout, settings) else {
            if self.sender.is_blocked() && !self.timers.is_set(Timer::Persist) {
                let patience = backed_off(timeout, self.persisted, settings);
                self.timers.set(Timer::Persist, now + patience);
            }
            return None;
        };
        if !self.timers.is_set(Timer::Retransmission) {
            self.retransmit_later(now, settings);
        }
        let mut segment = self.bare(Kind::Ack);
        (segment.seq, segment.bytes) = (sent.seq, sent.bytes);
        (segment.push, segment.fin) = (sent.push, sent.fin);
        self.acknowledge(&mut segment);
        Some(Sending { segment, message: sent.message })
    }

    fn bare(&self, kind: Kind) -> Segment {
        Segment::new(self.flow, kind, self.sender.next(), 0)
    }

    fn acknowledge(&mut self, segment: &mut Segment) {
        self.receiver.acknowledge(segment);
        self.acknowledges = false;
        self.timers.clear(Timer::DelayedAck);
    }
}
