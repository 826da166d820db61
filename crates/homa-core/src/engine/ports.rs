//! The open ports of an engine.

use core::cell::Cell;

use crate::engine::{PORTS_MAX, PortError, PortOptions};
use crate::structures::hash::{Map, SeededState};

/// Open ports and how they behave.
#[derive(Debug)]
pub(crate) struct Ports {
    by_number: Map<u16, PortOptions>,
    /// The last port found: nearly always there is only one.
    recent: Cell<Option<(u16, PortOptions)>>,
}

impl Ports {
    pub(crate) fn new(seed: u64) -> Self {
        Self { by_number: Map::with_hasher(SeededState::new(seed)), recent: Cell::new(None) }
    }

    /// How a port behaves; `None` if it is not open.
    #[inline]
    pub(crate) fn get(&self, port: u16) -> Option<PortOptions> {
        match self.recent.get() {
            Some((recent, options)) if recent == port => Some(options),
            _ => self.find(port),
        }
    }

    fn find(&self, port: u16) -> Option<PortOptions> {
        let options = self.by_number.get(&port).copied()?;
        self.recent.set(Some((port, options)));
        Some(options)
    }

    pub(crate) fn open(&mut self, port: u16, options: PortOptions) -> Result<(), PortError> {
        if self.by_number.contains_key(&port) {
            return Err(PortError::InUse);
        }
        if self.by_number.len() >= PORTS_MAX || self.by_number.try_reserve(1).is_err() {
            return Err(PortError::OutOfMemory);
        }
        self.by_number.insert(port, options);
        Ok(())
    }

    /// Closes a port. `false`: it was not open.
    pub(crate) fn close(&mut self, port: u16) -> bool {
        self.recent.set(None);
        self.by_number.remove(&port).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_closed_is_not_remembered() {
        let mut ports = Ports::new(1);
        ports.open(1, PortOptions::SERVE).unwrap();
        ports.open(2, PortOptions::CLIENT).unwrap();
        assert_eq!(ports.open(1, PortOptions::CLIENT), Err(PortError::InUse));
        assert_eq!(ports.get(1), Some(PortOptions::SERVE));
        assert_eq!(ports.get(2), Some(PortOptions::CLIENT));
        assert_eq!(ports.get(1), Some(PortOptions::SERVE));
        assert!(ports.close(1) && !ports.close(1));
        assert_eq!((ports.get(1), ports.get(3)), (None, None));
        ports.open(1, PortOptions::CLIENT).unwrap();
        assert_eq!(ports.get(1), Some(PortOptions::CLIENT));
    }
}
