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
        let mut program = load_half(family, 2);
        program.extend([jump_equal(u32::from(port), 0, 1), accept(WHOLE), accept(0)]);
        Self { program }
    }

    /// Only packets to `port` that have `flags` and `urgent` where TCP has its flags and urgent pointer:
    /// bytes 13, and 18 and 19, behind the IP header.
    pub fn tcp_to_port(family: Family, port: u16, flags: u8, urgent: u16) -> Self {
        let mut program = load_half(family, 18);
        // Each comparison that fails jumps over what is left, which `accept(0)` ends.
        program.push(jump_equal(u32::from(urgent), 0, 5));
        program.push(load(family, libc::BPF_B, 13));
        program.push(jump_equal(u32::from(flags), 0, 3));
        program.push(load(family, libc::BPF_H, 2));
        program.extend([jump_equal(u32::from(port), 0, 1), accept(WHOLE), accept(0)]);
        Self { program }
    }

    /// The first `bytes` (from the IP header on, over IPv6 from behind it) of packets to any port but
    /// `ports`, of which at most 64 count.
    pub fn except_ports(family: Family, ports: &[u16], bytes: u32) -> Self {
        let mut program = load_half(family, 2);
        let ports = ports.get(..PORTS_MAX).unwrap_or(ports);
        for (index, &port) in ports.iter().enumerate() {
            // At most 64, so it fits; the last one's distance is 1: over `accept`.
            let to_reject = (ports.len() - index) as u8;
            program.push(jump_equal(u32::from(port), to_reject, 0));
        }
        program.extend([accept(bytes), accept(0)]);
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

/// Loads 16 bits at `offset` behind the IP header, whose length only IPv4 packets bring along.
fn load_half(family: Family, offset: u32) -> Vec<Instruction> {
    let first = load(family, libc::BPF_H, offset);
    match family {
        // X = 4 * (first byte & 15)
        Family::V4 => vec![step(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0), first],
        Family::V6 => vec![first],
    }
}

/// Loads what lies at `offset` behind the IP header; [`load_half`] comes first.
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
