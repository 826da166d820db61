//! What one turn does and when it wants the next, with a driver that does as it is told.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use homa_core::{
    Carriage, Config, Engine, Event, FailReason, HostBudget, Instant, Path, PortOptions,
    RequestOptions, RpcKey, Segment, Transmit, TransmitError,
};
use homa_io::driver::{Driver, PacketSink, Payloads, RxCapacity, RxStatus, Unsent};
use homa_io::{Body, Shard, ShardView};

const HERE: ([u8; 4], u16) = ([10, 0, 0, 1], 1);
const THERE: ([u8; 4], u16) = ([10, 0, 0, 2], 2);

/// Receives nothing, sends into the void, and answers as its fields say.
struct Obedient {
    rx: RxStatus,
    /// What the network says of the path, once.
    path_mtu: Option<u32>,
    refuse: Option<TransmitError>,
    backlog_bytes: Option<u64>,
    transmit_calls: usize,
    sent_bytes: u64,
    longest_bytes: u32,
}

impl Driver for Obedient {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        if let Some(mtu) = self.path_mtu.take() {
            sink.path_mtu(SocketAddr::from(THERE), mtu);
        }
        Ok(self.rx)
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        _: &[Segment],
        _: &impl Payloads,
    ) -> Result<(), Unsent> {
        self.transmit_calls += 1;
        match self.refuse {
            Some(why) => Err(Unsent { first: 0, why }),
            None => {
                self.sent_bytes += u64::from(transmit.total_bytes);
                self.longest_bytes = self.longest_bytes.max(transmit.segment_bytes);
                Ok(())
            }
        }
    }

    fn path(&mut self, _: SocketAddr) -> (Option<u32>, Option<u32>) {
        (Some(1500), None)
    }

    fn rx_capacity(&self) -> RxCapacity {
        RxCapacity { bytes: 1 << 20, packets: 1024 }
    }

    fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(HERE)
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        self.backlog_bytes
    }

    fn rx_dropped(&self) -> u64 {
        0
    }
}

fn at(us: u64) -> Instant {
    Instant::from_nanos(1_000_000_000 + us * 1000)
}

/// A shard with one request of `length` bytes to send.
fn shard(length: usize) -> Shard<Obedient> {
    let config = Config::default().with(|config| {
        config.unscheduled.bytes = 1_000_000;
        config.unscheduled.in_flight_max_bytes = 4_000_000;
    });
    let mut engine = Engine::new(config, HostBudget::local(), 1).expect("valid");
    engine.bind_port(HERE.1, PortOptions::CLIENT).expect("a new engine");
    let driver = Obedient {
        rx: RxStatus::Drained,
        path_mtu: None,
        refuse: None,
        backlog_bytes: Some(0),
        transmit_calls: 0,
        sent_bytes: 0,
        longest_bytes: 0,
    };
    let mut shard = Shard::new(engine, driver);
    call(&mut shard, length);
    shard
}

fn call(shard: &mut Shard<Obedient>, length: usize) -> RpcKey {
    let path = Path {
        remote: SocketAddr::from(THERE),
        local_ip: None,
        local_port: HERE.1,
        interface: 0,
        carriage: Carriage::Udp,
    };
    let body = Body::from(vec![1; length]);
    shard.view(at(0)).send_request(path, body, 5, RequestOptions::default()).expect("room")
}

fn ignore(_: Event, _: &mut ShardView<'_>) {}

#[test]
fn nothing_is_asked_for_again_without_a_look_at_what_has_arrived() {
    let mut shard = shard(100);
    let turn = shard.push(at(0), &mut ignore);
    assert!(turn.work && shard.driver().transmit_calls == 1);
    let _ = shard.push(at(20_000), &mut ignore);
    assert_eq!(shard.driver().transmit_calls, 1, "push does not look");
    shard.driver_mut().rx = RxStatus::More;
    let _ = shard.turn(at(20_000), &mut ignore).expect("the driver works");
    assert_eq!(shard.driver().transmit_calls, 1, "more may have arrived");
    shard.driver_mut().rx = RxStatus::Drained;
    let _ = shard.turn(at(20_000), &mut ignore).expect("the driver works");
    assert_eq!(shard.driver().transmit_calls, 2, "now silence is silence");
}

#[test]
fn a_full_driver_is_left_alone_until_it_is_writable_or_some_time_has_passed() {
    let mut shard = shard(100);
    shard.driver_mut().refuse = Some(TransmitError::NoRoom);
    let turn = shard.turn(at(0), &mut ignore).expect("the driver works");
    assert!(turn.wait_writable);
    let next = turn.next.expect("it does not rely on news from the driver");
    assert!(next > at(0) && next <= at(1000));
    let _ = shard.turn(at(1), &mut ignore).expect("the driver works");
    assert_eq!(shard.driver().transmit_calls, 1);
    let _ = shard.turn(next, &mut ignore).expect("the driver works");
    assert_eq!(shard.driver().transmit_calls, 2);
    shard.driver_mut().refuse = None;
    shard.writable();
    let now = Instant::from_nanos(next.as_nanos() + 1);
    let turn = shard.turn(now, &mut ignore).expect("the driver works");
    assert!(turn.work && !turn.wait_writable);
    assert_eq!(shard.driver().sent_bytes, 156);
}

#[test]
fn the_wait_for_a_full_driver_grows_to_a_millisecond() {
    let mut shard = shard(100);
    shard.driver_mut().refuse = Some(TransmitError::NoRoom);
    let (mut now, mut waits_us) = (at(0), Vec::new());
    for _ in 0..6 {
        let turn = shard.turn(now, &mut ignore).expect("the driver works");
        let next = turn.next.expect("it does not rely on news from the driver");
        waits_us.push((next.as_nanos() - now.as_nanos()) / 1_000);
        now = next;
    }
    assert_eq!(waits_us, [50, 100, 200, 400, 800, 1_000]);
}

#[test]
fn packets_keep_to_what_the_network_says_of_the_path() {
    for mtu in [None, Some(1_300)] {
        let mut shard = shard(100);
        let _ = shard.turn(at(0), &mut ignore).expect("the driver works");
        shard.driver_mut().path_mtu = mtu;
        call(&mut shard, 100_000);
        let _ = shard.turn(at(0), &mut ignore).expect("the driver works");
        assert_eq!(shard.driver().longest_bytes, mtu.unwrap_or(1_500) - 28);
    }
}

#[test]
fn a_turn_sends_a_bounded_amount_and_asks_for_the_next_at_once() {
    let mut shard = shard(1_000_000);
    let turn = shard.turn(at(0), &mut ignore).expect("the driver works");
    let sent = shard.driver().sent_bytes;
    // Its share, and one train more.
    assert!((256 << 10..(256 + 64) << 10).contains(&sent), "{sent} bytes");
    assert_eq!(turn.next, Some(at(0)));
    let _ = shard.turn(at(0), &mut ignore).expect("the driver works");
    assert!(shard.driver().sent_bytes > sent);
}

// Scenario: P15
#[test]
fn what_has_not_left_the_host_holds_back_more() {
    let mut shard = shard(1_000_000);
    shard.driver_mut().backlog_bytes = Some(10_000_000);
    let turn = shard.turn(at(0), &mut ignore).expect("the driver works");
    let sent = shard.driver().sent_bytes;
    assert!(sent < 200_000, "{sent} bytes");
    assert!(turn.next.is_some_and(|next| next > at(0) && next <= at(100)));
    shard.driver_mut().backlog_bytes = Some(0);
    for step in 1..20 {
        let _ = shard.turn(at(100 * step), &mut ignore).expect("the driver works");
    }
    assert!(shard.driver().sent_bytes > 1_000_000);
}

#[test]
fn a_driver_that_refuses_everything_does_not_hold_a_turn_for_ever() {
    for why in [TransmitError::Unreachable, TransmitError::Refused, TransmitError::TooBig(0)] {
        let mut shard = shard(100_000);
        shard.driver_mut().refuse = Some(why);
        let turn = shard.turn(at(0), &mut ignore).expect("the driver works");
        assert!(shard.driver().transmit_calls <= 64, "{why:?}");
        assert!(turn.next.is_none_or(|next| next >= at(0)));
    }
}

#[test]
fn events_come_with_a_view_that_can_act_at_once() {
    let mut shard = shard(100);
    shard.driver_mut().refuse = Some(TransmitError::Refused);
    let mut again = 0;
    let mut handler = |event: Event, shard: &mut ShardView<'_>| {
        if let Event::Failed { cookie, .. } = event {
            assert_eq!((cookie, shard.now()), (5, at(0)));
            again += 1;
        }
    };
    let turn = shard.turn(at(0), &mut handler).expect("the driver works");
    assert!(turn.work);
    assert_eq!(again, 1);
    assert_eq!(shard.store().live(), 0, "the bytes of an RPC that ended are gone");
    assert!(shard.next_timeout().is_none_or(|next| next >= at(0) + Duration::ZERO));
}

#[test]
fn events_that_a_turn_has_no_room_for_are_handed_out_by_the_next_at_once() {
    let mut shard = shard(100);
    let calls: Vec<RpcKey> = (0..5_000).map(|_| call(&mut shard, 100)).collect();
    for rpc in calls {
        shard.view(at(0)).abort(rpc, FailReason::Aborted).expect("it lives");
    }
    let mut ended = 0;
    let mut count = |event: Event, _: &mut ShardView<'_>| {
        ended += usize::from(matches!(event, Event::Ended { .. }));
    };
    let turn = shard.turn(at(0), &mut count).expect("the driver works");
    assert_eq!(turn.next, Some(at(0)));
    for _ in 0..2 {
        let _ = shard.turn(at(0), &mut count).expect("the driver works");
    }
    assert_eq!(ended, 5_000);
}
