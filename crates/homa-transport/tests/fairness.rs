//! Clients of a server share it: one that takes more than others, or takes nothing of what it asked
//! for, does not keep others from being served. Over UDP on loopback, with clients that are no
//! endpoints.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::SOON;
use homa_transport::{CallErrorKind, Config, Endpoint, EndpointBuilder, Limit, ReplyError};
use homa_wire::{Ack, AckEntry, Body, Common, Data, Extension, Header, Reason};

/// What a silent client asks for, each time.
const ANSWER_BYTES: usize = 20_000;
/// Room for responses of the servers here.
const ROOM_BYTES: u64 = 3_000_000;

/// A client that sends packets as it likes.
struct Raw {
    socket: UdpSocket,
    server: SocketAddr,
    /// What the server calls this life of its own.
    echo: u32,
    next_id: u64,
}

impl Raw {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let mut raw = Self { socket, server, echo: 0, next_id: 2_000_000 };
        raw.control(2, Body::NeedAck);
        let mut packet = [0; 2_048];
        let length = raw.socket.recv(&mut packet).unwrap();
        let header = Header::parse(&packet[..length], length as u32).unwrap();
        raw.echo = header.common.incarnation;
        raw.socket.set_nonblocking(true).unwrap();
        raw
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    fn send(&self, header: &Header, payload: &[u8]) {
        let mut packet = vec![0; header.encoded_bytes()];
        header.encode(&mut packet).unwrap();
        packet.extend(payload);
        self.socket.send(&packet).unwrap();
    }

    fn control(&self, id: u64, body: Body) {
        let common = Common::control(self.port(), self.server.port(), id).with_native_profile(7);
        let extension = Some(Extension { echo: self.echo, reason: Reason::None, value: 0 });
        self.send(&Header { common, body, extension }, &[]);
    }

    /// Sends a request; returns its id.
    fn ask(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 2;
        let common = Common::data(self.port(), self.server.port(), id, 0).with_native_profile(7);
        let data = Data { message_length: 4, incoming: 4, echo: self.echo, ..Data::default() };
        self.send(&Header { common, body: Body::Data(data), extension: None }, b"give");
        self.ignore_all();
        id
    }

    /// Reads what has come.
    fn ignore_all(&self) {
        let mut packet = [0; 65_536];
        while self.socket.recv(&mut packet).is_ok() {}
    }

    fn acknowledge(&self, id: u64) {
        self.control(id, Body::Ack(Ack { count: 0, entries: [AckEntry::NONE; 5] }));
    }

    /// Shows life without taking anything: a packet about a request that never was.
    fn show_life(&self) {
        self.control(6, Body::Busy);
        self.ignore_all();
    }
}

fn server(set: impl FnOnce(&mut Config)) -> Endpoint {
    let config = Config::default().with(|config| {
        config.recovery.timeout = SOON;
        config.responses.silence = SOON;
        set(config);
    });
    EndpointBuilder::new()
        .config(config)
        .outstanding_bytes_max(ROOM_BYTES)
        .bind("127.0.0.1:0")
        .unwrap()
}

/// Answers every request, in one thread.
fn answer_all(server: &Endpoint) {
    let server = server.clone();
    std::thread::spawn(move || {
        while let Ok(request) = server.accept().wait() {
            let _ = request.reply(vec![1; ANSWER_BYTES]).wait();
        }
    });
}

/// Waits until something is so.
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn kept_bytes(server: &Endpoint) -> u64 {
    server.stats().unacknowledged_response_bytes
}

#[test]
fn the_endpoint_tells_what_each_client_has() {
    let server = server(|_| {});
    assert_eq!(server.clients(), []);
    let (mut one, mut other) = (Raw::new(server.local_addr()), Raw::new(server.local_addr()));
    for _ in 0..3 {
        one.ask();
    }
    other.ask();
    soon("all requests are here", || server.stats().requests_waiting == 4);
    let has = |client: &Raw| {
        let clients = server.clients();
        let of = clients.iter().find(|of| of.client.port() == client.port()).copied().unwrap();
        let requests = (of.requests, of.requests_waiting, of.request_bytes);
        (requests, (of.responses, of.response_bytes))
    };
    assert_eq!(has(&one), ((3, 3, 12), (0, 0)));
    assert_eq!(has(&other), ((1, 1, 4), (0, 0)));
    let request = server.accept().wait().unwrap();
    let accepted = if request.peer().port() == one.port() { &one } else { &other };
    let before = has(accepted);
    request.reply(vec![1; 100]).wait().unwrap();
    soon("the answer is given", || has(accepted).1 == (1, 100));
    assert_eq!(has(accepted).0.0, before.0.0 - 1);
    assert_eq!(server.clients().iter().map(|of| of.requests_waiting).sum::<u64>(), 3);
}

#[test]
fn a_client_that_acknowledges_nothing_does_not_stop_the_calls_of_others() {
    let server = server(|config| config.responses.silence = 4 * SOON);
    answer_all(&server);
    let address = server.local_addr();
    let over = Arc::new(AtomicBool::new(false));
    let mut raw = Raw::new(address);
    // Three times as much as the room holds.
    let asked = 3 * ROOM_BYTES as usize / ANSWER_BYTES;
    let silent = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let ask = |_| {
                std::thread::sleep(Duration::from_micros(200));
                raw.ask()
            };
            let ids: Vec<u64> = (0..asked).map(ask).collect();
            while !over.load(Ordering::Relaxed) {
                raw.show_life();
                std::thread::sleep(Duration::from_millis(20));
            }
            (raw, ids)
        }
    });
    soon("it has its share", || kept_bytes(&server) > ROOM_BYTES / 5);
    let client = common::client();
    let mut most = 0;
    for _ in 0..200 {
        let answer = client.call(address, "hello").timeout(SOON).wait().unwrap();
        assert_eq!(answer.len(), ANSWER_BYTES);
        most = most.max(kept_bytes(&server));
    }
    assert!(most <= ROOM_BYTES + ANSWER_BYTES as u64, "{most}");
    assert!(!silent.is_finished());
    over.store(true, Ordering::Relaxed);
    let (raw, ids) = silent.join().unwrap();
    drop(client);
    // It acknowledges, is answered more, and acknowledges that: nothing is left.
    soon("everything is given back", || {
        ids.iter().for_each(|id| raw.acknowledge(*id));
        raw.ignore_all();
        let stats = server.stats();
        stats.unacknowledged_response_bytes == 0 && stats.engine.live_rpcs == 0
    });
    assert_eq!(
        (server.stats().requests_waiting, server.stats().engine.receive_memory_bytes),
        (0, 0)
    );
}

#[test]
fn who_takes_no_answers_has_no_turn_before_it_does() {
    let server = server(|_| {});
    let mut raw = Raw::new(server.local_addr());
    let count = 200;
    let ids: Vec<u64> = (0..count).map(|_| raw.ask()).collect();
    soon("all requests are there", || server.stats().requests_waiting == count);
    let answer_those_in_turn = || {
        let mut answered = 0;
        while let Some(request) = server.accept().wait_timeout(Duration::from_millis(100)) {
            request.unwrap().reply(vec![1; ANSWER_BYTES]).wait().unwrap();
            answered += 1;
        }
        answered
    };
    // A quarter of the room, whatever comes on top of it.
    let first = answer_those_in_turn();
    assert_eq!(first, 38);
    assert_eq!(server.stats().requests_waiting, count - first);
    ids[..10].iter().for_each(|id| raw.acknowledge(*id));
    assert_eq!(answer_those_in_turn(), 10);
}

#[test]
fn a_reply_to_who_takes_none_fails_and_the_next_ones_at_once() {
    let server = server(|config| config.recovery.timeout = Duration::from_millis(300));
    let mut raw = Raw::new(server.local_addr());
    let ids: Vec<u64> = (0..100).map(|_| raw.ask()).collect();
    let requests: Vec<_> = ids.iter().map(|_| server.accept().wait().unwrap()).collect();
    let mut taken = 0;
    let mut failed = 0;
    let begun = Instant::now();
    for request in requests {
        match request.reply(vec![1; ANSWER_BYTES]).wait() {
            Ok(()) => taken += 1,
            Err(ReplyError::NoRoom { client, .. }) => {
                assert_eq!(client.port(), raw.port());
                failed += 1;
            }
            Err(other) => panic!("{other}"),
        }
        // Its silence counts, not that of a test which is not driven.
        raw.show_life();
    }
    // A third of the room.
    assert_eq!((taken, failed), (50, 50));
    assert!(begun.elapsed() < SOON, "only the first one waits: {:?}", begun.elapsed());
}

#[test]
fn a_reply_waits_as_long_as_its_client_takes_others() {
    let server = server(|_| {});
    let mut raw = Raw::new(server.local_addr());
    let ids: Vec<u64> = (0..51).map(|_| raw.ask()).collect();
    let mut requests: Vec<_> = ids.iter().map(|_| server.accept().wait().unwrap()).collect();
    let last = requests.pop().unwrap();
    let longer = vec![1; ANSWER_BYTES];
    for request in requests {
        request.reply(longer.clone()).wait().unwrap();
    }
    let waiting = std::thread::spawn(move || last.reply(longer).wait());
    // It holds a third of the room until it acknowledges.
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiting.is_finished());
    raw.acknowledge(ids[0]);
    waiting.join().unwrap().unwrap();
}

#[test]
fn many_requests_of_one_client_do_not_keep_those_of_others_from_being_accepted() {
    let server = common::bind_with(|builder| builder.accept_queue_max(64));
    let address = server.local_addr();
    let (greedy, modest) = (common::client(), common::client());
    let calls: Vec<_> = (0..2_000).map(|_| greedy.call(address, "greedy").start()).collect();
    soon("all have come", || server.stats().engine.requests_received == 2_000);
    let call = modest.call(address, "modest").start();
    soon("so has the other", || server.stats().engine.requests_received == 2_001);
    let accepted_before = (0..)
        .take_while(|_| {
            let request = server.accept().wait().unwrap();
            let modest = *request.body() == "modest";
            request.reply("x").wait().unwrap();
            !modest
        })
        .count();
    assert!(accepted_before <= 2, "{accepted_before}");
    assert_eq!(call.wait().unwrap(), "x");
    common::serve_echo(server);
    for call in calls {
        call.wait().unwrap();
    }
}

#[test]
fn calls_to_a_server_that_does_not_answer_do_not_keep_back_those_to_others() {
    let mute = common::bind();
    let answers = common::echo_server("127.0.0.1:0");
    let client = common::client_with(|builder| {
        builder.outstanding_calls_max(4).outstanding_bytes_max(1_000)
    });
    let stuck: Vec<_> =
        (0..4).map(|_| client.call(mute.local_addr(), vec![1; 250]).try_start().unwrap()).collect();
    let error = client.call(mute.local_addr(), "x").try_start().unwrap_err();
    assert!(matches!(error.kind(), CallErrorKind::LimitReached(Limit::OutstandingCalls(4))));
    for _ in 0..10 {
        let call = client.call(answers, vec![2; 900]).try_start().unwrap();
        assert_eq!(call.wait().unwrap().len(), 900);
    }
    assert_eq!(client.stats().outstanding_calls, 4);
    drop(stuck);
}
