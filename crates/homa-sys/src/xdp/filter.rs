//! The program that decides which packets of an interface are the sockets'.

use super::error::XdpError;
use super::socket::XdpSocket;
use crate::ebpf::{Assembler, If, Instruction, Map, Register, Size, XdpProgram, socket_value};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

/// Verdict that leaves a packet to the kernel (`linux/bpf.h`).
const XDP_PASS: i32 = 2;
/// Functions of the kernel, by their number.
const MAP_LOOKUP_ELEM: i32 = 1;
const REDIRECT_MAP: i32 = 51;
/// Ways to attach (`linux/if_link.h`).
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

const KEY_BYTES: usize = 16;
const ADDRESSES_MAX: u32 = 1_024;
const ETHERNET_BYTES: i16 = 14;

/// Where a program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the interface's driver, before the kernel makes a packet of its own.
    Native,
    /// In the network stack, for drivers that know no XDP: saves less.
    Generic,
}

/// A program that redirects packets of one IP protocol for one port to AF_XDP sockets.
///
/// Only whole packets (no fragments) to one of the [addresses](Self::set_addresses) are
/// redirected, over IPv4 without options and IPv6 without extension headers, untagged Ethernet,
/// and only on [queues](Self::add) that have a socket. The kernel gets everything else as ever.
#[derive(Debug)]
pub struct XdpFilter {
    program: XdpProgram,
    addresses: Map,
    sockets: Map,
    known: Vec<IpAddr>,
    link: Option<OwnedFd>,
}

impl XdpFilter {
    /// Loads the program for packets of `protocol` whose third and fourth byte behind the IP
    /// header are `port`, as over UDP and Homa's own protocol. `multi_buffer`: packets may be
    /// longer than a frame. It has no address and no queue yet, so redirects nothing.
    ///
    /// # Errors
    /// [`XdpError::NoCapability`], [`XdpError::NotInKernel`], or what the system says.
    pub fn new(
        protocol: u8,
        port: u16,
        queues_max: u32,
        multi_buffer: bool,
    ) -> Result<Self, XdpError> {
        let bpf = |error| XdpError::of(error, "bpf(2)");
        let addresses = Map::hash(KEY_BYTES, ADDRESSES_MAX).map_err(bpf)?;
        let sockets = Map::of_sockets(queues_max).map_err(bpf)?;
        let instructions = assemble(protocol, port, &addresses, &sockets)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let program = XdpProgram::load(&instructions, multi_buffer).map_err(bpf)?;
        Ok(Self { program, addresses, sockets, known: Vec::new(), link: None })
    }

    /// Puts the program at an interface, as long as this lives: natively if the driver can and
    /// `native` is wanted, else generically.
    ///
    /// # Errors
    /// [`XdpError::InterfaceBusy`], [`XdpError::NoInterface`], [`XdpError::NotSupported`].
    pub fn attach(&mut self, interface: u32, native: bool) -> Result<AttachMode, XdpError> {
        if native {
            match self.program.attach(interface, XDP_FLAGS_DRV_MODE) {
                Ok(link) => {
                    self.link = Some(link);
                    return Ok(AttachMode::Native);
                }
                // A program that is there in the other mode would refuse that as well.
                Err(error) if is_busy(&error) => return Err(XdpError::InterfaceBusy),
                Err(_) => {}
            }
        }
        match self.program.attach(interface, XDP_FLAGS_SKB_MODE) {
            Ok(link) => {
                self.link = Some(link);
                Ok(AttachMode::Generic)
            }
            Err(error) if is_busy(&error) => Err(XdpError::InterfaceBusy),
            Err(error) => Err(XdpError::of(error, "BPF_LINK_CREATE")),
        }
    }

    /// Gives packets of `queue` to `socket`, until that is closed.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&self, queue: u32, socket: &XdpSocket) -> io::Result<()> {
        self.sockets.set(&queue.to_ne_bytes(), socket_value(socket.as_fd()))
    }

    /// Makes `addresses` those whose packets are redirected, of which 1,024 count.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_addresses(&mut self, addresses: &[IpAddr]) -> io::Result<()> {
        let wanted = addresses.get(..ADDRESSES_MAX as usize).unwrap_or(addresses);
        for gone in self.known.iter().filter(|ip| !wanted.contains(ip)) {
            self.addresses.remove(&key(*gone))?;
        }
        for ip in wanted {
            self.addresses.set(&key(*ip), 1)?;
        }
        self.known = wanted.to_vec();
        Ok(())
    }
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

/// An address as the program looks it up: IPv4 ones in their mapped form.
fn key(ip: IpAddr) -> [u8; KEY_BYTES] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// A number of the network's byte order as a load in this computer's order has it.
fn network(value: u16) -> i32 {
    i32::from(value.to_be())
}

/// The program. Register 2 is the start of the packet, 3 its end, 6 the context.
fn assemble(protocol: u8, port: u16, addresses: &Map, sockets: &Map) -> Option<Vec<Instruction>> {
    const RESULT: Register = Register(0);
    const CONTEXT: Register = Register(6);
    const FIRST: Register = Register(1);
    const PACKET: Register = Register(2);
    const END: Register = Register(3);
    const SCRATCH: Register = Register(4);
    const VALUE: Register = Register(5);
    const STACK: Register = Register(10);
    const V4: i16 = ETHERNET_BYTES;
    const V6: i16 = ETHERNET_BYTES;
    const KEY: i16 = -(KEY_BYTES as i16);
    // Behind either IP header: ports, length and checksum of UDP, or the beginning of Homa's.
    const AT_LEAST: i32 = 8;

    let mut program = Assembler::default();
    let (pass, v4, look_up) = (program.label(), program.label(), program.label());
    program.copy(CONTEXT, FIRST);
    program.load(PACKET, Size::Word, CONTEXT, 0);
    program.load(END, Size::Word, CONTEXT, 4);
    program.copy(SCRATCH, PACKET);
    program.add(SCRATCH, i32::from(V4) + 20 + AT_LEAST);
    program.jump_if_than(SCRATCH, If::Greater, END, pass);
    // To this host alone, as far as the link goes.
    program.load(VALUE, Size::Byte, PACKET, 0);
    program.and(VALUE, 1);
    program.jump_if(VALUE, If::Unequal, 0, pass);
    program.load(VALUE, Size::Half, PACKET, 12);
    program.jump_if(VALUE, If::Equal, network(0x0800), v4);
    program.jump_if(VALUE, If::Unequal, network(0x86dd), pass);

    program.copy(SCRATCH, PACKET);
    program.add(SCRATCH, i32::from(V6) + 40 + AT_LEAST);
    program.jump_if_than(SCRATCH, If::Greater, END, pass);
    program.load(VALUE, Size::Byte, PACKET, V6 + 6);
    program.jump_if(VALUE, If::Unequal, i32::from(protocol), pass);
    program.load(VALUE, Size::Half, PACKET, V6 + 40 + 2);
    program.jump_if(VALUE, If::Unequal, network(port), pass);
    for part in [0, 4, 8, 12] {
        program.load(VALUE, Size::Word, PACKET, V6 + 24 + part);
        program.store(STACK, Size::Word, KEY + part, VALUE);
    }
    program.jump(look_up);

    program.place(v4);
    program.load(VALUE, Size::Byte, PACKET, V4);
    program.jump_if(VALUE, If::Unequal, 0x45, pass);
    program.load(VALUE, Size::Byte, PACKET, V4 + 9);
    program.jump_if(VALUE, If::Unequal, i32::from(protocol), pass);
    // More fragments follow, or some went before.
    program.load(VALUE, Size::Half, PACKET, V4 + 6);
    program.and(VALUE, network(0x3fff));
    program.jump_if(VALUE, If::Unequal, 0, pass);
    program.load(VALUE, Size::Half, PACKET, V4 + 20 + 2);
    program.jump_if(VALUE, If::Unequal, network(port), pass);
    program.set(VALUE, 0);
    program.store(STACK, Size::Word, KEY, VALUE);
    program.store(STACK, Size::Word, KEY + 4, VALUE);
    program.set(VALUE, 0xffff_u32.to_be() as i32);
    program.store(STACK, Size::Word, KEY + 8, VALUE);
    program.load(VALUE, Size::Word, PACKET, V4 + 16);
    program.store(STACK, Size::Word, KEY + 12, VALUE);

    program.place(look_up);
    program.load_map(FIRST, addresses);
    program.copy(PACKET, STACK);
    program.add(PACKET, i32::from(KEY));
    program.call(MAP_LOOKUP_ELEM);
    program.jump_if(RESULT, If::Equal, 0, pass);
    // The queue that it came by; without a socket there it is left to the kernel.
    program.load(PACKET, Size::Word, CONTEXT, 16);
    program.load_map(FIRST, sockets);
    program.set(END, XDP_PASS);
    program.call(REDIRECT_MAP);
    program.exit();

    program.place(pass);
    program.set(RESULT, XDP_PASS);
    program.exit();
    program.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::XdpSocketConfig;
    use std::io::Write;

    const UDP: u8 = 17;
    const PORT: u16 = 4_000;
    const LOCAL_V4: [u8; 4] = [192, 0, 2, 1];
    const LOCAL_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const REDIRECT: u32 = 4;
    const PASS: u32 = 2;

    /// A filter with a socket for the first queue; `None`, and said, where that is not permitted.
    fn filter(protocol: u8) -> Option<(XdpFilter, XdpSocket)> {
        let config =
            XdpSocketConfig { frame_bytes: 2_048, rx_frames: 2, tx_frames: 2, multi_buffer: false };
        let opened = XdpFilter::new(protocol, PORT, 4, false)
            .and_then(|filter| Ok((filter, XdpSocket::open(config)?)));
        match opened {
            Ok((mut filter, socket)) => {
                filter.set_addresses(&[LOCAL_V4.into(), LOCAL_V6.into()]).unwrap();
                filter.add(0, &socket).unwrap();
                Some((filter, socket))
            }
            Err(error @ (XdpError::NoCapability { .. } | XdpError::NotInKernel)) => {
                let _ = writeln!(io::stdout(), "SKIPPED: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn v4(protocol: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 128, 0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 9]);
        frame.extend(LOCAL_V4);
        frame.extend([0x99, 0x99]);
        frame.extend(port.to_be_bytes());
        frame.resize(142, 0);
        frame
    }

    fn v6(protocol: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
        frame.extend([0x60, 0, 0, 0, 0, 88, protocol, 64]);
        frame.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        frame.extend(LOCAL_V6);
        frame.extend([0x99, 0x99]);
        frame.extend(port.to_be_bytes());
        frame.resize(142, 0);
        frame
    }

    /// A packet with one byte changed.
    fn with(mut packet: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
        packet[at] = value;
        packet
    }

    #[test]
    fn packets_to_the_port_at_an_own_address_are_redirected_and_no_others() {
        let Some((filter, _socket)) = filter(UDP) else {
            return;
        };
        let verdict = |packet: &[u8]| filter.program.run(packet).unwrap();
        assert_eq!(verdict(&v4(UDP, PORT)), REDIRECT);
        assert_eq!(verdict(&v6(UDP, PORT)), REDIRECT);
        for packet in [v4(6, PORT), v4(UDP, PORT + 1), v6(6, PORT), v6(UDP, PORT + 1)] {
            assert_eq!(verdict(&packet), PASS);
        }
        for (what, packet) in [
            ("an option", with(v4(UDP, PORT), 14, 0x46)),
            ("a first fragment", with(v4(UDP, PORT), 20, 0x20)),
            ("a later fragment", with(v4(UDP, PORT), 21, 1)),
            ("another address", with(v4(UDP, PORT), 33, 77)),
            ("a group of hosts", with(v4(UDP, PORT), 0, 1)),
            ("another address (IPv6)", with(v6(UDP, PORT), 14 + 39, 77)),
            ("an extension header", with(v6(UDP, PORT), 14 + 6, 0)),
            ("a fragment (IPv6)", with(v6(UDP, PORT), 14 + 6, 44)),
            ("ARP", with(v4(UDP, PORT), 13, 6)),
            ("a tag", with(with(v4(UDP, PORT), 12, 0x81), 13, 0)),
        ] {
            assert_eq!(verdict(&packet), PASS, "{what}");
        }
    }

    #[test]
    fn packets_too_short_for_their_headers_are_passed() {
        let Some((filter, _socket)) = filter(UDP) else {
            return;
        };
        for (packet, needed) in [(v4(UDP, PORT), 42), (v6(UDP, PORT), 62)] {
            for bytes in 14..needed {
                assert_eq!(filter.program.run(&packet[..bytes]).unwrap(), PASS, "{bytes}");
            }
            assert_eq!(filter.program.run(&packet[..needed]).unwrap(), REDIRECT);
        }
    }

    #[test]
    fn the_protocol_of_its_own_is_told_from_udp() {
        let Some((filter, _socket)) = filter(146) else {
            return;
        };
        for packet in [v4(146, PORT), v6(146, PORT)] {
            assert_eq!(filter.program.run(&packet).unwrap(), REDIRECT);
        }
        for packet in [v4(UDP, PORT), v6(UDP, PORT), v4(146, 9)] {
            assert_eq!(filter.program.run(&packet).unwrap(), PASS);
        }
    }

    #[test]
    fn without_an_address_or_a_socket_everything_is_passed() {
        let Some((mut filter, socket)) = filter(UDP) else {
            return;
        };
        filter.set_addresses(&[LOCAL_V4.into()]).unwrap();
        assert_eq!(filter.program.run(&v6(UDP, PORT)).unwrap(), PASS);
        assert_eq!(filter.program.run(&v4(UDP, PORT)).unwrap(), REDIRECT);
        drop(socket);
        assert_eq!(filter.program.run(&v4(UDP, PORT)).unwrap(), PASS);
    }
}
