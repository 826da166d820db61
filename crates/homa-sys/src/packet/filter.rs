//! The kernel's filter for Homa packets, in classic BPF. It only has to keep the bulk of other
//! traffic away: what it lets through is looked at closely afterwards.

use crate::bpf::{Program, To};
use std::io;
use std::os::fd::BorrowedFd;

/// Most UDP ports one filter tells apart.
pub const FILTER_PORTS_MAX: usize = 32;

/// Offsets from here on count from the network header, wherever the link put it.
const NETWORK: u32 = libc::SKF_NET_OFF as u32;
/// Where a packet's ethertype can be loaded from, behind VLAN tags that the kernel took off.
const ETHERTYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86DD;
/// Tags that the kernel left on.
const VLAN: [u32; 2] = [0x8100, 0x88A8];
const TCP: u32 = 6;
const UDP: u32 = 17;
/// Homa; ICMP of both versions, whose errors quote Homa packets; IPv6 extension headers, behind
/// which Homa may be.
const ACCEPTED: [u32; 9] = [146, 1, 58, 0, 43, 44, 51, 60, 135];
/// Flags and urgent field of Homa in TCP frames (`homa-wire`).
const FLAGS: u32 = 0x06;
const URGENT: u32 = 0xB97D;
/// Upper bits of the window field in this implementation's packets.
const MAGIC: u32 = 0xA000;
const MAGIC_MASK: u32 = 0xF000;
const UDP_HEADER_BYTES: u32 = 8;

/// A program that accepts what may be Homa, and UDP datagrams from or to `ports`.
fn program(ports: &[u16]) -> Program {
    let mut program = Program::default();
    let (v4, v6, transport, tcp, udp) =
        (program.label(), program.label(), program.label(), program.label(), program.label());
    let load = |size: u32, mode: u32| libc::BPF_LD | size | mode;
    program.step(load(libc::BPF_W, libc::BPF_ABS), ETHERTYPE);
    for tag in VLAN {
        program.jump_equal(tag, To::Accept, To::Next);
    }
    program.jump_equal(IPV4, To::Label(v4), To::Next);
    program.jump_equal(IPV6, To::Label(v6), To::Reject);

    program.place(v6);
    program.step(libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM, 40);
    program.step(load(libc::BPF_B, libc::BPF_ABS), NETWORK + 6);
    program.jump_equal(0, To::Accept, To::Label(transport));

    program.place(v4);
    program.step(load(libc::BPF_B, libc::BPF_ABS), NETWORK);
    program.step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 15);
    program.step(libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K, 2);
    program.step(libc::BPF_MISC | libc::BPF_TAX, 0);
    program.step(load(libc::BPF_B, libc::BPF_ABS), NETWORK + 9);

    program.place(transport);
    for protocol in ACCEPTED {
        program.jump_equal(protocol, To::Accept, To::Next);
    }
    program.jump_equal(TCP, To::Label(tcp), To::Next);
    program.jump_equal(UDP, To::Label(udp), To::Reject);

    program.place(tcp);
    program.step(load(libc::BPF_B, libc::BPF_IND), NETWORK + 13);
    program.jump_equal(FLAGS, To::Next, To::Reject);
    program.step(load(libc::BPF_H, libc::BPF_IND), NETWORK + 18);
    program.jump_equal(URGENT, To::Accept, To::Reject);

    program.place(udp);
    for side in [0, 2] {
        program.step(load(libc::BPF_H, libc::BPF_IND), NETWORK + side);
        for port in ports.iter().take(FILTER_PORTS_MAX) {
            program.jump_equal(u32::from(*port), To::Accept, To::Next);
        }
    }
    program.step(load(libc::BPF_H, libc::BPF_IND), NETWORK + UDP_HEADER_BYTES + 14);
    program.step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, MAGIC_MASK);
    program.jump_equal(MAGIC, To::Next, To::Reject);
    program.step(load(libc::BPF_H, libc::BPF_IND), NETWORK + UDP_HEADER_BYTES + 18);
    program.jump_equal(URGENT, To::Accept, To::Reject);
    program
}

/// Lets only what may be Homa into the socket.
pub(super) fn attach(fd: BorrowedFd<'_>, ports: &[u16]) -> io::Result<()> {
    program(ports).attach(fd, u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_program_can_be_assembled_and_all_jumps_lead_forward() {
        let ports: Vec<u16> = (1..100).collect();
        let steps = program(&ports).assemble(u32::MAX).unwrap();
        let last = steps.len() - 1;
        for (at, step) in steps.iter().enumerate() {
            assert!(at + 1 + usize::from(step.jt.max(step.jf)) <= last + 1);
        }
        assert!(steps.len() < 256);
    }
}
