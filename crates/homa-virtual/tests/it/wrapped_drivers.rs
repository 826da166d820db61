//! Drivers around drivers, over real sockets on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use homa_core::{
    Carriage, Config, Engine, Event, HostBudget, Instant, Path, PortOptions, RequestOptions,
};
use homa_io::driver::Driver;
use homa_io::udp::{UdpConfig, UdpDriver};
use homa_io::{Body, Shard, ShardView};
use homa_virtual::wrap::{Counter, Direction, FaultInjector, FaultRates, Tracer};

const LENGTH: usize = 300_000;

fn shard<D: Driver>(wrap: impl FnOnce(UdpDriver) -> D, seed: u64) -> Shard<D> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let driver = UdpDriver::bind(address, &UdpConfig::default()).expect("a free port");
    // On loopback packets could be 64 KiB; there should be many.
    let config = Config::default().with(|config| config.output.mtu_max = 1500);
    let mut engine = Engine::new(config, HostBudget::local(), seed).expect("valid");
    engine.bind_port(driver.local_addr().port(), PortOptions::SERVE).expect("a new engine");
    Shard::new(engine, wrap(driver))
}

/// One call of `LENGTH` bytes each way; the answer is the request.
fn echo<C: Driver, S: Driver>(client: &mut Shard<C>, server: &mut Shard<S>) {
    let begin = Clock::now();
    let now = || Instant::from_nanos(1 + begin.elapsed().as_nanos() as u64);
    let question: Bytes = (0..LENGTH).map(|index| (index % 251) as u8).collect();
    let path = Path {
        remote: server.driver().local_addr(),
        local_ip: None,
        local_port: client.driver().local_addr().port(),
        interface: 0,
        carriage: Carriage::Udp,
    };
    let body = Body::from(question.clone());
    client.view(now()).send_request(path, body, 7, RequestOptions::default()).expect("room");
    let mut answer = None;
    while answer.is_none() {
        assert!(begin.elapsed() < Duration::from_secs(20), "no answer");
        let mut ask = |event: Event, shard: &mut ShardView<'_>| match event {
            Event::ResponseArrived { rpc, cookie: 7 } => answer = shard.take(rpc),
            Event::Failed { reason, .. } => panic!("{reason:?}"),
            _ => {}
        };
        let _ = client.turn(now(), &mut ask).expect("the socket works");
        let mut serve = |event: Event, shard: &mut ShardView<'_>| {
            if let Event::RequestArrived { rpc } = event {
                let request = shard.take(rpc).expect("complete");
                shard.send_response(rpc, request).expect("in service");
            }
        };
        let _ = server.turn(now(), &mut serve).expect("the socket works");
    }
    assert!(answer.expect("just checked") == question);
}

#[test]
fn a_fault_injector_loses_repeats_and_reorders_and_the_call_succeeds() {
    let rates = FaultRates { loss_permille: 50, duplicate_permille: 50, reorder_permille: 50 };
    let mut client = shard(|driver| FaultInjector::new(driver, rates, rates, 1), 1);
    let mut server = shard(|driver| driver, 2);
    echo(&mut client, &mut server);
    let stats = [client.stats(), server.stats()];
    assert!(stats.iter().any(|stats| stats.bytes_retransmitted > 0), "something was lost");
    assert!(stats.iter().any(|stats| stats.dropped_duplicate > 0), "something came twice");
}

#[test]
fn a_counter_counts_what_passes() {
    let mut client = shard(Counter::new, 3);
    let mut server = shard(Counter::new, 4);
    echo(&mut client, &mut server);
    let (here, there) = (client.driver().counts(), server.driver().counts());
    assert!(here.tx_bytes > LENGTH as u64 && here.rx_bytes > LENGTH as u64, "{here:?}");
    assert!(there.rx_packets <= here.tx_packets && there.rx_packets > 0, "{here:?} {there:?}");
    assert!(here.tx_calls <= here.tx_packets);
}

#[test]
fn a_tracer_shows_every_packet_whole() {
    let mut packets = Vec::new();
    {
        let show = |direction: Direction, path: &Path, packet: &[u8]| {
            packets.push((direction, path.remote, packet.to_vec()));
        };
        let mut client = shard(|driver| Tracer::new(driver, show), 5);
        let mut server = shard(|driver| driver, 6);
        echo(&mut client, &mut server);
    }
    let payload = |wanted| -> usize {
        let data = packets
            .iter()
            .filter(|(direction, _, packet)| *direction == wanted && packet[11] == 0x10);
        data.map(|(_, _, packet)| packet.len() - homa_wire::DATA_HEADER_BYTES).sum()
    };
    assert!(payload(Direction::Out) >= LENGTH);
    assert!(payload(Direction::In) >= LENGTH);
    assert!(packets.iter().all(|(_, remote, packet)| {
        remote.ip() == Ipv4Addr::LOCALHOST && homa_wire::Packet::parse(packet).is_ok()
    }));
}
