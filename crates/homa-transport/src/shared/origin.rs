//! Where a request came from, as those who accept and answer it name it.

use std::net::SocketAddr;
use std::sync::Arc;

use homa_core::RpcKey;

use super::given_up::GivenUp;
use super::rpc::{Role, Rpc, RpcState};

/// What brought a request, and is answered.
#[derive(Debug)]
pub(crate) enum Origin {
    /// An RPC without a state that is shared: its request came whole and without a frame.
    Plain { key: RpcKey, client: SocketAddr },
    /// One with a state, and the one that is answered, if it is another.
    Shared { request: Arc<Rpc>, answer: Option<Arc<Rpc>> },
}

/// What answers a request.
#[derive(Debug)]
pub(crate) enum Answering<'a> {
    Plain(RpcKey),
    Shared(&'a Arc<Rpc>),
}

impl Origin {
    pub(crate) fn client(&self) -> SocketAddr {
        match self {
            Self::Plain { client, .. } => *client,
            Self::Shared { request, .. } => request.peer,
        }
    }

    /// The RPC that is answered.
    #[inline]
    pub(crate) fn answering(&self) -> Answering<'_> {
        match self {
            Self::Plain { key, .. } => Answering::Plain(*key),
            Self::Shared { request, answer } => {
                Answering::Shared(answer.as_ref().unwrap_or(request))
            }
        }
    }

    /// Whether its client gave it up.
    #[inline]
    pub(crate) fn is_given_up(&self, given_up: &GivenUp) -> bool {
        match self.answering() {
            Answering::Plain(key) => given_up.contains(key),
            Answering::Shared(rpc) => rpc.has_failed(),
        }
    }

    /// Whether the client gave a request up that nobody has seen, which ends with that.
    #[inline]
    pub(crate) fn take_given_up(&self, given_up: &GivenUp) -> bool {
        match self {
            Self::Plain { key, .. } => given_up.take(*key),
            Self::Shared { request, .. } => request.has_failed(),
        }
    }

    /// When the client gives the call up, if it said so.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        match self {
            Self::Plain { .. } => None,
            Self::Shared { request, .. } => request.lock().deadline_ns,
        }
    }
}

/// The state of a request that has none, for whom needs one.
pub(crate) fn shared_state(key: RpcKey, client: SocketAddr) -> Arc<Rpc> {
    let mut state = RpcState { key: Some(key), queued: true, ..RpcState::default() };
    state.incoming.complete = true;
    Rpc::new(client, Role::Server, state)
}
