//! What sending and receiving over UDP costs on this machine, over loopback.
//!
//! `cargo bench -p homa-io`
//!
//! Loopback delivers a packet within the send call, so its figures for sending contain the work
//! of the receiving side of the kernel.

use std::net::SocketAddr;
use std::ops::Range;

use homa_core::{Carriage, IcmpKind, Path, RpcKey, RxMeta, Segment, Transmit};
use homa_io::driver::{Driver, PacketSink, Payloads, RxStatus};
use homa_io::udp::{UdpConfig, UdpDriver};
use homa_sys::monotonic_ns;

/// Rounds of each case: `cargo test --benches` shows only that they run.
fn rounds() -> u64 {
    if std::env::args().any(|word| word == "--bench") { 4_000 } else { 10 }
}

struct Zeros(Vec<u8>);

impl Payloads for Zeros {
    fn pieces<'a>(&'a self, _: RpcKey, range: Range<u32>, mut piece: impl FnMut(&'a [u8])) {
        piece(&self.0[..range.len()]);
    }
}

#[derive(Default)]
struct Count(u64);

impl PacketSink for Count {
    fn packet(&mut self, _: &RxMeta, _: &[u8]) {
        self.0 += 1;
    }

    fn icmp_error(&mut self, _: IcmpKind, _: SocketAddr, _: &[u8]) {}

    fn path_mtu(&mut self, _: SocketAddr, _: u32) {}
}

fn main() -> std::io::Result<()> {
    let (with, without) = (UdpConfig::default(), UdpConfig::default().offload(false));
    println!("what, bytes, packets: ns per send of all, ns per receive of all, ns per packet");
    measure("single", &with, 100, 1)?;
    measure("single", &with, 1_400, 1)?;
    measure("calls", &without, 156, 40)?;
    measure("train", &with, 156, 2)?;
    measure("train", &with, 156, 40)?;
    measure("train", &with, 156, 128)?;
    measure("calls", &without, 1_400, 40)?;
    measure("train", &with, 1_400, 2)?;
    measure("train", &with, 1_400, 10)?;
    measure("train", &with, 1_400, 40)?;
    empty_receive()
}

/// Median over the rounds of sending `count` packets of `bytes` and of receiving them.
fn measure(what: &str, config: &UdpConfig, bytes: u32, count: usize) -> std::io::Result<()> {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut from = UdpDriver::bind(loopback, config)?;
    let mut to = UdpDriver::bind(loopback, &UdpConfig::default().receives_per_call(64))?;
    let mut segment = Segment::EMPTY;
    segment.rpc = Some(RpcKey { index: 0, generation: 0 });
    segment.payload = 0..bytes;
    let segments = vec![segment; count];
    let transmit = Transmit {
        path: Path {
            remote: to.local_addr(),
            local_ip: None,
            local_port: from.local_addr().port(),
            interface: 0,
            carriage: Carriage::Udp,
        },
        priority: 7,
        dscp: 40,
        segments: count,
        segment_bytes: bytes,
        total_bytes: bytes * count as u32,
        coalesced: false,
    };
    let payloads = Zeros(vec![0; 1 << 16]);
    let mut send_ns = Vec::new();
    let mut receive_ns = Vec::new();
    for _ in 0..rounds() {
        let start_ns = monotonic_ns();
        from.transmit(&transmit, &segments, &payloads).expect("loopback takes it");
        let sent_ns = monotonic_ns();
        let mut sink = Count::default();
        while to.receive(&mut sink)? == RxStatus::More {}
        receive_ns.push(monotonic_ns() - sent_ns);
        send_ns.push(sent_ns - start_ns);
        assert_eq!(sink.0, count as u64, "nothing is lost on loopback");
    }
    let (send_ns, receive_ns) = (median(send_ns), median(receive_ns));
    let each_ns = (send_ns + receive_ns) / count as u64;
    println!("{what:>8} {bytes:>6} {count:>4}: {send_ns:>8} {receive_ns:>8} {each_ns:>8}");
    Ok(())
}

fn empty_receive() -> std::io::Result<()> {
    let mut driver = UdpDriver::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &UdpConfig::default())?;
    let start_ns = monotonic_ns();
    for _ in 0..rounds() {
        driver.receive(&mut Count::default())?;
    }
    println!("an empty receive: {} ns", (monotonic_ns() - start_ns) / rounds());
    Ok(())
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}
