//! Lists of RPCs, linked through the RPCs themselves: the calls to a peer, the responses that are
//! kept for a host.

#[cfg(any(test, feature = "check"))]
use crate::engine::rpc::Rpc;
use crate::engine::rpc::RpcTable;
use crate::structures::NIL;

/// The neighbours of an RPC in the list it is in, which is one at most.
#[derive(Debug)]
pub(crate) struct Link {
    previous: u32,
    next: u32,
    listed: bool,
}

impl Link {
    pub(crate) const NONE: Self = Self { previous: NIL, next: NIL, listed: false };

    /// The RPC after this one, [`NIL`] at the end.
    pub(crate) fn next(&self) -> u32 {
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
    first: u32,
    last: u32,
}

impl RpcList {
    pub(crate) const EMPTY: Self = Self { first: NIL, last: NIL };

    /// A list of one, whose RPC does not know it.
    #[cfg(test)]
    pub(crate) fn of(index: u32) -> Self {
        Self { first: index, last: index }
    }

    /// The first RPC, [`NIL`] if there is none.
    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    /// Puts an RPC before all others; it is in no list.
    #[inline]
    pub(crate) fn push_front(&mut self, index: u32, rpcs: &mut RpcTable) {
        let next = core::mem::replace(&mut self.first, index);
        match rpcs.get_mut(next) {
            Some(neighbour) => neighbour.link.previous = index,
            None => self.last = index,
        }
        if let Some(rpc) = rpcs.known_mut(index) {
            rpc.link = Link { previous: NIL, next, listed: true };
        }
    }

    /// Puts an RPC behind all others; it is in no list.
    #[inline]
    pub(crate) fn push_back(&mut self, index: u32, rpcs: &mut RpcTable) {
        let previous = core::mem::replace(&mut self.last, index);
        match rpcs.get_mut(previous) {
            Some(neighbour) => neighbour.link.next = index,
            None => self.first = index,
        }
        if let Some(rpc) = rpcs.known_mut(index) {
            rpc.link = Link { previous, next: NIL, listed: true };
        }
    }

    /// Takes an RPC out, which is in this list or in none. Returns the one that came after it.
    #[inline]
    pub(crate) fn remove(&mut self, index: u32, rpcs: &mut RpcTable) -> u32 {
        let Some(rpc) = rpcs.known_mut(index) else {
            return NIL;
        };
        let Link { previous, next, listed } = core::mem::replace(&mut rpc.link, Link::NONE);
        if !listed {
            return NIL;
        }
        match rpcs.get_mut(previous) {
            Some(neighbour) => neighbour.link.next = next,
            None => self.first = next,
        }
        match rpcs.get_mut(next) {
            Some(neighbour) => neighbour.link.previous = previous,
            None => self.last = previous,
        }
        next
    }

    /// The RPCs of the list in order, whose links agree.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn iter<'a>(&self, rpcs: &'a RpcTable) -> impl Iterator<Item = &'a Rpc> + use<'a> {
        let (mut previous, mut next, last) = (NIL, self.first, self.last);
        let mut left = rpcs.len();
        core::iter::from_fn(move || {
            let Some(rpc) = rpcs.get(next) else {
                assert_eq!((next, previous), (NIL, last), "end of a list");
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
