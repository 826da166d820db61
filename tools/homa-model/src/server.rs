//! What a server does.

use crate::{Answer, CallId, Life, Packet, Scope, Ticks, World};

/// A life of the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Which.
    pub life: Life,
    /// When it began.
    pub born: Ticks,
    /// What it knows of each call.
    pub entries: Vec<Entry>,
    /// The newest request of the client's present life, and for how long requests of that life are
    /// counted.
    pub newest: Option<(CallId, Ticks)>,
    /// The client's life as it is known.
    pub knows: Option<Life>,
    /// Ticks for which it was stopped: when all that came meanwhile was read, what it remembered
    /// before is older for them.
    pub stopped: Ticks,
}

/// A call at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Not known, or not any more.
    Unknown,
    /// The application works on the request.
    InService,
    /// The response is sent and not acknowledged.
    Kept,
    /// Over for so many ticks.
    Finished(Ticks),
}

impl Server {
    /// A server without memory.
    pub(crate) fn new(life: Life, born: Ticks, calls: usize) -> Self {
        Self {
            life,
            born,
            entries: vec![Entry::Unknown; calls],
            newest: None,
            knows: None,
            stopped: 0,
        }
    }

    /// The request is over: it is remembered from now on.
    pub(crate) fn finish(&mut self, call: CallId) {
        self.entries[call] = Entry::Finished(0);
        self.stopped = 0;
    }

    fn remembers(&self, call: CallId) -> bool {
        matches!(self.entries[call], Entry::Finished(_))
    }

    /// What is remembered grows older, until it is forgotten.
    pub(crate) fn ages(&mut self, memory: Ticks) {
        for entry in &mut self.entries {
            *entry = match *entry {
                Entry::Finished(age) if age >= memory => Entry::Unknown,
                Entry::Finished(age) => Entry::Finished(age + 1),
                kept => kept,
            };
        }
        if let Some((_, counted)) = &mut self.newest {
            *counted = memory.min(*counted + 1);
        }
    }
}

impl World {
    fn say(&mut self, call: CallId, answer: Answer) {
        self.send(Packet::Answer(call, self.server.life, answer));
    }

    fn age_of_server(&self) -> Ticks {
        self.now - self.server.born
    }

    /// Time passed for the server.
    pub(crate) fn server_ticks(&mut self, scope: &Scope) {
        for _ in 0..=std::mem::take(&mut self.server.stopped) {
            self.server.ages(scope.memory());
        }
        for call in 0..self.server.entries.len() {
            if self.server.entries[call] == Entry::Kept {
                self.say(call, Answer::NeedAck);
            }
        }
    }

    /// The server's application answers, if it works on the call.
    pub(crate) fn reply(&mut self, call: CallId, scope: &Scope) {
        if self.server.entries[call] == Entry::InService {
            self.server.entries[call] = Entry::Kept;
            self.send_response(call, scope);
        }
    }

    fn send_response(&mut self, call: CallId, scope: &Scope) {
        for part in 0..scope.parts {
            self.say(call, Answer::Part(part));
        }
    }

    /// The server hears of a life of the client. What it counted of another is void.
    pub(crate) fn server_hears(&mut self, packet: Packet, scope: &Scope) {
        let life = scope.calls[packet.call()];
        if self.server.knows.is_some_and(|known| known != life) {
            self.server.knows = Some(life);
            self.server.newest = None;
        }
        match packet {
            Packet::Request { call, names } => self.request_arrives(call, names, scope),
            Packet::Ask(call) => match self.server.entries[call] {
                Entry::InService => self.say(call, Answer::Busy),
                Entry::Kept => self.send_response(call, scope),
                _ => self.say_unknown(call),
            },
            Packet::Probe(call) => match self.server.entries[call] {
                Entry::InService | Entry::Kept => self.say(call, Answer::Busy),
                _ => self.say_unknown(call),
            },
            Packet::Answer(..) => {}
        }
    }

    fn say_unknown(&mut self, call: CallId) {
        if self.server.remembers(call) {
            self.say(call, Answer::Finished);
        } else {
            self.say(call, Answer::NeverSeen(self.age_of_server()));
        }
    }

    fn request_arrives(&mut self, call: CallId, names: Option<Life>, scope: &Scope) {
        if matches!(self.server.entries[call], Entry::InService | Entry::Kept) {
            return;
        }
        let waits = if scope.rules.newest_waits { scope.memory() } else { 0 };
        let is_newest =
            self.server.newest.is_some_and(|(newest, counted)| call > newest && counted >= waits);
        if !is_newest && self.server.remembers(call) {
            self.server.finish(call);
        } else if scope.rules.refuses_other_names
            && names.is_some_and(|life| life != self.server.life)
        {
            self.say(call, Answer::Restarted(self.age_of_server()));
        } else if names.is_none()
            && scope.rules.young_server_asks
            && self.age_of_server() <= scope.packet_life
        {
            self.say(call, Answer::NeverSeen(self.age_of_server()));
        } else {
            self.server.entries[call] = Entry::InService;
            self.repeated |= names.is_some() && self.executed[call].iter().any(|times| *times > 0);
            self.executed[call][usize::from(self.server.life)] += 1;
            self.server.knows = Some(scope.calls[call]);
            match &mut self.server.newest {
                Some((newest, _)) => *newest = call.max(*newest),
                none => {
                    *none = Some((call, 0));
                    self.server.stopped = 0;
                }
            }
        }
    }
}
