//! The open ports of an engine.

use core::cell::Cell;

use crate::engine::{PORTS_MAX, PortError, PortOptions};
use crate::structures::hash::{Map, SeededState};

/// An open port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) options: PortOptions,
    /// New requests are refused.
    pub(crate) draining: bool,
}

/// A port that is open, or is never opened again.
#[derive(Debug)]
enum Entry {
    Open(Port),
    /// Closed after it was drained. Packets of a request that was refused, whose client counts on
    /// that, may still be on their way.
    Drained,
}

/// Open ports and how they behave.
#[derive(Debug)]
pub(crate) struct Ports {
    by_number: Map<u16, Entry>,
    /// The last port found: nearly always there is only one.
    recent: Cell<Option<(u16, Port)>>,
}

impl Ports {
    pub(crate) fn new(seed: u64) -> Self {
        Self { by_number: Map::with_hasher(SeededState::new(seed)), recent: Cell::new(None) }
    }

    /// How a port behaves; `None` if it is not open.
    #[inline]
    pub(crate) fn get(&self, number: u16) -> Option<Port> {
        match self.recent.get() {
            Some((recent, port)) if recent == number => Some(port),
            _ => self.find(number),
        }
    }

    fn find(&self, number: u16) -> Option<Port> {
        let Entry::Open(port) = self.by_number.get(&number)? else {
            return None;
        };
        self.recent.set(Some((number, *port)));
        Some(*port)
    }

    pub(crate) fn open(&mut self, number: u16, options: PortOptions) -> Result<(), PortError> {
        match self.by_number.get(&number) {
            Some(Entry::Open(_)) => return Err(PortError::InUse),
            Some(Entry::Drained) => return Err(PortError::Drained),
            None => {}
        }
        if self.by_number.len() >= PORTS_MAX || self.by_number.try_reserve(1).is_err() {
            return Err(PortError::OutOfMemory);
        }
        self.by_number.insert(number, Entry::Open(Port { options, draining: false }));
        Ok(())
    }

    /// New requests to a port are refused from now on, if it is open.
    pub(crate) fn drain(&mut self, number: u16) {
        self.recent.set(None);
        if let Some(Entry::Open(port)) = self.by_number.get_mut(&number) {
            port.draining = true;
        }
    }

    /// Closes a port. `false`: it was not open.
    pub(crate) fn close(&mut self, number: u16) -> bool {
        self.recent.set(None);
        match self.by_number.get_mut(&number) {
            Some(entry @ Entry::Open(Port { draining: true, .. })) => *entry = Entry::Drained,
            Some(Entry::Open(_)) => _ = self.by_number.remove(&number),
            Some(Entry::Drained) | None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_closed_is_not_remembered() {
        let mut ports = Ports::new(1);
        let open = |options| Some(Port { options, draining: false });
        ports.open(1, PortOptions::SERVE).unwrap();
        ports.open(2, PortOptions::CLIENT).unwrap();
        assert_eq!(ports.open(1, PortOptions::CLIENT), Err(PortError::InUse));
        assert_eq!(ports.get(1), open(PortOptions::SERVE));
        assert_eq!(ports.get(2), open(PortOptions::CLIENT));
        assert_eq!(ports.get(1), open(PortOptions::SERVE));
        assert!(ports.close(1) && !ports.close(1));
        assert_eq!((ports.get(1), ports.get(3)), (None, None));
        ports.open(1, PortOptions::CLIENT).unwrap();
        assert_eq!(ports.get(1), open(PortOptions::CLIENT));
    }

    #[test]
    fn a_port_that_was_drained_is_never_opened_again() {
        let mut ports = Ports::new(1);
        ports.drain(1);
        ports.open(1, PortOptions::SERVE).unwrap();
        assert!(ports.get(1).is_some_and(|port| !port.draining), "it was not open");
        for _ in 0..2 {
            ports.drain(1);
            assert!(ports.get(1).is_some_and(|port| port.draining));
        }
        assert_eq!(ports.open(1, PortOptions::SERVE), Err(PortError::InUse));
        assert!(ports.close(1) && !ports.close(1));
        assert_eq!(ports.get(1), None);
        assert_eq!(ports.open(1, PortOptions::SERVE), Err(PortError::Drained));
    }
}
