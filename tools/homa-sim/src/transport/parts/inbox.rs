//! What a receiver keeps of messages: which of their packets are there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::event::MessageId;

/// Packets of a message, by their index.
#[derive(Clone, Debug, Default)]
pub(crate) struct PacketSet {
    words: Vec<u64>,
    count: u32,
}

impl PacketSet {
    /// Adds a packet. Whether it was not there.
    pub(crate) fn add(&mut self, index: u32) -> bool {
        let (word, bit) = place(index);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u32::from(is_new);
        is_new
    }

    /// Whether a packet is there.
    pub(crate) fn has(&self, index: u32) -> bool {
        let (word, bit) = place(index);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many are there.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

fn place(index: u32) -> (usize, u64) {
    (index as usize / 64, 1 << (index % 64))
}

/// What a packet of a message did for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing: it was there, or the whole message.
    Again,
    /// It is one more.
    More,
    /// It was the last one.
    Whole,
}

/// Messages that come in.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    open: BTreeMap<MessageId, PacketSet>,
    whole: BTreeSet<MessageId>,
    arrived: VecDeque<MessageId>,
}

impl Inbox {
    /// Takes the packet `index` of a message of so many.
    pub(crate) fn take(&mut self, message: MessageId, index: u32, packets: u32) -> Taken {
        if self.is_whole(message) {
            return Taken::Again;
        }
        let set = self.open.entry(message).or_default();
        if !set.add(index) {
            return Taken::Again;
        }
        if set.count() < packets {
            return Taken::More;
        }
        self.open.remove(&message);
        self.whole.insert(message);
        self.arrived.push_back(message);
        Taken::Whole
    }

    /// Whether all of a message was taken.
    pub(crate) fn is_whole(&self, message: MessageId) -> bool {
        self.whole.contains(&message)
    }

    /// The packets of a message that is not whole.
    pub(crate) fn packets(&self, message: MessageId) -> Option<&PacketSet> {
        self.open.get(&message)
    }

    /// The next message that has become whole.
    pub(crate) fn arrived(&mut self) -> Option<MessageId> {
        self.arrived.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_once_whatever_the_order_of_its_packets_and_however_often_they_come() {
        let (mut inbox, message) = (Inbox::default(), MessageId(7));
        let taken = [70, 0, 70].map(|index| inbox.take(message, index, 3));
        assert_eq!(taken, [Taken::More, Taken::More, Taken::Again]);
        assert_eq!(inbox.take(message, 1, 3), Taken::Whole);
        assert_eq!(inbox.take(message, 1, 3), Taken::Again);
        assert_eq!((inbox.arrived(), inbox.arrived()), (Some(message), None));
    }
}
