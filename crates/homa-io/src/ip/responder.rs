//! Responder for ports without an owner.
//!
//! While any raw socket of the protocol exists the kernel stays silent about packets to unserved
//! ports. So one process of the host, the *responder*, watches the packets to all ports: the one
//! that has claimed the role ([`super::claims`]). The others keep a connection to it among what
//! they wait for: when the responder goes, all of them know at once, and the first takes its place.
//! It listens at the abstract Unix socket `homa/146/responder/MARK`, with the mark of its claim:
//! such names count only with a claim, since any user could take them.
//!
//! The responder's sockets get no packets to ports known to have an owner: the owner of a port is
//! looked up four times per second at most, and the filter leaves that port of that address out
//! until then.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use homa_sys::address::Family;
use homa_sys::epoll::Ready;
use homa_sys::raw::{Filter, RxBatch};
use homa_sys::{Epoll, RawSocket, TimerFd, monotonic_ns};
use homa_wire::{IP_PROTOCOL, IP_PROTOCOL_TCP, is_tcp_form};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};

use super::answer::{Answerer, wanted};
use super::claims::{Claim, Claimed, claim, claims, random};
use super::ports::{self, Served};
use super::tcp_form::MARKS;
use super::{Form, IpStats, receive};
use crate::home::Home;

/// Marks that the claim can have, and 0.
const CLAIM_MARKS: u64 = 1 << 24;
/// Ports left out by the filter, the own one included. With more the oldest is asked about again.
const KNOWN_MAX: usize = 64;
/// How long a port counts as owned before its owner is looked up again: short against the time in
/// which clients of a process that has gone give it up.
const KNOWN_NS: u64 = 250_000_000;
/// When to try again after the role could neither be taken nor watched.
const RETRY_NS: u64 = 100_000_000;
/// Other processes that may hold a connection; more wait in the listener's queue, which tells them
/// as well.
const FOLLOWERS_MAX: usize = 4_096;
/// Times that taking the role is tried in a row while others do the same.
const ATTEMPTS_MAX: usize = 8;
/// Ready descriptors handled per call.
const READY_MAX: usize = 16;
/// Packets looked at per call and IP version, and the bytes of each that matter (with the IP
/// header).
const PACKETS_MAX: usize = 16;
const LOOK_BYTES: usize = 256;
/// One holder answers for the whole host.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Receive buffer: a flood to unserved ports may overflow it.
const BUFFER_BYTES: usize = 256 << 10;

/// Tokens in the set: the timer, the listener or the connection to the responder, at most four
/// sockets; then followers.
const TIMER: u64 = 0;
const WATCH: u64 = 1;
const SOCKETS: u64 = 2;
const FOLLOWERS: u64 = 16;

/// This driver's part in answering.
#[derive(Debug)]
pub(super) struct Responder {
    epoll: Epoll,
    timer: TimerFd,
    home: Home,
    role: Role,
    /// Packets that look like TCP segments are answered too.
    tcp_form: bool,
    own: Served,
    pub(super) answerer: Answerer,
}

/// The role of this process.
#[derive(Debug)]
enum Role {
    /// Neither: tried again when the timer fires.
    None,
    /// Another process has the role; the connection ends when that process does.
    Follower(OwnedFd),
    /// This process answers.
    Holder(Box<Holder>),
}

#[derive(Debug)]
struct Holder {
    /// Given up before the listener ends, so that those who notice find the role free.
    _claimed: Claimed,
    listener: OwnedFd,
    followers: HashMap<u64, OwnedFd>,
    next_follower: u64,
    /// For packets of Homa's own protocol number, then for those that look like TCP segments.
    sockets: Vec<(Form, RawSocket)>,
    batch: RxBatch,
    /// Ports with an owner, which the filter leaves out until the timer fires; the own one
    /// first.
    known: Vec<Served>,
}

impl Responder {
    /// Takes the role if it is free, else watches who has it. For packets of both IP versions,
    /// whichever the driver itself uses, those that look like TCP segments too if `tcp_form`.
    pub(super) fn new(own: Served, tcp_form: bool) -> io::Result<Self> {
        let (epoll, timer) = (Epoll::new()?, TimerFd::new()?);
        epoll.add(timer.as_fd(), TIMER, true, false)?;
        let answerer = Answerer::new(FAMILIES.into_iter());
        let home = Home::here()?;
        let mut responder = Self { epoll, timer, home, role: Role::None, tcp_form, own, answerer };
        responder.find_role();
        Ok(responder)
    }

    /// The set to wait on; when it is ready, [`Responder::act`] is due.
    pub(super) fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    /// Whether this process answers for the host.
    pub(super) fn is_holder(&self) -> bool {
        matches!(self.role, Role::Holder(_))
    }

    /// Runs what is due.
    pub(super) fn act(&mut self, stats: &mut IpStats) {
        let mut ready = [Ready::EMPTY; READY_MAX];
        let count = self.epoll.wait(&mut ready, Some(Duration::ZERO)).unwrap_or(0);
        for ready in ready.iter().take(count) {
            match (ready.token(), &mut self.role) {
                (TIMER, _) => self.timer_fired(),
                (WATCH, Role::Holder(holder)) => holder.accept(&self.epoll),
                // Nothing is ever written there: the responder has ended.
                (WATCH, _) => self.find_role(),
                (token @ SOCKETS..FOLLOWERS, Role::Holder(holder)) => {
                    let index = usize::try_from(token - SOCKETS).unwrap_or(usize::MAX);
                    let began = holder.answer(index, &self.home, &mut self.answerer, stats);
                    if began {
                        // If it cannot be armed the port stays left out until the next one.
                        let _ = self.timer.arm(monotonic_ns() + KNOWN_NS);
                    }
                }
                (token, Role::Holder(holder)) => {
                    holder.followers.remove(&token);
                }
                _ => {}
            }
        }
    }

    fn timer_fired(&mut self) {
        let _ = self.timer.drain();
        match &mut self.role {
            Role::Holder(holder) => holder.forget_known(self.own),
            Role::None => self.find_role(),
            Role::Follower(_) => {}
        }
    }

    /// Becomes responder or follower; tries again later if that is not possible.
    fn find_role(&mut self) {
        self.role = Role::None;
        let own = self.own;
        let sockets = || open_sockets(self.tcp_form, own);
        let found = self.home.within(|| take_role(sockets, own));
        self.role = found.unwrap_or(Role::None);
        if self.watch_role().is_err() {
            self.role = Role::None;
        }
        if matches!(self.role, Role::None) {
            // Without a timer the role is free until somebody else takes it.
            let _ = self.timer.arm(monotonic_ns() + RETRY_NS);
        }
    }

    /// Waits for what the role brings.
    fn watch_role(&self) -> io::Result<()> {
        match &self.role {
            Role::None => Ok(()),
            Role::Follower(connection) => self.epoll.add(connection.as_fd(), WATCH, true, false),
            Role::Holder(holder) => {
                self.epoll.add(holder.listener.as_fd(), WATCH, true, false)?;
                (SOCKETS..).zip(&holder.sockets).try_for_each(|(token, (_, socket))| {
                    self.epoll.add(socket.as_fd(), token, true, false)
                })
            }
        }
    }
}

/// Takes the role if it is free, else connects to who has it.
fn take_role(
    sockets: impl Fn() -> io::Result<Vec<(Form, RawSocket)>>,
    own: Served,
) -> io::Result<Role> {
    for _ in 0..ATTEMPTS_MAX {
        if let Some(connection) = connect_to_holder()? {
            return Ok(Role::Follower(connection));
        }
        // Below 2^24.
        let mark = (1 + random() % (CLAIM_MARKS - 1)) as u32;
        let listener = open()?;
        match bind(&listener, &name(mark)?) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => continue,
            Err(error) => return Err(error.into()),
        }
        // Before the claim, which others take for an invitation to connect.
        listen(&listener, FOLLOWERS_MAX as i32)?;
        if let Some(claimed) = claim(Claim::Responder { mark })? {
            let holder = Holder::new(claimed, listener, sockets()?, own);
            return Ok(Role::Holder(Box::new(holder)));
        }
    }
    Ok(Role::None)
}

/// A connection to the process that has the role; `None`: there is none, or it has gone meanwhile.
fn connect_to_holder() -> io::Result<Option<OwnedFd>> {
    for (claim, _) in claims()? {
        let Claim::Responder { mark } = claim else { continue };
        let connection = open()?;
        match connect(&connection, &name(mark)?) {
            Ok(()) => return Ok(Some(connection)),
            Err(Errno::CONNREFUSED) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn name(mark: u32) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(format!("homa/146/responder/{mark}").as_bytes())?)
}

fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Opens what the holder of the role looks at: packets to all ports but the own one, of each IP
/// version that the system has.
fn open_sockets(tcp_form: bool, own: Served) -> io::Result<Vec<(Form, RawSocket)>> {
    let forms = [(Form::Native, IP_PROTOCOL), (Form::Tcp, IP_PROTOCOL_TCP)];
    let mut sockets = Vec::new();
    for &(form, protocol) in forms.iter().take(if tcp_form { 2 } else { 1 }) {
        for family in FAMILIES {
            match RawSocket::open(family, protocol, &filter(form, family, &[own])) {
                Ok(socket) => {
                    socket.set_receive_buffer(BUFFER_BYTES)?;
                    sockets.push((form, socket));
                }
                Err(_) if family == Family::V6 && !sockets.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(sockets)
}

impl Holder {
    fn new(
        claimed: Claimed,
        listener: OwnedFd,
        sockets: Vec<(Form, RawSocket)>,
        own: Served,
    ) -> Self {
        Self {
            _claimed: claimed,
            listener,
            followers: HashMap::new(),
            next_follower: FOLLOWERS,
            sockets,
            batch: RxBatch::with_room(PACKETS_MAX, LOOK_BYTES),
            known: vec![own],
        }
    }

    /// Lets others hold connections.
    fn accept(&mut self, epoll: &Epoll) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while self.followers.len() < FOLLOWERS_MAX {
            let Ok(follower) = accept_with(&self.listener, flags) else {
                return;
            };
            let token = self.next_follower;
            self.next_follower += 1;
            // One that cannot be watched sees its connection end and comes again.
            if epoll.add(follower.as_fd(), token, true, false).is_ok() {
                self.followers.insert(token, follower);
            }
        }
        // More wait in the queue, and see it end when this process does.
        let _ = epoll.remove(self.listener.as_fd());
    }

    /// Replies to packets for unserved ports. Says whether the first ports of others are known now,
    /// which is to end after some time.
    fn answer(
        &mut self,
        index: usize,
        home: &Home,
        answerer: &mut Answerer,
        stats: &mut IpStats,
    ) -> bool {
        let Some((form, socket)) = self.sockets.get(index) else {
            return false;
        };
        let native = self
            .sockets
            .iter()
            .find(|(form, native)| *form == Form::Native && native.family() == socket.family());
        let Some((_, native)) = native else {
            return false;
        };
        let known_before = self.known.len();
        let Ok(count) = socket.recv(&mut self.batch, PACKETS_MAX) else {
            // An error report about a reply is ignored.
            while matches!(socket.read_error(), Ok(Some(_))) {}
            return false;
        };
        if count == 0 {
            while matches!(socket.read_error(), Ok(Some(_))) {}
        }
        for packet in 0..count {
            let Some(received) = self.batch.packet(packet) else {
                continue;
            };
            let Some(meta) = receive::meta(&received, socket.family(), stats) else {
                continue;
            };
            if *form == Form::Tcp && !is_tcp_form(received.payload) {
                continue;
            }
            let (port, Some(ip)) = (meta.path.local_port, meta.path.local_ip) else {
                continue;
            };
            let Some(answer) = wanted(received.payload) else {
                continue;
            };
            if self.known.iter().any(|known| known.covers(port, ip)) || !answerer.may() {
                continue;
            }
            match home.within(|| ports::serving(port, ip)) {
                Ok(Some(served)) if self.known.len() < KNOWN_MAX => self.known.push(served),
                Ok(None) => {
                    let bytes = received.meta.len;
                    let sent = answerer.send(native, &meta, received.payload, bytes, answer);
                    stats.answered_for_nobody += u64::from(sent);
                }
                // If it cannot be found out, silence does no harm.
                _ => {}
            }
        }
        if self.known.len() > known_before {
            self.set_filters();
        }
        // Those that come later are asked about earlier than they need to be; waiting for them
        // would mean to wait for ever where new ones keep coming.
        known_before == 1 && self.known.len() > 1
    }

    /// Asks about all ports anew.
    fn forget_known(&mut self, own: Served) {
        self.known.clear();
        self.known.push(own);
        self.set_filters();
    }

    fn set_filters(&self) {
        for (form, socket) in &self.sockets {
            // With the filter of before there are more packets than needed, not less.
            let _ = socket.set_filter(&filter(*form, socket.family(), &self.known));
        }
    }
}

/// The beginning of all packets but those to `ports`.
fn filter(form: Form, family: Family, ports: &[Served]) -> Filter {
    let except: Vec<_> = ports.iter().filter_map(|served| excepted(family, served)).collect();
    match form {
        Form::Native => Filter::except_ports(family, &except, u32::MAX),
        Form::Tcp => Filter::tcp_except_ports(family, &except, u32::MAX, MARKS),
    }
}

/// The packets of one IP version that are for `served`: by port, and by address unless all are
/// meant. `None`: none.
fn excepted(family: Family, served: &Served) -> Option<(u16, Option<IpAddr>)> {
    let all = match served.ip {
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        IpAddr::V4(ip) if family == Family::V4 => ip.is_unspecified(),
        IpAddr::V6(_) if family == Family::V6 => false,
        _ => return None,
    };
    Some((served.port, (!all).then_some(served.ip)))
}
