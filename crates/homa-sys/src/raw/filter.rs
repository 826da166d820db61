//! Filters in the language of classic BPF: which packets a raw socket gets, decided by the kernel
//! before they are queued.

use crate::address::Family;
use crate::call::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Accept the whole packet.
const WHOLE: u32 = u32::MAX;

/// Most ports that one filter tells apart.
const PORTS_MAX: usize = 64;

/// A program that the kernel runs on each packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    program: Vec<Instruction>,
}

/// What some packets have where TCP has its flags and its urgent pointer: in byte 13, and in bytes 18 and 19,
/// behind the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpMarks {
    /// The flags.
    pub flags: u8,
    /// The urgent pointer.
    pub urgent: u16,
}

/// One instruction: code, jump if true, jump if false, operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u32,
    if_true: u8,
    if_false: u8,
    operand: u32,
}

impl Filter {
    /// No packet at all.
    pub fn nothing() -> Self {
        Self { program: vec![accept(0)] }
    }

    /// Only packets whose destination port, the second 16 bits behind the IP header, is `port`.
    pub fn to_port(family: Family, port: u16) -> Self {
        Self::of_port(family, None, only(port))
    }

    /// The same of those that have `marks`.
    pub fn tcp_to_port(family: Family, port: u16, marks: TcpMarks) -> Self {
        Self::of_port(family, Some(marks), only(port))
    }

    /// The first `bytes` (from the IP header on, over IPv6 from behind it) of packets to any port but
    /// `ports`, of which at most 64 count.
    pub fn except_ports(family: Family, ports: &[u16], bytes: u32) -> Self {
        Self::of_port(family, None, except(ports, bytes))
    }

    /// The same of those that have `marks`.
    pub fn tcp_except_ports(family: Family, ports: &[u16], bytes: u32, marks: TcpMarks) -> Self {
        Self::of_port(family, Some(marks), except(ports, bytes))
    }

    /// Loads the destination port for `decision`, whose last instruction rejects, as do missing marks.
    fn of_port(family: Family, marks: Option<TcpMarks>, decision: Vec<Instruction>) -> Self {
        let mut program = load_index(family);
        if let Some(marks) = marks {
            // At most 64 comparisons and two more.
            let to_reject = decision.len() as u8;
            program.push(load(family, libc::BPF_H, 18));
            program.push(jump_equal(u32::from(marks.urgent), 0, to_reject + 2));
            program.push(load(family, libc::BPF_B, 13));
            program.push(jump_equal(u32::from(marks.flags), 0, to_reject));
        }
        program.push(load(family, libc::BPF_H, 2));
        program.extend(decision);
        Self { program }
    }

    pub(super) fn attach(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut program: Vec<libc::sock_filter> = self
            .program
            .iter()
            .map(|one| libc::sock_filter {
                // The codes used here have 8 bits.
                code: one.code as u16,
                jt: one.if_true,
                jf: one.if_false,
                k: one.operand,
            })
            .collect();
        let whole = libc::sock_fprog {
            // At most 64 comparisons and a few more.
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: pointer and length describe the local `whole`, whose own pointer and length describe
        // the local `program`; the call reads both and keeps a copy.
        let result = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const whole).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        check(result).map(drop)
    }
}

/// Accepts whole packets to `port`.
fn only(port: u16) -> Vec<Instruction> {
    vec![jump_equal(u32::from(port), 0, 1), accept(WHOLE), accept(0)]
}

/// Accepts the first `bytes` of packets to any port but `ports`.
fn except(ports: &[u16], bytes: u32) -> Vec<Instruction> {
    let ports = ports.get(..PORTS_MAX).unwrap_or(ports);
    // At most 64, so it fits; the last one's distance is 1: over `accept`.
    let to_reject = |index| (ports.len() - index) as u8;
    let compare = |(index, port): (usize, &u16)| jump_equal(u32::from(*port), to_reject(index), 0);
    ports.iter().enumerate().map(compare).chain([accept(bytes), accept(0)]).collect()
}

/// X = length of the IP header, which only IPv4 packets bring along.
fn load_index(family: Family) -> Vec<Instruction> {
    match family {
        // 4 * (first byte & 15)
        Family::V4 => vec![step(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0)],
        Family::V6 => Vec::new(),
    }
}

/// Loads what lies at `offset` behind the IP header; [`load_index`] comes first.
fn load(family: Family, size: u32, offset: u32) -> Instruction {
    match family {
        Family::V4 => step(libc::BPF_LD | size | libc::BPF_IND, offset),
        Family::V6 => step(libc::BPF_LD | size | libc::BPF_ABS, offset),
    }
}

fn step(code: u32, operand: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, operand }
}

fn jump_equal(value: u32, if_true: u8, if_false: u8) -> Instruction {
    let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    Instruction { code, if_true, if_false, operand: value }
}

/// Ends with the first `bytes` of the packet; 0 drops it.
fn accept(bytes: u32) -> Instruction {
    step(libc::BPF_RET | libc::BPF_K, bytes)
}
