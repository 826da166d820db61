//! Processing of received packets: checks in the order of docs/spec/wire-format.md §9, and DATA.

use homa_wire::{Body, DATA_HEADER_BYTES, Data, DataView, Header, Reason, RpcId, VERSION};

use crate::addr::{Carriage, Path, RxMeta};
use crate::engine::Engine;
use crate::engine::ctx::Ctx;
use crate::engine::peer::identity::{echo, is_cutoffs};
use crate::engine::peer::{Peer, PeerIndex, PeerTable};
use crate::engine::ports::Port;
use crate::engine::profile::Profile;
use crate::engine::rpc::failure::Refused;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Role, Rpc, State};
use crate::engine::short::is_short;
use crate::engine::stats::Count;
use crate::event::{DropReason, FailReason, Placement, Received};
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
        self.ctx.tick(now, &mut self.peers);
        self.ctx.stats.packets_received.inc();
        let data = DataView::of(header, transport_len);
        if let Some(data) = data.filter(is_short) {
            if let Some(whole) = self.short_message(&meta.path, data, transport_len) {
                return Received::Place(whole);
            }
        }
        let parsed = match data {
            Some(data) => Ok(data.header()),
            None => Header::parse(header, transport_len).map_err(|_| DropReason::Malformed),
        };
        // By reference: `Header` is large.
        let taken = match &parsed {
            Ok(header) => self.packet(meta, header, transport_len),
            Err(reason) => Err(*reason),
        };
        match taken {
            Ok(received) => received,
            Err(reason) => {
                self.ctx.stats.count_drop(reason);
                Received::Dropped(reason)
            }
        }
    }

    #[inline(always)]
    fn packet(
        &mut self,
        meta: &RxMeta,
        header: &Header,
        transport_len: u32,
    ) -> Result<Received, DropReason> {
        if matches!(header.body, Body::Freeze) {
            self.ctx.stats.freezes_received.inc();
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
        let mut peer = self.peers.find(path);
        self.check_profile(peer, path, header)?;
        let id = header.common.local_id();
        let port = self.check_port(path, header, id)?;
        if let Some(index) = peer {
            peer = self.recognise(index, header, transport_len, id);
            if Profile::of(header) == Profile::Linux {
                self.notice_linux(index, path, header, id);
            }
        }
        match &header.body {
            Body::Data(data) => {
                let received = self.data(peer, path, header, data, transport_len, port);
                let again = data.is_retransmission(&header.common);
                self.ctx.stats.count_retransmission(again, &received);
                let linux_again = again && Profile::of(header) == Profile::Linux;
                if let Some(peer) = peer.filter(|_| linux_again) {
                    if let Some(peer) = self.peers.known_mut(peer) {
                        peer.note_if_spurious(&received, &self.ctx);
                    }
                }
                received
            }
            _ => self.control(peer, path, header, id),
        }
    }

    /// Checks that the packet is of this implementation, in this version; Linux packets only over
    /// raw IP.
    fn check_profile(
        &mut self,
        peer: Option<PeerIndex>,
        path: &Path,
        header: &Header,
    ) -> Result<(), DropReason> {
        match header.common.version() {
            Some(VERSION) => Ok(()),
            None if path.carriage == Carriage::Ip => Ok(()),
            None => Err(DropReason::Foreign),
            // An announcement of a newer version counts as none.
            Some(_) if path.carriage == Carriage::Ip && is_cutoffs(header) => Ok(()),
            Some(theirs) => {
                self.ctx.stats.last_foreign_version = theirs;
                let id = header.common.local_id();
                if let Some(index) = self.ids.find(&self.rpcs, peer, path, id) {
                    self.fail_rpc(index, FailReason::VersionMismatch { theirs });
                } else if matches!(header.body, Body::Data(_)) && !self.ids.is_call(id) {
                    self.replies.refuse(
                        (path, header),
                        (Reason::Version, u32::from(VERSION)),
                        &self.peers,
                        &mut self.ctx,
                    );
                }
                Err(DropReason::Version)
            }
        }
    }

    /// Checks that the port is open, and serves if it is asked to. Requests to unserved ports are
    /// answered: their first packet, since later ones may overtake it, and what asks about them.
    fn check_port(&mut self, path: &Path, header: &Header, id: u64) -> Result<Port, DropReason> {
        let for_server = RpcId(id).is_server();
        let port = self.ports.get(path.local_port);
        let port = port.filter(|port| port.options.serve || !for_server);
        if port.is_none() {
            self.refuse_port(path, header, for_server);
        }
        port.ok_or(DropReason::NoSuchPort)
    }

    /// Answers a packet for a port that is not open.
    #[cold]
    #[inline(never)]
    fn refuse_port(&mut self, path: &Path, header: &Header, for_server: bool) {
        let asks = matches!(header.body, Body::Resend(_) | Body::NeedAck);
        // Linux hosts learn it from ICMP, which the driver sends.
        let understood = header.common.version().is_some();
        let no_service = (Reason::NoService, Refused::of(header).value());
        let (packet, peers, ctx) = ((path, header), &self.peers, &mut self.ctx);
        match &header.body {
            // The server of a response to a closed port need not keep it.
            Body::Data(_) if !for_server => {
                self.replies.refuse(packet, (Reason::Finished, 0), peers, ctx);
            }
            Body::Data(data) if data.begins(&header.common) => {
                self.replies.refuse(packet, no_service, peers, ctx);
            }
            _ if for_server && asks && understood => {
                self.replies.send(packet, Body::RpcUnknown, no_service, peers, ctx);
            }
            _ => {}
        }
    }

    fn data(
        &mut self,
        peer: Option<PeerIndex>,
        path: &Path,
        header: &Header,
        data: &Data,
        transport_len: u32,
        port: Port,
    ) -> Result<Received, DropReason> {
        let id = header.common.local_id();
        self.receiver.note_data(self.ctx.now);
        if let Some(ack) = data.acknowledged() {
            self.acknowledge_later(peer, path, &ack);
        }
        if let Some(peer) = peer {
            self.offer_cutoffs(peer, path, header, data.cutoff_version);
        }
        let found = self.ids.find(&self.rpcs, peer, path, id);
        if let Some(index) = found {
            self.expand(index);
        }
        let index = match found {
            Some(index) => index,
            None if RpcId(id).is_client() => return Err(self.data_for_nobody(path, header, id)),
            None => {
                debug_assert!(
                    port.options.serve,
                    "check_port lets requests pass only to those that serve"
                );
                self.new_request(peer, path, header, data, transport_len, port)?
            }
        };
        let Some(mut rpc) = self.rpcs.known_mut(index) else {
            return Err(DropReason::UnknownRpc);
        };
        if found.is_some() {
            if rpc.comes_of_another_incarnation(header) {
                self.sender_lives_anew(index, header.common.incarnation);
                return Err(DropReason::WrongPeer);
            }
            if let Err(reason) = rpc.check_agreement(header, data, &self.peers) {
                self.accept_length(index, header, data, reason)?;
                rpc = self.rpcs.known_mut(index).ok_or(DropReason::UnknownRpc)?;
            }
        }
        if !data.is_retransmission(&header.common) {
            rpc.note_reaction(&mut self.peers, &self.ctx);
        } else {
            rpc.note_retransmission(&mut self.peers, self.ctx.now);
        }
        rpc.last_heard = self.ctx.now;
        let begins = match (rpc.role, rpc.state()) {
            (Role::Client, State::Outgoing) => {
                self.response_begins(index, header, data, transport_len)?;
                true
            }
            (_, State::Incoming) => found.is_none(),
            _ => return Err(DropReason::Duplicate),
        };
        if begins {
            if let Some(whole) = self.whole_message(index) {
                return Ok(Received::Place(whole));
            }
        }
        let received = self.accept_data(index, header, data, transport_len);
        if begins {
            // The timer of a message that has begun looks for the rest of it.
            if let Some(rpc) = self.rpcs.known(index).filter(|rpc| rpc.state() == State::Incoming) {
                self.ctx.arm(index, rpc.resend.interval_ns());
            }
        }
        received
    }

    /// DATA comes of another incarnation of its sender than the message began with. A server that
    /// was restarted may have executed the request again, and answers something else.
    #[cold]
    fn sender_lives_anew(&mut self, index: RpcIndex, incarnation: u32) {
        let is_present = |rpc: &&Rpc| {
            rpc.is_client()
                && self.peers.known(rpc.peer).is_some_and(|peer| peer.incarnation() == incarnation)
        };
        if let Some(rpc) = self.rpcs.known(index).filter(is_present) {
            self.ctx.tell(rpc, &self.peers, Body::RpcUnknown, Reason::Cancelled);
            self.fail_rpc(index, FailReason::Restarted);
        }
    }

    /// DATA of a message that does not agree with what has come of it, for that `reason`: a message
    /// that may grow has become longer, or the packet is older than that.
    #[cold]
    fn accept_length(
        &mut self,
        index: RpcIndex,
        header: &Header,
        data: &Data,
        reason: DropReason,
    ) -> Result<(), DropReason> {
        let incoming = self.rpcs.known_mut(index).filter(|rpc| rpc.state() == State::Incoming);
        let rpc = incoming.ok_or(reason)?;
        if !rpc.rx.is_open() || data.message_flags(&header.common) != rpc.rx.flags() {
            return Err(reason);
        }
        let length = data.message_length;
        if self.ctx.config.limits.exceeds(length, data.flags) {
            self.refuse_length(index);
            return Err(DropReason::TooLong);
        }
        if length > rpc.rx.length() {
            let again = data.is_retransmission(&header.common);
            self.receiver.grow(rpc, (length, data.incoming), again, &self.ctx);
        }
        Ok(())
    }

    /// An incoming message is longer than this end takes.
    #[cold]
    fn refuse_length(&mut self, index: RpcIndex) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let (max_bytes, failure) = match rpc.role {
            Role::Client => (0, FailReason::ResponseTooLong),
            Role::Server => (self.ctx.config.limits.max_message_bytes, FailReason::RequestTooLong),
        };
        let why = (Reason::TooLong, max_bytes);
        self.ctx.tell_with(why, rpc, &self.peers, Body::RpcUnknown);
        self.fail_rpc(index, failure);
    }

    /// DATA for a client RPC that is over or never was.
    fn data_for_nobody(&mut self, path: &Path, header: &Header, id: u64) -> DropReason {
        if self.ids.is_call(id) {
            return DropReason::WrongPeer;
        }
        // Ends the server's state at once. That of Linux servers ends when they ask for an
        // acknowledgement.
        self.replies.refuse((path, header), (Reason::Finished, 0), &self.peers, &mut self.ctx);
        DropReason::UnknownRpc
    }

    /// Creates the RPC of a request that was not seen before.
    fn new_request(
        &mut self,
        peer: Option<PeerIndex>,
        path: &Path,
        header: &Header,
        data: &Data,
        transport_len: u32,
        port: Port,
    ) -> Result<RpcIndex, DropReason> {
        let id = header.common.local_id();
        self.check_request(peer, path, header, data)?;
        if port.draining {
            self.refuse_draining(path, header, data);
            return Err(DropReason::Draining);
        }
        let validated = self.peers.is_validated(peer, path, header);
        let comes_whole = transport_len.saturating_sub(DATA_HEADER) >= data.message_length;
        let limited = Profile::of(header).is_native() && !validated && !comes_whole;
        self.check_address(peer, path, header, data, (validated, limited))?;
        let created = self.create_server_rpc(peer, path, header, port, validated);
        let Some((index, client)) = created else {
            self.ctx.stats.requests_refused.inc();
            self.replies.refuse(
                (path, header),
                (Reason::Overloaded, 0),
                &self.peers,
                &mut self.ctx,
            );
            return Err(DropReason::Limit);
        };
        if peer.is_none() {
            self.recognise(client, header, transport_len, id);
            self.offer_cutoffs(client, path, header, data.cutoff_version);
        }
        if let Some(client) = self.peers.known_mut(client) {
            client.note_request(id, &mut self.ctx);
        }
        if let Some(rpc) = self.rpcs.known(index) {
            self.unvalidated.add(rpc, &self.peers);
        }
        let packet = (header, data, transport_len.saturating_sub(DATA_HEADER));
        self.receiver.begin(index, packet, &mut self.rpcs, &self.peers, &mut self.ctx);
        if limited {
            if let Some(rpc) = self.rpcs.known_mut(index) {
                self.receiver.count_unvalidated(rpc);
                // The reply to the probe validates the address, whether or not there is a grant.
                self.ctx.tell(rpc, &self.peers, Body::NeedAck, Reason::Probe);
            }
        }
        Ok(index)
    }

    /// Answers a request to a port that accepts none any more. A copy of it may come later. With
    /// one that names this incarnation no other one has begun.
    #[cold]
    #[inline(never)]
    fn refuse_draining(&mut self, path: &Path, header: &Header, data: &Data) {
        let refused = if data.echo == 0 { Refused::of(header) } else { Refused::First };
        if refused == Refused::First || data.begins(&header.common) {
            let why = (Reason::NotExecuted, refused.value());
            self.replies.refuse((path, header), why, &self.peers, &mut self.ctx);
        }
    }

    /// Checks that a request is new, meant for this incarnation, and not too long.
    fn check_request(
        &mut self,
        peer: Option<PeerIndex>,
        path: &Path,
        header: &Header,
        data: &Data,
    ) -> Result<(), DropReason> {
        let (id, native) = (header.common.local_id(), Profile::of(header).is_native());
        if data.message_length == 0 || (native && header.common.incarnation == 0) {
            return Err(DropReason::Malformed);
        }
        let known = peer.and_then(|peer| self.peers.known(peer));
        let hash = known.map_or_else(|| self.peers.hash_of(path), |peer| peer.numbers.hash);
        let fresh = native
            && path.carriage == Carriage::Udp
            && known.is_some_and(|peer| peer.is_newest_request(id, &self.ctx));
        if !fresh && self.finished.contains(self.ctx.read_clock.now(), hash, id) {
            self.ctx.stats.finished_hits.inc();
            // Its client still repeats it: the time until it may be forgotten begins again. It
            // replaces the older entry, so there is room.
            let _ = self.finished.insert(self.ctx.read_clock.stamp(), hash, id);
            return Err(DropReason::Duplicate);
        }
        if native && data.echo != 0 && data.echo != self.peers.incarnation_for(peer, path) {
            self.ctx.stats.stale_incarnations.inc();
            self.replies.refuse(
                (path, header),
                (Reason::Restarted, self.ctx.age_us()),
                &self.peers,
                &mut self.ctx,
            );
            return Err(DropReason::UnknownRpc);
        }
        if native && data.echo == 0 && self.ctx.is_quiet() {
            self.ctx.stats.stale_incarnations.inc();
            if data.begins(&header.common) {
                let why = (Reason::NeverSeen, self.ctx.age_us());
                self.replies.refuse((path, header), why, &self.peers, &mut self.ctx);
            }
            return Err(DropReason::UnknownRpc);
        }
        let max_bytes = self.ctx.config.limits.max_message_bytes;
        if self.ctx.config.limits.exceeds(data.message_length, data.flags) {
            self.replies.refuse(
                (path, header),
                (Reason::TooLong, max_bytes),
                &self.peers,
                &mut self.ctx,
            );
            return Err(DropReason::TooLong);
        }
        Ok(())
    }

    /// Checks that a client may have a place and memory: its address is `validated`, or the share
    /// of unvalidated clients has room.
    fn check_address(
        &mut self,
        peer: Option<PeerIndex>,
        path: &Path,
        header: &Header,
        data: &Data,
        (validated, limited): (bool, bool),
    ) -> Result<(), DropReason> {
        // A client that starts anew has the address of its former incarnation: it cannot have both.
        let in_place_of_another = peer.is_none() && self.peers.find(path).is_some();
        let no_memory = limited && !self.receiver.admits_unvalidated(header, data, &self.ctx);
        let serving_max = self.ctx.config.serving_max();
        let put_off = no_memory
            || (!validated
                && self.shares.needs_validation_first(&self.peers, peer, path, serving_max));
        if !in_place_of_another && !put_off {
            return Ok(());
        }
        self.ctx.stats.unvalidated_put_off.inc();
        if data.begins(&header.common) {
            // RPC_UNKNOWN (*never seen*) tells the client our incarnation; its retransmission
            // echoes it. A request that was sent once, and came here, came to no other
            // incarnation: there is no age to compare.
            let age_us = match Refused::of(header) {
                Refused::First => 0,
                _ => self.ctx.age_us(),
            };
            let why = (Reason::NeverSeen, age_us);
            let (peers, ctx) = (&self.peers, &mut self.ctx);
            self.replies.send((path, header), Body::RpcUnknown, why, peers, ctx);
        }
        Err(if in_place_of_another { DropReason::WrongPeer } else { DropReason::NoMemory })
    }

    /// A new RPC and the peer that it is served to. `None`: a limit is reached.
    #[inline(always)]
    fn create_server_rpc(
        &mut self,
        peer: Option<PeerIndex>,
        path: &Path,
        header: &Header,
        port: Port,
        validated: bool,
    ) -> Option<(RpcIndex, PeerIndex)> {
        if !self.can_remember_request() {
            // It may not have been rotated for a while.
            self.finished.rotate(self.ctx.read_clock.now());
            if !self.can_remember_request() {
                return None;
            }
        }
        let serving_max = self.ctx.config.serving_max();
        if !self.shares.has_place(serving_max) && !self.displace_unvalidated(peer) {
            return None;
        }
        let id = header.common.local_id();
        let peer_index = match peer {
            Some(peer) => peer,
            None => self.new_client(path, validated)?,
        };
        let host = self.peers.known(peer_index)?.host();
        if !self.shares.may_serve(host, validated, serving_max) {
            return None;
        }
        self.ids.try_reserve_request().ok()?;
        let index = self.add_rpc(Role::Server, id, path, peer_index).ok()?;
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.begun_in = Profile::of(header);
            rpc.peer_incarnation = header.common.incarnation;
            rpc.rx.read_as_stream(port.options.streaming_requests);
        }
        self.ids.add_request(index, peer_index, path, id);
        self.ctx.stats.requests_received.inc();
        if let Some(peer) = self.peers.known_mut(peer_index) {
            self.shares.begin(host, &mut peer.served, validated);
        }
        Some((index, peer_index))
    }

    /// Whether there is room to remember one more request when it is finished.
    #[inline]
    pub(crate) fn can_remember_request(&self) -> bool {
        let remembered = self.finished.len().saturating_add(self.shares.serving());
        remembered < self.ctx.config.fixed.finished_max as usize
    }

    /// The peer of a first request, if its host may have one more.
    #[inline(never)]
    fn new_client(&mut self, path: &Path, validated: bool) -> Option<PeerIndex> {
        let host = self.peers.host_at(path.remote.ip());
        let peers_max = self.ctx.config.peers.max;
        let may = host.is_none_or(|host| self.shares.may_have_peer(host, validated, peers_max));
        if may { self.peer_or_new(self.ctx.now, path) } else { None }
    }

    /// The first DATA of a response: the request is done.
    fn response_begins(
        &mut self,
        index: RpcIndex,
        header: &Header,
        data: &Data,
        transport_len: u32,
    ) -> Result<(), DropReason> {
        if data.message_length == 0 {
            return Err(DropReason::Malformed);
        }
        if self.ctx.config.limits.exceeds(data.message_length, data.flags) {
            self.refuse_length(index);
            return Err(DropReason::TooLong);
        }
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return Err(DropReason::UnknownRpc);
        };
        rpc.note_full_size(u32::MAX, &mut self.peers, &self.ctx.config);
        if rpc.restarts.is_any() && !rpc.confirmed {
            rpc.note_retransmission(&mut self.peers, self.ctx.now);
        }
        rpc.set_confirmed(false, &mut self.peers, &mut self.ctx);
        // Before its charge: the room that it leaves must not be given to itself.
        if rpc.tx.blocked {
            self.sender.unblock(index, &mut self.rpcs, &mut self.peers);
        }
        self.sender.reacted(index, &mut self.rpcs, &mut self.peers, &self.ctx);
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.go_on(State::Incoming);
            rpc.tx.end();
            rpc.peer_incarnation = header.common.incarnation;
        }
        self.sender.forget(index);
        self.shares.release(index, u32::MAX, &mut self.rpcs, &self.peers, &mut self.ctx);
        let packet = (header, data, transport_len.saturating_sub(DATA_HEADER));
        self.receiver.begin(index, packet, &mut self.rpcs, &self.peers, &mut self.ctx);
        Ok(())
    }

    /// The message that a packet brought as a whole, if it was taken when it began.
    #[inline(never)]
    fn whole_message(&mut self, index: RpcIndex) -> Option<Placement> {
        let rpc = self.rpcs.known(index).filter(|rpc| rpc.rx.is_complete())?;
        let (rpc, message_length) = (rpc.key(), rpc.rx.length());
        self.message_complete(index);
        Some(Placement {
            rpc,
            offset: 0,
            packet: packet_range(0, 0, message_length),
            message_length,
        })
    }

    /// Takes the payload of a DATA packet into the incoming message of an RPC.
    #[inline(always)]
    fn accept_data(
        &mut self,
        index: RpcIndex,
        header: &Header,
        data: &Data,
        transport_len: u32,
    ) -> Result<Received, DropReason> {
        let Some(mut rpc) = self.rpcs.known_mut(index) else {
            return Err(DropReason::UnknownRpc);
        };
        if rpc.rx.is_unvalidated() {
            self.receiver.look_for_proof(index, &mut self.rpcs, &self.peers);
            rpc = self.rpcs.known_mut(index).ok_or(DropReason::UnknownRpc)?;
        }
        let peer = self.peers.known(rpc.peer);
        let base = self.ctx.next_interval_ns(peer, rpc.profile_with(peer));
        let range = data_range(header, data, transport_len)?;
        let again = data.is_retransmission(&header.common);
        let new = self.receiver.accept(rpc, range, again, base, &mut self.ctx)?;
        let peers = &mut self.peers;
        self.receiver.note_round_trip(rpc, (new.end, again), peers, &self.ctx);
        let placement = Placement {
            rpc: rpc.key(),
            offset: new.start,
            packet: packet_range(range.0, new.start, new.end),
            message_length: rpc.rx.length(),
        };
        let complete = rpc.rx.is_complete();
        if new.spoke_again {
            self.ctx.arm(index, base);
        }
        self.ids.set_arriving(Some(index).filter(|_| !complete));
        if complete {
            self.message_complete(index);
        }
        Ok(Received::Place(placement))
    }

    fn message_complete(&mut self, index: RpcIndex) {
        let Some(mut rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if rpc.rx.is_managed() {
            self.receiver.stop_granting(index, &mut self.rpcs);
            let Some(again) = self.rpcs.known_mut(index) else {
                return;
            };
            rpc = again;
        }
        self.receiver.complete(rpc, &mut self.ctx);
        if rpc.is_client() {
            rpc.go_on(State::Delivered);
            rpc.call.deadline = None;
            let (id, peer) = (rpc.id, rpc.peer);
            self.ctx.stats.responses_received.inc();
            self.peers.acknowledge_call(rpc, &mut self.ctx);
            self.ids.forget_call(id);
            self.peers.unlink_call(index, peer, &mut self.rpcs);
        } else {
            rpc.go_on(State::InService);
        }
    }
}

impl PeerTable {
    /// Whether the address of a request is its client's: over UDP it or an earlier packet echoed
    /// our incarnation, over raw IP addresses are not validated.
    #[inline(always)]
    fn is_validated(&self, peer: Option<PeerIndex>, path: &Path, header: &Header) -> bool {
        path.carriage == Carriage::Ip
            || peer.and_then(|peer| self.known(peer)).is_some_and(|peer| peer.validation.is_done())
            || (Profile::of(header).is_native() && echo(header) == self.incarnation_for(peer, path))
    }
}

impl Rpc {
    /// Whether a message has begun to arrive, and this packet is of another incarnation of its
    /// sender.
    #[inline]
    fn comes_of_another_incarnation(&self, header: &Header) -> bool {
        self.state() == State::Incoming
            && Profile::of(header).is_native()
            && header.common.incarnation != self.peer_incarnation
    }

    /// Checks that the sender of DATA may speak about the RPC, or, if a message has begun to
    /// arrive, that the packet belongs to it.
    #[inline]
    fn check_agreement(
        &self,
        header: &Header,
        data: &Data,
        peers: &PeerTable,
    ) -> Result<(), DropReason> {
        match self.state() {
            State::Incoming => {
                let flags = self.rx.flags();
                let agrees = data.message_length == self.rx.length()
                    && (data.flags == flags || data.message_flags(&header.common) == flags);
                if agrees { Ok(()) } else { Err(DropReason::BadRange) }
            }
            _ if self.may_be_spoken_of(header, peers) => Ok(()),
            _ => Err(DropReason::WrongPeer),
        }
    }
}

impl Peer {
    /// Whether this request is younger than all that the present incarnation of the peer has sent
    /// here. Clients of this implementation count their ids up, so it cannot be one that is
    /// finished, and the memory of those need not be searched. What was sent before the count began
    /// is forgotten when it is believed.
    pub(crate) fn is_newest_request(&self, id: u64, ctx: &Ctx) -> bool {
        self.newest_request.is_some_and(|(newest, since)| {
            is_newer(id, newest)
                && ctx.read_clock.now() >= since + ctx.config.recovery.finished_memory
        })
    }

    /// Counts a request of this peer.
    pub(crate) fn note_request(&mut self, id: u64, ctx: &mut Ctx) {
        let (newest, _) = self.newest_request.get_or_insert_with(|| (id, ctx.read_clock.stamp()));
        if is_newer(id, *newest) {
            *newest = id;
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

/// Whether `id` was chosen after `other`. Ids count up and wrap.
fn is_newer(id: u64, other: u64) -> bool {
    (1..1 << 63).contains(&id.wrapping_sub(other))
}

/// The range of the message that a DATA packet carries, checked
/// (docs/spec/wire-format.md §9 step 5).
fn data_range(header: &Header, data: &Data, transport_len: u32) -> Result<(u32, u32), DropReason> {
    // It agrees with what has come, or that has become longer since the packet was sent.
    let length = data.message_length;
    let payload = transport_len.saturating_sub(DATA_HEADER);
    let start = data.offset(header.common.sequence);
    if start >= length || payload == 0 {
        return Err(DropReason::BadRange);
    }
    let room = length.saturating_sub(start);
    // Native profile: bytes after the message's end are padding.
    if payload > room && Profile::of(header) == Profile::Linux {
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
