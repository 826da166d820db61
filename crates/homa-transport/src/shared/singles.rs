//! Calls that go both ways at once have two RPCs, which arrive one after the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use homa_io::Message;

use super::frame::Leg;
use super::rpc::Rpc;

/// RPCs that wait for their partner, at most.
const SINGLES_MAX: usize = 1_024;

/// RPCs whose partner has not come.
#[derive(Debug, Default)]
pub(crate) struct Singles {
    waiting: HashMap<(SocketAddr, u64), Single>,
    /// When old ones were last looked for.
    looked_ns: u64,
}

/// One of the two RPCs of a call.
#[derive(Debug)]
pub(crate) struct Single {
    pub(crate) rpc: Arc<Rpc>,
    /// What is here of its request.
    pub(crate) body: Message,
    pub(crate) leg: Leg,
    pub(crate) since_ns: u64,
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
}

impl Singles {
    /// Pairs an RPC of `pair`, or keeps it.
    pub(crate) fn meet(&mut self, pair: u64, new: Single) -> Meeting {
        let name = (new.rpc.peer, pair);
        match self.waiting.remove(&name) {
            Some(other) if other.leg != new.leg => match new.leg {
                Leg::Upload => Meeting::Complete { upload: new, download: other },
                Leg::Download => Meeting::Complete { upload: other, download: new },
            },
            Some(other) => {
                self.waiting.insert(name, other);
                Meeting::Refused
            }
            None if self.waiting.len() >= SINGLES_MAX => Meeting::Refused,
            None => {
                self.waiting.insert(name, new);
                Meeting::Waits
            }
        }
    }

    /// Takes out those that failed or wait for `timeout_ns` or longer. It looks for them once in
    /// that time, or when there is no room for others.
    pub(crate) fn take_old(&mut self, now_ns: u64, timeout_ns: u64) -> Vec<Arc<Rpc>> {
        let mut old = Vec::new();
        let before_ns = now_ns.saturating_sub(timeout_ns);
        if self.looked_ns > before_ns && self.waiting.len() < SINGLES_MAX {
            return old;
        }
        self.looked_ns = now_ns;
        self.waiting.retain(|_, single| {
            let is_old = single.rpc.has_failed() || single.since_ns <= before_ns;
            if is_old {
                old.push(Arc::clone(&single.rpc));
            }
            !is_old
        });
        old
    }
}

#[cfg(test)]
mod tests {
    use super::super::rpc::{Role, RpcState};
    use super::*;

    fn single(port: u16, leg: Leg, since_ns: u64) -> Single {
        let peer = SocketAddr::from(([10, 0, 0, 1], port));
        let rpc = Rpc::new(peer, Role::Server, RpcState::default());
        Single { rpc, body: Message::new(), leg, since_ns }
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
    fn only_so_many_wait_and_none_for_ever() {
        let mut singles = Singles::default();
        for pair in 0..SINGLES_MAX as u64 {
            assert!(matches!(singles.meet(pair, single(1, Leg::Upload, pair)), Meeting::Waits));
        }
        assert!(matches!(singles.meet(9_999, single(1, Leg::Upload, 0)), Meeting::Refused));
        assert_eq!(singles.take_old(109, 100).len(), 10);
        assert_eq!(singles.take_old(150, 100).len(), 0, "it looked a moment ago");
        assert_eq!(singles.take_old(210, 100).len(), 101);
    }
}
