//! Two hosts without a network between them, for tests of transports.

use super::Transport;
use crate::{
    event::HostId,
    packet::{Delivered, Outgoing},
    time::Time,
};

impl<H> Outgoing<H> {
    /// The packet as it arrives if nothing happens to it.
    pub(crate) fn delivered(&self, from: HostId) -> Delivered<'_, H> {
        Delivered {
            from,
            priority: self.priority,
            marked: false,
            trimmed: false,
            message: self.message,
            header: &self.header,
        }
    }
}

/// All packets that a host sends now.
pub(crate) fn drain<T: Transport>(host: &mut T, now: Time) -> Vec<Outgoing<T::Header>> {
    std::iter::from_fn(|| host.transmit(now)).collect()
}

/// Lets all packets that host `from` sends now arrive, whoever they are for.
pub(crate) fn exchange<T: Transport>(
    sender: &mut T,
    receiver: &mut T,
    from: HostId,
    now: Time,
) -> Vec<Outgoing<T::Header>> {
    let sent = drain(sender, now);
    for packet in &sent {
        receiver.receive(now, &packet.delivered(from));
    }
    sent
}
