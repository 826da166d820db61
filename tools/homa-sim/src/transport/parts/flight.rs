//! The packets of a message at its sender: sent, acknowledged, lost.

use super::PacketSet;

/// Packets of a message that goes out.
#[derive(Debug)]
pub(crate) struct Flight {
    packets: u32,
    acknowledged: PacketSet,
    /// The next packet to send, unless it is acknowledged.
    next: u32,
    under_way: u32,
}

impl Flight {
    pub(crate) fn new(packets: u32) -> Self {
        Self { packets, acknowledged: PacketSet::default(), next: 0, under_way: 0 }
    }

    /// Whether there is a packet to send.
    pub(crate) fn has_next(&self) -> bool {
        self.next < self.packets
    }

    /// The next packet to send, which is under way from now on.
    pub(crate) fn send(&mut self) -> Option<u32> {
        let index = self.next;
        if index >= self.packets {
            return None;
        }
        self.under_way += 1;
        self.next += 1;
        self.skip();
        Some(index)
    }

    /// A packet has arrived. Whether that was not known.
    pub(crate) fn acknowledge(&mut self, index: u32) -> bool {
        let is_new = self.acknowledged.add(index);
        // One that was lost and not sent again is not under way.
        if is_new && index < self.next {
            self.under_way -= 1;
        }
        self.skip();
        is_new
    }

    /// All packets that are not acknowledged are lost.
    pub(crate) fn lose(&mut self) {
        (self.next, self.under_way) = (0, 0);
        self.skip();
    }

    /// Packets that are neither acknowledged nor lost.
    pub(crate) fn under_way(&self) -> u32 {
        self.under_way
    }

    /// Packets that are not acknowledged.
    pub(crate) fn missing(&self) -> u32 {
        self.packets - self.acknowledged.count()
    }

    /// Whether all have arrived.
    pub(crate) fn is_over(&self) -> bool {
        self.missing() == 0
    }

    fn skip(&mut self) {
        while self.next < self.packets && self.acknowledged.has(self.next) {
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_sent_again_and_what_is_acknowledged_is_not() {
        let mut flight = Flight::new(4);
        let sent = |flight: &mut Flight| std::iter::from_fn(|| flight.send()).collect::<Vec<_>>();
        assert_eq!(sent(&mut flight), [0, 1, 2, 3]);
        assert!(flight.acknowledge(1) && !flight.acknowledge(1));
        assert_eq!((flight.under_way(), flight.missing()), (3, 3));
        flight.lose();
        assert_eq!(flight.send(), Some(0));
        // It was not lost after all.
        assert!(flight.acknowledge(2));
        assert_eq!(flight.under_way(), 1);
        assert_eq!(sent(&mut flight), [3]);
        assert!(flight.acknowledge(0) && flight.acknowledge(3) && flight.is_over());
    }
}
