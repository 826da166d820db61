"""A host as the Linux kernel module is one: RPC states, packet dispatch, timer (docs/spec/protocol.md)."""

import time
from collections import Counter, deque

import wire
from messages import Grants, Incoming, Outgoing

TOP_LEVEL = 7
LONGEST = 1_000_000
CUTOFFS = [0x7FFFFFFF, 0, 0, 0, 1_000_000, 15_000, 2_800, 200]
NO_CUTOFFS = [0x7FFFFFFF, 0, 0, 0, 0, 0, 0x7FFFFFFF, 0]
TICK_SECS = 0.001


class Timers:
    """Ticks of one millisecond: the defaults of the kernel module, or longer ones."""

    def __init__(self, resend=5, interval=5, request_ack=2, timeout=100):
        self.resend, self.interval, self.request_ack, self.timeout = resend, interval, request_ack, timeout


class Peer:
    """What a host keeps of another: one record per address."""

    def __init__(self):
        self.cutoffs, self.cutoff_version = NO_CUTOFFS, 0
        self.acks = []
        self.cutoffs_sent_at = -1.0

    def level(self, length):
        return next(level for level in range(TOP_LEVEL, -1, -1) if self.cutoffs[level] >= length)


class Rpc:
    """`id` is in the host's own form; `ports` are its own and the peer's."""

    def __init__(self, rpc_id, address, ports):
        self.id, self.address, self.ports = rpc_id, address, ports
        self.is_client = rpc_id % 2 == 0
        self.state = "OUTGOING" if self.is_client else "INCOMING"
        self.request = self.response = None
        self.incoming = self.outgoing = None
        self.silent = 0
        self.done_ticks = None
        self.key = rpc_id if self.is_client else (address, rpc_id)


class Host:
    """`application` is told of requests and ended calls; `observer` sees every packet of either direction."""

    def __init__(self, net, observer, options):
        self.net, self.observer, self.options = net, observer, options
        self.application = None
        self.rpcs, self.peers = {}, {}
        self.next_id = options.first_id
        self.server_port = None
        self.client_ports = set()
        self.deaf = False
        # The last look for packets found all that had arrived since the one before.
        self.drained = False
        # Packets that a slow host has received but not looked at, with the time when it will.
        self.waiting = deque()
        self.counts = Counter()
        self.grants = Grants(self._send_grant)
        self.next_tick = time.monotonic() + TICK_SECS
        header_bytes = 20 if len(net.address) == 4 and not options.ipv6_socket else 40
        self.segment_bytes = options.mtu - header_bytes - 56

    # Calls of the application.

    def send_request(self, address, port, dport, body):
        rpc = Rpc(self.next_id, address, (port, dport))
        self.next_id += 2
        self.rpcs[rpc.key] = rpc
        self._start(rpc, body)
        return rpc

    def send_response(self, rpc, body):
        if self.rpcs.get(rpc.key) is not rpc or rpc.state != "IN_SERVICE":
            return
        rpc.state = "OUTGOING"
        self._start(rpc, body)

    def send_again(self, rpc):
        """As if a RESEND for everything had come."""
        if self.rpcs.get(rpc.key) is rpc and rpc.outgoing is not None:
            self._retransmit(rpc, 0, rpc.outgoing.tx_end, TOP_LEVEL)

    def end(self, rpc):
        self.grants.forget(rpc)
        self.rpcs.pop(rpc.key, None)

    def restart(self):
        """All state is gone, as after a reboot; a call of before is known to nobody."""
        self.rpcs.clear()
        self.peers.clear()
        self.grants = Grants(self._send_grant)

    def peer(self, address):
        return self.peers.setdefault(address, Peer())

    # The loop.

    def turn(self, until):
        """Waits for packets or the next tick, and works off what is there."""
        now = time.monotonic()
        due = self.waiting[0][0] if self.waiting else until
        self.net.wait(min(self.next_tick, until, due) - now)
        self.drained = drained = self._receive()
        now = time.monotonic()
        # A kernel handles packets before timers; this process is slow and must not ask for what it has not read.
        if drained and now >= self.next_tick:
            # A host that comes late has missed ticks, it does not make up for them.
            self.next_tick = now + TICK_SECS
            if not self.deaf:
                self._tick()

    def _receive(self):
        """Whether there was less than a batch: nothing waits to be read."""
        batch, most = [], 20
        arrivals = self.net.receive(most)
        now = time.monotonic()
        for arrived in arrivals:
            lost = self.net.lost()
            self.observer.received(arrived, lost)
            if not lost and not self.deaf:
                self.waiting.append((now + self.options.slow_ms / 1000, arrived))
        while self.waiting and self.waiting[0][0] <= now and len(batch) < most:
            batch.append(self.waiting.popleft()[1])
        for error in self.net.icmp_errors():
            self.counts["icmp " + error.what] += 1
            if not self.deaf:
                self._icmp(error)
        # Control packets and short messages first, then the rest by RPC (docs/spec/protocol.md §21).
        checked = [(arrived, wire.parse_common(arrived.packet)) for arrived in batch if self._well_formed(arrived)]
        later = {}
        for arrived, header in checked:
            if header.type == wire.DATA and wire.parse_data(arrived.packet).length >= 1400:
                later.setdefault((arrived.source, header.sender_id), []).append((arrived, header))
            else:
                self._dispatch([(arrived, header)])
        for group in later.values():
            self._dispatch(group)
        return len(arrivals) < most

    def _well_formed(self, arrived):
        packet = arrived.packet
        ok = len(packet) >= 28 and packet[11] in wire.HEADER_BYTES
        ok = ok and len(packet) >= wire.HEADER_BYTES[packet[11]]
        if not ok:
            self.counts["short_packets"] += 1
        return ok

    def _dispatch(self, group):
        touched = None
        for arrived, header in group:
            if header.type == wire.FREEZE:
                continue
            local_id = header.sender_id ^ 1
            served = header.dport == self.server_port
            if not served and (header.dport not in self.client_ports or local_id % 2 == 1):
                self.counts["port_unreachable_sent"] += 1
                self.net.port_unreachable(arrived)
                continue
            touched = self._handle(arrived, header, local_id) or touched
        if touched is not None and self.rpcs.get(touched.key) is touched and touched.incoming is not None:
            self.grants.check(touched, touched.incoming, time.monotonic())

    def _handle(self, arrived, header, local_id):
        source, packet = arrived.source, arrived.packet
        rpc = self.rpcs.get(local_id if local_id % 2 == 0 else (source, local_id))
        kind = header.type
        ports = (header.dport, header.sport)
        if kind == wire.DATA:
            return self._data(source, header, packet, rpc, local_id, ports)
        if kind == wire.GRANT and rpc is not None:
            self._grant(rpc, *wire.parse_grant(packet))
        elif kind == wire.RESEND:
            self._resend(rpc, source, local_id, ports, *wire.parse_resend(packet))
        elif kind == wire.UNKNOWN and rpc is not None:
            self._unknown(rpc)
        elif kind == wire.BUSY and rpc is not None:
            rpc.silent = 0
        elif kind == wire.CUTOFFS:
            values, version = wire.parse_cutoffs(packet)
            peer = self.peer(source)
            peer.cutoffs, peer.cutoff_version = [0x7FFFFFFF, *values[1:]], version
        elif kind == wire.NEED_ACK:
            self._need_ack(rpc, source, local_id, ports)
        elif kind == wire.ACK:
            self._acked(source, local_id)
            for client_id, _ in wire.parse_acks(packet):
                self._acked(source, client_id ^ 1)
        elif rpc is None:
            self.counts["unknown_rpcs"] += 1
        return None

    # Packets.

    def _data(self, source, header, packet, rpc, local_id, ports):
        fields = wire.parse_data(packet)
        if rpc is None:
            if local_id % 2 == 0 or fields.length > LONGEST:
                self.counts["unknown_rpcs"] += 1
                return None
            rpc = Rpc(local_id, source, ports)
            self.rpcs[rpc.key] = rpc
        if rpc.incoming is None and (not rpc.is_client or rpc.state == "OUTGOING"):
            rpc.incoming = Incoming(fields.length, fields.incoming, time.monotonic())
            rpc.state = "INCOMING"
        rpc.silent = 0
        self._maybe_cutoffs(rpc, fields.cutoff_version)
        offset = fields.seg_offset
        if offset == wire.ALL_ONES and not self.options.no_gro:
            offset = header.sequence
        payload, message = packet[56:], rpc.incoming
        if message is None or rpc.state != "INCOMING":
            self.counts["data_not_expected"] += 1
        elif offset >= message.length or len(payload) > message.length - offset or not payload:
            self.counts["data_out_of_range"] += 1
        else:
            self.counts["data_" + message.add(offset, payload)] += 1
        if fields.ack_id != 0:
            self._acked(source, fields.ack_id ^ 1)
        if rpc.state == "INCOMING" and message is not None and message.missing == 0:
            self.grants.check(rpc, message, time.monotonic())
            self._complete(rpc)
            return None
        return rpc

    def _complete(self, rpc):
        if rpc.is_client:
            self.end(rpc)
            self._queue_ack(rpc)
            self.application.answered(rpc, bytes(rpc.incoming.body))
        else:
            rpc.state = "IN_SERVICE"
            self.application.requested(rpc, bytes(rpc.incoming.body))

    def _queue_ack(self, rpc):
        acks = self.peer(rpc.address).acks
        if len(acks) < 5:
            acks.append((rpc.id, rpc.ports[1]))
        else:
            self.peer(rpc.address).acks = []
            self._control(wire.ACK, rpc.address, rpc.ports, rpc.id, wire.ack_body(acks))

    def _need_ack(self, rpc, source, local_id, ports):
        if rpc is not None and (rpc.incoming is None or rpc.incoming.missing > 0):
            self._request_retransmission(rpc)
            return
        acks = self.peer(source).acks
        # The RPC of the header is named there.
        rest = [ack for ack in acks if ack[0] != local_id]
        self.peer(source).acks = []
        self._control(wire.ACK, source, ports, local_id, wire.ack_body(rest))

    def _acked(self, source, server_id):
        rpc = self.rpcs.get((source, server_id))
        if rpc is not None:
            if rpc.state != "OUTGOING":
                self.counts["acked_too_early"] += 1
            self.end(rpc)

    def _grant(self, rpc, offset, level):
        if rpc.state != "OUTGOING" or rpc.outgoing is None:
            return
        rpc.silent = 0
        message = rpc.outgoing
        message.granted = max(message.granted, min(offset, message.length))
        message.level = level
        self._transmit(rpc)

    def _resend(self, rpc, source, local_id, ports, offset, length, level):
        if rpc is None:
            self._control(wire.UNKNOWN, source, ports, local_id)
            return
        message = rpc.outgoing
        if message is None or (not rpc.is_client and rpc.state != "OUTGOING"):
            self._control(wire.BUSY, source, ports, local_id)
            return
        end = message.tx_end if length == wire.ALL_ONES else offset + length
        self._retransmit(rpc, offset, min(end, message.tx_end), level)
        if end > message.granted:
            message.granted = min(end, message.length)
            self._transmit(rpc)
        if offset >= message.tx_end:
            self._control(wire.BUSY, source, ports, local_id)

    def _unknown(self, rpc):
        if not rpc.is_client:
            self.end(rpc)
        elif rpc.state == "OUTGOING":
            level = self.peer(rpc.address).level(rpc.outgoing.length)
            self._retransmit(rpc, 0, rpc.outgoing.tx_end, level)

    def _icmp(self, error):
        for rpc in list(self.rpcs.values()):
            if rpc.address == error.source and (error.what != "ENOTCONN" or rpc.ports[1] == error.dport):
                self._fail(rpc, error.what)

    def _fail(self, rpc, why):
        self.end(rpc)
        if rpc.is_client:
            self.application.failed(rpc, why)

    # Sending.

    def _start(self, rpc, body):
        peer = self.peer(rpc.address)

        def take_ack():
            return peer.acks.pop() if peer.acks else (0, 0)

        rpc.silent = 0
        rpc.outgoing = Outgoing(body, self.segment_bytes, self.options.segments, take_ack)
        self._transmit(rpc)

    def _transmit(self, rpc):
        message, peer = rpc.outgoing, self.peer(rpc.address)
        while message.may_send():
            packet = message.packets[message.next]
            message.next += 1
            unscheduled = packet[0] < message.unscheduled
            level = peer.level(message.length) if unscheduled else message.level
            for offset, end, ack, doff in message.segments(packet):
                single = doff == 14
                sequence = offset if single or self.net.encapsulate else packet[0]
                seg_offset = wire.ALL_ONES if single or self.net.encapsulate else offset
                fields = (message.length, message.unscheduled, *ack, peer.cutoff_version, 0, b"\0\0\0", seg_offset)
                doff = 14 if self.net.encapsulate else doff
                body = message.body[offset:end]
                self._emit(rpc.address, level, wire.data(rpc.ports, rpc.id, sequence, fields, body, doff))

    def _retransmit(self, rpc, start, end, level):
        """Every original segment that overlaps the range."""
        message, version = rpc.outgoing, self.peer(rpc.address).cutoff_version
        for packet in message.packets[:message.next]:
            if packet[1] <= start or packet[0] >= end:
                continue
            for offset, segment_end, ack, doff in message.segments(packet):
                if segment_end <= start or offset >= end:
                    continue
                fields = (message.length, end, *ack, version, 1, b"\0\0\0", offset)
                body = message.body[offset:segment_end]
                self.counts["retransmitted"] += 1
                self._emit(rpc.address, level, wire.data(rpc.ports, rpc.id, offset, fields, body, doff))

    def _maybe_cutoffs(self, rpc, version):
        peer, now = self.peer(rpc.address), time.monotonic()
        if version != self.options.cutoff_version and now >= peer.cutoffs_sent_at + 0.004:
            peer.cutoffs_sent_at = now
            body = wire.cutoffs_body(CUTOFFS, self.options.cutoff_version)
            self._control(wire.CUTOFFS, rpc.address, rpc.ports, rpc.id, body)

    def _send_grant(self, rpc, offset, level):
        self._control(wire.GRANT, rpc.address, rpc.ports, rpc.id, wire.grant_body(offset, level))

    def _control(self, kind, address, ports, rpc_id, body=b""):
        self._emit(address, TOP_LEVEL, wire.control(kind, ports, rpc_id, body))

    def _emit(self, address, level, packet):
        if self.deaf:
            return
        lost = self.net.lost()
        self.counts["sent_" + wire.NAMES[packet[11]]] += 1
        if not lost:
            self.net.send(address, level, packet)
        # Afterwards, since this process may have been kept from sending for a while.
        self.observer.sent(address, packet, lost)

    # Time.

    def _request_retransmission(self, rpc):
        ranges = [(0, -1)] if rpc.incoming is None else rpc.incoming.wanted()
        for offset, length in ranges:
            body = wire.resend_body(offset, length, TOP_LEVEL)
            self._control(wire.RESEND, rpc.address, rpc.ports, rpc.id, body)

    def _tick(self):
        timers = self.options.timers
        for rpc in list(self.rpcs.values()):
            rpc.silent += 1
            if rpc.state == "IN_SERVICE":
                rpc.silent = 0
                continue
            if not rpc.is_client and rpc.state == "OUTGOING" and rpc.outgoing.tx_end == rpc.outgoing.length:
                rpc.done_ticks = 0 if rpc.done_ticks is None else rpc.done_ticks + 1
                if rpc.done_ticks >= timers.request_ack:
                    self._control(wire.NEED_ACK, rpc.address, rpc.ports, rpc.id)
            if rpc.state == "INCOMING" and rpc.incoming.received >= rpc.incoming.granted:
                rpc.silent = 0
            elif not rpc.is_client and rpc.state != "INCOMING":
                rpc.silent = 0
            elif rpc.is_client and rpc.state == "OUTGOING" and rpc.outgoing.tx_end < rpc.outgoing.granted:
                rpc.silent = 0
            elif rpc.silent >= timers.timeout:
                self._fail(rpc, "ETIMEDOUT")
            elif rpc.silent >= timers.resend and (rpc.silent - timers.resend) % timers.interval == 0:
                self._request_retransmission(rpc)
