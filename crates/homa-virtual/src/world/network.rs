//! The path of a packet from host to host.

use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use homa_core::{Carriage, IcmpKind, Path, RxMeta};

use super::calendar::Happening;
use super::{Heard, World};
use crate::conduct::Conduct;
use crate::driver::{Notice, Packet};
use crate::fault::MtuChange;
use crate::host::Host;
use crate::link::{LinkPlan, serialisation_ns};

impl World {
    pub(super) fn link(&self, from: usize, to: usize) -> LinkPlan {
        self.links.get(&(from, to)).copied().unwrap_or(self.default_link)
    }

    pub(super) fn apply_mtu(&mut self, change: MtuChange) {
        let mut plan = self.link(change.from, change.to);
        plan.mtu = change.mtu;
        self.set_link(change.from, change.to, plan);
        let remote = self.addresses[change.to];
        if change.known {
            self.hosts[change.from].with_driver(|driver| {
                driver.known_mtu.insert(remote, change.mtu);
            });
        }
    }

    /// The host behind an address. Over IP protocol 146 all ports that no other host at this
    /// address has belong to the first.
    fn host_at(&self, to: SocketAddr) -> Option<usize> {
        let exact = self.hosts.iter().position(|host| host.plan.address == to);
        let same_ip =
            |host: &Host| host.plan.carriage == Carriage::Ip && host.plan.address.ip() == to.ip();
        exact.or_else(|| self.hosts.iter().position(same_ip))
    }

    /// A packet leaves a host.
    pub(super) fn send(&mut self, from: usize, packet: Packet) {
        self.packets += 1;
        let to = match packet.to.ip() {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        let (dscp, bytes) = (packet.meta.dscp, &packet.bytes);
        (self.now_ns, from, to, packet.to.port(), dscp, bytes).hash(&mut self.digest);
        let (length, conduct) = (packet.bytes.len(), self.hosts[from].plan.conduct);
        let packet = conduct.change(packet);
        let changed = packet.as_ref().is_none_or(|packet| packet.bytes.len() != length);
        self.rare.misconduct += u64::from(changed);
        let Some(packet) = packet else {
            return;
        };
        if conduct == Conduct::Honest {
            let config = &self.hosts[from].plan.config;
            self.auditor.sent(self.now_ns, from, &packet, config);
        }
        if self.show_packets {
            show(self.now_ns, self.addresses[from], "sent", &packet);
        }
        let entry = &mut self.hosts[from];
        let mut departed_ns = self.now_ns;
        if let Some(mbps) = entry.plan.uplink_mbps {
            let line_ns = serialisation_ns(packet.wire_bytes(), mbps);
            departed_ns = entry.uplink_free_ns.max(self.now_ns) + line_ns;
            entry.uplink_free_ns = departed_ns;
        }
        if self.dice.hits_ppm(self.faults.forge_ppm) {
            self.ledger.forgeries_expected = true;
            self.forge(&packet);
        }
        let Some(to) = self.host_at(packet.to) else {
            return;
        };
        let link = self.link(from, to);
        if packet.ip_bytes() > link.mtu {
            if link.too_big_is_told {
                let notice = Notice::PathMtu(packet.to, link.mtu);
                self.schedule(departed_ns + 2 * link.delay_ns, Happening::Tell(from, notice));
            }
            return;
        }
        let cut = self.partitions.iter().any(|partition| partition.cuts(from, to, departed_ns));
        if cut || self.dice.hits_ppm(link.loss_ppm) {
            return;
        }
        if self.dice.hits_ppm(link.duplicate_ppm) {
            let at_ns = departed_ns + link.flight_ns(&mut self.dice) + link.delay_ns;
            self.schedule(at_ns, Happening::AtPort(to, packet.clone()));
        }
        if self.dice.hits_ppm(self.faults.late_ppm) {
            self.rare.late_duplicates += 1;
            self.schedule(departed_ns + self.faults.late_ns, Happening::AtPort(to, packet.clone()));
        }
        let at_ns = departed_ns + link.flight_ns(&mut self.dice);
        self.schedule(at_ns, Happening::AtPort(to, packet));
    }

    /// A packet reaches the switch port in front of a host.
    pub(super) fn at_port(&mut self, host: usize, packet: Packet) {
        let entry = &mut self.hosts[host];
        if entry.plan.port.mbps.is_none() {
            return self.deliver(host, packet);
        }
        let plan = entry.plan.port;
        if entry.port.push(packet, &plan) && !entry.port.busy {
            self.port_free(host);
        }
    }

    /// The line behind a switch port is free for the next packet.
    pub(super) fn port_free(&mut self, host: usize) {
        let entry = &mut self.hosts[host];
        let Some(packet) = entry.port.pop() else {
            entry.port.busy = false;
            return;
        };
        entry.port.busy = true;
        let mbps = entry.plan.port.mbps.unwrap_or(u32::MAX);
        let free_ns = self.now_ns + serialisation_ns(packet.wire_bytes(), mbps);
        // The receiver sees the packet a little early, by its own time on the line.
        self.deliver(host, packet);
        self.schedule(free_ns, Happening::PortFree(host));
    }

    fn deliver(&mut self, host: usize, packet: Packet) {
        let entry = &mut self.hosts[host];
        if entry.listens {
            let (at_ns, Packet { meta, to, bytes }) = (self.now_ns, packet);
            return self.heard.push(Heard { at_ns, to, dscp: meta.dscp, bytes });
        }
        if entry.is_up() {
            // A packet that overflows the buffer was sent all the same.
            self.auditor.arrived(self.now_ns, host, &packet);
            entry.with_driver(|driver| driver.arrive(packet));
            return self.wake(host, self.now_ns);
        }
        let sender = self.host_at(packet.meta.path.remote);
        if let Some(sender) = sender.filter(|_| self.dice.hits_ppm(self.faults.icmp_ppm)) {
            let quoted = packet.bytes.get(..64).unwrap_or(&packet.bytes).to_vec();
            let notice = Notice::Icmp(IcmpKind::PortUnreachable, packet.to, quoted);
            let delay_ns = self.default_link.delay_ns;
            self.schedule(self.now_ns + delay_ns, Happening::Tell(sender, notice));
        }
    }

    /// Sends a copy of a packet that is cut short, garbled, from a wrong sender, or to a wrong
    /// receiver.
    fn forge(&mut self, original: &Packet) {
        let mut bytes = original.bytes.clone();
        let from = original.meta.path.remote;
        let stranger = SocketAddr::from((
            [192, 0, 2, self.dice.below(4) as u8],
            4000 + self.dice.below(3) as u16,
        ));
        let host = self.dice.below(self.hosts.len() as u64) as usize;
        let (from, to) = match self.dice.below(5) {
            0 => {
                // Not DATA of the true sender, whose missing end would not be noticed as damage.
                bytes.truncate(self.dice.below(bytes.len().min(28) as u64) as usize);
                (from, self.host_at(original.to))
            }
            1 => {
                for _ in 0..=self.dice.below(4) {
                    let at = self.dice.below(bytes.len().min(96) as u64) as usize;
                    bytes[at] = self.dice.roll() as u8;
                }
                (stranger, self.host_at(original.to))
            }
            2 => (stranger, self.host_at(original.to)),
            // Replies to a forged packet with a copied incarnation are not sent on to its subject:
            // only authentication protects against that.
            3 if self.host_at(original.to).is_some() => (from, Some(host)),
            _ => {
                bytes = (0..self.dice.below(200)).map(|_| self.dice.roll() as u8).collect();
                (stranger, Some(host))
            }
        };
        if let Some(to) = to {
            let at_ns = self.now_ns + self.default_link.delay_ns;
            let packet = self.packet_from(from, to, bytes);
            if self.show_packets {
                show(self.now_ns, from, "forged", &packet);
            }
            self.schedule(at_ns, Happening::AtPort(to, packet));
        }
    }

    pub(super) fn packet_from(&self, from: SocketAddr, to: usize, bytes: Vec<u8>) -> Packet {
        let address = self.addresses[to];
        let path = Path {
            remote: from,
            local_ip: Some(address.ip()),
            local_port: address.port(),
            interface: 0,
            carriage: self.hosts[to].plan.carriage,
        };
        Packet { meta: RxMeta::new(path), to: address, bytes }
    }
}

/// One line about a packet.
fn show(now_ns: u64, from: SocketAddr, how: &str, packet: &Packet) {
    let length = u32::try_from(packet.bytes.len()).unwrap_or(u32::MAX);
    match homa_wire::Header::parse(&packet.bytes, length) {
        Ok(header) => eprintln!(
            "{:>12} {how} {from} -> {} {length} B, id {:x}, {:?} {:?}",
            now_ns, packet.to, header.common.sender_id, header.body, header.extension
        ),
        Err(error) => eprintln!("{now_ns:>12} {how} {from} -> {} {length} B, {error:?}", packet.to),
    }
}
