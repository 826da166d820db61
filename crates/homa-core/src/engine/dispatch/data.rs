//! What a received packet changes: checks in the order of docs/spec/wire-format.md §9, and DATA.

use homa_wire::{Body, DATA_HEADER_BYTES, Data, Header, Reason, RpcId, VERSION};

use crate::addr::{Carriage, Path, RxMeta};
use crate::engine::peer::Peer;
use crate::engine::peer::identity::{echo, is_cutoffs, is_own};
use crate::engine::receiver::incoming::Incoming;
use crate::engine::recovery::reactions::next_interval_ns;
use crate::engine::rpc::events::Happened;
use crate::engine::rpc::lifecycle::queue_event;
use crate::engine::rpc::{Role, Rpc, State};
use crate::engine::stats::Count;
use crate::engine::{Engine, PortOptions};
use crate::event::{DropReason, FailReason, Placement, Received};
use crate::structures::NIL;
use crate::structures::reassembly::Insert;
use crate::time::Instant;

impl Engine {
    /// Takes a packet: `header` is its first `min(length, 128)` bytes, `transport_len` its whole
    /// length from the Homa header on. Never panics, whatever it is given.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        meta: &RxMeta,
        header: &[u8],
        transport_len: u32,
    ) -> Received {
        self.tick(now);
        self.stats.packets_received.inc();
        match self.packet(meta, header, transport_len) {
            Ok(received) => received,
            Err(reason) => {
                self.stats.count_drop(reason);
                Received::Dropped(reason)
            }
        }
    }

    #[inline(always)]
    fn packet(
        &mut self,
        meta: &RxMeta,
        bytes: &[u8],
        transport_len: u32,
    ) -> Result<Received, DropReason> {
        // Looked at where it is: it is long.
        let parsed = Header::parse(bytes, transport_len);
        let Ok(header) = &parsed else {
            return Err(DropReason::Malformed);
        };
        if matches!(header.body, Body::Freeze) {
            self.stats.freezes_received.inc();
            return Ok(Received::Consumed);
        }
        let with_ports;
        let path = match meta.path.carriage {
            Carriage::Udp => &meta.path,
            Carriage::Ip => {
                with_ports = ports_of_header(&meta.path, header);
                &with_ports
            }
        };
        let mut peer = self.peer_of(path);
        self.check_profile(peer, path, header)?;
        let id = header.common.local_id();
        let port = self.check_port(path, header, id)?;
        if let Some(index) = peer {
            peer = self.recognise(index, header, transport_len, id);
            if !is_own(header) {
                self.notice_linux(index, path, header, id);
            }
        }
        match &header.body {
            Body::Data(data) => {
                let received = self.data(peer, path, header, data, transport_len, port);
                self.count_retransmission(data, &received);
                if data.retransmit != 0 && !is_own(header) {
                    self.look_for_haste(peer, &received);
                }
                received
            }
            _ => self.control(peer, path, header, id),
        }
    }

    /// Is the packet of this implementation, in this version? Linux packets only over raw IP.
    fn check_profile(
        &mut self,
        peer: Option<u32>,
        path: &Path,
        header: &Header,
    ) -> Result<(), DropReason> {
        match header.common.version() {
            Some(VERSION) => Ok(()),
            None if path.carriage == Carriage::Ip => Ok(()),
            None => Err(DropReason::Foreign),
            // An announcement of something newer is no announcement.
            Some(_) if path.carriage == Carriage::Ip && is_cutoffs(header) => Ok(()),
            Some(theirs) => {
                self.stats.last_foreign_version = theirs;
                let id = header.common.local_id();
                if let Some(index) = self.find_rpc(peer, path, id) {
                    self.fail_rpc(index, FailReason::VersionMismatch { theirs });
                } else if matches!(header.body, Body::Data(_)) && !self.client_ids.contains_key(&id)
                {
                    self.refuse_data(path, header, Reason::Version, u32::from(VERSION));
                }
                Err(DropReason::Version)
            }
        }
    }

    /// Is the port open, and does it serve if it is asked to? Requests to ports that nobody serves are answered.
    fn check_port(
        &mut self,
        path: &Path,
        header: &Header,
        id: u64,
    ) -> Result<PortOptions, DropReason> {
        let for_server = RpcId(id).is_server();
        let port = self.ports.get(path.local_port).filter(|port| port.serve || !for_server);
        port.ok_or_else(|| {
            let asks = matches!(header.body, Body::Resend(_) | Body::NeedAck);
            // Linux hosts learn it from ICMP, which the driver sends.
            let understood = header.common.version().is_some();
            if matches!(header.body, Body::Data(_)) {
                // A response that nobody can take need not be kept by its server.
                let why = if for_server { Reason::NoService } else { Reason::Finished };
                self.refuse_data(path, header, why, 0);
            } else if for_server && asks && understood {
                self.reply(path, header, Body::RpcUnknown, Reason::NoService, 0);
            }
            DropReason::NoSuchPort
        })
    }

    /// The live RPC with our form `id`, if the packet came along its path, at the end of which is `peer`.
    pub(crate) fn find_rpc(&self, peer: Option<u32>, path: &Path, id: u64) -> Option<u32> {
        let peer = peer?;
        if let Some(rpc) = self.rpcs.get(self.arriving).filter(|rpc| rpc.id == id) {
            let is_it = rpc.peer == peer && rpc.path.local_port == path.local_port;
            if is_it && rpc.state == State::Incoming {
                return Some(self.arriving);
            }
        }
        self.search_rpc(peer, path, id)
    }

    #[inline(never)]
    fn search_rpc(&self, peer: u32, path: &Path, id: u64) -> Option<u32> {
        if RpcId(id).is_server() {
            return self.server_ids.get(&(peer, id)).copied();
        }
        let index = self.client_ids.get(&id).copied()?;
        let rpc = self.rpcs.known(index)?;
        (rpc.peer == peer && rpc.path.local_port == path.local_port).then_some(index)
    }

    fn data(
        &mut self,
        peer: Option<u32>,
        path: &Path,
        header: &Header,
        data: &Data,
        transport_len: u32,
        port: PortOptions,
    ) -> Result<Received, DropReason> {
        let id = header.common.local_id();
        self.data_at = self.now;
        if let Some(ack) = data.acknowledged() {
            self.acknowledge_later(peer, path, &ack);
        }
        if let Some(peer) = peer {
            self.offer_cutoffs(peer, path, header, data.cutoff_version);
        }
        let found = self.find_rpc(peer, path, id);
        let index = match found {
            Some(index) => {
                self.check_agreement(index, header, data)?;
                index
            }
            None if RpcId(id).is_client() => return Err(self.data_for_nobody(path, header, id)),
            None => {
                debug_assert!(port.serve, "check_port lets requests pass only to those that serve");
                self.new_request(peer, path, header, data, transport_len, port)?
            }
        };
        if data.retransmit == 0 {
            self.note_reaction(index);
        } else {
            self.note_copy(index);
        }
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return Err(DropReason::UnknownRpc);
        };
        rpc.last_heard = self.now;
        let begins = match (rpc.role, rpc.state) {
            (Role::Client, State::Outgoing) => {
                self.response_begins(index, data)?;
                true
            }
            (_, State::Incoming) => found.is_none(),
            _ => return Err(DropReason::Duplicate),
        };
        if let Some(rpc) = self.rpcs.known_mut(index).filter(|_| begins) {
            rpc.peer_life = header.common.incarnation;
        }
        let received = self.accept_data(index, header, data, transport_len);
        if begins {
            self.watch_incoming(index);
        }
        received
    }

    /// A message has begun: its timer looks for the rest of it.
    fn watch_incoming(&mut self, index: u32) {
        if let Some(rpc) = self.rpcs.known(index).filter(|rpc| rpc.state == State::Incoming) {
            let interval_ns = rpc.resend.interval_ns();
            self.arm(index, interval_ns);
        }
    }

    /// Checks that the sender of DATA may speak about an RPC, and that it belongs to the message that has begun to arrive:
    /// the same length, from the same life of its sender.
    #[inline]
    fn check_agreement(
        &mut self,
        index: u32,
        header: &Header,
        data: &Data,
    ) -> Result<(), DropReason> {
        let Some(rpc) = self.rpcs.known(index).filter(|rpc| rpc.state == State::Incoming) else {
            let may_speak = self.may_speak_of(index, header);
            return if may_speak { Ok(()) } else { Err(DropReason::WrongPeer) };
        };
        if is_own(header) && header.common.incarnation != rpc.peer_life {
            self.comes_of_another_life(index, header.common.incarnation);
            return Err(DropReason::WrongPeer);
        }
        if data.message_length != rpc.rx.length() {
            return Err(DropReason::BadRange);
        }
        Ok(())
    }

    /// DATA comes of another life of its sender than the message began with. A server that was restarted may have executed
    /// the request again, and answers something else.
    #[cold]
    fn comes_of_another_life(&mut self, index: u32, life: u32) {
        let answers = self.rpcs.known(index).filter(|rpc| rpc.is_client()).is_some_and(|rpc| {
            self.peers.known(rpc.peer).is_some_and(|peer| peer.incarnation == life)
        });
        if answers {
            self.tell_unknown(index, Reason::Cancelled);
            self.fail_rpc(index, FailReason::Restarted);
        }
    }

    /// Did a packet that was sent again bring something new?
    fn count_retransmission(&mut self, data: &Data, received: &Result<Received, DropReason>) {
        let counter = match received {
            _ if data.retransmit == 0 => return,
            Ok(Received::Place(_)) => &mut self.stats.retransmissions_used,
            Err(DropReason::Duplicate) => &mut self.stats.retransmissions_unneeded,
            _ => return,
        };
        counter.inc();
    }

    /// DATA for a client RPC that is over or never was.
    fn data_for_nobody(&mut self, path: &Path, header: &Header, id: u64) -> DropReason {
        if self.client_ids.contains_key(&id) {
            return DropReason::WrongPeer;
        }
        // Ends the server's state at once. That of Linux servers ends when they ask for an acknowledgement.
        self.refuse_data(path, header, Reason::Finished, 0);
        DropReason::UnknownRpc
    }

    /// Creates the RPC of a request that was not seen before.
    fn new_request(
        &mut self,
        peer: Option<u32>,
        path: &Path,
        header: &Header,
        data: &Data,
        transport_len: u32,
        port: PortOptions,
    ) -> Result<u32, DropReason> {
        let id = header.common.local_id();
        let own = is_own(header);
        if data.message_length == 0 || (own && header.common.incarnation == 0) {
            return Err(DropReason::Malformed);
        }
        let known = peer.and_then(|peer| self.peers.known(peer));
        let hash = known.map_or_else(|| self.peers.hash_of(path), |peer| peer.hash);
        let fresh = own
            && path.carriage == Carriage::Udp
            && known.is_some_and(|peer| self.is_newest_request(peer, id));
        if !fresh && self.finished.contains(self.read_clock.now(), hash, id) {
            self.stats.finished_hits.inc();
            // Its client still repeats it: the time until it may be forgotten begins again. It replaces the
            // older entry, so there is room.
            let _ = self.finished.insert(self.read_clock.stamp(), hash, id);
            return Err(DropReason::Duplicate);
        }
        if own && data.echo != 0 && data.echo != self.incarnation_for(peer, path) {
            self.stats.stale_incarnations.inc();
            let age_us = self.age_us();
            self.refuse_data(path, header, Reason::Restarted, age_us);
            return Err(DropReason::UnknownRpc);
        }
        if data.message_length > self.config.max_message_bytes {
            self.refuse_data(path, header, Reason::TooLong, self.config.max_message_bytes);
            return Err(DropReason::TooLong);
        }
        let proved = self.has_proved(peer, path, header);
        let comes_whole = transport_len.saturating_sub(DATA_HEADER) >= data.message_length;
        let stranger = own && !proved && !comes_whole;
        // A client that starts anew has the address of its former life: it cannot have both.
        let in_place_of_another = peer.is_none() && self.peer_of(path).is_some();
        let put_off = (stranger && !self.admits_stranger(data))
            || (!proved && self.has_to_prove_itself_first(peer, path));
        if in_place_of_another || put_off {
            self.stats.strangers_put_off.inc();
            if data.offset(header.common.sequence) == 0 {
                // True, and it tells the client who we are: it sends again and names us.
                let age = self.age_us();
                self.reply(path, header, Body::RpcUnknown, Reason::NeverSeen, age);
            }
            return Err(if in_place_of_another {
                DropReason::WrongPeer
            } else {
                DropReason::NoMemory
            });
        }
        let (index, client) =
            self.create_server_rpc(peer, path, header, port, proved).ok_or_else(|| {
                self.stats.requests_refused.inc();
                self.refuse_data(path, header, Reason::Overloaded, 0);
                DropReason::Limit
            })?;
        if peer.is_none() {
            self.recognise(client, header, transport_len, id);
            self.offer_cutoffs(client, path, header, data.cutoff_version);
        }
        if let Some(client) = self.peers.known_mut(client) {
            let (newest, _) =
                client.newest_request.get_or_insert_with(|| (id, self.read_clock.stamp()));
            if is_newer(id, *newest) {
                *newest = id;
            }
        }
        self.count_stranger(index);
        self.start_incoming(index, data.message_length, data.incoming);
        if stranger {
            if let Some(rpc) = self.rpcs.known_mut(index) {
                self.memory.count_stranger(rpc);
            }
            // Its answer proves the address, whether or not there is a grant for it.
            self.push_control(*path, id, own, Body::NeedAck, Reason::Probe, 0);
        }
        Ok(index)
    }

    /// Has the sender of a message proved its address since the message began? It is no stranger any more then.
    #[inline]
    pub(crate) fn look_for_proof(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known(index).filter(|rpc| rpc.rx.unproved) else {
            return;
        };
        if self.peers.known(rpc.peer).is_some_and(|peer| peer.validation.is_done()) {
            if let Some(rpc) = self.rpcs.known_mut(index) {
                rpc.rx.unproved = false;
                self.memory.forget_stranger(rpc);
                if rpc.rx.granted_told < rpc.rx.granted {
                    self.granter.mark_due(rpc);
                }
            }
            self.granter.change_sender(index, &mut self.rpcs);
        }
    }

    /// Whether the address of a request is its client's: over UDP it or an earlier packet names us, over raw IP nobody proves
    /// it.
    #[inline(always)]
    fn has_proved(&self, peer: Option<u32>, path: &Path, header: &Header) -> bool {
        path.carriage == Carriage::Ip
            || peer
                .and_then(|peer| self.peers.known(peer))
                .is_some_and(|peer| peer.validation.is_done())
            || (is_own(header) && echo(header) == self.incarnation_for(peer, path))
    }

    /// Whether the address of a stranger has its share of places and would get more with a proof: others may have written it.
    fn has_to_prove_itself_first(&self, peer: Option<u32>, path: &Path) -> bool {
        let known = peer.and_then(|peer| self.peers.known(peer));
        let host = known.map_or_else(|| self.peers.host_at(path.remote.ip()), |peer| peer.host);
        self.holders.is_beyond_share(host, self.config.serving_max())
    }

    /// Is there memory for what a stranger announces?
    fn admits_stranger(&self, data: &Data) -> bool {
        let announced = data.incoming.min(self.unscheduled_max());
        let rx = Incoming::new(data.message_length, announced, 0);
        self.memory.admits_stranger(rx.footprint(rx.granted))
    }

    /// Is this request younger than all that the present life of `peer` has sent here? Clients of this
    /// implementation count their ids up, so it cannot be one that is finished, and the memory of those need
    /// not be searched. What was sent before the count began is forgotten when it is believed.
    fn is_newest_request(&self, peer: &Peer, id: u64) -> bool {
        let remembered = self.config.finished_memory;
        peer.newest_request.is_some_and(|(newest, since)| {
            is_newer(id, newest) && self.read_clock.now() >= since + remembered
        })
    }

    /// A new RPC and the peer that it is served to. `None`: a limit is reached.
    #[inline(always)]
    fn create_server_rpc(
        &mut self,
        peer: Option<u32>,
        path: &Path,
        header: &Header,
        port: PortOptions,
        proved: bool,
    ) -> Option<(u32, u32)> {
        let remembered_max =
            (self.config.finished_max as usize).saturating_sub(self.holders.serving());
        if self.finished.len() >= remembered_max {
            // Nobody may have asked it for a while.
            self.finished.rotate(self.read_clock.now());
            if self.finished.len() >= remembered_max {
                return None;
            }
        }
        let serving_max = self.config.serving_max();
        if self.holders.serving() >= serving_max as usize && !self.displace_stranger(peer) {
            return None;
        }
        let id = header.common.local_id();
        let peer_index = match peer {
            Some(peer) => peer,
            None => self.new_client(path, proved)?,
        };
        let host = self.peers.known(peer_index)?.host;
        if !self.holders.may_serve(host, proved, serving_max) {
            return None;
        }
        self.server_ids.try_reserve(1).ok()?;
        self.client_hosts.try_reserve(1).ok()?;
        let index = self.add_rpc(Role::Server, id, path, peer_index).ok()?;
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.own = is_own(header);
            rpc.peer_life = header.common.incarnation;
            rpc.rx.streaming = port.streaming_requests;
        }
        self.server_ids.insert((peer_index, id), index);
        self.client_hosts.insert(path, id, index);
        self.stats.requests_received.inc();
        if let Some(peer) = self.peers.known_mut(peer_index) {
            self.holders.begin(host, &mut peer.served, proved);
        }
        Some((index, peer_index))
    }

    /// The peer of a first request, if its host may have one more.
    #[inline(never)]
    fn new_client(&mut self, path: &Path, proved: bool) -> Option<u32> {
        let host = self.peers.host_at(path.remote.ip());
        let peers_max = self.config.peers_max;
        let may = self.holders.may_have_peer(host, proved, peers_max);
        if may { self.peer_or_new(self.now, path) } else { None }
    }

    /// The first DATA of a response: the request is done.
    fn response_begins(&mut self, index: u32, data: &Data) -> Result<(), DropReason> {
        if data.message_length == 0 {
            return Err(DropReason::Malformed);
        }
        if data.message_length > self.config.max_message_bytes {
            self.tell_unknown(index, Reason::TooLong);
            self.fail_rpc(index, FailReason::ResponseTooLong);
            return Err(DropReason::TooLong);
        }
        self.note_full_size(index, u32::MAX);
        if self.rpcs.known(index).is_some_and(|rpc| rpc.restarted_at.is_some() && !rpc.confirmed) {
            self.note_copy(index);
        }
        self.set_confirmed(index, false);
        // Before its charge: the room that it leaves must not be given to itself.
        self.unblock(index);
        self.reacted(index);
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.state = State::Incoming;
            rpc.tx.sent = rpc.tx.length;
            rpc.tx.granted = rpc.tx.length;
        }
        self.pacer.remove(index);
        self.release_outgoing(index, u32::MAX);
        self.start_incoming(index, data.message_length, data.incoming);
        Ok(())
    }

    /// Takes the payload of a DATA packet into the incoming message of an RPC.
    #[inline(always)]
    fn accept_data(
        &mut self,
        index: u32,
        header: &Header,
        data: &Data,
        transport_len: u32,
    ) -> Result<Received, DropReason> {
        let gaps_max = usize::from(self.config.gaps_max);
        let unscheduled_max = self.unscheduled_max();
        self.look_for_proof(index);
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return Err(DropReason::UnknownRpc);
        };
        let peer = self.peers.known(rpc.peer);
        let own = rpc.own && peer.is_some_and(Peer::is_own);
        let base = next_interval_ns(peer, own, self.now, &self.config);
        let (start, end) = data_range(rpc, header, data, transport_len)?;
        if rpc.rx.starved {
            return Err(DropReason::NoMemory);
        }
        // A packet far beyond the grant and what has come claims memory for all that is in between.
        let ahead_max = rpc.rx.data.received().saturating_add(unscheduled_max);
        let far_ahead = start > rpc.rx.granted.max(ahead_max);
        if (far_ahead && !self.memory.is_plentiful(rpc, end)) || !self.memory.reserve(rpc, end) {
            return Err(DropReason::NoMemory);
        }
        let (new_start, new_end, bytes) = match rpc.rx.data.insert(start, end, gaps_max) {
            Insert::New { start, end, bytes } => (start, end, bytes),
            Insert::Duplicate => {
                rpc.rx.copies_used = 0;
                return Err(DropReason::Duplicate);
            }
            Insert::TooManyGaps => return Err(DropReason::Limit),
            Insert::OutOfRange => return Err(DropReason::BadRange),
        };
        rpc.resend.reset(base);
        if data.retransmit != 0 {
            rpc.rx.copies_used = rpc.rx.copies_used.saturating_add(1);
        }
        let spoke_again = core::mem::replace(&mut rpc.rx.silent, false);
        if rpc.rx.moves() {
            rpc.rx.passed_over = false;
            rpc.rx.moved_at = self.now;
        }
        rpc.progress_at = self.now;
        if spoke_again {
            rpc.resend.end_wait(self.now);
        }
        self.granter.touch(rpc);
        if rpc.rx.streaming {
            rpc.pending.add(Happened::Progress);
        }
        let placement = Placement {
            rpc: rpc.key,
            offset: new_start,
            packet: packet_range(start, new_start, new_end),
            message_length: rpc.rx.length(),
        };
        let (complete, streaming) = (rpc.rx.is_complete(), rpc.rx.streaming);
        let unproved = rpc.rx.unproved;
        if !unproved {
            self.longest_payload.note(self.now, bytes);
        }
        self.stats.bytes_received.inc_by(u64::from(bytes));
        if spoke_again {
            self.arm(index, base);
        }
        if complete {
            self.arriving = NIL;
            self.message_complete(index);
        } else {
            self.arriving = index;
            if streaming {
                self.queue_event(index);
            }
        }
        Ok(Received::Place(placement))
    }

    fn message_complete(&mut self, index: u32) {
        self.granter.remove(index, &mut self.rpcs);
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        rpc.pending.add(Happened::Arrived);
        queue_event(&mut self.events, rpc);
        // What is merely announced moves nobody's priorities.
        if let Some(planner) = &mut self.planner {
            planner.record(rpc.rx.length());
        }
        self.memory.forget_stranger(rpc);
        self.memory.complete(rpc.key);
        if rpc.is_client() {
            rpc.state = State::Delivered;
            rpc.deadline = None;
            let id = rpc.id;
            self.stats.responses_received.inc();
            self.acknowledge(index);
            self.client_ids.remove(&id);
            self.unlink_client(index);
        } else {
            rpc.state = State::InService;
        }
    }
}

/// The ports of a packet that the network layer carries are in its own header.
fn ports_of_header(path: &Path, header: &Header) -> Path {
    let mut path = *path;
    path.remote.set_port(header.common.source_port);
    path.local_port = header.common.destination_port;
    path
}

/// Was `id` chosen after `other`? Ids count up and wrap.
fn is_newer(id: u64, other: u64) -> bool {
    (1..1 << 63).contains(&id.wrapping_sub(other))
}

/// The range of the message that a DATA packet carries, checked
/// (docs/spec/wire-format.md §9 step 5).
fn data_range(
    rpc: &Rpc,
    header: &Header,
    data: &Data,
    transport_len: u32,
) -> Result<(u32, u32), DropReason> {
    let length = rpc.rx.length();
    let payload = transport_len.saturating_sub(DATA_HEADER);
    let start = data.offset(header.common.sequence);
    if start >= length || payload == 0 {
        return Err(DropReason::BadRange);
    }
    let room = length.saturating_sub(start);
    // Own profile: bytes after the message's end are padding.
    if payload > room && !is_own(header) {
        return Err(DropReason::BadRange);
    }
    Ok((start, start.saturating_add(payload.min(room))))
}

/// Which bytes of the packet are to be stored, when the payload starting at `start` was trimmed.
fn packet_range(start: u32, new_start: u32, new_end: u32) -> core::ops::Range<u32> {
    let at = |offset: u32| DATA_HEADER.saturating_add(offset.saturating_sub(start));
    at(new_start)..at(new_end)
}

/// Bytes before the payload in a DATA packet.
const DATA_HEADER: u32 = DATA_HEADER_BYTES as u32;
