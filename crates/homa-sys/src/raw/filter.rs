//! Which packets a raw socket gets, decided by the kernel before they are queued.

use crate::address::Family;
use crate::bpf::{Program, To};
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// More bytes than a packet has.
const WHOLE: u32 = u32::MAX;

/// Most ports that one filter tells apart.
const PORTS_MAX: usize = 64;

/// A program that the kernel runs on each packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    program: Program,
    accepted_bytes: u32,
}

/// What some packets have where TCP has its flags and its urgent pointer: in byte 13, and in bytes
/// 18 and 19, behind the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpMarks {
    /// The flags.
    pub flags: u8,
    /// The urgent pointer.
    pub urgent: u16,
}

impl Filter {
    /// No packet at all.
    pub fn nothing() -> Self {
        Self { program: Program::default(), accepted_bytes: 0 }
    }

    /// Only packets whose destination port, the second 16 bits behind the IP header, is `port`.
    pub fn to_port(family: Family, port: u16) -> Self {
        Self::only(family, port, None)
    }

    /// The same of those that have `marks`.
    pub fn tcp_to_port(family: Family, port: u16, marks: TcpMarks) -> Self {
        Self::only(family, port, Some(marks))
    }

    /// The first `bytes` (from the IP header on, over IPv6 from behind it) of packets to any port
    /// but `ports`, of which at most 64 count: each at one address of this host, or at all of them
    /// (`None`).
    pub fn except_ports(family: Family, ports: &[(u16, Option<IpAddr>)], bytes: u32) -> Self {
        Self::except(family, ports, bytes, None)
    }

    /// The same of those that have `marks`.
    pub fn tcp_except_ports(
        family: Family,
        ports: &[(u16, Option<IpAddr>)],
        bytes: u32,
        marks: TcpMarks,
    ) -> Self {
        Self::except(family, ports, bytes, Some(marks))
    }

    fn only(family: Family, port: u16, marks: Option<TcpMarks>) -> Self {
        let mut program = destination_port(family, marks);
        program.jump_equal(u32::from(port), To::Accept, To::Reject);
        Self { program, accepted_bytes: WHOLE }
    }

    fn except(
        family: Family,
        ports: &[(u16, Option<IpAddr>)],
        bytes: u32,
        marks: Option<TcpMarks>,
    ) -> Self {
        let mut program = destination_port(family, marks);
        for (port, ip) in ports.iter().take(PORTS_MAX) {
            match (family, ip) {
                (_, None) => reject(&mut program, u32::from(*port)),
                (Family::V4, Some(IpAddr::V4(ip))) => {
                    reject_at(&mut program, family, *port, 16, &ip.octets());
                }
                (Family::V6, Some(IpAddr::V6(ip))) => {
                    reject_at(&mut program, family, *port, 24, &ip.octets());
                }
                // No packet of this family goes there.
                _ => {}
            }
        }
        Self { program, accepted_bytes: bytes }
    }

    pub(super) fn attach(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.program.attach(fd, self.accepted_bytes)
    }
}

/// Rejects packets without `marks` and loads the destination port of others.
fn destination_port(family: Family, marks: Option<TcpMarks>) -> Program {
    let mut program = Program::default();
    // What lies at an offset behind the IP header, which only IPv4 packets bring along.
    let mode = match family {
        Family::V4 => {
            // X = 4 * (first byte & 15)
            program.step(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0);
            libc::BPF_IND
        }
        Family::V6 => libc::BPF_ABS,
    };
    if let Some(marks) = marks {
        program.step(libc::BPF_LD | libc::BPF_H | mode, 18);
        reject_unless(&mut program, u32::from(marks.urgent));
        program.step(libc::BPF_LD | libc::BPF_B | mode, 13);
        reject_unless(&mut program, u32::from(marks.flags));
    }
    load_port(&mut program, family);
    program
}

/// Loads the destination port; for IPv4 the length of the IP header is in X.
fn load_port(program: &mut Program, family: Family) {
    let mode = match family {
        Family::V4 => libc::BPF_IND,
        Family::V6 => libc::BPF_ABS,
    };
    program.step(libc::BPF_LD | libc::BPF_H | mode, 2);
}

/// Rejects the packet here: the program's end may be too far for a jump.
fn reject_here(program: &mut Program) {
    program.step(libc::BPF_RET | libc::BPF_K, 0);
}

/// Rejects the packet if what was loaded is `value`.
fn reject(program: &mut Program, value: u32) {
    let other = program.label();
    program.jump_equal(value, To::Next, To::Label(other));
    reject_here(program);
    program.place(other);
}

/// Rejects the packet if what was loaded is not `value`.
fn reject_unless(program: &mut Program, value: u32) {
    let same = program.label();
    program.jump_equal(value, To::Label(same), To::Next);
    reject_here(program);
    program.place(same);
}

/// Rejects packets to `port`, which is loaded before and afterwards, if in the IP header from byte
/// `at` on there is `address`.
fn reject_at(program: &mut Program, family: Family, port: u16, at: i32, address: &[u8]) {
    let (other_port, other_address) = (program.label(), program.label());
    program.jump_equal(u32::from(port), To::Next, To::Label(other_port));
    for (word, bytes) in (0..).zip(address.chunks_exact(4)) {
        // Offsets below zero lead to the IP header, wherever the packet begins.
        let offset = (libc::SKF_NET_OFF + at + 4 * word) as u32;
        program.step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
        let value = bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
        program.jump_equal(value, To::Next, To::Label(other_address));
    }
    reject_here(program);
    program.place(other_address);
    load_port(program, family);
    program.place(other_port);
}
