//! Which packets a raw socket gets, decided by the kernel before they are queued.

use crate::address::Family;
use crate::bpf::{Program, To};
use std::io;
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

/// What some packets have where TCP has its flags and its urgent pointer: in byte 13, and in bytes 18 and 19,
/// behind the IP header.
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

    /// The first `bytes` (from the IP header on, over IPv6 from behind it) of packets to any port but
    /// `ports`, of which at most 64 count.
    pub fn except_ports(family: Family, ports: &[u16], bytes: u32) -> Self {
        Self::except(family, ports, bytes, None)
    }

    /// The same of those that have `marks`.
    pub fn tcp_except_ports(family: Family, ports: &[u16], bytes: u32, marks: TcpMarks) -> Self {
        Self::except(family, ports, bytes, Some(marks))
    }

    fn only(family: Family, port: u16, marks: Option<TcpMarks>) -> Self {
        let mut program = destination_port(family, marks);
        program.jump_equal(u32::from(port), To::Accept, To::Reject);
        Self { program, accepted_bytes: WHOLE }
    }

    fn except(family: Family, ports: &[u16], bytes: u32, marks: Option<TcpMarks>) -> Self {
        let mut program = destination_port(family, marks);
        for port in ports.iter().take(PORTS_MAX) {
            program.jump_equal(u32::from(*port), To::Reject, To::Next);
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
    // Loads what lies at an offset behind the IP header, which only IPv4 packets bring along.
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
        program.jump_equal(u32::from(marks.urgent), To::Next, To::Reject);
        program.step(libc::BPF_LD | libc::BPF_B | mode, 13);
        program.jump_equal(u32::from(marks.flags), To::Next, To::Reject);
    }
    program.step(libc::BPF_LD | libc::BPF_H | mode, 2);
    program
}
