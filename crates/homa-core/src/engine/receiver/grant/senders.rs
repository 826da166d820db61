//! The senders of granted messages: what each holds, and which has the next free place.

use core::net::IpAddr;

use super::Granter;
use super::policy::Rank;
use crate::engine::rpc::index::RpcIndex;
use crate::structures::index::{Index, index};
use crate::structures::shared_heap::SharedHeap;

index! {
    /// Index of a sender in grant management.
    pub(in crate::engine::receiver) struct SenderIndex;
}

/// Messages from one IP address, whose processes share a link, or of all unvalidated clients.
#[derive(Debug)]
pub(super) struct Sender {
    /// `None`: unvalidated clients.
    pub(super) ip: Option<IpAddr>,
    pub(super) active: u32,
    pub(super) members: u32,
    /// Bytes on their way, of all its messages: announced, and granted.
    pub(super) announced: u64,
    pub(super) granted: u64,
    pub(super) queue: SharedHeap<RpcIndex, Rank>,
}

impl Sender {
    pub(super) fn is_unvalidated(&self) -> bool {
        self.ip.is_none()
    }

    /// Whether it may have one more place, if one is free.
    pub(super) fn may_be_active(&self) -> bool {
        !self.is_unvalidated() || self.active == 0
    }

    /// Bytes that count as on their way, with announced bytes capped at `announced_max`.
    pub(super) fn counted(&self, announced_max: u64) -> u64 {
        self.announced.min(announced_max).saturating_add(self.granted)
    }
}

impl Granter {
    /// The sender of a managed message; its absence is [`Impossible`].
    ///
    /// [`Impossible`]: crate::engine::impossible::Impossible
    #[track_caller]
    pub(super) fn known_sender(&self, index: Option<SenderIndex>) -> Option<&Sender> {
        let slot = index.and_then(|index| self.senders.get(index.position()));
        self.impossible.known(slot.and_then(Option::as_ref))
    }

    /// As [`Granter::known_sender`].
    #[track_caller]
    pub(super) fn known_sender_mut(&mut self, index: Option<SenderIndex>) -> Option<&mut Sender> {
        self.impossible.known(slot_of(&mut self.senders, index))
    }

    /// The record of an address, or of unvalidated clients; `None` if memory is short.
    pub(super) fn sender_of(&mut self, ip: Option<IpAddr>) -> Option<SenderIndex> {
        if let Some(index) = self.sender_by_ip.get(&ip) {
            return Some(*index);
        }
        self.sender_by_ip.try_reserve(1).ok()?;
        let index = match self.free_senders.pop() {
            Some(index) => index,
            None => {
                let index = SenderIndex::at(self.senders.len())?;
                let total = self.senders.len().saturating_add(1);
                self.waiting_senders.try_reserve(total).ok()?;
                self.senders.try_reserve(1).ok()?;
                let missing = total.saturating_sub(self.free_senders.len());
                self.free_senders.try_reserve(missing).ok()?;
                self.senders.push(None);
                index
            }
        };
        let queue = SharedHeap::default();
        let sender = Sender { ip, active: 0, members: 0, announced: 0, granted: 0, queue };
        *self.senders.get_mut(index.position())? = Some(sender);
        self.sender_by_ip.insert(ip, index);
        Some(index)
    }

    pub(super) fn leave_sender(&mut self, index: SenderIndex) {
        let Some(record) = self.known_sender_mut(Some(index)) else {
            return;
        };
        record.members = record.members.saturating_sub(1);
        if record.members == 0 {
            let ip = record.ip;
            self.waiting_senders.remove(index);
            self.sender_by_ip.remove(&ip);
            if let Some(slot) = self.senders.get_mut(index.position()) {
                *slot = None;
            }
            self.free_senders.push(index);
        }
    }

    /// Keeps the order of senders right after a change of one.
    pub(super) fn rekey_sender(&mut self, index: Option<SenderIndex>) {
        let (Some(index), Some(record)) = (index, self.known_sender(index)) else {
            return;
        };
        match record.queue.peek().filter(|_| record.may_be_active()) {
            Some((_, best)) => {
                let active = if record.is_unvalidated() { u32::MAX } else { record.active };
                self.waiting_senders.set(index, (active, best));
            }
            None => {
                self.waiting_senders.remove(index);
            }
        }
    }
}

/// The sender at an index.
pub(super) fn slot_of(
    senders: &mut [Option<Sender>],
    index: Option<SenderIndex>,
) -> Option<&mut Sender> {
    senders.get_mut(index?.position())?.as_mut()
}
