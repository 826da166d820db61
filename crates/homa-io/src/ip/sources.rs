//! Source address of packets where the routes choose it: a checksum covers it, so it has to be
//! known beforehand.

use std::net::IpAddr;

use homa_sys::monotonic_ns;
use homa_sys::raw::RouteLookup;

/// Destinations remembered; with more the oldest is looked up again.
const REMEMBERED_MAX: usize = 64;
/// How long what was found is believed.
const BELIEVED_NS: u64 = 1_000_000_000;

/// Cache of look-ups.
#[derive(Debug, Default)]
pub(super) struct Sources {
    known: Vec<Known>,
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    to: IpAddr,
    interface: u32,
    from: IpAddr,
    until_ns: u64,
}

impl Sources {
    /// The address from which this host sends to `to`, by `interface` if that matters; `None`
    /// without a route there.
    pub(super) fn source(
        &mut self,
        lookup: &RouteLookup,
        to: IpAddr,
        interface: u32,
    ) -> Option<IpAddr> {
        let now_ns = monotonic_ns();
        let place = self.known.iter().position(|one| (one.to, one.interface) == (to, interface));
        let known = place.and_then(|place| self.known.get(place));
        if let Some(known) = known.filter(|known| now_ns < known.until_ns) {
            return Some(known.from);
        }
        let from = lookup.source_ip(to, interface).ok()?.to_canonical();
        self.remember(place, Known { to, interface, from, until_ns: now_ns + BELIEVED_NS });
        Some(from)
    }

    fn remember(&mut self, place: Option<usize>, new: Known) {
        let oldest = self.next;
        match self.known.get_mut(place.unwrap_or(oldest)) {
            Some(known) => *known = new,
            None => self.known.push(new),
        }
        if place.is_none() {
            self.next = (oldest + 1) % REMEMBERED_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn what_was_found_is_remembered_for_some_destinations() {
        let lookup = RouteLookup::new().unwrap();
        let mut sources = Sources::default();
        for _ in 0..2 {
            for number in 1..=2 * REMEMBERED_MAX as u8 {
                let to = Ipv4Addr::new(127, 0, 0, number).into();
                let from = sources.source(&lookup, to, 0);
                assert_eq!(from, Some(Ipv4Addr::LOCALHOST.into()));
                assert_eq!(sources.source(&lookup, to, 0), from);
            }
        }
        assert_eq!(sources.known.len(), REMEMBERED_MAX);
    }
}
