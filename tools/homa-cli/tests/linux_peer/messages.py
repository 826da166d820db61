"""Messages of a Linux host: what it sends (super-packets, grants) and what it receives (gaps)."""

UNSCHED_BYTES = 40_000


class Outgoing:
    """A message on its way out, cut into super-packets when it is created (docs/spec/protocol.md §4)."""

    def __init__(self, body, segment_bytes, segments_per_packet, take_ack):
        self.body = body
        self.length = len(body)
        self.unscheduled = min(UNSCHED_BYTES, self.length)
        self.granted = self.unscheduled
        self.level = 0
        self.segment_bytes = segment_bytes
        # Each super-packet: start, end, the acknowledgement it carries, its doff.
        self.packets = []
        self.next = 0
        start = 0
        while start < self.length:
            limit = self.unscheduled if start < self.unscheduled else self.length
            end = min(start + segment_bytes * segments_per_packet, limit)
            doff = 13 if end - start > segment_bytes else 14
            self.packets.append((start, end, take_ack(), doff))
            start = end

    @property
    def tx_end(self):
        return self.length if self.next == len(self.packets) else self.packets[self.next][0]

    def may_send(self):
        return self.next < len(self.packets) and self.packets[self.next][0] < self.granted

    def segments(self, packet):
        start, end, ack, doff = packet
        for offset in range(start, end, self.segment_bytes):
            yield offset, min(offset + self.segment_bytes, end), ack, doff


class Incoming:
    """A message on its way in: the end of what has come and its gaps (docs/spec/protocol.md §9)."""

    def __init__(self, length, incoming, born):
        self.length = length
        self.unscheduled = min(incoming, length)
        self.granted = self.unscheduled
        self.body = bytearray(length)
        self.end = 0
        self.gaps = []
        self.missing = length
        self.born = born
        # Of grants.
        self.active = False
        self.needy = False

    @property
    def received(self):
        return self.length - self.missing

    @property
    def grantable(self):
        return self.unscheduled < self.length

    @property
    def on_its_way(self):
        return max(0, self.granted - self.received)

    def add(self, offset, payload):
        """What becomes of a packet: "kept", "duplicate" or "overlap"; the last two drop all of it."""
        end = offset + len(payload)
        if offset >= self.end:
            if offset > self.end:
                self.gaps.append((self.end, offset))
            self.end = end
        else:
            within = [gap for gap in self.gaps if gap[0] <= offset and end <= gap[1]]
            if not within:
                touches = any(offset < gap[1] and gap[0] < end for gap in self.gaps) or end > self.end
                return "overlap" if touches else "duplicate"
            gap = within[0]
            self.gaps.remove(gap)
            rest = [(gap[0], offset), (end, gap[1])]
            self.gaps = sorted(self.gaps + [piece for piece in rest if piece[0] < piece[1]])
        self.body[offset:end] = payload
        self.missing -= len(payload)
        return "kept"

    def wanted(self):
        """The ranges a RESEND asks for (docs/spec/protocol.md §8)."""
        ranges = [(start, end - start) for start, end in self.gaps]
        if self.end < self.granted:
            ranges.append((self.end, self.granted - self.end))
        return ranges


class Grants:
    """Grants of the whole host (docs/spec/protocol.md §6)."""

    MAX_INCOMING, MAX_OVERCOMMIT = 400_000, 8
    FIFO_INCREMENT, FIFO_INTERVAL_SECS = 50_000, 0.000_320

    def __init__(self, send_grant):
        self.messages = {}
        self.send_grant = send_grant
        self.fifo_at = 0.0

    def _active(self):
        return [(rpc, message) for rpc, message in self.messages.items() if message.active]

    @staticmethod
    def _rank(item):
        return (item[1].missing, item[1].born)

    def forget(self, rpc):
        message = self.messages.pop(rpc, None)
        if message is not None and message.active:
            self._promote()

    def _promote(self):
        queued = [item for item in self.messages.items() if not item[1].active]
        if queued:
            best = min(queued, key=self._rank)[1]
            best.active = best.needy = True

    def _enter(self, rpc, message):
        """A message becomes active where a slot is free or it outranks one that has one."""
        active = self._active()
        if len(active) >= self.MAX_OVERCOMMIT:
            worst = max(active, key=self._rank)
            if self._rank((rpc, message)) > self._rank(worst):
                return
            worst[1].active = worst[1].needy = False
        message.active = True

    def check(self, rpc, message, now):
        """Run once per batch of packets of an RPC."""
        if not message.grantable:
            return
        if message.missing == 0:
            self.forget(rpc)
        else:
            if rpc not in self.messages:
                self.messages[rpc] = message
            if not message.active:
                self._enter(rpc, message)
            if message.active and self._issue(rpc, message, True):
                self._fifo(now)
        needy = sorted((item for item in self._active() if item[1].needy), key=self._rank)
        for rpc, message in needy:
            if self._room() <= 0:
                break
            message.needy = False
            self._issue(rpc, message, False)

    def _room(self):
        return self.MAX_INCOMING - sum(message.on_its_way for message in self.messages.values())

    def _window(self):
        return self.MAX_INCOMING // (len(self._active()) + 1)

    def _issue(self, rpc, message, polite):
        want = min(message.received + self._window() - message.granted, message.length - message.granted)
        if want <= 0:
            return False
        room = self._room()
        others = any(other.needy for _, other in self._active() if other is not message)
        if room <= 0 or (polite and others):
            message.needy = True
            return False
        message.needy = want > room
        message.granted += min(want, room)
        self.send_grant(rpc, message.granted, self._level(rpc, message))
        return True

    def _level(self, rpc, message, max_sched=3):
        active = self._active()
        rank = sum(self._rank(other) < self._rank((rpc, message)) for other in active)
        spare = max_sched + 1 - len(active)
        return max(0, max_sched - rank - max(0, spare))

    def _fifo(self, now):
        """Extra bytes for the oldest message, whatever its rank."""
        if now < self.fifo_at:
            return
        limit = self._window() + 2 * self.FIFO_INCREMENT
        waiting = [
            item for item in self.messages.items()
            if item[1].granted < item[1].length and item[1].on_its_way < limit
        ]
        if waiting:
            self.fifo_at = now + self.FIFO_INTERVAL_SECS
            rpc, message = min(waiting, key=lambda item: item[1].born)
            message.granted = min(message.granted + self.FIFO_INCREMENT, message.length)
            self.send_grant(rpc, message.granted, 6)
