//! The two forms of an RPC's id.

/// The id of an RPC as one of its two ends knows it
/// (docs/spec/wire-format.md §3): the client's form is even, the server's is the same number with
/// bit 0 set. Any number is an id in one of the two forms.
///
/// ```
/// use homa_wire::RpcId;
///
/// let id = RpcId(6);
/// assert!(id.is_client());
/// assert_eq!(id.of_peer(), RpcId(7));
/// assert_eq!(RpcId(7).of_client(), id);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RpcId(pub u64);

impl RpcId {
    /// Whether this is the client's form.
    #[inline]
    pub const fn is_client(self) -> bool {
        self.0 & 1 == 0
    }

    /// Whether this is the server's form.
    #[inline]
    pub const fn is_server(self) -> bool {
        !self.is_client()
    }

    /// The form of the other end.
    #[inline]
    #[must_use]
    pub const fn of_peer(self) -> Self {
        Self(self.0 ^ 1)
    }

    /// The client's form.
    #[inline]
    #[must_use]
    pub const fn of_client(self) -> Self {
        Self(self.0 & !1)
    }

    /// The server's form.
    #[inline]
    #[must_use]
    pub const fn of_server(self) -> Self {
        Self(self.0 | 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_an_id_in_one_of_the_two_forms() {
        for (number, client, server) in [(0, 0, 1), (1, 0, 1), (6, 6, 7), (7, 6, 7)] {
            let id = RpcId(number);
            assert_eq!(id.of_client(), RpcId(client));
            assert_eq!(id.of_server(), RpcId(server));
            assert_eq!(id.is_client(), number == client);
            assert_eq!(id.is_server(), number == server);
        }
        assert_eq!(RpcId(u64::MAX).of_client(), RpcId(u64::MAX - 1));
    }

    #[test]
    fn the_form_of_the_peer_is_the_other_one() {
        for number in [0, 1, 6, 7, u64::MAX] {
            let (id, peer) = (RpcId(number), RpcId(number).of_peer());
            assert_ne!(id.is_client(), peer.is_client());
            assert_eq!(id.of_client(), peer.of_client());
            assert_eq!(peer.of_peer(), id);
        }
    }
}
