//! Messages marked as beginning with a frame of the application's library.

use crate::harness::*;
use homa_core::{Config, DropReason, Event, Received, RequestOptions, ResponseOptions, RpcKey};
use homa_wire::{Body, Data, Header};

const FRAMED: RequestOptions = RequestOptions {
    deadline: None,
    streaming_body: false,
    streaming_response: false,
    priority_hint: None,
    framed: true,
    open: false,
};

/// The mark of the message that began to arrive at a host, and its length.
fn started(log: &[Event]) -> Vec<(bool, u32)> {
    log.iter()
        .filter_map(|event| match event {
            Event::RequestStarted { framed, length, .. }
            | Event::ResponseStarted { framed, length, .. } => Some((*framed, *length)),
            _ => None,
        })
        .collect()
}

/// Flags of all DATA packets of a call with these marks and its answer, with losses.
fn flags_of_call(framed: (bool, bool)) -> Vec<(usize, bool)> {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Hold;
    let (flags, seen) = std::sync::mpsc::channel();
    let mut number = 0;
    net.lose = Box::new(move |from, sent| {
        if let Some(data) = sent.data() {
            flags.send((from, data.is_framed(&sent.header.common))).unwrap();
        }
        number += 1;
        number % 3 == 0
    });
    let options = RequestOptions { framed: framed.0, ..FRAMED };
    let rpc = net.call_with(0, 1, 100_000, options);
    net.run(200);
    let asked: RpcKey = net.hosts[1].arrived[0];
    let options = ResponseOptions { framed: framed.1, ..ResponseOptions::default() };
    let now = net.now();
    net.hosts[1].engine.send_response(now, asked, 120_000, options).unwrap();
    net.run(400);
    assert!(net.answered(0, rpc));
    assert_eq!(started(&net.hosts[1].log), [(framed.0, 100_000)]);
    assert_eq!(started(&net.hosts[0].log), [(framed.1, 120_000)]);
    seen.try_iter().collect()
}

#[test]
fn the_receiver_is_told_of_the_mark_and_all_packets_carry_it() {
    for framed in [(false, false), (false, true), (true, false), (true, true)] {
        let flags = flags_of_call(framed);
        assert!(flags.len() > 100);
        let right = |(from, flag): &(usize, bool)| *flag == [framed.0, framed.1][*from];
        assert!(flags.iter().all(right), "{framed:?}");
    }
}

#[test]
fn a_packet_that_disagrees_with_the_first_of_its_message_is_dropped() {
    for first in [0, Data::FRAMED] {
        let mut solo = Solo::new(Config::default());
        let from = address(9, 900);
        let mut data = |start: u32, flags: u8| {
            let mut header: Header = solo.data_header(from, 10, 3000, start);
            let Body::Data(data) = &mut header.body else { unreachable!() };
            data.flags = flags;
            solo.header(from, &header, 1000)
        };
        assert!(matches!(data(0, first), Received::Place(_)));
        assert_eq!(data(1000, first ^ Data::FRAMED), Received::Dropped(DropReason::BadRange));
        let again = first | Data::RETRANSMISSION;
        assert!(matches!(data(1000, again), Received::Place(_)), "sent again");
        assert!(matches!(data(2000, first), Received::Place(_)));
        solo.events();
        assert_eq!(started(&solo.log), [(first != 0, 3000)]);
        assert_eq!(solo.engine.stats().dropped_bad_range, 1);
    }
}
