//! Path MTU and black holes: paths that drop full-size packets without an ICMP error, detected by
//! losses.

use core::time::Duration;

use crate::addr::Path;
use crate::engine::ctx::Ctx;
use crate::engine::peer::PeerTable;
use crate::engine::profile::Profile;
use crate::engine::stats::Count;
use crate::time::Instant;

/// Path MTU assumed until the driver reports one: the minimum of IPv6.
pub(crate) const MTU_MIN: u32 = 1280;
/// The same for IPv4.
const MTU_MIN_IPV4: u32 = 576;
/// UDP payload that the smallest MTU carries over any IP version.
pub(crate) const DATAGRAM_ALWAYS_FITS: u32 = MTU_MIN - 48;
/// Bytes that the kernel copies in and out in half the time that sending takes besides.
pub(crate) const DATAGRAM_WITHIN_HOST: u32 = 16_384;
/// Rounds of lost full-size packets after which the path is taken for a black hole.
const LOST_ROUNDS_MAX: u8 = 2;
/// The same towards Linux hosts, which send RESENDs for packets that are merely late.
const LINUX_ROUNDS_MAX: u8 = 4;
/// The same if what was lost lies in front of a full-size packet that arrived: the path may have
/// changed since, but mere loss is more likely.
const GAP_ROUNDS_MAX: u8 = 5;
/// After this time a new message tries full-size packets again: paths heal.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// Where the full-size packets of a round of losses lay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Losses {
    /// Behind all that arrived.
    Behind(Profile),
    /// In front of a full-size packet that arrived.
    InFront,
}

/// The MTU of the path to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathMtu {
    mtu: u32,
    /// Rounds of losses since a full-size packet is known to have arrived.
    lost_rounds: u8,
    gap_rounds: u8,
    /// The MTU before the path was taken for a black hole, and when that was.
    before: Option<(u32, Instant)>,
    /// When the last round began.
    lost_at: Option<Instant>,
}

impl PathMtu {
    pub(crate) const ASSUMED: Self =
        Self { mtu: MTU_MIN, lost_rounds: 0, gap_rounds: 0, before: None, lost_at: None };

    /// Longest IP packet in bytes.
    pub(crate) fn bytes(&self) -> u32 {
        self.mtu
    }

    /// The path is said to carry `mtu` bytes. Returns whether that is less than before.
    pub(crate) fn set(&mut self, mtu: u32, is_ipv4: bool) -> bool {
        let floor = if is_ipv4 { MTU_MIN_IPV4 } else { MTU_MIN };
        let (before, mtu) = (self.mtu, mtu.max(floor));
        if mtu != before {
            self.mtu = mtu;
            self.before = None;
            self.forget_losses();
        }
        mtu < before
    }

    /// A message begins: with full-size packets again if the path was taken for a black hole long
    /// ago.
    pub(crate) fn retry(&mut self, now: Instant) {
        if self.before.is_some_and(|(_, fell)| now >= fell + RETRY_AFTER) {
            self.restore();
        }
    }

    /// A full-size packet has arrived. If it is `longer` than what is believed to pass, it was mere
    /// loss.
    pub(crate) fn arrived(&mut self, longer: bool) {
        self.forget_losses();
        if longer {
            self.restore();
        }
    }

    /// Whether losses begin another round: several RESENDs within the `pause` are one.
    pub(crate) fn begins_round(&mut self, now: Instant, pause: Duration) -> bool {
        let begins = self.lost_at.is_none_or(|round| now.since(round) >= pause);
        if begins {
            self.lost_at = Some(now);
        }
        begins
    }

    /// Counts a round. After some the path is taken for a black hole, and `true` is returned.
    pub(crate) fn count_round(&mut self, now: Instant, losses: Losses) -> bool {
        if self.mtu <= MTU_MIN {
            return false;
        }
        let (rounds, rounds_max) = match losses {
            Losses::InFront => (&mut self.gap_rounds, GAP_ROUNDS_MAX),
            Losses::Behind(Profile::Linux) => (&mut self.lost_rounds, LINUX_ROUNDS_MAX),
            Losses::Behind(Profile::Native) => (&mut self.lost_rounds, LOST_ROUNDS_MAX),
        };
        *rounds = rounds.saturating_add(1);
        let black_hole = *rounds >= rounds_max;
        if black_hole {
            self.before = Some((self.mtu, now));
            self.mtu = MTU_MIN;
        }
        black_hole
    }

    fn restore(&mut self) {
        if let Some((mtu, _)) = self.before.take() {
            self.mtu = mtu;
            self.forget_losses();
        }
    }

    fn forget_losses(&mut self) {
        self.lost_rounds = 0;
        self.gap_rounds = 0;
    }
}

impl PeerTable {
    /// The path carries IP packets of at most `mtu` bytes; port 0 stands for all peers at that IP
    /// address.
    pub(crate) fn set_mtu(&mut self, path: &Path, mtu: u32, ctx: &mut Ctx) {
        let whole_host = path.remote.port() == 0;
        let mut next = match whole_host {
            true => self.first_at_host(path.remote.ip()),
            false => self.find(path),
        };
        while let Some(peer) = next.and_then(|next| self.known_mut(next)) {
            if peer.path_mtu.set(mtu, peer.key.ip.is_ipv4()) {
                ctx.stats.mtu_shrinks.inc();
            }
            next = if whole_host { peer.next_at_host() } else { None };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEHIND: Losses = Losses::Behind(Profile::Native);

    fn black_hole(at: Instant) -> PathMtu {
        let mut path = PathMtu::ASSUMED;
        path.set(9000, true);
        while !path.count_round(at, BEHIND) {}
        assert_eq!(path.bytes(), MTU_MIN);
        path
    }

    fn rounds_until_black_hole(losses: Losses) -> u8 {
        let mut path = PathMtu::ASSUMED;
        path.set(1500, true);
        (1..).find(|_| path.count_round(Instant::ZERO, losses)).unwrap()
    }

    #[test]
    fn a_black_hole_takes_more_rounds_the_less_certain_it_is() {
        assert_eq!(rounds_until_black_hole(BEHIND), 2);
        assert_eq!(rounds_until_black_hole(Losses::Behind(Profile::Linux)), 4);
        assert_eq!(rounds_until_black_hole(Losses::InFront), 5);
    }

    #[test]
    fn the_smallest_mtu_never_falls() {
        let mut path = PathMtu::ASSUMED;
        assert!((0..9).all(|_| !path.count_round(Instant::ZERO, BEHIND)));
    }

    #[test]
    fn a_path_heals_after_a_while() {
        let mut path = black_hole(Instant::ZERO);
        path.retry(Instant::ZERO + RETRY_AFTER - Duration::from_nanos(1));
        assert_eq!(path.bytes(), MTU_MIN);
        path.retry(Instant::ZERO + RETRY_AFTER);
        assert_eq!(path.bytes(), 9000);
    }

    #[test]
    fn a_longer_packet_that_arrives_refutes_a_black_hole() {
        let mut path = black_hole(Instant::ZERO);
        path.arrived(false);
        assert_eq!(path.bytes(), MTU_MIN);
        path.arrived(true);
        assert_eq!(path.bytes(), 9000);
    }

    #[test]
    fn losses_close_together_are_one_round() {
        let mut path = PathMtu::ASSUMED;
        let pause = Duration::from_millis(2);
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        assert!(path.begins_round(at(10), pause));
        assert!(!path.begins_round(at(11), pause));
        assert!(path.begins_round(at(12), pause));
    }

    #[test]
    fn what_the_network_says_has_a_floor_and_ends_the_suspicion() {
        let mut path = black_hole(Instant::ZERO);
        assert!(!path.set(1400, true));
        path.retry(Instant::ZERO + RETRY_AFTER);
        assert_eq!(path.bytes(), 1400);
        assert!(path.set(0, true));
        assert_eq!(path.bytes(), MTU_MIN_IPV4);
        assert!(!path.set(0, false));
        assert_eq!(path.bytes(), MTU_MIN);
    }
}
