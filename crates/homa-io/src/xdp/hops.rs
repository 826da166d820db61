//! Ways to hosts as the kernel knows them, remembered for a while.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use homa_core::Path;
use homa_sys::monotonic_ns;
use homa_sys::netlink::Netlink;

use super::frame::{Ends, Form, Headers};
use super::rings::Rings;
use crate::socket::route::{is_link_local, is_same_family};

/// Hosts remembered; with more all are looked up again.
const REMEMBERED_MAX: usize = 16_384;
/// How long a way is believed unless the kernel says that something changed. Neighbours change
/// without that.
const BELIEVED_NS: u64 = 1_000_000_000;
/// The same while the kernel finds out the neighbour's address.
const UNRESOLVED_NS: u64 = 1_000_000;

/// The way to a host.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Through the rings, with these headers.
    Rings(Hop),
    /// Through the sockets.
    Sockets,
}

/// The next hop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    pub(super) headers: Headers,
    /// Longest IP packet in bytes.
    pub(super) mtu: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    to: IpAddr,
    from: Option<IpAddr>,
    interface: u32,
}

#[derive(Debug)]
struct Known {
    key: Key,
    way: Way,
    until_ns: u64,
    /// The kernel has not heard from the neighbour for long: a packet through the sockets has it
    /// ask.
    is_doubtful: bool,
}

/// The ways remembered.
#[derive(Debug)]
pub(super) struct Hops {
    places: HashMap<Key, usize>,
    known: Vec<Known>,
    /// The one asked for last, which is likely to be asked for next.
    last: usize,
    form: Form,
    local: SocketAddr,
}

impl Hops {
    /// For packets from an endpoint at `local`.
    pub(super) fn new(form: Form, local: SocketAddr) -> Self {
        Self { places: HashMap::new(), known: Vec::new(), last: 0, form, local }
    }

    /// Forgets everything: something changed.
    pub(super) fn forget(&mut self) {
        self.places.clear();
        self.known.clear();
    }

    /// The way along `path`; counts `lookups`.
    #[inline]
    pub(super) fn way(
        &mut self,
        path: &Path,
        netlink: &mut Netlink,
        rings: &Rings,
        lookups: &mut u64,
    ) -> Way {
        let key = self.key(path);
        let now_ns = monotonic_ns();
        let is_last = self.known.get(self.last).is_some_and(|known| known.key == key);
        let place = if is_last { Some(self.last) } else { self.places.get(&key).copied() };
        if let Some(known) = place.and_then(|place| self.known.get(place)) {
            if now_ns < known.until_ns {
                self.last = place.unwrap_or(0);
                return known.way;
            }
        }
        *lookups += 1;
        let found = self.through_rings(&key, netlink, rings);
        let (way, believed_ns, is_doubtful) = match found {
            Some((hop, is_doubtful)) => (Way::Rings(hop), BELIEVED_NS, is_doubtful),
            None => (Way::Sockets, UNRESOLVED_NS, false),
        };
        self.remember(place, Known { key, way, until_ns: now_ns + believed_ns, is_doubtful });
        way
    }

    /// Whether a packet along the way asked for last has to go through the sockets so that the
    /// kernel asks for the neighbour: one of them, after each look-up that found it doubtful.
    #[inline]
    pub(super) fn takes_doubt(&mut self) -> bool {
        self.known.get_mut(self.last).is_some_and(|known| std::mem::take(&mut known.is_doubtful))
    }

    fn key(&self, path: &Path) -> Key {
        let to = path.remote;
        let interface = match to {
            SocketAddr::V6(v6) if is_link_local(to.ip()) => v6.scope_id().max(path.interface),
            _ => 0,
        };
        let to_ip = to.ip().to_canonical();
        let local_ip = self.local.ip().to_canonical();
        let from = match local_ip.is_unspecified() {
            true => path.local_ip.filter(|ip| is_same_family(*ip, to_ip)),
            false => Some(local_ip),
        };
        let from = from.map(|ip| ip.to_canonical()).filter(|ip| !ip.is_unspecified());
        Key { to: to_ip, from, interface }
    }

    /// The next hop, and whether the neighbour is doubtful. `None` if there is no such way, for
    /// whatever reason: the sockets know, and say.
    fn through_rings(
        &self,
        key: &Key,
        netlink: &mut Netlink,
        rings: &Rings,
    ) -> Option<(Hop, bool)> {
        let to = key.to;
        let route = netlink.route(to, key.from, key.interface).ok()?;
        let interface = &rings.interface;
        if !route.is_unicast || route.interface != interface.index || !interface.is_up {
            return None;
        }
        let neighbour = netlink.neighbour(route.gateway.unwrap_or(to), interface.index).ok()??;
        let ends = Ends {
            from_mac: interface.mac?,
            to_mac: neighbour.mac,
            from: key.from.or(route.source)?,
            to,
            from_port: self.local.port(),
        };
        let mtu = route.mtu.unwrap_or(u32::MAX).min(interface.mtu).min(rings.mtu_max);
        let headers = Headers::new(&ends, self.form)?;
        Some((Hop { headers, mtu }, !neighbour.is_confirmed))
    }

    fn remember(&mut self, place: Option<usize>, known: Known) {
        if let Some(old) = place.and_then(|place| self.known.get_mut(place)) {
            *old = known;
            self.last = place.unwrap_or(0);
            return;
        }
        if self.known.len() >= REMEMBERED_MAX {
            self.forget();
        }
        self.places.insert(known.key, self.known.len());
        self.last = self.known.len();
        self.known.push(known);
    }
}
