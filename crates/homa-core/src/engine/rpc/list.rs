//! Lists of RPCs, linked through the RPCs themselves: the calls to a peer, the responses that are
//! kept for a host.

use crate::engine::rpc::RpcTable;
use crate::engine::rpc::index::RpcIndex;
#[cfg(any(test, feature = "check"))]
use crate::engine::short::View;

/// The neighbours of an RPC in the list it is in, which is one at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    previous: Option<RpcIndex>,
    next: Option<RpcIndex>,
    listed: bool,
}

impl Link {
    pub(crate) const NONE: Self = Self { previous: None, next: None, listed: false };

    /// The RPC after this one.
    pub(crate) fn next(&self) -> Option<RpcIndex> {
        self.next
    }

    /// Whether the RPC is in a list.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn is_listed(&self) -> bool {
        self.listed
    }
}

/// Both ends of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RpcList {
    first: Option<RpcIndex>,
    last: Option<RpcIndex>,
}

impl RpcList {
    pub(crate) const EMPTY: Self = Self { first: None, last: None };

    /// A list of one, whose RPC does not know it.
    #[cfg(test)]
    pub(crate) fn of(index: RpcIndex) -> Self {
        Self { first: Some(index), last: Some(index) }
    }

    /// The first RPC.
    pub(crate) fn first(&self) -> Option<RpcIndex> {
        self.first
    }

    /// Puts an RPC before all others; it is in no list.
    #[inline]
    pub(crate) fn push_front(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        let next = self.first.replace(index);
        match next.and_then(|next| rpcs.link_mut(next)) {
            Some(neighbour) => neighbour.previous = Some(index),
            None => self.last = Some(index),
        }
        if let Some(link) = rpcs.link_mut(index) {
            *link = Link { previous: None, next, listed: true };
        }
    }

    /// Puts an RPC behind all others; it is in no list.
    #[inline]
    pub(crate) fn push_back(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        let previous = self.last.replace(index);
        match previous.and_then(|previous| rpcs.link_mut(previous)) {
            Some(neighbour) => neighbour.next = Some(index),
            None => self.first = Some(index),
        }
        if let Some(link) = rpcs.link_mut(index) {
            *link = Link { previous, next: None, listed: true };
        }
    }

    /// Takes an RPC out, which is in this list or in none. Returns the one that came after it.
    #[inline]
    pub(crate) fn remove(&mut self, index: RpcIndex, rpcs: &mut RpcTable) -> Option<RpcIndex> {
        let link = rpcs.link_mut(index)?;
        let Link { previous, next, listed } = core::mem::replace(link, Link::NONE);
        if !listed {
            return None;
        }
        match previous.and_then(|previous| rpcs.link_mut(previous)) {
            Some(neighbour) => neighbour.next = next,
            None => self.first = next,
        }
        match next.and_then(|next| rpcs.link_mut(next)) {
            Some(neighbour) => neighbour.previous = previous,
            None => self.last = previous,
        }
        next
    }

    /// The RPCs of the list in order, whose links agree.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn iter<'a>(&self, rpcs: &'a RpcTable) -> impl Iterator<Item = View<'a>> + use<'a> {
        let (mut previous, mut next, last) = (None, self.first, self.last);
        let mut left = rpcs.len();
        core::iter::from_fn(move || {
            let Some(rpc) = next.and_then(|next| rpcs.view(next)) else {
                assert_eq!((next, previous), (None, last), "end of a list");
                return None;
            };
            assert!(rpc.link.listed && rpc.link.previous == previous, "link of {rpc:?}");
            assert!(left > 0, "a list without an end");
            left = left.saturating_sub(1);
            (previous, next) = (next, rpc.link.next);
            Some(rpc)
        })
    }
}
