//! The sockets of all queues of an interface and the filter that feeds them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use homa_sys::XdpSocket;
use homa_sys::netlink::{Interface, Netlink};
use homa_sys::xdp::{
    AttachMode, BindMode, HEADROOM_BYTES, XdpError as Unusable, XdpFilter, XdpSocketConfig,
    check_kernel,
};

use super::frame::{ETHERNET_BYTES, Form};
use super::{XdpConfig, XdpError};

/// Most queues of an interface that get a socket; packets of others come through the kernel.
const QUEUES_MAX: u32 = 64;
/// A tag that the card did not take off.
const TAG_BYTES: usize = 4;
const FRAME_BYTES_MAX: usize = 4_096;
/// Frames that a packet may lie in (`MAX_SKB_FRAGS`).
const FRAMES_PER_PACKET_MAX: usize = 16;
/// The kind of virtual interface whose packets come as over a wire, once a filter is there.
const VETH: &str = "veth";
/// Times that a queue is tried that somebody has, and pauses between these: half a second.
const BIND_ATTEMPTS_MAX: u32 = 250;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(2);
/// How long a call that drives a queue looks for packets: once. How many it takes.
const BUSY_POLL_US: u16 = 1;
const BUSY_POLL_BUDGET: u16 = 64;

/// Filter and sockets of an interface. Dropped, the interface is as it was.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) filter: XdpFilter,
    /// The first one also sends.
    pub(super) queues: Vec<XdpSocket>,
    pub(super) attached: AttachMode,
    pub(super) bound: BindMode,
    pub(super) interface: Interface,
    /// Longest IP packet that comes and goes through these rings.
    pub(super) mtu_max: u32,
    pub(super) rx_frames: u32,
}

impl Rings {
    /// Sets everything up for packets of `form` to `port` at one of `addresses`.
    pub(super) fn open(
        interface: Interface,
        form: Form,
        port: u16,
        addresses: &[IpAddr],
        config: &XdpConfig,
    ) -> Result<Self, XdpError> {
        check_kernel()?;
        let (socket_config, mtu_max) = sizes(interface.mtu, config);
        let multi_buffer = socket_config.multi_buffer;
        let queues_max = interface.rx_queues.min(config.queues_max).min(QUEUES_MAX);
        let mut filter = XdpFilter::new(form.protocol(), port, queues_max, multi_buffer)?;
        // Without a socket it redirects nothing. It comes first: some drivers want it there before
        // their queues are given away, and it tells best that somebody else is there.
        let attached = filter.attach(interface.index, !config.generic)?;
        // A virtual interface hands the network stack several datagrams of the local kernel as one.
        let native_only = config.native_only || interface.kind.is_some();
        if attached == AttachMode::Generic && native_only {
            return Err(XdpError::OnlyGeneric { name: interface.name });
        }
        let copy = config.copy || attached == AttachMode::Generic;
        let mut bound = BindMode::ZeroCopy;
        let mut queues = Vec::with_capacity(queues_max as usize);
        for queue in 0..queues_max {
            let tx_frames = if queue == 0 { socket_config.tx_frames } else { 1 };
            let socket = match XdpSocket::open(XdpSocketConfig { tx_frames, ..socket_config }) {
                Ok(socket) => socket,
                // The packets of further queues come through the kernel.
                Err(Unusable::MemoryLock { .. }) if queue > 0 => break,
                Err(error) => return Err(error.into()),
            };
            match bind(&socket, interface.index, queue, copy) {
                Ok(BindMode::ZeroCopy) => {}
                Ok(BindMode::Copy) => bound = BindMode::Copy,
                // Cards may have more queues than they use.
                Err(Unusable::NotSupported { .. }) if queue > 0 => break,
                Err(error) => return Err(error.into()),
            }
            if config.busy_poll {
                socket.set_busy_poll(BUSY_POLL_US, BUSY_POLL_BUDGET)?;
            }
            queues.push(socket);
        }
        // A packet may come from now on.
        filter.set_addresses(addresses)?;
        for (queue, socket) in (0..).zip(&queues) {
            filter.add(queue, socket)?;
        }
        let rx_frames = socket_config.rx_frames;
        Ok(Self { filter, queues, attached, bound, interface, mtu_max, rx_frames })
    }
}

/// Does what needs privileges, but nothing at any interface.
pub(super) fn rehearse() -> Result<(), XdpError> {
    check_kernel()?;
    let (config, _) = sizes(1_500, &XdpConfig::default());
    XdpFilter::new(Form::Udp.protocol(), 1, 1, false)?;
    XdpSocket::open(config)?;
    Ok(())
}

/// Binds a socket. A queue whose socket was closed is free a moment later: that is waited for.
fn bind(socket: &XdpSocket, interface: u32, queue: u32, copy: bool) -> Result<BindMode, Unusable> {
    for _ in 0..BIND_ATTEMPTS_MAX {
        match socket.bind(interface, queue, copy) {
            Err(Unusable::QueueBusy { .. }) => thread::sleep(BETWEEN_ATTEMPTS),
            result => return result,
        }
    }
    socket.bind(interface, queue, copy)
}

/// The frames that packets of `mtu` need, and the longest IP packet that these take.
fn sizes(mtu: u32, config: &XdpConfig) -> (XdpSocketConfig, u32) {
    let frame_of = |frame_bytes: usize| frame_bytes - HEADROOM_BYTES - ETHERNET_BYTES - TAG_BYTES;
    let mtu = mtu as usize;
    let (frame_bytes, multi_buffer) = match mtu {
        _ if mtu <= frame_of(2_048) => (2_048, false),
        _ if mtu <= frame_of(FRAME_BYTES_MAX) => (FRAME_BYTES_MAX, false),
        _ => (FRAME_BYTES_MAX, true),
    };
    let mtu_max = match multi_buffer {
        false => frame_of(frame_bytes),
        true => frame_of(frame_bytes) * FRAMES_PER_PACKET_MAX,
    };
    let config = XdpSocketConfig {
        frame_bytes,
        rx_frames: config.rx_frames,
        tx_frames: config.tx_frames,
        multi_buffer,
    };
    (config, mtu_max as u32)
}

/// The interface that an endpoint at `local` uses: the one that was named, the one that has the
/// address, or the only one that leads to other hosts.
pub(super) fn choose(
    netlink: &mut Netlink,
    local: SocketAddr,
    name: Option<&str>,
) -> Result<Interface, XdpError> {
    let interfaces = netlink.interfaces()?;
    let addresses = netlink.addresses()?;
    let ip = local.ip().to_canonical();
    let chosen = if let Some(name) = name {
        let named = interfaces.into_iter().find(|one| one.name == name);
        named.ok_or_else(|| XdpError::NoSuchInterface { name: name.to_owned() })?
    } else if ip.is_unspecified() {
        let has_address = |index| addresses.iter().any(|(interface, _)| *interface == index);
        let leads_out = |one: &Interface| one.is_up && one.mac.is_some() && has_address(one.index);
        let mut candidates = interfaces.into_iter().filter(leads_out);
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => only,
            (None, _) => return Err(XdpError::NoEthernet),
            (Some(first), Some(second)) => {
                let names = [first, second].into_iter().chain(candidates).map(|one| one.name);
                return Err(XdpError::SeveralInterfaces { names: names.collect() });
            }
        }
    } else {
        let index = addresses.iter().find(|(_, address)| *address == ip).map(|(index, _)| *index);
        let of_address = interfaces.into_iter().find(|one| Some(one.index) == index);
        of_address.ok_or(XdpError::NoEthernet)?
    };
    match chosen.kind.as_deref() {
        _ if chosen.mac.is_none() => Err(XdpError::NotEthernet { name: chosen.name }),
        None | Some(VETH) => Ok(chosen),
        Some(_) => Err(XdpError::Virtual { name: chosen.name }),
    }
}

/// The addresses whose packets an endpoint at `local` takes: packets for another host that pass
/// this one are not.
pub(super) fn served(netlink: &mut Netlink, local: SocketAddr) -> io::Result<Vec<IpAddr>> {
    let ip = local.ip().to_canonical();
    if !ip.is_unspecified() {
        return Ok(vec![ip]);
    }
    let addresses = netlink.addresses()?.into_iter().map(|(_, ip)| ip);
    Ok(addresses.filter(|one| !one.is_loopback() && (ip.is_ipv6() || one.is_ipv4())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_hold_packets_of_the_mtu() {
        for (mtu, frame_bytes, multi_buffer) in [
            (1_280, 2_048, false),
            (1_500, 2_048, false),
            (1_774, 2_048, false),
            (1_775, 4_096, false),
            (3_822, 4_096, false),
            (3_823, 4_096, true),
            (9_000, 4_096, true),
        ] {
            let (config, mtu_max) = sizes(mtu, &XdpConfig::default());
            assert_eq!((config.frame_bytes, config.multi_buffer), (frame_bytes, multi_buffer));
            assert!(mtu_max >= mtu, "{mtu}");
        }
    }
}
