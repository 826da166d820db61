//! In steady state packets cost no allocation: only messages do, a few each. A program of its own,
//! since its allocator counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use homa_core::{
    Config, Engine, Event, HostBudget, Instant, Path, PortOptions, RequestOptions, ResponseOptions,
    RxMeta, Segment, Transmit,
};
use homa_io::driver::{Driver, PacketSink, Payloads, RxCapacity, RxStatus, Unsent};
use homa_io::{Body, Shard, ShardView};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // The counter is gone while its thread ends; nobody looks then.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is passed to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as promised by our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by our caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as promised by our caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Queue = Rc<RefCell<VecDeque<(RxMeta, Vec<u8>)>>>;

/// Hands packets over to the other end through buffers that are used again.
struct Wire {
    address: SocketAddr,
    incoming: Queue,
    outgoing: Queue,
    unused: Rc<RefCell<Vec<Vec<u8>>>>,
    sent: u64,
}

impl Driver for Wire {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        for _ in 0..64 {
            let Some((meta, packet)) = self.incoming.borrow_mut().pop_front() else {
                return Ok(RxStatus::Drained);
            };
            sink.packet(&meta, &packet);
            self.unused.borrow_mut().push(packet);
        }
        Ok(RxStatus::More)
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        let mut meta = RxMeta::new(transmit.path);
        meta.path.remote = self.address;
        meta.path.local_port = transmit.path.remote.port();
        for segment in segments {
            let mut packet = self.unused.borrow_mut().pop().expect("enough buffers were made");
            packet.clear();
            packet.extend_from_slice(segment.header());
            if let Some(rpc) = segment.rpc {
                payloads.pieces(rpc, segment.payload.clone(), &mut |piece| {
                    packet.extend_from_slice(piece)
                });
            }
            packet.resize(segment.wire_bytes() as usize, 0);
            self.outgoing.borrow_mut().push_back((meta, packet));
            self.sent += 1;
        }
        Ok(())
    }

    fn path(&mut self, _: SocketAddr) -> (Option<u32>, Option<u32>) {
        (Some(1500), None)
    }

    fn rx_capacity(&self) -> RxCapacity {
        RxCapacity { bytes: 8 << 20, packets: 8192 }
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        None
    }

    fn rx_dropped(&self) -> u64 {
        0
    }
}

struct Pair {
    client: Shard<Wire>,
    server: Shard<Wire>,
    path: Path,
    now_ns: u64,
}

impl Pair {
    fn new() -> Self {
        let (there, back) = (Queue::default(), Queue::default());
        there.borrow_mut().reserve(8192);
        back.borrow_mut().reserve(8192);
        let unused =
            Rc::new(RefCell::new((0..8192).map(|_| Vec::with_capacity(1500)).collect::<Vec<_>>()));
        let addresses =
            [SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 2))];
        let shard = |index: usize, incoming: &Queue, outgoing: &Queue| {
            let mut engine =
                Engine::new(Config::default(), HostBudget::local(), index as u64).expect("valid");
            engine.bind_port(addresses[index].port(), PortOptions::SERVE).expect("a free port");
            let wire = Wire {
                address: addresses[index],
                incoming: Rc::clone(incoming),
                outgoing: Rc::clone(outgoing),
                unused: Rc::clone(&unused),
                sent: 0,
            };
            #[allow(unused_mut, reason = "unless the shard would look at all accounts")]
            let mut shard = Shard::new(engine, wire);
            #[cfg(feature = "check")]
            shard.set_checked(false);
            shard
        };
        let mut path = path_to(addresses[1]);
        path.local_port = addresses[0].port();
        Self { client: shard(0, &back, &there), server: shard(1, &there, &back), path, now_ns: 1 }
    }

    /// One call with a request and a response of these bytes; returns when the response was taken.
    fn call(&mut self, request: &Bytes, response: &Bytes) {
        let now = Instant::from_nanos(self.now_ns);
        let mut view = self.client.view(now);
        view.send_request(self.path, Body::from(request.clone()), 0, RequestOptions::default())
            .expect("room");
        let mut done = false;
        while !done {
            self.now_ns += 1000;
            let now = Instant::from_nanos(self.now_ns);
            let mut client = |event: Event, shard: &mut ShardView<'_>| {
                if let Event::ResponseArrived { rpc, .. } = event {
                    done = shard.take(rpc).is_some();
                }
            };
            let turn = self.client.turn(now, &mut client).expect("the wire does not break");
            assert!(turn.next.is_some() || turn.work);
            let mut server = |event: Event, shard: &mut ShardView<'_>| {
                if let Event::RequestArrived { rpc, .. } = event {
                    drop(shard.take(rpc));
                    shard
                        .send_response(
                            rpc,
                            Body::from(response.clone()),
                            ResponseOptions::default(),
                        )
                        .expect("in service");
                }
            };
            let turn = self.server.turn(now, &mut server).expect("the wire does not break");
            assert!(turn.next.is_some() || turn.work);
        }
    }

    fn packets(&self) -> u64 {
        self.client.driver().sent + self.server.driver().sent
    }
}

fn path_to(remote: SocketAddr) -> Path {
    Path { remote, local_ip: None, local_port: 0, interface: 0, carriage: homa_core::Carriage::Udp }
}

/// Allocations and packets of `count` calls after as many for warming up.
fn cost(request: &Bytes, response: &Bytes, count: u64) -> (u64, u64) {
    let mut pair = Pair::new();
    // More than one generation of finished RPCs passes, so that its tables have their size.
    for _ in 0..count {
        pair.call(request, response);
    }
    let (allocations, packets) = (ALLOCATIONS.get(), pair.packets());
    for _ in 0..count {
        pair.call(request, response);
    }
    (ALLOCATIONS.get() - allocations, pair.packets() - packets)
}

#[test]
fn a_small_call_allocates_only_the_buffers_of_its_two_messages() {
    let body = Bytes::from_static(&[7; 100]);
    let count = 20_000;
    let (allocations, packets) = cost(&body, &body, count);
    println!("{allocations} allocations, {packets} packets, {count} calls");
    assert!(packets >= 2 * count);
    assert!(allocations <= 2 * count + 100, "{allocations} allocations for {count} calls");
}

#[test]
fn the_packets_of_a_long_message_allocate_nothing() {
    let (request, response) = (Bytes::from_static(&[7; 100]), Bytes::from(vec![7; 1_000_000]));
    let count = 50;
    let (allocations, packets) = cost(&request, &response, count);
    println!("{allocations} allocations, {packets} packets, {count} calls");
    assert!(packets >= 700 * count);
    // A handle per piece of 64 KiB, and the chain of them.
    assert!(allocations <= 25 * count, "{allocations} allocations for {count} calls");
}

/// Takes no packets.
struct Nobody;

impl PacketSink for Nobody {
    fn packet(&mut self, _: &RxMeta, _: &[u8]) {}

    fn icmp_error(&mut self, _: homa_core::IcmpKind, _: SocketAddr, _: &[u8]) {}

    fn path_mtu(&mut self, _: SocketAddr, _: u32) {}
}

/// Gives payload.
struct Sevens;

impl Payloads for Sevens {
    fn pieces<'a>(
        &'a self,
        _: homa_core::RpcKey,
        range: std::ops::Range<u32>,
        mut piece: impl FnMut(&'a [u8]),
    ) {
        piece(&[7; 2_000][..range.len()]);
    }
}

/// Sets a host up that has an interface, and a neighbour there whom nobody asks.
fn host_with_a_neighbour() -> Result<(), String> {
    use nix::sched::{CloneFlags, unshare};

    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
    for line in [
        "link add x0 type veth peer name x1",
        "addr add 10.153.0.1/24 dev x0",
        "link set x0 up",
        "link set x1 up",
        "neigh add 10.153.0.2 lladdr 02:00:00:00:00:02 nud permanent dev x0",
    ] {
        let status = std::process::Command::new("ip").args(line.split(' ')).status();
        if !status.map_err(|error| error.to_string())?.success() {
            return Err(format!("ip {line}"));
        }
    }
    Ok(())
}

/// A driver over AF_XDP in a network namespace of this thread.
fn over_xdp() -> Result<homa_io::xdp::XdpDriver<homa_io::udp::UdpDriver>, String> {
    use homa_io::udp::{UdpConfig, UdpDriver};
    use homa_io::xdp::{XdpConfig, XdpDriver, XdpParts};

    host_with_a_neighbour()?;
    let address = "10.153.0.1:4000".parse().unwrap();
    let mut sockets =
        UdpDriver::bind(address, &UdpConfig::default()).map_err(|error| error.to_string())?;
    let parts = XdpParts::new(&mut sockets, &XdpConfig::default());
    Ok(XdpDriver::new(sockets, parts.map_err(|error| error.to_string())?))
}

#[test]
fn packets_through_rings_allocate_nothing() {
    // A thread of its own, which the test harness does not use again.
    std::thread::spawn(|| {
        let mut driver = match over_xdp() {
            Ok(driver) => driver,
            Err(why) => {
                use std::io::Write;
                let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
                assert!(!must || !nix::unistd::geteuid().is_root(), "{why}");
                let _ = writeln!(io::stdout(), "SKIPPED: AF_XDP: {why}");
                return;
            }
        };
        let mut segment = Segment::EMPTY;
        segment.rpc = Some(homa_core::RpcKey { index: 0, generation: 0 });
        segment.payload = 0..1_400;
        let segments = vec![segment; 40];
        let transmit = Transmit {
            path: Path {
                remote: "10.153.0.2:4000".parse().unwrap(),
                local_ip: None,
                local_port: 4_000,
                interface: 0,
                carriage: homa_core::Carriage::Udp,
            },
            priority: 0,
            dscp: 0,
            segments: segments.len(),
            segment_bytes: 1_400,
            total_bytes: 40 * 1_400,
            coalesced: false,
        };
        let mut sent = |times: u32| {
            for _ in 0..times {
                driver.transmit(&transmit, &segments, &Sevens).unwrap();
                driver.receive(&mut Nobody).unwrap();
            }
            driver.stats().sent_packets
        };
        sent(10);
        let before = ALLOCATIONS.with(Cell::get);
        let packets = sent(200);
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        assert!(packets >= 200 * 40, "{packets}");
        // Questions about the route, once a second.
        assert!(allocations < 200, "{allocations} allocations for {packets} packets");
    })
    .join()
    .unwrap();
}
