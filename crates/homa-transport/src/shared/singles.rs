//! Calls that go both ways at once have two RPCs, which arrive one after the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use homa_io::Message;

use super::frame::Leg;
use super::rpc::Rpc;
use crate::drive::seat::NEVER_NS;

/// RPCs that wait for their partner, at most; of one client no more than places are free, so that
/// it takes half of them alone and leaves room to others.
const SINGLES_MAX: usize = 1_024;

/// Shortest time between two looks for old ones, in ns: each look is at all RPCs.
const LOOK_NS: u64 = 1_000_000;

/// RPCs whose partner has not come.
#[derive(Debug)]
pub(crate) struct Singles {
    /// By client and name; no client without any.
    waiting: HashMap<SocketAddr, HashMap<u64, Single>>,
    count: usize,
    /// When to look for old ones, or [`NEVER_NS`]: not after the first is old, but for
    /// [`LOOK_NS`]. It may have met its partner meanwhile.
    look_at_ns: u64,
}

impl Default for Singles {
    fn default() -> Self {
        Self { waiting: HashMap::new(), count: 0, look_at_ns: NEVER_NS }
    }
}

/// One of the two RPCs of a call.
#[derive(Debug)]
pub(crate) struct Single {
    pub(crate) rpc: Arc<Rpc>,
    /// What is here of its request.
    pub(crate) body: Message,
    pub(crate) leg: Leg,
    /// When it is old.
    pub(crate) old_at_ns: u64,
}

/// Whether the partner of an RPC is there.
#[derive(Debug)]
pub(crate) enum Meeting {
    /// Both are.
    Complete { upload: Single, download: Single },
    /// It waits.
    Waits,
    /// Too many wait, or another RPC has its name: it is to be refused.
    Refused,
    /// Its partner has failed: it is to end as well.
    Failed,
}

impl Singles {
    /// Pairs an RPC of `pair`, or keeps it.
    pub(crate) fn meet(&mut self, pair: u64, new: Single) -> Meeting {
        let client = new.rpc.peer;
        let Some(other) = self.take(client, pair) else {
            if !self.has_room(client) {
                self.retain(|single| !single.rpc.has_failed());
            }
            if !self.has_room(client) {
                return Meeting::Refused;
            }
            self.keep(pair, new);
            return Meeting::Waits;
        };
        if other.rpc.has_failed() {
            return Meeting::Failed;
        }
        match (new.leg, other.leg) {
            (Leg::Upload, Leg::Download) => Meeting::Complete { upload: new, download: other },
            (Leg::Download, Leg::Upload) => Meeting::Complete { upload: other, download: new },
            _ => {
                self.keep(pair, other);
                Meeting::Refused
            }
        }
    }

    /// Whether one more of `client` may wait.
    fn has_room(&self, client: SocketAddr) -> bool {
        let of_client = self.waiting.get(&client).map_or(0, HashMap::len);
        of_client < SINGLES_MAX - self.count
    }

    fn keep(&mut self, pair: u64, single: Single) {
        self.look_at_ns = self.look_at_ns.min(single.old_at_ns);
        self.count += 1;
        self.waiting.entry(single.rpc.peer).or_default().insert(pair, single);
    }

    fn take(&mut self, client: SocketAddr, pair: u64) -> Option<Single> {
        let of_client = self.waiting.get_mut(&client)?;
        let single = of_client.remove(&pair)?;
        self.count -= 1;
        if of_client.is_empty() {
            self.waiting.remove(&client);
        }
        Some(single)
    }

    /// Leaves those that are to stay.
    fn retain(&mut self, mut stays: impl FnMut(&mut Single) -> bool) {
        self.waiting.retain(|_, of_client| {
            of_client.retain(|_, single| stays(single));
            !of_client.is_empty()
        });
        self.count = self.waiting.values().map(HashMap::len).sum();
    }

    /// When [`Singles::take_old`] has something to do, in ns, or [`NEVER_NS`].
    #[inline]
    pub(crate) fn look_at_ns(&self) -> u64 {
        self.look_at_ns
    }

    /// Takes out those that failed or are old; of the latter those stay for `more_ns` whose partner
    /// `may_come`.
    #[cold]
    pub(crate) fn take_old(
        &mut self,
        now_ns: u64,
        more_ns: u64,
        may_come: impl Fn(&Rpc) -> bool,
    ) -> Vec<Arc<Rpc>> {
        let (mut over, mut look_at_ns) = (Vec::new(), NEVER_NS);
        self.retain(|single| {
            if single.old_at_ns <= now_ns && may_come(&single.rpc) {
                single.old_at_ns = now_ns.saturating_add(more_ns);
            }
            let stays = single.old_at_ns > now_ns && !single.rpc.has_failed();
            if stays {
                look_at_ns = look_at_ns.min(single.old_at_ns);
            } else {
                over.push(Arc::clone(&single.rpc));
            }
            stays
        });
        let soonest_ns = now_ns.saturating_add(LOOK_NS);
        self.look_at_ns = look_at_ns.max(soonest_ns);
        over
    }
}

#[cfg(test)]
mod tests {
    use super::super::rpc::{Role, RpcState};
    use super::super::wakes::Wakes;
    use super::*;
    use crate::{CallError, CallErrorKind};

    fn single(port: u16, leg: Leg, old_at_ns: u64) -> Single {
        let peer = SocketAddr::from(([10, 0, 0, 1], port));
        let rpc = Rpc::new(peer, Role::Server, RpcState::default());
        Single { rpc, body: Message::new(), leg, old_at_ns }
    }

    #[test]
    fn the_two_rpcs_of_a_call_meet_in_either_order() {
        for legs in [[Leg::Upload, Leg::Download], [Leg::Download, Leg::Upload]] {
            let mut singles = Singles::default();
            let [first, second] = legs.map(|leg| single(1, leg, 0));
            assert!(matches!(singles.meet(7, first), Meeting::Waits));
            let Meeting::Complete { upload, download } = singles.meet(7, second) else {
                panic!("both are here");
            };
            assert_eq!((upload.leg, download.leg), (Leg::Upload, Leg::Download));
        }
    }

    #[test]
    fn rpcs_of_other_clients_other_names_and_the_same_leg_are_no_partners() {
        let mut singles = Singles::default();
        assert!(matches!(singles.meet(7, single(1, Leg::Upload, 0)), Meeting::Waits));
        assert!(matches!(singles.meet(7, single(2, Leg::Download, 0)), Meeting::Waits));
        assert!(matches!(singles.meet(8, single(1, Leg::Download, 0)), Meeting::Waits));
        assert!(matches!(singles.meet(7, single(1, Leg::Upload, 0)), Meeting::Refused));
        let Meeting::Complete { .. } = singles.meet(7, single(1, Leg::Download, 0)) else {
            panic!("the first one still waits");
        };
    }

    #[test]
    fn an_rpc_does_not_meet_one_that_has_failed() {
        let mut singles = Singles::default();
        let upload = single(1, Leg::Upload, 0);
        let failure = CallError::new(upload.rpc.peer, CallErrorKind::Dropped);
        let rpc = Arc::clone(&upload.rpc);
        assert!(matches!(singles.meet(7, upload), Meeting::Waits));
        rpc.fail(failure, &mut Wakes::default());
        assert!(matches!(singles.meet(7, single(1, Leg::Download, 0)), Meeting::Failed));
    }

    #[test]
    fn only_so_many_wait_and_none_for_ever() {
        let mut singles = Singles::default();
        // Each client takes half of what others have left.
        for (port, count) in [(1, 512), (2, 256), (3, 128)] {
            for pair in 0..count {
                let waits = singles.meet(pair, single(port, Leg::Upload, pair));
                assert!(matches!(waits, Meeting::Waits), "{port} {pair}");
            }
            let refused = singles.meet(9_999, single(port, Leg::Upload, 0));
            assert!(matches!(refused, Meeting::Refused), "{port}");
        }
        assert_eq!((singles.look_at_ns(), singles.take_old(9, 100, |_| false).len()), (0, 30));
        assert_eq!(singles.look_at_ns(), 9 + LOOK_NS, "it looks at all, so not for each");
        assert_eq!(singles.take_old(511, 100, |_| false).len(), 512 + 256 + 128 - 30);
        assert_eq!((singles.look_at_ns(), singles.count), (NEVER_NS, 0));
        assert!(singles.waiting.is_empty(), "clients of the past take no memory");
    }

    #[test]
    fn those_that_failed_leave_their_places_to_others() {
        let mut singles = Singles::default();
        for pair in 0..SINGLES_MAX as u64 / 2 {
            let waits = single(1, Leg::Upload, 100);
            let rpc = Arc::clone(&waits.rpc);
            assert!(matches!(singles.meet(pair, waits), Meeting::Waits));
            if pair == 5 {
                rpc.fail(CallErrorKind::Closed.into(), &mut Wakes::default());
            }
        }
        assert!(matches!(singles.meet(9_998, single(1, Leg::Upload, 100)), Meeting::Waits));
        assert!(matches!(singles.meet(9_999, single(1, Leg::Upload, 100)), Meeting::Refused));
    }

    #[test]
    fn one_whose_partner_may_come_waits_on() {
        let mut singles = Singles::default();
        assert!(matches!(singles.meet(7, single(1, Leg::Download, 100)), Meeting::Waits));
        assert!(singles.take_old(100, 2 * LOOK_NS, |_| true).is_empty());
        assert_eq!(singles.look_at_ns(), 100 + 2 * LOOK_NS);
        assert_eq!(singles.take_old(100 + 2 * LOOK_NS, 50, |_| false).len(), 1);
    }
}
