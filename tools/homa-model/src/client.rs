//! What a client does.

use crate::{Answer, CallId, Life, PARTS_MAX, Packet, Scope, Ticks, World};

/// *Never seen* answers after which a server that had a request is believed to have lost it.
const DOUBTS_MAX: u8 = 3;

/// A life of the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// Which.
    pub life: Life,
    /// The server's life as it is known.
    pub knows: Option<Life>,
    /// Ticks since a packet of the server came.
    pub silence: Ticks,
    /// All calls; those of other lives are unmade here.
    pub calls: Vec<Call>,
}

/// A call at its client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Not made, or by another life.
    Unmade,
    /// It has no end yet.
    Waiting(Waiting),
    /// The response came; each of its packets from this life of the server.
    Answered([Life; PARTS_MAX]),
    /// It failed.
    Failed(Why),
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The application gave it up.
    Aborted,
    /// The server was silent.
    Timeout,
    /// A former life of the server may have executed it.
    Restarted,
    /// The server does not have it any more.
    Forgotten,
}

/// What a client knows of a call that has no end yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// When the request was first sent.
    pub first_sent: Ticks,
    /// The life of the server that may have it, if known.
    pub server_life: Option<Life>,
    /// Ticks since the server said something about it.
    pub silence: Ticks,
    /// The server said that it has the request.
    pub confirmed: bool,
    /// *Never seen* answers since.
    pub doubts: u8,
    /// One of them came during this tick: others are replies to RESENDs of the same time.
    pub doubted: bool,
    /// The request was sent again during this tick.
    pub repeated: bool,
    /// Whose packets of the response came.
    pub parts: [Option<Life>; PARTS_MAX],
}

impl Waiting {
    fn is_incoming(&self) -> bool {
        self.parts.iter().any(Option::is_some)
    }
}

impl Client {
    /// A client that knows nothing.
    pub(crate) fn new(life: Life, calls: usize) -> Self {
        Self { life, knows: None, silence: 0, calls: vec![Call::Unmade; calls] }
    }

    /// A call ends without its response.
    pub(crate) fn fail(&mut self, call: CallId, why: Why) {
        self.calls[call] = Call::Failed(why);
    }

    fn waiting(&mut self, call: CallId) -> Option<&mut Waiting> {
        match &mut self.calls[call] {
            Call::Waiting(waiting) => Some(waiting),
            _ => None,
        }
    }
}

impl World {
    /// The client makes a call. The first RESEND about it follows soon.
    pub(crate) fn call(&mut self, call: CallId) {
        let names = self.client.knows;
        self.client.calls[call] = Call::Waiting(Waiting {
            first_sent: self.now,
            server_life: names,
            silence: 0,
            confirmed: false,
            doubts: 0,
            doubted: false,
            repeated: false,
            parts: [None; PARTS_MAX],
        });
        self.send(Packet::Request { call, names });
        self.send(Packet::Ask(call));
    }

    /// Time passed for the client.
    pub(crate) fn client_ticks(&mut self, scope: &Scope) {
        self.client.silence = (self.client.silence + 1).min(scope.timeout());
        let asked = |call: &Call| matches!(call, Call::Waiting(waiting) if waiting.confirmed);
        if !self.client.calls.iter().any(asked) {
            self.client.silence = 0;
        }
        let peer_is_dead =
            self.client.silence >= scope.timeout() && scope.rules.asks_about_confirmed;
        for call in 0..self.client.calls.len() {
            let Some(waiting) = self.client.waiting(call) else {
                continue;
            };
            waiting.silence = (waiting.silence + 1).min(scope.timeout());
            waiting.repeated = false;
            waiting.doubted = false;
            let (confirmed, unanswered) = (waiting.confirmed, waiting.silence >= scope.timeout());
            if peer_is_dead || (!confirmed && unanswered) {
                self.client.fail(call, Why::Timeout);
            } else if !confirmed {
                self.send(Packet::Ask(call));
            } else if scope.rules.asks_about_confirmed {
                self.send(Packet::Probe(call));
            }
        }
    }

    /// The client was stopped: that is no silence, nor is as much time before or after it.
    pub(crate) fn client_was_stopped(&mut self) {
        self.client.silence = self.client.silence.saturating_sub(1);
        for call in 0..self.client.calls.len() {
            if let Some(waiting) = self.client.waiting(call) {
                waiting.silence = waiting.silence.saturating_sub(1);
                waiting.repeated = false;
                waiting.doubted = false;
            }
        }
    }

    /// The client hears of a life of the server about a call. One that has not called yet does not
    /// know anybody.
    pub(crate) fn client_hears(&mut self, call: CallId, life: Life, answer: Answer, scope: &Scope) {
        let of_this_life = |call: &Call| *call != Call::Unmade;
        if !self.client.calls.iter().any(of_this_life) {
            return;
        }
        self.client.knows = Some(life);
        self.client.silence = 0;
        let Some(waiting) = self.client.waiting(call) else {
            return;
        };
        match answer {
            Answer::Part(part) => self.part_arrives(call, life, part, scope),
            Answer::NeedAck => self.send(Packet::Ask(call)),
            Answer::Busy => {
                waiting.silence = 0;
                waiting.doubts = 0;
                if !waiting.is_incoming() {
                    waiting.server_life = Some(life);
                    waiting.confirmed = true;
                }
            }
            Answer::Finished => self.client.fail(call, Why::Forgotten),
            Answer::Restarted(_) if waiting.is_incoming() => {
                self.client.fail(call, Why::Restarted);
            }
            Answer::NeverSeen(_) if waiting.is_incoming() => {}
            Answer::Restarted(age) => self.reborn(call, age),
            Answer::NeverSeen(age) => self.never_seen(call, age, scope),
        }
    }

    fn part_arrives(&mut self, call: CallId, life: Life, part: u8, scope: &Scope) {
        let Some(waiting) = self.client.waiting(call) else {
            return;
        };
        let other = waiting.parts.iter().flatten().any(|begun| *begun != life);
        if other && scope.rules.tells_lives_apart {
            self.client.fail(call, Why::Restarted);
            return;
        }
        waiting.silence = 0;
        waiting.confirmed = false;
        waiting.parts[usize::from(part)].get_or_insert(life);
        if scope.parts == 1 {
            waiting.parts[1] = Some(life);
        }
        if let [Some(first), Some(second)] = waiting.parts {
            self.client.calls[call] = Call::Answered([first, second]);
        }
    }

    /// The server's life began `age` ago, and it has not executed the request.
    fn reborn(&mut self, call: CallId, age: Ticks) {
        let (now, knows) = (self.now, self.client.knows);
        let Some(waiting) = self.client.waiting(call) else {
            return;
        };
        if now - waiting.first_sent < age {
            waiting.server_life = knows;
            self.repeat(call);
        } else {
            self.client.fail(call, Why::Restarted);
        }
    }

    /// The server, which lives for `age`, does not know the request.
    fn never_seen(&mut self, call: CallId, age: Ticks, scope: &Scope) {
        let (now, knows) = (self.now, self.client.knows);
        let Some(waiting) = self.client.waiting(call) else {
            return;
        };
        if waiting.server_life.is_some() && waiting.server_life != knows {
            self.reborn(call, age);
            return;
        }
        let request_age = now - waiting.first_sent;
        if waiting.server_life.is_none() && scope.rules.compares_ages && request_age >= age {
            self.client.fail(call, Why::Restarted);
        } else if waiting.confirmed || waiting.doubts > 0 {
            let at_once = waiting.doubts > 0 && waiting.doubted;
            if !scope.rules.believes_never_seen || at_once {
                return;
            }
            waiting.doubted = true;
            waiting.doubts += 1;
            waiting.confirmed = false;
            waiting.silence = 0;
            if waiting.doubts >= DOUBTS_MAX {
                self.client.fail(call, Why::Forgotten);
            }
        } else if request_age >= scope.rules.repeats_within * scope.packet_life {
            self.client.fail(call, Why::Forgotten);
        } else {
            self.repeat(call);
        }
    }

    /// Sends the request again, once per tick.
    fn repeat(&mut self, call: CallId) {
        let names = self.client.knows;
        let Some(waiting) = self.client.waiting(call).filter(|waiting| !waiting.repeated) else {
            return;
        };
        waiting.confirmed = false;
        waiting.doubts = 0;
        waiting.silence = 0;
        waiting.repeated = true;
        self.send(Packet::Request { call, names });
    }
}
