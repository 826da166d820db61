//! Connections to one server, of which a call takes the one with the fewest bytes under way, as it
//! does over TCP.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The connections to a server.
#[derive(Debug)]
pub struct Pool<C> {
    members: Vec<(C, Arc<AtomicU64>)>,
}

/// Bytes that a call has under way; dropping it takes them off.
#[derive(Debug)]
pub struct UnderWay {
    bytes: u64,
    total: Arc<AtomicU64>,
}

impl<C> Pool<C> {
    /// A pool of these.
    pub fn new(connections: Vec<C>) -> Self {
        let with_count = |connection| (connection, Arc::new(AtomicU64::new(0)));
        Pool { members: connections.into_iter().map(with_count).collect() }
    }

    /// The connection for a call of which `bytes` go both ways; the first of equals.
    pub fn choose(&self, bytes: usize) -> Option<(&C, UnderWay)> {
        let least = |(_, total): &&(C, Arc<AtomicU64>)| total.load(Ordering::Relaxed);
        let (connection, total) = self.members.iter().min_by_key(least)?;
        let (bytes, total) = (bytes as u64, Arc::clone(total));
        total.fetch_add(bytes, Ordering::Relaxed);
        Some((connection, UnderWay { bytes, total }))
    }

    /// All of them.
    pub fn connections(&self) -> impl Iterator<Item = &C> {
        self.members.iter().map(|member| &member.0)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_take_the_connection_with_the_fewest_bytes() {
        let pool = Pool::new(vec!['a', 'b']);
        let (first, long) = pool.choose(1_000).unwrap();
        let (second, _short) = pool.choose(10).unwrap();
        let (third, _other) = pool.choose(10).unwrap();
        assert_eq!((*first, *second, *third), ('a', 'b', 'b'));
        drop(long);
        assert_eq!(*pool.choose(1).unwrap().0, 'a');
        assert!(Pool::<char>::new(Vec::new()).choose(1).is_none());
    }
}
