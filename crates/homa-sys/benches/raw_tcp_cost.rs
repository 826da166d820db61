//! What raw sockets of protocol 6 cost ordinary TCP: the time of a segment over loopback without
//! them, with one and with sixteen, in turns. Run it where nothing else happens: `unshare -n sh -c
//! 'ip link set lo up; cargo bench -p homa-sys'`.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use homa_sys::RawSocket;
use homa_sys::address::Family;
use homa_sys::raw::{Filter, TcpMarks};

const EXCHANGES: u32 = 20_000;
const SOCKETS: [usize; 3] = [0, 1, 16];

/// How often all are measured: `cargo test --benches` shows only that they can be.
fn rounds() -> usize {
    if std::env::args().any(|word| word == "--bench") { 21 } else { 1 }
}

fn main() -> io::Result<()> {
    match measure() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            println!("SKIPPED: raw sockets need CAP_NET_RAW");
            Ok(())
        }
        result => result,
    }
}

fn measure() -> io::Result<()> {
    let marks = TcpMarks { flags: 0x06, urgent: 0xB97D };
    let mut times_ns = SOCKETS.map(|_| Vec::new());
    for _ in 0..rounds() {
        for (count, times_ns) in SOCKETS.into_iter().zip(&mut times_ns) {
            let open =
                |_| RawSocket::open(Family::V4, 6, &Filter::tcp_to_port(Family::V4, 99, marks));
            let sockets = (0..count).map(open).collect::<io::Result<Vec<_>>>()?;
            times_ns.push(segment_ns()?);
            drop(sockets);
        }
    }
    for (count, times_ns) in SOCKETS.into_iter().zip(&mut times_ns) {
        times_ns.sort_unstable();
        let (least, median) = (times_ns[0], times_ns[times_ns.len() / 2]);
        println!("{count:>2} sockets: {median} ns per segment in the median, {least} at least");
    }
    Ok(())
}

/// Time per segment of a connection both ends of which are in this thread, so that nobody is woken.
fn segment_ns() -> io::Result<u128> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut ends = [TcpStream::connect(listener.local_addr()?)?, listener.accept()?.0];
    for end in &ends {
        end.set_nodelay(true)?;
    }
    let mut bytes = [0; 100];
    let start = Instant::now();
    for exchange in 0..EXCHANGES {
        let from = (exchange % 2) as usize;
        ends[from].write_all(&bytes)?;
        ends[1 - from].read_exact(&mut bytes)?;
    }
    Ok(start.elapsed().as_nanos() / u128::from(EXCHANGES))
}
