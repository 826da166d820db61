//! At most once, as a model: a client, a server and a network that loses, repeats, delays and
//! reorders packets, in which either end may restart or be stopped at every moment.
//! [`docs/promises.md`] states what holds; `tests/promise.rs` checks it in every state the model
//! can reach, `tests/engine.rs` that the engine does what the model says.
//!
//! Time passes in *ticks*, within which nothing takes time. A packet is delivered within
//! [`Scope::packet_life`] or never. A server remembers finished requests for two packet lives
//! ([`Rules::memory`]): an old answer may live for one and draw a copy of the request that lives
//! for another.
//!
//! Requests are one packet, responses two: they are received in part, and must not be joined of two
//! executions.
//!
//! [`docs/promises.md`]: https://github.com/homa-rs/homa/blob/main/docs/promises.md
#![forbid(unsafe_code)]

mod client;
mod server;

use std::collections::BTreeMap;

pub use client::{Call, Client, Waiting, Why};
pub use server::{Entry, Server};
use stateright::{Model, Property};

/// A life of the server or of the client; restarts count them up.
pub type Life = u8;
/// A call: its place in [`Scope::calls`].
pub type CallId = usize;
/// Ticks.
pub type Ticks = u8;

/// Packets of a response, at most.
pub const PARTS_MAX: usize = 2;
/// What the ends do to keep the promise. The default is what the engine does; every other value is
/// a mutant.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// For how many packet lives a server remembers finished requests.
    pub memory: u8,
    /// A request is repeated while it is younger than so many packet lives.
    pub repeats_within: u8,
    /// What the memory holds does not age while the server is stopped.
    pub memory_stops: bool,
    /// An id is taken for the newest of its client's life without a look into the memory only after
    /// the memory's time.
    pub newest_waits: bool,
    /// A server refuses requests that name another life than its own.
    pub refuses_other_names: bool,
    /// A client that is told *never seen* compares the age of the server's life with that of its
    /// request.
    pub compares_ages: bool,
    /// A server that has not lived for a packet's life takes no request that does not name it.
    pub young_server_asks: bool,
    /// A response is put together of packets of one life only.
    pub tells_lives_apart: bool,
    /// Calls that the server has are asked about.
    pub asks_about_confirmed: bool,
    /// A client believes a server that had a request and says several times that it has not seen
    /// it.
    pub believes_never_seen: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            memory: 2,
            repeats_within: 1,
            memory_stops: true,
            newest_waits: true,
            refuses_other_names: true,
            compares_ages: true,
            young_server_asks: false,
            tells_lives_apart: true,
            asks_about_confirmed: true,
            believes_never_seen: true,
        }
    }
}

/// How much may happen.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The life of the client that makes each call.
    pub calls: Vec<Life>,
    /// Lives of the server.
    pub server_lives: Life,
    /// Ticks that pass.
    pub ticks: Ticks,
    /// Ticks that a packet may spend in the network.
    pub packet_life: Ticks,
    /// Packets of a response, 1 or 2.
    pub parts: u8,
    /// Who may be stopped for a tick.
    pub stops: Vec<Stopped>,
    /// What the ends do.
    pub rules: Rules,
}

/// A packet, by what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Packet {
    /// The request, for the life of the server that it names, or for any.
    Request {
        /// Which call.
        call: CallId,
        /// The server as its client knows it.
        names: Option<Life>,
    },
    /// "Send me the response" (RESEND).
    Ask(CallId),
    /// "Do you have the request?" (NEED_ACK with reason *probe*).
    Probe(CallId),
    /// To the client.
    Answer(CallId, Life, Answer),
}

/// What a life of the server says about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// A packet of the response (DATA).
    Part(u8),
    /// "I have the request" (BUSY).
    Busy,
    /// "Do you have the response?" (NEED_ACK).
    NeedAck,
    /// "It is over here."
    Finished,
    /// "I live for so long and have not seen it."
    NeverSeen(Ticks),
    /// "It names another life; mine has lasted for so long."
    Restarted(Ticks),
}

impl Packet {
    fn call(&self) -> CallId {
        match self {
            Self::Request { call, .. } | Self::Ask(call) | Self::Probe(call) => *call,
            Self::Answer(call, ..) => *call,
        }
    }

    fn goes_to_client(&self) -> bool {
        matches!(self, Self::Answer(..))
    }
}

/// Which end is stopped while time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stopped {
    /// Neither.
    Nobody,
    /// The server: what comes for it waits in its socket.
    Server,
    /// The client, likewise.
    Client,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The client makes a call.
    Call(CallId),
    /// The client gives a call up.
    Abort(CallId),
    /// The server's application answers.
    Reply(CallId),
    /// The server is done with a response: it was acknowledged, cancelled or given up.
    Forget(CallId),
    /// A packet arrives, perhaps not for the last time.
    Deliver(Packet),
    /// The server dies and lives again, without memory. That takes a tick.
    RestartServer,
    /// The client likewise, at the same port.
    RestartClient,
    /// Time passes.
    Tick(Stopped),
}

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Ticks that passed.
    pub now: Ticks,
    /// The client.
    pub client: Client,
    /// The server.
    pub server: Server,
    /// Packets on their way, with the ticks they are.
    pub network: BTreeMap<Packet, Ticks>,
    /// How often each call was executed by each life of the server.
    pub executed: Vec<Vec<u8>>,
    /// A life executed a request that names it although another had executed it.
    pub repeated: bool,
}

impl World {
    /// Sends a packet. The network repeats as it likes, so the youngest copy stands for all.
    fn send(&mut self, packet: Packet) {
        self.network.insert(packet, 0);
    }

    fn tick(&mut self, stopped: Stopped, scope: &Scope) {
        self.now += 1;
        // What comes for a stopped process lies in its socket until it goes on.
        self.network.retain(|packet, age| {
            let unread = match stopped {
                Stopped::Nobody => false,
                Stopped::Server => !packet.goes_to_client(),
                Stopped::Client => packet.goes_to_client(),
            };
            *age = (*age + 1).min(scope.packet_life + 1);
            unread || *age <= scope.packet_life
        });
        if stopped == Stopped::Client {
            self.client_was_stopped();
        } else {
            self.client_ticks(scope);
        }
        match stopped {
            Stopped::Server if scope.rules.memory_stops => self.server.stopped += 1,
            Stopped::Server => self.server.ages(scope.memory()),
            _ => self.server_ticks(scope),
        }
    }

    /// Takes packets away that change nothing any more: RESENDs and replies about calls that are
    /// over. (An answer also tells another call which life the server lives, if it has several.)
    fn drop_the_irrelevant(&mut self, scope: &Scope) {
        let calls = &self.client.calls;
        let tells_others = scope.calls.len() > 1 && scope.server_lives > 1;
        self.network.retain(|packet, _| match packet {
            Packet::Request { .. } => true,
            Packet::Answer(..) if tells_others => true,
            _ => matches!(calls[packet.call()], Call::Waiting(_)),
        });
    }

    /// Calls that wait although the server's application does not work on them.
    fn idle_calls(&self) -> impl Iterator<Item = CallId> + '_ {
        let waits = |call: &CallId| matches!(self.client.calls[*call], Call::Waiting(_));
        (0..self.client.calls.len())
            .filter(waits)
            .filter(|call| self.server.entries[*call] != Entry::InService)
    }
}

impl Scope {
    fn memory(&self) -> Ticks {
        self.rules.memory * self.packet_life
    }

    /// When the first life of the server has lasted for longer than it remembers.
    pub fn began(&self) -> Ticks {
        2 * self.packet_life + 1
    }

    /// Silence after which a call fails.
    fn timeout(&self) -> Ticks {
        self.packet_life + 1
    }

    /// What becomes of the world if nothing is lost from now on, the server answers and nobody
    /// stops.
    fn all_is_well(&self, world: &World) -> World {
        let mut world = world.clone();
        for _ in 0..8 * self.packet_life {
            // Answers to answers: a request, its response, the acknowledgement.
            for _ in 0..4 {
                for packet in world.network.keys().copied().collect::<Vec<_>>() {
                    world.deliver(packet, self);
                }
                for call in 0..self.calls.len() {
                    world.reply(call, self);
                }
            }
            world.tick(Stopped::Nobody, self);
        }
        world
    }

    /// What becomes of the world if everything is lost from now on.
    fn all_is_lost(&self, world: &World) -> World {
        let mut world = world.clone();
        for _ in 0..=self.timeout() {
            world.network.clear();
            world.tick(Stopped::Nobody, self);
        }
        world
    }
}

impl World {
    /// A packet arrives.
    pub fn deliver(&mut self, packet: Packet, scope: &Scope) {
        match packet {
            Packet::Answer(call, life, answer) => self.client_hears(call, life, answer, scope),
            _ => self.server_hears(packet, scope),
        }
    }
}

impl Model for Scope {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: self.began(),
            client: Client::new(0, self.calls.len()),
            server: Server::new(0, 0, self.calls.len()),
            network: BTreeMap::new(),
            executed: vec![vec![0; usize::from(self.server_lives)]; self.calls.len()],
            repeated: false,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for (call, of) in self.calls.iter().enumerate() {
            match world.client.calls[call] {
                Call::Unmade if *of == world.client.life => steps.push(Step::Call(call)),
                Call::Waiting(_) => steps.push(Step::Abort(call)),
                _ => {}
            }
            match world.server.entries[call] {
                Entry::InService => steps.push(Step::Reply(call)),
                Entry::Kept => steps.push(Step::Forget(call)),
                _ => {}
            }
        }
        steps.extend(world.network.keys().copied().map(Step::Deliver));
        if self.calls.contains(&(world.client.life + 1)) {
            steps.push(Step::RestartClient);
        }
        if world.now < self.began() + self.ticks {
            if world.server.life + 1 < self.server_lives {
                steps.push(Step::RestartServer);
            }
            steps.push(Step::Tick(Stopped::Nobody));
            steps.extend(self.stops.iter().copied().map(Step::Tick));
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        match step {
            Step::Call(call) => world.call(call),
            Step::Abort(call) => world.client.fail(call, Why::Aborted),
            Step::Reply(call) => world.reply(call, self),
            Step::Forget(call) => world.server.finish(call),
            Step::Deliver(packet) => world.deliver(packet, self),
            Step::RestartServer => {
                world.server = Server::new(world.server.life + 1, world.now, self.calls.len());
                world.tick(Stopped::Nobody, self);
            }
            Step::RestartClient => {
                world.client = Client::new(world.client.life + 1, self.calls.len());
            }
            Step::Tick(stopped) => world.tick(stopped, self),
        }
        world.drop_the_irrelevant(self);
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a life of the server executes a request at most once", once_per_life),
            Property::always("a client has no request executed by a second life", not_repeated),
            Property::always("no request is executed by a second life", once_in_all),
            Property::always("a response is that of one execution", one_execution),
            Property::always("every call ends if nothing arrives", ends_if_all_is_lost),
            Property::always("every call ends if everything arrives", ends_if_all_is_well),
            Property::sometimes("a call is answered", some_call_is_answered),
        ]
    }
}

fn once_per_life(_: &Scope, world: &World) -> bool {
    world.executed.iter().flatten().all(|times| *times <= 1)
}

fn not_repeated(_: &Scope, world: &World) -> bool {
    !world.repeated
}

/// The network may copy a request that names no life: it is promised only if a young server takes
/// no request that names no life.
fn once_in_all(scope: &Scope, world: &World) -> bool {
    let mut calls = world.executed.iter();
    !scope.rules.young_server_asks || calls.all(|times| times.iter().sum::<u8>() <= 1)
}

fn one_execution(_: &Scope, world: &World) -> bool {
    world.client.calls.iter().enumerate().all(|(call, state)| match state {
        Call::Answered([first, second]) => {
            first == second && world.executed[call][usize::from(*first)] > 0
        }
        _ => true,
    })
}

fn ends_if_all_is_lost(scope: &Scope, world: &World) -> bool {
    let client = scope.all_is_lost(world).client;
    !client.calls.iter().any(|call| matches!(call, Call::Waiting(_)))
}

fn ends_if_all_is_well(scope: &Scope, world: &World) -> bool {
    scope.all_is_well(world).idle_calls().count() == 0
}

fn some_call_is_answered(_: &Scope, world: &World) -> bool {
    world.client.calls.iter().any(|call| matches!(call, Call::Answered(_)))
}
