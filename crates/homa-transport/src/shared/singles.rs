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

    /// Takes out those that failed or wait since `before_ns` or longer.
    pub(crate) fn take_old(&mut self, before_ns: u64) -> Vec<Arc<Rpc>> {
        let mut old = Vec::new();
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
