//! The policy of grants: whom, how much, at which priority (docs/spec/protocol.md §6). Pure
//! functions; [`super::Granter`] keeps the accounts and calls them.

use crate::engine::rpc::index::RpcIndex;
use crate::priority::Priority;

/// SRPT rank: fewest unreceived bytes first, then the oldest.
pub(super) type Rank = (u32, u64);

/// Least window: a smaller share of `max_incoming` would cost a packet for next to no data.
const WINDOW_BYTES_MIN: u64 = 1_000;

/// The rank of a message. The holder of the reserved slot comes before all.
pub(super) fn rank(remaining: u32, birth: u64, holds_set_aside: bool) -> Rank {
    (if holds_set_aside { 0 } else { remaining }, birth)
}

/// What may be on its way for a message, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) bytes: u64,
    /// Grants smaller than this wait while as much is on its way.
    pub(super) step: u64,
}

/// The window of a message, while `active` messages are granted: what its peer or the configuration
/// (`fixed`) demands to be on its way at least, and a step beyond it; or what a round trip needs
/// (`kept`) and a step beyond it, but no more than a share of `max_incoming` that leaves one window
/// free. A step is at most a quarter of that.
pub(super) fn window(
    fixed: (u32, u32),
    kept: u64,
    step: u64,
    max_incoming: u64,
    active: usize,
) -> Window {
    let (kept, share) = match fixed {
        (0, 0) => (kept, max_incoming / (active as u64).saturating_add(1)),
        (0, fixed) | (fixed, _) => (u64::from(fixed), u64::MAX),
    };
    let step = step.min(kept / 4);
    let bytes = kept.saturating_add(step).min(share).max(WINDOW_BYTES_MIN);
    Window { bytes, step: step.min(bytes / 4) }
}

/// How long of the `ns` from a GRANT to its data the GRANT had to come ahead: half of it, if the
/// link at `mbps` was full meanwhile with the bytes that `came`. Then more was on its way than a
/// round trip needs, or others had their share of the link.
pub(in crate::engine::receiver) fn needed_ns(ns: u64, came: u32, mbps: u32) -> u64 {
    let full = u64::from(mbps).saturating_mul(ns) / 8_000;
    if u64::from(came) >= full / 4 * 3 { ns / 2 } else { ns }
}

/// Bytes that come in a round trip of `ns` at `mbps`, times `percent`.
pub(in crate::engine::receiver) fn round_trip_bytes(mbps: u32, ns: u32, percent: u16) -> u32 {
    let bytes = u64::from(mbps).saturating_mul(u64::from(ns)) / 8_000;
    u32::try_from(bytes.saturating_mul(u64::from(percent)) / 100).unwrap_or(u32::MAX)
}

/// Bytes of a message that are to be on their way, while `active` messages are granted: those that
/// a round trip needs (`u32::MAX`: not known), or a guess if there is one. A message alone needs
/// none: its sender's link is no faster than this host's.
pub(super) fn kept((known, guess): (u32, Option<u32>), least: u64, active: usize) -> u64 {
    let guess = guess.filter(|_| known == u32::MAX && active > 1);
    u64::from(guess.unwrap_or(known)).max(least)
}

/// The least window of a share, when all places are taken. As much of what a sender announces
/// counts as on its way.
pub(super) fn window_min(max_incoming: u64, places: u8) -> u64 {
    max_incoming / u64::from(places).saturating_add(1)
}

/// Bytes that one sender may be granted together: the window of a message alone, and one with which
/// a shorter message goes before that.
pub(super) fn part_of_sender(window: u64, max_incoming: u64, window_min: u64) -> u64 {
    window.max(max_incoming / 2).saturating_add(window_min)
}

/// Priority for scheduled data of a message with `better` ones before it among the `active`. Low
/// priorities come first, so that newcomers can preempt.
pub(super) fn priority(better: usize, active: usize, highest: Priority) -> Priority {
    let highest = highest.level();
    let better = u8::try_from(better).unwrap_or(u8::MAX);
    let active = u8::try_from(active).unwrap_or(u8::MAX);
    let unused = highest.saturating_add(1).saturating_sub(active);
    Priority::new(highest.saturating_sub(better).saturating_sub(unused))
}

/// Whether what is granted next are the last bytes of a message, `boost` at most: they go before
/// scheduled data, since a message with so few is nearly over.
pub(super) fn is_boosted(wants: &Wants, boost: u32) -> bool {
    wants.length.saturating_sub(wants.granted) <= boost
}

/// A message that may be granted more, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    pub(super) length: u32,
    pub(super) received: u32,
    /// What it may send so far.
    pub(super) granted: u32,
    /// The same, or what has come beyond it.
    pub(super) allowed_upto: u32,
    /// Its end, or what a slow reader leaves room for.
    pub(super) grantable_upto: u32,
}

/// What may be given to a message, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) window: Window,
    pub(super) host: u64,
    pub(super) sender: u64,
    /// Whether nothing is on its way to this host.
    pub(super) idle: bool,
}

/// Up to where a message is granted now, and up to where it would be with all the room there is.
/// `None`: no more, or too little to be worth a packet.
pub(super) fn grant(wants: Wants, room: Room) -> Option<(u64, u64)> {
    let received = u64::from(wants.received);
    let target = received.saturating_add(room.window.bytes).min(u64::from(wants.grantable_upto));
    let allowed = u64::from(wants.allowed_upto);
    let want = target.saturating_sub(allowed);
    let outstanding = u64::from(wants.granted).saturating_sub(received);
    let step = room.window.step;
    if want == 0 || (want < step && target < u64::from(wants.length) && outstanding > step) {
        return None;
    }
    let give = want.min(room.host).min(room.sender);
    // Nothing is on its way and nothing would ever come: at least one window must flow.
    let too_little = give < want.min(WINDOW_BYTES_MIN);
    let give = if too_little && room.idle { want } else { give };
    Some((allowed.saturating_add(give), target))
}

/// A message that has a place, or wants one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) index: RpcIndex,
    pub(super) rank: Rank,
    /// Active messages of its sender, with the newcomer if that is of the same.
    pub(super) of_sender: u32,
    /// Its sender is unvalidated.
    pub(super) unvalidated: bool,
}

/// The active message that makes room for a newcomer, if any: that of an unvalidated sender, else
/// the lowest-ranked one of the sender that would have the most. An unvalidated newcomer displaces
/// only its like.
pub(super) fn victim(
    newcomer: Candidate,
    active: impl Iterator<Item = Candidate> + Clone,
) -> Option<RpcIndex> {
    let unvalidated = active.clone().find(|other| other.unvalidated);
    if newcomer.unvalidated {
        let victim = unvalidated.filter(|other| newcomer.rank < other.rank);
        return victim.map(|other| other.index);
    }
    if let Some(other) = unvalidated {
        return Some(other.index);
    }
    let victim = active.max_by_key(|other| (other.of_sender, other.rank))?;
    let same_share = victim.of_sender <= newcomer.of_sender;
    (!same_share || newcomer.rank < victim.rank).then_some(victim.index)
}

/// The share of all granted bytes that goes to the oldest message, whatever its rank, so that long
/// messages do not starve.
#[derive(Debug, Default)]
pub(super) struct FifoShare {
    /// Bytes earned, in 1/1000.
    credit: u64,
}

impl FifoShare {
    /// `given` bytes were granted by rank, of which it earns a share. `true`: the turn of the
    /// oldest has come, to be granted `increment` bytes.
    pub(super) fn earn(&mut self, given: u64, permille: u16, increment: u32) -> bool {
        let earned = given.saturating_mul(u64::from(permille));
        let turn = u64::from(increment).saturating_mul(1000);
        self.credit = self.credit.saturating_add(earned).min(turn);
        let due = earned > 0 && turn > 0 && self.credit >= turn;
        if due {
            self.credit = 0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_share_what_may_be_on_its_way_and_leave_one_free() {
        let bytes = |demanded, configured, max, active| {
            window((demanded, configured), u64::MAX, 0, max, active).bytes
        };
        assert_eq!(bytes(0, 0, 400_000, 0), 400_000);
        assert_eq!(bytes(0, 0, 400_000, 3), 100_000);
        assert_eq!(bytes(0, 0, 2_000, 7), WINDOW_BYTES_MIN);
        assert_eq!(bytes(0, 50_000, 400_000, 3), 50_000);
        assert_eq!(bytes(60_000, 50_000, 400_000, 3), 60_000, "the peer's own settings");
        assert_eq!(window_min(400_000, 7), 50_000);
    }

    #[test]
    fn a_window_is_what_a_round_trip_needs_and_a_step_if_that_is_less_than_its_share() {
        let window = |kept, active| window((0, 0), kept, 8_192, 400_000, active);
        assert_eq!(window(100_000, 1), Window { bytes: 108_192, step: 8_192 });
        assert_eq!(window(20_000, 1), Window { bytes: 25_000, step: 5_000 });
        assert_eq!(window(100_000, 7), Window { bytes: 50_000, step: 8_192 }, "its share");
        assert_eq!(window(u64::MAX, 1), Window { bytes: 200_000, step: 8_192 });
    }

    #[test]
    fn while_a_round_trip_is_not_known_it_is_guessed_for_messages_that_are_not_alone() {
        assert_eq!(kept((30_000, Some(40_000)), 20_000, 2), 30_000);
        assert_eq!(kept((30_000, Some(40_000)), 50_000, 2), 50_000);
        assert_eq!(kept((u32::MAX, Some(40_000)), 20_000, 2), 40_000);
        assert_eq!(kept((u32::MAX, Some(40_000)), 20_000, 1), u64::from(u32::MAX));
        assert_eq!(kept((u32::MAX, None), 20_000, 2), u64::from(u32::MAX));
    }

    #[test]
    fn a_round_trip_brings_bytes_at_the_speed_of_the_link() {
        assert_eq!(round_trip_bytes(10_000, 8_000, 200), 20_000);
        assert_eq!(round_trip_bytes(100_000, 100_000, 100), 1_250_000);
        assert_eq!(round_trip_bytes(u32::MAX, u32::MAX, 400), u32::MAX);
    }

    #[test]
    fn a_full_link_shows_that_less_on_its_way_is_enough() {
        assert_eq!(needed_ns(8_000, 7_500, 10_000), 4_000);
        assert_eq!(needed_ns(8_000, 7_499, 10_000), 8_000);
        assert_eq!(needed_ns(0, 0, 10_000), 0);
    }

    #[test]
    fn scheduled_data_uses_the_lowest_priorities_that_tell_the_active_messages_apart() {
        let levels = |active: usize| -> alloc::vec::Vec<u8> {
            (0..active).map(|better| priority(better, active, Priority::new(5)).level()).collect()
        };
        assert_eq!(levels(1), [0]);
        assert_eq!(levels(3), [2, 1, 0]);
        assert_eq!(levels(6), [5, 4, 3, 2, 1, 0]);
        assert_eq!(levels(8), [5, 4, 3, 2, 1, 0, 0, 0]);
    }

    const WANTS: Wants = Wants {
        length: 1_000_000,
        received: 0,
        granted: 10_000,
        allowed_upto: 10_000,
        grantable_upto: 1_000_000,
    };
    const ROOM: Room = Room {
        window: Window { bytes: 60_000, step: 10_000 },
        host: 500_000,
        sender: 500_000,
        idle: false,
    };

    #[test]
    fn a_message_is_granted_a_window_beyond_what_has_come() {
        assert_eq!(grant(WANTS, ROOM), Some((60_000, 60_000)));
        assert_eq!(grant(Wants { received: 5_000, ..WANTS }, ROOM), Some((65_000, 65_000)));
        let end = Wants { length: 30_000, grantable_upto: 30_000, ..WANTS };
        assert_eq!(grant(end, ROOM), Some((30_000, 30_000)));
    }

    #[test]
    fn what_is_given_is_limited_by_the_room_of_host_and_sender() {
        assert_eq!(grant(WANTS, Room { host: 7_000, ..ROOM }), Some((17_000, 60_000)));
        assert_eq!(grant(WANTS, Room { sender: 5_000, ..ROOM }), Some((15_000, 60_000)));
        assert_eq!(grant(WANTS, Room { host: 0, ..ROOM }), Some((10_000, 60_000)));
        let idle = Room { host: 0, idle: true, ..ROOM };
        assert_eq!(grant(WANTS, idle), Some((60_000, 60_000)), "or nothing would ever flow");
    }

    #[test]
    fn the_last_bytes_of_a_message_are_boosted() {
        let left = |bytes| Wants { granted: WANTS.length - bytes, ..WANTS };
        assert!(is_boosted(&left(10_000), 10_000) && is_boosted(&left(1), 10_000));
        assert!(!is_boosted(&left(10_001), 10_000) && !is_boosted(&left(1), 0));
    }

    #[test]
    fn a_step_is_a_quarter_of_what_is_kept_on_its_way_at_most_and_beyond_a_fixed_window() {
        let window = |configured, step| window((0, configured), u64::MAX, step, 400_000, 3);
        assert_eq!(window(0, 8_192), Window { bytes: 100_000, step: 8_192 });
        assert_eq!(window(0, 50_000), Window { bytes: 100_000, step: 25_000 });
        assert_eq!(window(50_000, 8_192), Window { bytes: 58_192, step: 8_192 });
        assert_eq!(window(10_000, 8_192), Window { bytes: 12_500, step: 2_500 });
        assert_eq!(window(10_000, 0), Window { bytes: 10_000, step: 0 });
    }

    #[test]
    fn a_fixed_window_is_on_its_way_before_the_next_step_is_granted() {
        for (kept, step) in [(10_000, 8_192), (50_000, 8_192)] {
            let window = window((0, kept), u64::MAX, step, 400_000, 3);
            let room = Room { window, ..ROOM };
            let granted = u32::try_from(window.bytes).unwrap();
            let on_its_way = |bytes: u32| Wants {
                received: granted - bytes,
                granted,
                allowed_upto: granted,
                ..WANTS
            };
            let upto = u64::from(granted - kept) + window.bytes;
            assert_eq!(grant(on_its_way(kept), room), Some((upto, upto)), "{kept}");
            assert_eq!(grant(on_its_way(kept + 1), room), None, "{kept}");
        }
    }

    #[test]
    fn a_small_grant_waits_while_more_than_it_is_on_its_way() {
        let most = Wants { granted: 55_000, allowed_upto: 55_000, ..WANTS };
        assert_eq!(grant(most, ROOM), None);
        let last = Wants { length: 60_000, grantable_upto: 60_000, ..most };
        assert_eq!(grant(last, ROOM), Some((60_000, 60_000)), "nothing comes after it");
        let all = Wants { granted: 60_000, allowed_upto: 60_000, ..WANTS };
        assert_eq!(grant(all, ROOM), None);
    }

    fn candidate(index: u32, remaining: u32, of_sender: u32, unvalidated: bool) -> Candidate {
        let rank = rank(remaining, u64::from(index), false);
        Candidate { index: index.into(), rank, of_sender, unvalidated }
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_longest_message_or_of_whoever_has_more_than_it() {
        let active = [candidate(1, 500, 1, false), candidate(2, 900, 1, false)];
        let victim_for = |newcomer| victim(newcomer, active.iter().copied());
        assert_eq!(victim_for(candidate(3, 600, 1, false)), Some(2.into()));
        assert_eq!(victim_for(candidate(3, 950, 1, false)), None);
        let of_one = [candidate(1, 500, 2, false), candidate(2, 400, 2, false)];
        let long = candidate(3, 10_000, 1, false);
        assert_eq!(
            victim(long, of_one.iter().copied()),
            Some(1.into()),
            "a sender with two places"
        );
        assert_eq!(victim(long, core::iter::empty()), None);
    }

    #[test]
    fn an_unvalidated_sender_makes_room_first_and_displaces_only_its_like() {
        let active = [candidate(1, 500, 1, false), candidate(2, 300, 1, true)];
        let victim_for = |newcomer| victim(newcomer, active.iter().copied());
        assert_eq!(victim_for(candidate(3, 10_000, 1, false)), Some(2.into()));
        assert_eq!(victim_for(candidate(3, 200, 1, true)), Some(2.into()));
        assert_eq!(victim_for(candidate(3, 400, 1, true)), None);
    }

    #[test]
    fn the_message_that_holds_the_memory_set_aside_ranks_first() {
        assert!(rank(1_000_000, 9, true) < rank(1, 1, false));
        assert!(
            rank(100, 1, false) < rank(100, 2, false) && rank(99, 2, false) < rank(100, 1, false)
        );
    }

    #[test]
    fn the_oldest_has_its_turn_when_its_share_is_earned() {
        let mut share = FifoShare::default();
        let turns = (0..100).filter(|_| share.earn(10_000, 50, 10_000)).count();
        assert_eq!(turns, 5, "5 % of 100 grants");
        assert!(!share.earn(u64::MAX, 0, 10_000), "no share");
        assert!(!share.earn(u64::MAX, 50, 0), "no increment");
    }
}
