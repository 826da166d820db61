//! What 1 MB costs over loopback, from one thread to another: bare datagrams without any protocol,
//! TCP, and Homa, in turns. The first two bound what the last can reach.
//!
//! `cargo bench -p homa-transport --bench bulk_costs [-- MESSAGES]`

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use homa_transport::{Endpoint, EndpointBuilder, Stats};

const MESSAGE_BYTES: usize = 1_000_000;
const OUTSTANDING: usize = 4;
/// Payload of a datagram: about what loopback's MTU of 65,536 bytes carries.
const DATAGRAM_BYTES: usize = 65_440;
/// Bytes of datagrams under way: few enough for a stock receive buffer of 212,992 bytes.
const WINDOW_BYTES: u64 = 140_000;
const ROUNDS: usize = 5;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let messages = number_or(4_000, 10) as usize;
    let mut homa = Homa::new(EndpointBuilder::new())?;
    let mut stock = Homa::new(EndpointBuilder::new().stock_receive_buffer())?;
    let mut seconds = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for (which, seconds) in seconds.iter_mut().enumerate() {
            let begin = Instant::now();
            match which {
                0 => datagrams(messages)?,
                1 => tcp(messages)?,
                2 => homa.messages(messages)?,
                _ => stock.messages(messages)?,
            }
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let us_per_mb = seconds.map(|seconds| median(seconds) * 1e6 / messages as f64);
    let names = ["bare datagrams", "TCP", "Homa", "Homa, stock receive buffer"];
    for (name, us) in names.iter().zip(us_per_mb) {
        println!("{name:>27}: {us:>6.0} us per MB, {:.2} of TCP's", us / us_per_mb[1]);
    }
    homa.print("Homa", messages);
    stock.print("Homa, stock", messages);
    Ok(())
}

/// Datagrams as long as loopback takes, a counter in memory in place of flow control.
fn datagrams(messages: usize) -> Result<(), Failure> {
    let to = UdpSocket::bind("127.0.0.1:0")?;
    to.set_nonblocking(true)?;
    let from = UdpSocket::bind("127.0.0.1:0")?;
    from.connect(to.local_addr()?)?;
    let total_bytes = (messages * MESSAGE_BYTES) as u64;
    let (received_bytes, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            while received_bytes.load(Ordering::Relaxed) < total_bytes {
                match to.recv(&mut buffer) {
                    Ok(bytes) => {
                        received_bytes.fetch_add(bytes as u64, Ordering::Release);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return failed.store(true, Ordering::Relaxed),
                }
            }
        });
        let message = vec![7; MESSAGE_BYTES];
        let mut sent_bytes = 0;
        for datagram in (0..messages).flat_map(|_| message.chunks(DATAGRAM_BYTES)) {
            while sent_bytes - received_bytes.load(Ordering::Acquire) > WINDOW_BYTES {
                if failed.load(Ordering::Relaxed) {
                    return Err("the receiver failed".into());
                }
                std::hint::spin_loop();
            }
            sent_bytes += from.send(datagram)? as u64;
        }
        Ok(())
    })
}

/// Messages in one connection, each answered by one byte, a few under way.
fn tcp(messages: usize) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|threads| {
        let serving = threads.spawn(move || -> io::Result<()> {
            let mut buffer = vec![0; MESSAGE_BYTES];
            for _ in 0..messages {
                server.read_exact(&mut buffer)?;
                server.write_all(&[1])?;
            }
            Ok(())
        });
        let message = vec![7; MESSAGE_BYTES];
        let mut answer = [0];
        for number in 0..messages + OUTSTANDING {
            if number >= OUTSTANDING {
                client.read_exact(&mut answer)?;
            }
            if number < messages {
                client.write_all(&message)?;
            }
        }
        serving.join().map_err(|_| "the server panicked")??;
        Ok(())
    })
}

/// A client and a server that answers each message by one byte.
struct Homa {
    client: Endpoint,
    server: Endpoint,
}

impl Homa {
    fn new(builder: EndpointBuilder) -> Result<Self, Failure> {
        let server = builder.clone().bind("127.0.0.1:0")?;
        let client = builder.client_ip("0.0.0.0".parse()?).client()?;
        let serving = server.clone();
        thread::spawn(move || {
            while let Ok(request) = serving.accept().wait() {
                // A client that went away is no reason to stop.
                let _ = request.reply([1]).wait();
            }
        });
        Ok(Self { client, server })
    }

    fn messages(&mut self, messages: usize) -> Result<(), Failure> {
        let message = bytes::Bytes::from(vec![7; MESSAGE_BYTES]);
        let mut calls = self.client.call_set();
        for number in 0..messages + OUTSTANDING {
            if number >= OUTSTANDING {
                let (_, answer) = calls.join_next().wait().ok_or("a call is missing")?;
                answer?;
            }
            if number < messages {
                calls.add(self.client.call(self.server.local_addr(), message.clone())).wait()?;
            }
        }
        Ok(())
    }

    fn print(&self, name: &str, messages: usize) {
        let each = |count: u64| count as f64 / (messages * ROUNDS) as f64;
        let (client, server): (Stats, Stats) = (self.client.stats(), self.server.stats());
        println!(
            "{name}: per MB {:.1} packets sent, {:.1} grants; {} packets lost for want of room in {} bytes",
            each(client.engine.packets_sent),
            each(server.engine.grants_sent),
            server.dropped_by_system,
            server.receive_capacity_bytes,
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The first number among the arguments, or else so many under `cargo bench` and few in a test of
/// this.
fn number_or(many: u32, few: u32) -> u32 {
    let mut numbers = std::env::args().skip(1).flat_map(|word| word.parse());
    let is_bench = std::env::args().any(|word| word == "--bench");
    numbers.next().unwrap_or(if is_bench { many } else { few })
}
