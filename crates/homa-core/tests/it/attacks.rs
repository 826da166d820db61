//! What honest clients of a server notice of attacks on it, in virtual time: the 99th percentile of
//! short calls and the goodput of long ones, over those without the attack. Processors take no time
//! here and links are wide: what shows is what the engine decides.
//!
//! `HOMA_ATTACKS=1,10,100 cargo test --release -p homa-core --test it
//! attacks:: -- --nocapture` prints the table of `docs/security.md` for these rates of the attack
//! in Mbit/s; without the variable the attacks run at 10 Mbit/s.

use std::net::SocketAddr;

use crate::harness::*;
use homa_core::{Config, Instant, RpcKey, RxMeta};
use homa_wire::{Body, Common, Data, Extension, Grant, Header, RESEND_ALL, Reason, Resend};

const CLIENTS: usize = 4;
const LONG_BYTES: u32 = 1_000_000;
/// What the attack may cost others at most: in time for short calls, in goodput for long ones.
const P99_MAX: f64 = 2.0;
const GOODPUT_MIN: f64 = 0.8;

/// A packet of an attack: from where, its header, bytes of payload.
type Forged = (SocketAddr, Header, u32);

/// Who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attacker {
    /// Forges source addresses and sees nothing of what the server sends.
    OffPath,
    /// A client whose address is its own.
    Client,
}

struct Attack {
    name: &'static str,
    attacker: Attacker,
    /// The packet of a number.
    packet: fn(&Field, u64) -> Forged,
}

const ATTACKS: [Attack; 14] = [
    Attack {
        name: "requests of 1 MB announced, one packet each",
        attacker: Attacker::OffPath,
        packet: |field, number| field.request(unvalidated(number), 2 * number, 1_000_000, 10),
    },
    Attack {
        name: "requests announced, one packet each, each shorter than the one before",
        attacker: Attacker::OffPath,
        packet: |field, number| {
            field.request(unvalidated(number), 2 * number, shorter_and_shorter(number), 10)
        },
    },
    Attack {
        name: "requests of 1,500 bytes announced, 100 of them sent",
        attacker: Attacker::OffPath,
        packet: |field, number| field.request(unvalidated(number), 2 * number, 1_500, 100),
    },
    Attack {
        name: "whole requests of 10 bytes",
        attacker: Attacker::OffPath,
        packet: |field, number| field.request(unvalidated(number), 2 * number, 10, 10),
    },
    Attack {
        name: "RESENDs and NEED_ACKs for RPCs that do not exist",
        attacker: Attacker::OffPath,
        packet: |field, number| {
            field.control(unvalidated(number), scrambled(number) & !1, Body::NeedAck, 0)
        },
    },
    Attack {
        name: "RPC_UNKNOWN in the name of clients, ids guessed",
        attacker: Attacker::OffPath,
        packet: |field, number| {
            field.control(
                field.client(number),
                scrambled(number) & !1,
                Body::RpcUnknown,
                scrambled(number) as u32 >> 8,
            )
        },
    },
    Attack {
        name: "requests in the name of clients, of another incarnation",
        attacker: Attacker::OffPath,
        packet: |field, number| {
            let (from, mut header, payload) =
                field.request(field.client(number), scrambled(number) & !1, 10, 10);
            header.common.incarnation = 1 + (scrambled(number) as u32 >> 9);
            (from, header, payload)
        },
    },
    Attack {
        name: "RESEND in the name of clients, echo guessed",
        attacker: Attacker::OffPath,
        packet: |field, number| {
            let all = Resend { offset: 0, length: RESEND_ALL, priority: 7 };
            field.control(
                field.client(number),
                scrambled(number) & !1,
                Body::Resend(all),
                scrambled(number) as u32 >> 8,
            )
        },
    },
    Attack {
        name: "requests of 1 MB announced, one packet each",
        attacker: Attacker::Client,
        packet: |field, number| field.validated_request(2 * number, 1_000_000, 100),
    },
    Attack {
        name: "requests announced, one packet each, each shorter than the one before",
        attacker: Attacker::Client,
        packet: |field, number| {
            field.validated_request(2 * number, shorter_and_shorter(number), 100)
        },
    },
    Attack {
        name: "requests whose responses of 1 MB are never acknowledged",
        attacker: Attacker::Client,
        packet: |field, number| {
            if number % 8 == 7 {
                return field.control(HOSTILE, 4_000_000, Body::Busy, field.ours(HOSTILE));
            }
            field.validated_request(2 * number, LONG, LONG)
        },
    },
    Attack {
        name: "RESEND for a response of 1 MB, again and again",
        attacker: Attacker::Client,
        packet: |field, number| match number {
            0 => field.validated_request(LONG_ID, LONG, LONG),
            1 => field.control(
                HOSTILE,
                LONG_ID,
                Body::Grant(Grant { offset: LONG_BYTES, priority: 7 }),
                field.ours(HOSTILE),
            ),
            _ => {
                let all = Resend { offset: 0, length: LONG_BYTES, priority: 7 };
                field.control(HOSTILE, LONG_ID, Body::Resend(all), field.ours(HOSTILE))
            }
        },
    },
    Attack {
        name: "whole requests of 10 bytes, acknowledged never",
        attacker: Attacker::Client,
        packet: |field, number| field.validated_request(2 * number, 10, 10),
    },
    Attack {
        name: "RESENDs and NEED_ACKs for RPCs that do not exist",
        attacker: Attacker::Client,
        packet: |field, number| {
            field.control(HOSTILE, 2 * number, Body::NeedAck, field.ours(HOSTILE))
        },
    },
];

/// The client that proved its address.
const HOSTILE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 66)), 6);
/// A request of this length is answered with 1 MB, others with 100 bytes.
const LONG: u32 = 11;
const LONG_ID: u64 = 1 << 40;

/// Lengths of messages of which each has precedence over those before it.
fn shorter_and_shorter(number: u64) -> u32 {
    1_000_000 - number as u32 % 9_000 * 100
}

fn scrambled(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

fn unvalidated(number: u64) -> SocketAddr {
    let [a, b, c, d, ..] = scrambled(number).to_le_bytes();
    SocketAddr::from(([11 + a % 100, b, c, d], 1_024 + number as u16 % 50_000))
}

/// A server, honest clients with a short call every millisecond and one of 1 MB after the other,
/// and an attacker.
struct Field {
    net: Net,
    /// Calls of each client and when they were begun.
    short: Vec<(usize, RpcKey, u64)>,
    long: Vec<(usize, RpcKey, u64)>,
    packets: u64,
}

/// What honest clients noticed.
#[derive(Clone, Copy, Debug)]
struct Noticed {
    p99_ns: u64,
    long_bytes: u64,
    failed: usize,
}

impl Field {
    fn new() -> Self {
        let mut net = Net::new(&Config::default(), 1 + CLIENTS);
        net.hosts[0].service =
            Service::ReplyTo(|length| if length == LONG { LONG_BYTES } else { 100 });
        let mut field = Self { net, short: Vec::new(), long: Vec::new(), packets: 0 };
        for client in 1..=CLIENTS {
            field.net.call(client, 0, 100);
        }
        field.net.run(10);
        field
    }

    fn client(&self, number: u64) -> SocketAddr {
        self.net.hosts[1 + number as usize % CLIENTS].address
    }

    /// The server's incarnation as it is known at an address.
    fn ours(&self, at: SocketAddr) -> u32 {
        self.net.hosts[0].engine.incarnation(at.ip())
    }

    fn control(&self, from: SocketAddr, id: u64, body: Body, echo: u32) -> Forged {
        let common = Common::control(from.port(), PORT, id).with_native_profile(THEIRS);
        let extension = Some(Extension { echo, reason: Reason::None, value: 0 });
        (from, Header { common, body, extension }, 0)
    }

    /// The first `bytes` of a request of `length` from an address that proves nothing.
    fn request(&self, from: SocketAddr, id: u64, length: u32, bytes: u32) -> Forged {
        let common = Common::data(from.port(), PORT, id, 0).with_native_profile(THEIRS);
        let incoming = length.min(40_000);
        let data = Data { message_length: length, incoming, ..Data::default() };
        (from, Header { common, body: Body::Data(data), extension: None }, bytes)
    }

    fn validated_request(&self, id: u64, length: u32, bytes: u32) -> Forged {
        let (from, mut header, bytes) = self.request(HOSTILE, id, length, bytes);
        if let Body::Data(data) = &mut header.body {
            data.echo = self.ours(HOSTILE);
        }
        (from, header, bytes)
    }

    /// One millisecond: the attacker's packets first, `bytes` of them.
    fn millisecond(&mut self, attack: Option<&Attack>, bytes: u32) {
        let mut left = i64::from(bytes);
        while let Some(attack) = attack.filter(|_| left > 0) {
            let (from, header, payload) = (attack.packet)(self, self.packets);
            self.packets += 1;
            let mut head = [0; 96];
            let length = header.encode(&mut head).unwrap() as u32 + payload;
            // Headers of IP and UDP, and what Ethernet adds.
            left -= i64::from(length) + 66;
            let meta = RxMeta::new(path(PORT, from));
            let now = Instant::from_nanos(self.net.now_ns);
            let bytes = &head[..(length - payload) as usize];
            let _ = self.net.hosts[0].engine.handle_packet(now, &meta, bytes, length);
        }
        let now = self.net.now_ns;
        for client in 1..=CLIENTS {
            let rpc = self.net.call(client, 0, 100);
            self.short.push((client, rpc, now));
            let under_way = self.long.iter().any(|(of, rpc, _)| {
                let host = &self.net.hosts[*of];
                *of == client && !host.answered_at.contains_key(rpc)
            });
            if !under_way {
                let rpc = self.net.call(client, 0, LONG_BYTES);
                self.long.push((client, rpc, now));
            }
        }
        self.net.run(1);
        for host in &mut self.net.hosts {
            host.log.clear();
            host.arrived.clear();
        }
    }

    fn noticed(&self) -> Noticed {
        let end = self.net.now_ns;
        let took = |(client, rpc, begun): &(usize, RpcKey, u64)| {
            let answered = self.net.hosts[*client].answered_at.get(rpc);
            (answered.copied().unwrap_or(end + 1_000 * MS) - begun, answered.is_some())
        };
        let mut short: Vec<_> = self.short.iter().map(took).collect();
        short.sort_unstable();
        let done = self.long.iter().filter(|call| took(call).1).count() as u64;
        Noticed {
            p99_ns: short[short.len() * 99 / 100].0,
            long_bytes: done * u64::from(LONG_BYTES),
            failed: self
                .net
                .hosts
                .iter()
                .map(|host| host.engine.stats().calls_failed as usize)
                .sum(),
        }
    }
}

fn run(attack: Option<&Attack>, mbps: u32, ms: u32) -> Noticed {
    let mut field = Field::new();
    for _ in 0..ms {
        field.millisecond(attack, mbps * 125);
    }
    field.net.run(5);
    field.noticed()
}

#[test]
fn attacks_cost_honest_clients_little() {
    let rates = std::env::var("HOMA_ATTACKS").unwrap_or_else(|_| "10".into());
    let rates: Vec<u32> = rates.split(',').map(|rate| rate.parse().unwrap()).collect();
    let ms = if cfg!(debug_assertions) { 40 } else { 1000 };
    let calm = run(None, 0, ms);
    println!("calm: {calm:?}");
    let mut worse = Vec::new();
    for attack in &ATTACKS {
        let mut cells = String::new();
        for mbps in &rates {
            let seen = run(Some(attack), *mbps, ms);
            let p99 = seen.p99_ns as f64 / calm.p99_ns as f64;
            let goodput = seen.long_bytes as f64 / calm.long_bytes as f64;
            cells += &format!(" {p99:.2} / {goodput:.2} / {} |", seen.failed);
            if p99 > P99_MAX || goodput < GOODPUT_MIN || seen.failed > 0 {
                worse.push(format!(
                    "{:?}, {}, {mbps} Mbit/s: {seen:?}",
                    attack.attacker, attack.name
                ));
            }
        }
        println!("| {:?} | {} |{cells}", attack.attacker, attack.name);
    }
    assert!(worse.is_empty(), "{worse:#?}");
}
