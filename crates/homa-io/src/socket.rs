//! Parts shared by the drivers over sockets.

pub(crate) mod capacity;
pub(crate) mod errors;
pub(crate) mod gather;
pub(crate) mod reports;
pub(crate) mod route;

/// Writes the methods of [`Driver`](crate::driver::Driver) that are the same over all sockets. What
/// the network reported about packets sent earlier comes behind the packets of a batch, whatever
/// has become of that.
macro_rules! same_over_sockets {
    () => {
        fn receive(
            &mut self,
            sink: &mut impl $crate::driver::PacketSink,
        ) -> std::io::Result<$crate::driver::RxStatus> {
            let status = self.receive_batch(sink);
            self.reports.deliver(sink);
            status
        }

        fn transmit(
            &mut self,
            transmit: &homa_core::Transmit,
            segments: &[homa_core::Segment],
            payloads: &impl $crate::driver::Payloads,
        ) -> Result<(), $crate::driver::Unsent> {
            self.send_segments(transmit, segments, payloads)
        }

        fn readable(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
            Some(std::os::fd::AsFd::as_fd(self))
        }

        fn rx_capacity(&self) -> $crate::driver::RxCapacity {
            self.capacity
        }

        fn rx_dropped(&self) -> u64 {
            self.stats.dropped_packets
        }
    };
}
pub(crate) use same_over_sockets;
