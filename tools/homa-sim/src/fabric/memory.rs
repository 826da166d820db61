//! The memory of a switch, which the queues of its ports share.

/// How much may wait in a switch. Bytes are those of link time; what a port is sending does not
/// count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Buffer {
    /// Any amount.
    #[default]
    Unlimited,
    /// So many bytes at each port, whatever others have.
    PerPort {
        /// Bytes of a port.
        bytes: u64,
    },
    /// Memory shared with dynamic thresholds (Choudhury and Hahne, 1998): a packet is dropped if
    /// its queue, of one priority at one port, has at least `alpha` times the free bytes.
    Shared {
        /// Bytes of the switch.
        bytes: u64,
        /// Factor of the free bytes.
        alpha: f64,
    },
}

/// Memory of a switch.
#[derive(Debug)]
pub(super) struct Memory {
    buffer: Buffer,
    used_bytes: u64,
}

impl Memory {
    pub(super) fn new(buffer: Buffer) -> Self {
        Self { buffer, used_bytes: 0 }
    }

    /// Whether there is room for a packet, where so many bytes wait in its queue and at its port.
    pub(super) fn admits(&self, bytes: u64, in_queue: u64, at_port: u64) -> bool {
        match self.buffer {
            Buffer::Unlimited => true,
            Buffer::PerPort { bytes: limit } => at_port + bytes <= limit,
            Buffer::Shared { bytes: limit, alpha } => {
                let free = limit.saturating_sub(self.used_bytes);
                bytes <= free && (in_queue as f64) < alpha * free as f64
            }
        }
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.used_bytes += bytes;
    }

    pub(super) fn free(&mut self, bytes: u64) {
        self.used_bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_of_shared_memory_grows_to_alpha_times_what_is_free() {
        let mut memory = Memory::new(Buffer::Shared { bytes: 90_000, alpha: 0.5 });
        let mut queue = 0;
        while memory.admits(1_000, queue, queue) {
            memory.take(1_000);
            queue += 1_000;
        }
        // One queue alone gets alpha / (1 + alpha) of the memory.
        assert_eq!(queue, 30_000);
        // Another one gets half of what that leaves, and takes from the first.
        assert!(memory.admits(1_000, 29_000, 29_000));
        assert!(!memory.admits(1_000, 30_000, 30_000));
        memory.take(20_000);
        assert!(!memory.admits(1_000, 20_000, 20_000));
        memory.free(50_000);
        assert!(memory.admits(1_000, 34_000, 34_000));
    }

    #[test]
    fn a_port_has_no_more_than_its_own_memory() {
        let mut memory = Memory::new(Buffer::PerPort { bytes: 3_000 });
        memory.take(50_000);
        assert!(memory.admits(1_000, 0, 2_000));
        assert!(!memory.admits(1_001, 0, 2_000));
    }
}
