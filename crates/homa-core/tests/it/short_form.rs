//! RPCs of one short packet each way: what is unusual to the form in which they are kept, and that
//! nobody notices. (`homa-virtual` compares the packets of whole worlds.)

use std::net::SocketAddr;

use crate::harness::*;
use homa_core::{Config, DropReason, Event, FailReason, PortOptions, Received, RxMeta};
use homa_wire::{AckEntry, Body, Reason, Resend};

/// The version of the cutoffs that a peer is told.
fn told_cutoffs(sent: &[Sent]) -> u16 {
    let version = sent.iter().find_map(|sent| match sent.header.body {
        Body::Cutoffs(cutoffs) => Some(cutoffs.version),
        _ => None,
    });
    version.expect("it is told our cutoffs")
}

/// A client that has made a call, so that it is known and knows us.
struct Client {
    solo: Solo,
    at: SocketAddr,
    cutoff_version: u16,
}

impl Client {
    fn new(config: Config) -> Self {
        let (mut solo, at) = (Solo::new(config), address(9, 900));
        solo.message(at, 2, 100);
        let cutoff_version = told_cutoffs(&solo.drain());
        let mut client = Self { solo, at, cutoff_version };
        client.answer_and_acknowledge(2);
        client
    }

    /// The bytes from `start` on of a request with so much payload behind the header.
    fn send(&mut self, id: u64, (length, start): (u32, u32), payload: u32, ack: u64) -> Received {
        let mut header = self.solo.data_header(self.at, id, length, start);
        if let Body::Data(data) = &mut header.body {
            data.cutoff_version = self.cutoff_version;
            data.ack = AckEntry { client_id: ack, server_port: if ack == 0 { 0 } else { PORT } };
        }
        self.solo.header(self.at, &header, payload)
    }

    fn request(&mut self, id: u64) -> Received {
        self.send(id, (100, 0), 100, 0)
    }

    fn answer_and_acknowledge(&mut self, id: u64) {
        let told = self.solo.events();
        let rpc = told.iter().find_map(|event| match event {
            Event::RequestArrived { rpc, .. } => Some(*rpc),
            _ => None,
        });
        self.solo.answer(rpc.expect("a request came"), 100);
        let _ = self.solo.control(self.at, id, Body::Ack(Default::default()), Reason::None, 0);
        self.solo.events();
    }

    /// RPCs in short form. Where the scenarios run without it, as many as are `expected`.
    fn in_short_form(&mut self, expected: usize) -> usize {
        let mut count = 0;
        self.solo.engine.expand_short_forms(|_| {
            count += 1;
            false
        });
        if short_form_is_tested() { count } else { expected }
    }
}

fn client() -> Client {
    Client::new(Config::default())
}

#[test]
fn a_short_request_of_a_known_client_is_kept_in_short_form_until_it_is_asked_about() {
    let mut client = client();
    assert!(matches!(client.request(4), Received::Place(_)));
    assert_eq!(client.in_short_form(1), 1);
    let resend = Body::Resend(Resend { offset: 0, length: 1, priority: 7 });
    let _ = client.solo.control(client.at, 4, resend, Reason::None, 0);
    assert_eq!(client.in_short_form(0), 0);
    assert!(client.solo.drain().iter().any(|sent| matches!(sent.header.body, Body::Busy)));
    client.answer_and_acknowledge(4);
    assert_eq!(client.solo.engine.stats().live_rpcs, 0);
}

#[test]
fn a_padded_rest_of_a_short_request_is_not_all_of_it() {
    let mut client = client();
    let received = client.send(4, (100, 50), 100, 0);
    let Received::Place(placed) = received else { panic!("{received:?}") };
    assert_eq!((placed.offset, placed.packet.len()), (50, 50));
    let told = client.solo.events();
    assert!(!told.iter().any(|event| matches!(event, Event::RequestArrived { .. })), "{told:?}");
}

#[test]
fn a_copy_of_a_short_request_is_dropped_whatever_became_of_the_first() {
    let mut client = client();
    let _ = client.request(4);
    assert_eq!(client.request(4), Received::Dropped(DropReason::Duplicate), "it is in service");
    client.answer_and_acknowledge(4);
    assert_eq!(client.request(4), Received::Dropped(DropReason::Duplicate), "it is over");
    assert_eq!(client.solo.engine.stats().requests_received, 2);
}

#[test]
fn a_port_that_is_drained_refuses_short_requests_of_known_clients() {
    let mut client = client();
    client.solo.engine.drain_port(client.solo.now(), PORT);
    assert_eq!(client.request(4), Received::Dropped(DropReason::Draining));
    let refused = client.solo.drain();
    assert!(refused.iter().any(|sent| matches!(sent.header.body, Body::RpcUnknown)), "{refused:?}");
}

#[test]
fn a_request_acknowledges_the_response_before_it_and_frees_what_nobody_took() {
    let mut client = client();
    let _ = client.request(4);
    let told = client.solo.events();
    let Some(Event::RequestArrived { rpc, .. }) = told.last() else { panic!("{told:?}") };
    client.solo.answer(*rpc, 100);
    assert!(client.solo.engine.stats().receive_memory_bytes > 0, "the request was not taken");
    let _ = client.send(6, (100, 0), 100, 4);
    client.solo.drain();
    client.answer_and_acknowledge(6);
    let stats = client.solo.engine.stats();
    assert_eq!((stats.live_rpcs, stats.receive_memory_bytes), (0, 0));
}

#[test]
fn an_abort_of_a_short_request_tells_its_client() {
    let mut client = client();
    let _ = client.request(4);
    let told = client.solo.events();
    let Some(Event::RequestArrived { rpc, .. }) = told.last() else { panic!("{told:?}") };
    client.solo.engine.abort(client.solo.now(), *rpc, FailReason::Overloaded).unwrap();
    let sent = client.solo.drain();
    let refusal = sent.iter().find(|sent| matches!(sent.header.body, Body::RpcUnknown));
    assert_eq!(refusal.map(|sent| sent.header.reason()), Some(Reason::Overloaded), "{sent:?}");
}

#[test]
fn a_host_has_as_many_places_for_short_requests_as_for_others() {
    let [short, general] = [true, false].map(|short_form| {
        let mut client = Client::new(Config::default().with(|config| {
            config.limits.max_rpcs = 40;
            config.fixed.short_form = short_form;
        }));
        let ids = (0..40).map(|n| 4 + 2 * n);
        ids.filter(|id| matches!(client.request(*id), Received::Place(_))).count()
    });
    assert_eq!(short, general);
    assert!(general < 40, "all places");
}

/// A server that has answered a call.
struct Server {
    solo: Solo,
    at: SocketAddr,
    cutoff_version: u16,
}

impl Server {
    fn new(config: Config) -> Self {
        let (mut solo, at) = (Solo::new(config), address(9, 900));
        let (rpc, id, _) = solo.called(at, 100);
        let _ = solo.data(at, id, 100, (0, 100));
        solo.events();
        solo.engine.consumed(solo.now(), rpc, 100).unwrap();
        let cutoff_version = told_cutoffs(&solo.drain());
        Self { solo, at, cutoff_version }
    }

    /// Answers the call that it knows as `id` at a port of ours.
    fn answer(&mut self, id: u64, port: u16) -> Received {
        let mut header = self.solo.data_header(self.at, id, 100, 0);
        if let Body::Data(data) = &mut header.body {
            data.cutoff_version = self.cutoff_version;
        }
        let mut bytes = [0; 96];
        let written = header.encode(&mut bytes).unwrap();
        let (meta, now) = (RxMeta::new(path(port, self.at)), self.solo.now());
        self.solo.engine.handle_packet(now, &meta, &bytes[..written], written as u32 + 100)
    }
}

#[test]
fn a_short_answer_lets_a_call_go_that_waits_for_room() {
    let config = Config::default().with(|config| config.unscheduled.in_flight_max_bytes = 300);
    let mut server = Server::new(config);
    let (_, id, _) = server.solo.called(server.at, 100);
    let _ = server.solo.call(server.at, 100);
    assert!(server.solo.drain().is_empty(), "no room: it waits for the first");
    assert!(matches!(server.answer(id, PORT), Received::Place(_)));
    assert!(server.solo.drain().iter().any(Sent::is_data), "it has room now");
}

#[test]
fn a_short_answer_to_a_call_that_was_probed_answers_the_probe() {
    let config = Config::default().with(|config| config.unscheduled.in_flight_max_bytes = 300);
    let mut server = Server::new(config);
    let (_, id, _) = server.solo.called(server.at, 100);
    let _ = server.solo.call(server.at, 100);
    assert!(server.solo.advance(1).iter().any(Sent::is_probe));
    assert!(matches!(server.answer(id, PORT), Received::Place(_)));
    let sent = server.solo.drain();
    let second = sent.iter().find(|sent| sent.is_data()).expect("it has room now");
    let _ = server.answer(second.header.common.sender_id | 1, PORT);
    assert!(!server.solo.advance(100).iter().any(Sent::is_probe), "nothing is left to be asked");
}

#[test]
fn a_short_answer_at_another_port_than_the_call_came_from_is_dropped() {
    let mut server = Server::new(Config::default());
    server.solo.engine.bind_port(PORT + 1, PortOptions::CLIENT).unwrap();
    let (_, id, _) = server.solo.called(server.at, 100);
    assert_eq!(server.answer(id, PORT + 1), Received::Dropped(DropReason::WrongPeer));
    assert!(matches!(server.answer(id, PORT), Received::Place(_)));
}

#[test]
fn short_answers_that_nobody_takes_hold_no_more_memory_than_there_is() {
    let limit = 11_000;
    let mut server = Server::new(Config::default().with(|config| {
        config.limits.max_message_bytes = 10_000;
        config.limits.receive_memory_bytes = limit;
    }));
    let ids: Vec<u64> = (0..8).map(|_| server.solo.called(server.at, 100).1).collect();
    let taken = ids.into_iter().map(|id| server.answer(id, PORT));
    let taken = taken.filter(|received| matches!(received, Received::Place(_))).count();
    assert!((2..8).contains(&taken), "{taken} of 8");
    assert!(server.solo.engine.stats().receive_memory_bytes <= limit);
}
