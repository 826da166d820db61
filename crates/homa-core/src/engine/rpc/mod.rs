//! One RPC, and the table of all RPCs of an engine.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `state` | where an RPC stands, and what may follow |
//! | `lifecycle` | how an RPC begins and ends |
//! | `ids`, `client_hosts` | which RPC a packet means |
//! | `events` | what the application is told |
//! | `failure` | what a refusal by the peer means |
//! | `resend_timer` | when a RESEND or NEED_ACK is due |
//! | `restarts` | when a request is sent again from its beginning |
//! | `index` | nothing: an RPC's index in the table |
//! | `list` | nothing: it links RPCs to lists |
//! | `introspect` | nothing: it lists live RPCs |

pub(super) mod acknowledged;
mod client_hosts;
pub(super) mod events;
pub(super) mod failure;
pub(super) mod ids;
pub(super) mod index;
pub(super) mod introspect;
pub(super) mod lifecycle;
pub(super) mod list;
pub(super) mod resend_timer;
mod restarts;
mod state;

use alloc::vec::Vec;

use crate::addr::Path;
use crate::engine::impossible::Impossible;
use crate::engine::peer::{Peer, PeerIndex};
use crate::engine::profile::Profile;
use crate::engine::receiver::incoming::Incoming;
use crate::engine::rpc::events::PendingEvents;
use crate::engine::rpc::index::{RpcIndex, RpcPlace};
use crate::engine::rpc::list::Link;
use crate::engine::rpc::resend_timer::ResendTimer;
use crate::engine::rpc::restarts::Restarts;
pub(crate) use crate::engine::rpc::state::{Role, State};
use crate::engine::sender::outgoing::Outgoing;
#[cfg(any(test, feature = "check"))]
use crate::engine::short::View;
use crate::engine::short::{ShortRpc, Stage};
use crate::event::RpcKey;
use crate::priority::Priority;
use crate::structures::OutOfMemory;
use crate::structures::index::Index;
use crate::structures::table::Table;
use crate::time::Instant;

/// Options of the application for an RPC.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    /// Comes back in the events about it.
    pub(crate) cookie: u64,
    pub(crate) deadline: Option<Instant>,
    pub(crate) priority_hint: Option<Priority>,
    pub(crate) streaming_response: bool,
}

/// State of one RPC.
#[derive(Debug)]
pub(crate) struct Rpc {
    place: RpcPlace,
    pub(crate) role: Role,
    state: State,
    /// Id in our form: even at the client, odd at the server.
    pub(crate) id: u64,
    pub(crate) path: Path,
    pub(crate) peer: PeerIndex,
    /// The profile in which it was begun; see [`Rpc::profile`]. If it is that of Linux all of its
    /// packets are, whatever is learned of the peer meanwhile.
    pub(crate) begun_in: Profile,
    pub(crate) call: Call,
    pub(crate) tx: Outgoing,
    pub(crate) rx: Incoming,

    // Time.
    /// Last sign of life that concerns this RPC.
    pub(crate) last_heard: Instant,
    /// When its message last went on. The outgoing one: a byte left for the first time, or more
    /// may. The incoming one: a byte came for the first time, more may come, or its sender said
    /// that it has none.
    pub(crate) progress_at: Instant,
    /// The incarnation of the other end: the client, or the server that may have the request or
    /// sends the response; 0 = not known.
    pub(crate) peer_incarnation: u32,
    pub(crate) resend: ResendTimer,
    /// The peer said it has the request: its liveness is watched per peer.
    pub(crate) confirmed: bool,
    /// Server: the client was told BUSY, and sends no RESEND for the response.
    pub(crate) told_busy: bool,
    /// "Never seen" answers since the last sign that the peer knows the RPC.
    pub(crate) doubts: u8,
    pub(crate) restarts: Restarts,
    pub(crate) pending: PendingEvents,
    /// Its place among the peer's calls, or among the responses kept for the client's host.
    pub(crate) link: Link,
}

impl Rpc {
    /// Client: whether the incarnation of the server that may have got the request had said that it
    /// executes no more when it was sent, perhaps in the same turn. A request names the incarnation
    /// that it is for, so no other one takes it.
    pub(crate) fn is_sent_to_drained(&self, peer: Option<&Peer>) -> bool {
        let drained = peer.and_then(|peer| peer.drained).filter(|_| self.is_client());
        drained.is_some_and(|(incarnation, since)| {
            incarnation == self.peer_incarnation
                && self.tx.first_sent().is_some_and(|sent| sent >= since)
        })
    }

    /// A new RPC: its client sends, its server receives.
    #[inline]
    pub(crate) fn new(
        place: RpcPlace,
        role: Role,
        id: u64,
        path: &Path,
        peer: PeerIndex,
        birth: u64,
        now: Instant,
    ) -> Self {
        Self {
            place,
            role,
            state: State::first(role),
            id,
            path: *path,
            peer,
            begun_in: Profile::over(path.carriage),
            call: Call::default(),
            tx: Outgoing::none(birth),
            rx: Incoming::none(),
            last_heard: now,
            progress_at: now,
            peer_incarnation: 0,
            resend: ResendTimer::new(),
            confirmed: false,
            told_busy: false,
            doubts: 0,
            restarts: Restarts::NONE,
            pending: PendingEvents::default(),
            link: Link::NONE,
        }
    }

    #[inline]
    pub(crate) fn index(&self) -> RpcIndex {
        self.place.index()
    }

    /// Its name for the application.
    #[inline]
    pub(crate) fn key(&self) -> RpcKey {
        self.place.key()
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Goes on to the state `next`, which has to follow the present one.
    #[inline(always)]
    pub(crate) fn go_on(&mut self, next: State) {
        #[cfg(any(test, feature = "check"))]
        assert!(self.state.leads_to(next, self.role), "{:?} to {next:?}", self.state);
        self.state = next;
    }

    pub(crate) fn is_client(&self) -> bool {
        self.role == Role::Client
    }

    /// Whether the sending half is in use.
    pub(crate) fn is_sending(&self) -> bool {
        self.state == State::Outgoing && self.tx.length() > 0
    }

    /// Whether the client waits for the server, with nothing left to send.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_client() && self.state == State::Outgoing && self.confirmed && self.tx.is_idle()
    }
}

/// Slots that are made at a time: few, so that no call waits for many.
const SLOTS_ADDED: usize = 32;

/// A slot of the table.
#[derive(Debug)]
struct Slot {
    generation: u32,
    entry: Entry,
}

/// What is in a slot. (The form comes first: to tell it takes no cache line more.)
#[derive(Debug)]
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "an RPC is expanded in its place")]
enum Entry {
    Free,
    Short(ShortRpc),
    General(Rpc),
}

impl Slot {
    const fn is_free(&self) -> bool {
        matches!(self.entry, Entry::Free)
    }

    #[inline(always)]
    fn general(&self) -> Option<&Rpc> {
        match &self.entry {
            Entry::General(rpc) => Some(rpc),
            _ => None,
        }
    }

    #[inline(always)]
    fn general_mut(&mut self) -> Option<&mut Rpc> {
        match &mut self.entry {
            Entry::General(rpc) => Some(rpc),
            _ => None,
        }
    }
}

/// RPCs by index; a slot's generation tells its uses apart.
#[derive(Debug, Default)]
pub(crate) struct RpcTable {
    slots: Table<RpcIndex, Slot>,
    free: Vec<RpcIndex>,
    /// Indices below this are covered by all tables that are indexed by RPC.
    covered: usize,
    births: u64,
    pub(crate) impossible: Impossible,
}

impl RpcTable {
    /// RPCs in the table.
    pub(crate) fn len(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// Slots in use or free.
    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Indices of all slots.
    pub(crate) fn indices(&self) -> impl Iterator<Item = RpcIndex> + use<> {
        self.slots.indices()
    }

    /// Whether all other tables that are indexed by RPC cover this one.
    pub(crate) fn is_covered(&self) -> bool {
        self.capacity() <= self.covered
    }

    /// Notes that they do.
    pub(crate) fn set_covered(&mut self) {
        self.covered = self.capacity();
    }

    /// The number of the next RPC or message in the order of creation.
    pub(crate) fn next_birth(&mut self) -> u64 {
        self.births = self.births.saturating_add(1);
        self.births
    }

    /// Makes room for one more. Returns the number of slots the caller's own tables must cover.
    pub(crate) fn reserve(&mut self, limit: usize) -> Result<usize, OutOfMemory> {
        if self.free.is_empty() {
            let first = self.slots.len();
            let add = SLOTS_ADDED.min(limit.saturating_sub(first));
            if add == 0 {
                return Err(OutOfMemory);
            }
            let total = first.saturating_add(add);
            self.free.try_reserve(total).map_err(|_| OutOfMemory)?;
            let grown = self.slots.grow(add, || Slot { generation: 0, entry: Entry::Free });
            // If memory ran short, the slots that were added are used.
            for position in (first..self.slots.len()).rev() {
                self.free.push(RpcIndex::at(position).ok_or(OutOfMemory)?);
            }
            grown?;
        }
        Ok(self.slots.len())
    }

    /// Whether there is a free slot.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Makes an RPC in a free slot that `reserve` made, where it stays.
    #[inline]
    pub(crate) fn insert(&mut self, new: impl FnOnce(RpcPlace) -> Rpc) -> Option<RpcIndex> {
        let index = self.free.pop()?;
        let slot = self.slots.get_mut(index)?;
        slot.entry = Entry::General(new(RpcPlace::new(index, slot.generation)));
        Some(index)
    }

    /// The slot that the next RPC takes, if `reserve` made one.
    #[inline]
    pub(crate) fn next_free(&self) -> Option<RpcIndex> {
        self.free.last().copied()
    }

    /// Puts an RPC in short form into the next free slot.
    #[inline(always)]
    pub(crate) fn insert_short(&mut self, rpc: ShortRpc) -> Option<RpcKey> {
        let index = self.free.pop()?;
        let slot = self.slots.get_mut(index)?;
        slot.entry = Entry::Short(rpc);
        Some(RpcPlace::new(index, slot.generation).key())
    }

    /// The RPC at an index, if it is in short form.
    #[inline(always)]
    pub(crate) fn short(&self, index: RpcIndex) -> Option<&ShortRpc> {
        match &self.slots.get(index)?.entry {
            Entry::Short(rpc) => Some(rpc),
            _ => None,
        }
    }

    /// The same.
    #[inline(always)]
    pub(crate) fn short_mut(&mut self, index: RpcIndex) -> Option<&mut ShortRpc> {
        self.keyed_short(index).map(|(_, rpc)| rpc)
    }

    /// The same with its key.
    #[inline(always)]
    pub(crate) fn keyed_short(&mut self, index: RpcIndex) -> Option<(RpcKey, &mut ShortRpc)> {
        let slot = self.slots.get_mut(index)?;
        match &mut slot.entry {
            Entry::Short(rpc) => Some((RpcPlace::new(index, slot.generation).key(), rpc)),
            _ => None,
        }
    }

    /// The general form of the RPC at an index, if it is in short form; `path` is that of its peer.
    pub(crate) fn expanded(&self, index: RpcIndex, path: &Path) -> Option<Rpc> {
        let slot = self.slots.get(index)?;
        match &slot.entry {
            Entry::Short(rpc) => Some(rpc.expanded(RpcPlace::new(index, slot.generation), path)),
            _ => None,
        }
    }

    /// Puts the general form of an RPC in short form in its place.
    pub(crate) fn replace(&mut self, index: RpcIndex, general: Rpc) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.entry = Entry::General(general);
        }
    }

    /// The key of the RPC at an index.
    #[inline]
    pub(crate) fn key(&self, index: RpcIndex) -> Option<RpcKey> {
        let slot = self.slots.get(index).filter(|slot| !slot.is_free())?;
        Some(RpcPlace::new(index, slot.generation).key())
    }

    /// Peer and local port of the RPC at an index, in whatever form.
    #[inline]
    pub(crate) fn ends(&self, index: RpcIndex) -> Option<(PeerIndex, u16)> {
        match &self.slots.get(index)?.entry {
            Entry::Free => None,
            Entry::Short(rpc) => Some((rpc.peer, rpc.local_port)),
            Entry::General(rpc) => Some((rpc.peer, rpc.path.local_port)),
        }
    }

    /// The incarnation of the other end as the RPC at an index knows it, in whatever form.
    pub(crate) fn peer_incarnation(&self, index: RpcIndex) -> Option<u32> {
        match &self.slots.get(index)?.entry {
            Entry::Free => None,
            Entry::Short(rpc) => Some(rpc.peer_incarnation),
            Entry::General(rpc) => Some(rpc.peer_incarnation),
        }
    }

    /// Whether a call to a peer is at an index that may be stale, in whatever form.
    pub(crate) fn is_call_to(&self, index: RpcIndex, peer: PeerIndex) -> bool {
        let role = match self.slots.get(index).map(|slot| &slot.entry) {
            Some(Entry::Short(rpc)) => rpc.role(),
            Some(Entry::General(rpc)) => rpc.role,
            Some(Entry::Free) | None => return false,
        };
        role == Role::Client && self.ends(index).is_some_and(|(of, _)| of == peer)
    }

    /// The index of a key that is still alive, if its RPC is in short form and not over.
    #[inline]
    pub(crate) fn short_of(&self, key: RpcKey) -> Option<RpcIndex> {
        let index = self.resolve(key)?;
        self.short(index).filter(|rpc| rpc.stage != Stage::Over).map(|_| index)
    }

    /// Where in its list the RPC at an index is, in whatever form.
    pub(crate) fn link(&self, index: RpcIndex) -> Option<&Link> {
        self.impossible.known(self.slots.get(index).and_then(|slot| match &slot.entry {
            Entry::Free => None,
            Entry::Short(rpc) => Some(&rpc.link),
            Entry::General(rpc) => Some(&rpc.link),
        }))
    }

    /// The same.
    #[inline]
    #[track_caller]
    pub(crate) fn link_mut(&mut self, index: RpcIndex) -> Option<&mut Link> {
        let slot = self.slots.get_mut(index);
        self.impossible.known(slot.and_then(|slot| match &mut slot.entry {
            Entry::Free => None,
            Entry::Short(rpc) => Some(&mut rpc.link),
            Entry::General(rpc) => Some(&mut rpc.link),
        }))
    }

    #[inline(never)]
    pub(crate) fn remove(&mut self, index: RpcIndex) {
        let taken = self.slots.get_mut(index).filter(|slot| !slot.is_free());
        if let Some(slot) = self.impossible.known(taken) {
            slot.entry = Entry::Free;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(index);
        }
    }

    /// The RPC at an index that may be stale, as in a queue that keeps RPCs which are over. `None`
    /// also if it is in short form.
    pub(crate) fn get(&self, index: RpcIndex) -> Option<&Rpc> {
        self.slots.get(index)?.general()
    }

    pub(crate) fn get_mut(&mut self, index: RpcIndex) -> Option<&mut Rpc> {
        self.slots.get_mut(index)?.general_mut()
    }

    /// The RPC at an index that must be valid, in its general form; its absence is [`Impossible`].
    #[inline]
    #[track_caller]
    pub(crate) fn known(&self, index: RpcIndex) -> Option<&Rpc> {
        self.impossible.known(self.get(index))
    }

    /// As [`RpcTable::known`].
    #[inline]
    #[track_caller]
    pub(crate) fn known_mut(&mut self, index: RpcIndex) -> Option<&mut Rpc> {
        self.impossible.known(self.slots.get_mut(index).and_then(Slot::general_mut))
    }

    /// As [`RpcTable::known`], of a queue that holds only RPCs that are not over.
    #[inline]
    #[track_caller]
    pub(crate) fn living(&self, index: RpcIndex) -> Option<&Rpc> {
        self.impossible.known(self.get(index).filter(|rpc| rpc.state != State::Dead))
    }

    /// All RPCs, as they are in their general form.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = View<'_>> {
        self.indices().filter_map(|index| self.view(index))
    }

    /// The RPC at an index, as it is in its general form.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn view(&self, index: RpcIndex) -> Option<View<'_>> {
        let slot = self.slots.get(index)?;
        match &slot.entry {
            Entry::Free => None,
            Entry::Short(rpc) => Some(View::of_short(rpc, RpcPlace::new(index, slot.generation))),
            Entry::General(rpc) => Some(View::General(rpc)),
        }
    }

    /// The RPC of a key that the caller may still use, if it is in its general form.
    pub(crate) fn live_mut(&mut self, key: RpcKey) -> Option<(RpcIndex, &mut Rpc)> {
        let index = RpcIndex::at(key.index as usize)?;
        let slot = self.slots.get_mut(index)?;
        let generation = slot.generation;
        let rpc = slot.general_mut().filter(|rpc| rpc.state != State::Dead)?;
        (generation == key.generation).then_some((index, rpc))
    }

    /// The index of a key that is still alive.
    pub(crate) fn resolve(&self, key: RpcKey) -> Option<RpcIndex> {
        let index = RpcIndex::at(key.index as usize)?;
        let slot = self.slots.get(index)?;
        (slot.generation == key.generation && !slot.is_free()).then_some(index)
    }
}
