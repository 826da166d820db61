"""Raw sockets of one host: Homa packets in and out, ICMP errors, and loss on purpose."""

import errno
import random
import select
import socket
import struct
import time
from collections import namedtuple

import wire

IP_MTU_DISCOVER, PMTUDISC_DO = 10, 2
SO_RXQ_OVFL, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 40, 33, 35
BUFFER_BYTES = 32 << 20

# `at` is when the kernel took the packet, in seconds of the real-time clock: this process may read it much later.
# `tos` is the whole octet; `fragmentable` means that DF is not set (never over IPv6).
# `native` means protocol 146, not in TCP form.
Arrived = namedtuple("Arrived", "at source destination tos fragmentable native packet quotation")
IcmpError = namedtuple("IcmpError", "source what sport dport sender_id")


class Net:
    """Sockets of one address. `loss` is the probability with which a packet is lost, in each direction."""

    def __init__(self, address, encapsulate=False, loss=0.0, seed=1):
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.address = socket.inet_pton(self.family, address)
        self.encapsulate = encapsulate
        self.loss = loss
        self.random = random.Random(seed)
        # Packets that this process was too slow to read.
        self.overflowed = 0
        self._overflows = {}
        self.sockets = [self._socket(address, wire.PROTOCOL), self._socket(address, wire.TCP)]
        icmp = socket.IPPROTO_ICMP if self.family == socket.AF_INET else socket.IPPROTO_ICMPV6
        self.icmp = self._socket(address, icmp)
        self.poll = select.poll()
        for each in [*self.sockets, self.icmp]:
            self.poll.register(each, select.POLLIN)

    def _socket(self, address, protocol):
        raw = socket.socket(self.family, socket.SOCK_RAW, protocol)
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        raw.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        raw.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if self.family == socket.AF_INET:
            raw.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
        else:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        raw.bind((address, 0))
        return raw

    def parse(self, address):
        return socket.inet_pton(self.family, address)

    def wait(self, timeout_secs):
        self.poll.poll(max(0, timeout_secs * 1000))

    def lost(self):
        return self.loss > 0 and self.random.random() < self.loss

    def send(self, destination, level, packet):
        """Puts a packet on the wire; full buffers lose it, as a network would."""
        packet = wire.with_checksum(self.address, destination, packet)
        raw = self.sockets[1 if self.encapsulate else 0]
        if self.family == socket.AF_INET:
            options = [(socket.IPPROTO_IP, socket.IP_TOS, struct.pack("i", level << 5))]
        else:
            options = [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, struct.pack("i", level << 5))]
        target = (socket.inet_ntop(self.family, destination), 0)
        try:
            raw.sendmsg([packet], options, 0, target)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                raise

    def receive(self, most):
        """Up to `most` packets that have arrived."""
        arrived = []
        for raw in self.sockets:
            while len(arrived) < most:
                try:
                    packet, options, _, source = raw.recvmsg(65_600, 256)
                except BlockingIOError:
                    break
                one = self._arrived(raw, packet, options, source[0])
                if one is not None:
                    arrived.append(one)
        return arrived

    def _arrived(self, raw, packet, options, source):
        source = socket.inet_pton(self.family, source.split("%")[0])
        tos, at = 0, time.time()
        for level, kind, content in options:
            if (level, kind) == (socket.SOL_SOCKET, SO_RXQ_OVFL):
                self._overflows[raw] = struct.unpack("I", content)[0]
                self.overflowed = sum(self._overflows.values())
            elif (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                secs, nanoseconds = struct.unpack("qq", content)
                at = secs + nanoseconds / 1e9
            elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_TCLASS):
                tos = struct.unpack("i", content)[0]
        if self.family == socket.AF_INET:
            header_bytes = (packet[0] & 15) * 4
            tos, fragmentable = packet[1], not packet[6] & 0x40
            quotation, packet = packet[:548], packet[header_bytes:]
        else:
            protocol = wire.TCP if raw is self.sockets[1] else wire.PROTOCOL
            header = struct.pack(">IHBB", 6 << 28 | tos << 20, len(packet), protocol, 64)
            quotation, fragmentable = header + source + self.address + packet[:1180], False
        if raw is self.sockets[1]:
            # Anything else over TCP is not for Homa.
            if len(packet) < 20 or packet[13] != wire.FLAGS or packet[18:20] != b"\xb9\x7d":
                return None
        native = raw is self.sockets[0]
        return Arrived(at, source, self.address, tos, fragmentable, native, packet, quotation)

    def port_unreachable(self, arrived):
        """What Linux says of a packet to a port that nobody has."""
        if self.family == socket.AF_INET:
            kind, code = 3, 3
        else:
            kind, code = 1, 4
        packet = struct.pack(">BBHI", kind, code, 0, 0) + arrived.quotation
        if self.family == socket.AF_INET:
            padded = packet + b"\0" if len(packet) % 2 else packet
            value = 0xFFFF - (int.from_bytes(padded, "big") % 0xFFFF or 0xFFFF)
            packet = packet[:2] + struct.pack(">H", value) + packet[4:]
        try:
            self.icmp.sendto(packet, (socket.inet_ntop(self.family, arrived.source), 0))
        except BlockingIOError:
            pass

    def icmp_errors(self):
        """ICMP errors about packets of this host that have arrived, as docs/spec/protocol.md §14 maps them."""
        found = []
        while True:
            try:
                packet, source = self.icmp.recvfrom(2048)
            except BlockingIOError:
                return found
            error = self._icmp_error(packet, socket.inet_pton(self.family, source[0].split("%")[0]))
            if error is not None:
                found.append(error)

    def _icmp_error(self, packet, source):
        if self.family == socket.AF_INET:
            packet = packet[(packet[0] & 15) * 4:]
            if len(packet) < 36 or packet[0] != 3:
                return None
            what = {3: "ENOTCONN", 2: "EPROTONOSUPPORT"}.get(packet[1], "EHOSTUNREACH")
            quoted, protocol = packet[8 + (packet[8] & 15) * 4:], packet[17]
        else:
            meaning = {(1, 4): "ENOTCONN", (1, 3): "EHOSTUNREACH", (4, 1): "EPROTONOSUPPORT"}
            what = meaning.get((packet[0], packet[1]))
            if what is None or len(packet) < 56:
                return None
            quoted, protocol = packet[48:], packet[14]
        if protocol not in (wire.PROTOCOL, wire.TCP) or len(quoted) < 8:
            return None
        sport, dport = struct.unpack_from(">HH", quoted)
        sender_id = struct.unpack_from(">Q", quoted, 20)[0] if len(quoted) >= 28 else None
        return IcmpError(source, what, sport, dport, sender_id)
