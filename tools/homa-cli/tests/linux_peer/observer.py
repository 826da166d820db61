"""Watches all packets between this host and the other one, and tells what a Linux host would never have sent.

It knows the other host by its packets alone: what it was sent (and what of that was lost on purpose) and what it sent.
"""

import time
from collections import Counter, defaultdict

import wire

INITIAL_LEVEL = 6
TABLE = [0x7FFFFFFF, 0, 0, 0, 1_000_000, 15_000, 2_800, 200]


def level_of(length):
    return next(level for level in range(7, -1, -1) if TABLE[level] >= length)


class Theirs:
    """The message of an RPC that the other host sends."""

    def __init__(self, fields, now):
        self.length, self.incoming, self.first_version, self.began = fields.length, fields.incoming, fields.cutoff_version, now
        self.seen = Counter()
        self.repeated = Counter()
        self.granted = fields.incoming
        self.levels = {0}
        self.end = 0
        self.whole_sent = False

    def grid(self, offset, segment):
        """Where the segment that begins at `offset` has to end; None if none begins there."""
        base, end = (0, self.incoming) if offset < self.incoming else (self.incoming, self.length)
        return None if (offset - base) % segment else min(offset + segment, end)


class Ours:
    """The message of an RPC that this host sends: which bytes of it were not lost, since when, and by which packet."""

    def __init__(self, length):
        self.length = length
        self.delivered = {}
        self.sent_end = 0
        self.missing = length
        self.completed_by = 0

    def sent(self, offset, end, lost, now, number):
        self.sent_end = max(self.sent_end, end)
        if not lost and (offset, end) not in self.delivered:
            self.delivered[offset, end] = (now, number)
            self.missing -= end - offset
            if self.missing == 0:
                self.completed_by = number


class Call:
    """Both messages of an RPC and the questions about them. `asked` are ranges this host sent RESENDs for."""

    def __init__(self):
        self.theirs = self.ours = None
        self.asked = []
        self.everything_asked = 0
        self.asked_by_us = self.busy = self.unknowns = self.need_acks = 0
        # When the other host last asked for what is missing from each offset on.
        self.asked_them_at = {}
        self.need_ack_at = 0.0
        self.acknowledged = False
        self.last_sent = 0.0


class Observer:
    """`violations` are sentences; `counts` are packets by type and direction."""

    def __init__(self, net, options):
        self.net, self.options = net, options
        self.calls = defaultdict(Call)
        # Packets are numbered as they are sent. The other host reads them in this order, and has read those up to
        # `read`: what it says shows that. How long it takes depends on its machine, which may be busy.
        self.numbered = 0
        self.read = Counter()
        self.violations, self.counts = [], Counter()
        self.segment = None
        self.cutoffs_due = 0
        self.need_ack_intervals, self.resend_intervals = [], []
        # Where the other host runs on a slow machine its answers cross with new packets for so long.
        self.patience_secs = options.patience_ms / 1000

    def wrong(self, text):
        self.counts["violations"] += 1
        if len(self.violations) < 40:
            self.violations.append(text)

    # What this host sends.

    def sent(self, address, packet, lost):
        header, now = wire.parse_common(packet), time.time()
        self.numbered += 1
        call = self.calls[address, header.sender_id & ~1]
        kind = header.type
        if lost:
            self.counts["lost_out"] += 1
        if kind == wire.DATA:
            fields = wire.parse_data(packet)
            offset = header.sequence if fields.seg_offset == wire.ALL_ONES else fields.seg_offset
            call.ours = call.ours or Ours(fields.length)
            # Without the receive-offload hook such a packet is of no use; the module has the same hole.
            call.ours.sent(offset, offset + len(packet) - 56, lost, now, self.numbered)
            self.cutoffs_due += fields.cutoff_version == 0
        elif kind == wire.GRANT and call.theirs:
            offset, level = wire.parse_grant(packet)
            call.theirs.granted = max(call.theirs.granted, offset)
            call.theirs.levels.add(level)
        elif kind == wire.RESEND:
            offset, length, level = wire.parse_resend(packet)
            call.asked_by_us += 1
            if length == wire.ALL_ONES:
                call.everything_asked += 1
            else:
                call.asked.append((offset, offset + length))
            if call.theirs:
                call.theirs.levels.add(level)
                if length != wire.ALL_ONES:
                    call.theirs.granted = max(call.theirs.granted, offset + length)
        elif kind == wire.UNKNOWN:
            call.everything_asked += 1
        call.last_sent = now

    # What arrives.

    def received(self, arrived, lost):
        packet, now = arrived.packet, arrived.at
        if lost:
            self.counts["lost_in"] += 1
        if len(packet) < 28 or packet[11] not in wire.NAMES or len(packet) < wire.HEADER_BYTES[packet[11]]:
            self.wrong(f"not a packet: {packet[:60].hex()}")
            return
        header = wire.parse_common(packet)
        name = wire.NAMES[header.type]
        self.counts["got_" + name] += 1
        self.counts["native"] += arrived.native
        who = f"{name} rpc {header.sender_id}"
        self._format(arrived, header, who)
        call = self.calls[arrived.source, header.sender_id & ~1]
        check = getattr(self, "_" + name.lower(), None)
        if check is not None:
            check(call, header, arrived, who, now)

    def _format(self, arrived, header, who):
        packet, kind = arrived.packet, header.type
        announced = kind == wire.CUTOFFS and header.window >> 12 == 0xA
        if not announced and (header.window or header.reserved != b"\0\0\0"):
            self.wrong(f"{who}: window {header.window:#x}, reserved {header.reserved.hex()} in Linux format")
        if header.flags != wire.FLAGS or header.urgent != wire.URGENT:
            self.wrong(f"{who}: flags {header.flags:#x}, urgent {header.urgent:#x}")
        if header.doff != (0xE0 if kind == wire.DATA else 0x50):
            self.wrong(f"{who}: doff {header.doff:#x}")
        if kind != wire.DATA:
            if len(packet) != wire.HEADER_BYTES[kind]:
                self.wrong(f"{who}: {len(packet)} bytes long")
            if arrived.tos != 7 << 5 or header.sequence:
                self.wrong(f"{who}: octet {arrived.tos:#x}, sequence {header.sequence}")
        if arrived.tos & 0x1F or arrived.fragmentable:
            self.wrong(f"{who}: octet {arrived.tos:#x}, fragmentable {arrived.fragmentable}")
        if (header.checksum or not arrived.native) and wire.checksum(arrived.source, arrived.destination, packet):
            self.wrong(f"{who}: checksum {header.checksum:#x} is wrong")

    def _data(self, call, header, arrived, who, now):
        packet = arrived.packet
        fields, size = wire.parse_data(packet), len(packet) - 56
        offset = fields.seg_offset
        if call.theirs is None:
            call.theirs = Theirs(fields, now)
        message = call.theirs
        who = f"{who} {offset}+{size} of {fields.length}"
        if offset != header.sequence:
            self.wrong(f"{who}: sequence {header.sequence}")
        if not 1 <= fields.length <= 1_000_000 or fields.length != message.length:
            self.wrong(f"{who}: before the length was {message.length}")
        if size == 0 or offset + size > fields.length:
            self.wrong(f"{who}: payload out of range")
        if fields.pad != b"\0\0\0" or fields.retransmit > 1:
            self.wrong(f"{who}: pad {fields.pad.hex()}, retransmit {fields.retransmit}")
        if fields.cutoff_version not in (0, self.options.cutoff_version):
            self.wrong(f"{who}: version {fields.cutoff_version} was never told")
        header_bytes = 20 if len(arrived.source) == 4 else 40
        segment = self.options.path_mtu - header_bytes - 56
        if message.grid(offset, segment) != offset + size:
            self.wrong(f"{who}: does not lie on the grid, incoming {message.incoming}")
        if fields.ack_id:
            self._acknowledges(arrived.source, fields.ack_id, who)
        if fields.retransmit:
            self._again(call, message, fields, offset, size, arrived, who)
        else:
            self._first(call, message, fields, offset, size, arrived, who)

    def _first(self, call, message, fields, offset, size, arrived, who):
        if message.seen[offset]:
            self.wrong(f"{who}: sent again without being marked")
        message.seen[offset] += 1
        message.end += size
        message.whole_sent = message.end >= message.length
        if fields.incoming != message.incoming or fields.incoming > fields.length:
            self.wrong(f"{who}: incoming {fields.incoming}, before {message.incoming}")
        if offset >= message.granted:
            self.wrong(f"{who}: not granted, only to {message.granted}")
        level = arrived.tos >> 5
        if offset < message.incoming:
            # Thresholds are followed from the next message on; the version is the newest in every packet.
            right = {level_of(fields.length) if message.first_version else INITIAL_LEVEL}
            if not message.first_version and fields.cutoff_version:
                right.add(level_of(fields.length))
        else:
            right = message.levels
        if level not in right:
            self.wrong(f"{who}: at level {level} instead of {sorted(right)}")

    def _again(self, call, message, fields, offset, size, arrived, who):
        self.counts["retransmissions"] += 1
        if not message.seen[offset]:
            self.wrong(f"{who}: marked as sent again but never sent before")
        if fields.incoming < offset + size or fields.incoming > fields.length:
            self.wrong(f"{who}: retransmission with incoming {fields.incoming}")
        asked = call.everything_asked + sum(a < offset + size and offset < b for a, b in call.asked)
        message.repeated[offset] += 1
        if message.repeated[offset] > asked:
            self.wrong(f"{who}: retransmitted {message.repeated[offset]} times, asked for {asked} times")

    def _grant(self, call, header, arrived, who, now):
        offset, level = wire.parse_grant(arrived.packet)
        ours = call.ours
        if ours is None:
            self.wrong(f"{who}: of a message that was never sent")
            return
        if offset > ours.length or level > 7:
            self.wrong(f"{who}: to {offset} at {level}, length {ours.length}")
        if not ours.delivered:
            self.wrong(f"{who}: before anything arrived")
        if offset <= min(40_000, ours.length):
            self.wrong(f"{who}: grants {offset}, which is unscheduled")

    def _resend(self, call, header, arrived, who, now):
        offset, length, level = wire.parse_resend(arrived.packet)
        who = f"{who} {offset}+{length}"
        self.counts["asked_by_them"] += 1
        if level > 7:
            self.wrong(f"{who}: level {level}")
        if 0 <= now - call.last_sent < 0.004:
            self.counts["early_resends"] += 1
        if offset in call.asked_them_at:
            self.resend_intervals.append(now - call.asked_them_at[offset])
        call.asked_them_at[offset] = now
        ours = call.ours
        read = self.read[arrived.source]

        def there(delivery):
            at, number = delivery
            return number <= read and now - at > self.patience_secs

        if length == wire.ALL_ONES:
            if offset:
                self.wrong(f"{who}: everything from {offset}")
            needless = ours is not None and any(there(delivery) for delivery in ours.delivered.values())
        else:
            if ours is None or offset + length > ours.length or length == 0:
                self.wrong(f"{who}: out of range of {ours and ours.length}")
                return
            # It asks from where something ended that it has read.
            before = [number for (_, end), (_, number) in ours.delivered.items() if end == offset]
            read = max(read, min(before, default=0))
            held = [span for span, delivery in ours.delivered.items() if there(delivery)]
            covered = sum(max(0, min(b, offset + length) - max(a, offset)) for a, b in held)
            needless = covered == length
        if needless:
            self.counts["needless_resends"] += 1
            self.wrong(f"{who}: asks for what it was sent long ago") if not self.net.overflowed else None

    def _acknowledges(self, source, client_id, who):
        if client_id % 2:
            self.wrong(f"{who}: acknowledges the odd id {client_id}")
        call = self.calls.get((source, client_id))
        if call is None or call.ours is None or call.ours.missing:
            self.wrong(f"{who}: acknowledges {client_id}, which is not complete")
        else:
            call.acknowledged = True
            self.read[source] = max(self.read[source], call.ours.completed_by)

    def _ack(self, call, header, arrived, who, now):
        if header.sender_id % 2:
            self.wrong(f"{who}: from a server")
        if int.from_bytes(arrived.packet[28:30], "big") > 5:
            self.wrong(f"{who}: more than five acknowledgements")
        for client_id in [header.sender_id, *(entry[0] for entry in wire.parse_acks(arrived.packet))]:
            self._acknowledges(arrived.source, client_id, who)

    def _need_ack(self, call, header, arrived, who, now):
        if header.sender_id % 2 == 0:
            self.wrong(f"{who}: from a client")
        if call.theirs is None and call.ours is None:
            # About a call of the process that had this address before: a server that keeps little asks a quarter of a
            # second later.
            return
        if call.theirs is None or not call.theirs.whole_sent:
            self.wrong(f"{who}: the response was not sent completely")
        call.need_acks += 1
        if call.need_ack_at:
            self.need_ack_intervals.append(now - call.need_ack_at)
        call.need_ack_at = now

    def _busy(self, call, header, arrived, who, now):
        call.busy += 1
        if call.busy > call.asked_by_us:
            self.wrong(f"{who}: {call.busy} BUSY for {call.asked_by_us} RESENDs")

    def _rpc_unknown(self, call, header, arrived, who, now):
        call.unknowns += 1
        # It answers RESEND alone; a client may say once that it has given the call up.
        given_up = header.sender_id % 2 == 0 and (call.ours is None or call.ours.missing > 0)
        if call.unknowns > call.asked_by_us + given_up:
            self.wrong(f"{who}: {call.unknowns} RPC_UNKNOWN for {call.asked_by_us} RESENDs, not asked")
        if header.sender_id % 2:
            # The server knows nothing: what it sends from now on is another answer.
            call.theirs = None

    def _cutoffs(self, call, header, arrived, who, now):
        values, _ = wire.parse_cutoffs(arrived.packet)
        if values[0] != 0x7FFFFFFF or any(value > 0x7FFFFFFF for value in values):
            self.wrong(f"{who}: {values}")
        if self.counts["got_CUTOFFS"] > self.cutoffs_due:
            self.wrong(f"{who}: more of them than packets with an old version")

    def _freeze(self, call, header, arrived, who, now):
        self.wrong(f"{who}: is a tool of debugging")
