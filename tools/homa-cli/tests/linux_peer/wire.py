"""The packet headers of Homa as the Linux kernel module sends them.

Written from the wire format description alone (docs/spec/wire-format.md), so that a mistake in the crates of this
workspace does not repeat itself here. All sizes are bytes.
"""

import struct
from collections import namedtuple

PROTOCOL = 146
TCP = 6

DATA, GRANT, RESEND, UNKNOWN, BUSY, CUTOFFS, FREEZE, NEED_ACK, ACK = range(0x10, 0x19)
NAMES = {
    DATA: "DATA", GRANT: "GRANT", RESEND: "RESEND", UNKNOWN: "RPC_UNKNOWN", BUSY: "BUSY",
    CUTOFFS: "CUTOFFS", FREEZE: "FREEZE", NEED_ACK: "NEED_ACK", ACK: "ACK",
}
HEADER_BYTES = {
    DATA: 56, GRANT: 33, RESEND: 37, UNKNOWN: 28, BUSY: 28, CUTOFFS: 62, FREEZE: 28, NEED_ACK: 28, ACK: 80,
}

ALL_ONES = 0xFFFFFFFF
FLAGS = 0x06
URGENT = 0xB97D

_COMMON = struct.Struct(">HHI3sBBBHHHQ")
_DATA = struct.Struct(">IIQHHB3sI")
_GRANT = struct.Struct(">IB")
_RESEND = struct.Struct(">IIB")
_CUTOFFS = struct.Struct(">8IH")
_ACK_ENTRY = struct.Struct(">QH")

Common = namedtuple("Common", "sport dport sequence reserved type doff flags window checksum urgent sender_id")
Data = namedtuple("Data", "length incoming ack_id ack_port cutoff_version retransmit pad seg_offset")


def common(kind, sport, dport, sender_id, sequence=0, doff=5):
    return _COMMON.pack(sport, dport, sequence, b"\0\0\0", kind, doff << 4, FLAGS, 0, 0, URGENT, sender_id)


def data(ports, sender_id, sequence, fields, payload, doff=14):
    tail = _DATA.pack(*fields)
    return common(DATA, *ports, sender_id, sequence, doff) + tail + payload


def control(kind, ports, sender_id, body=b""):
    return common(kind, *ports, sender_id) + body


def grant_body(offset, priority):
    return _GRANT.pack(offset, priority)


def resend_body(offset, length, priority):
    return _RESEND.pack(offset, length & ALL_ONES, priority)


def cutoffs_body(cutoffs, version):
    return _CUTOFFS.pack(*cutoffs, version)


def ack_body(acks):
    entries = list(acks) + [(0, 0)] * (5 - len(acks))
    return struct.pack(">H", len(acks)) + b"".join(_ACK_ENTRY.pack(*entry) for entry in entries)


def parse_common(packet):
    return Common(*_COMMON.unpack_from(packet))


def parse_data(packet):
    return Data(*_DATA.unpack_from(packet, 28))


def parse_grant(packet):
    return _GRANT.unpack_from(packet, 28)


def parse_resend(packet):
    return _RESEND.unpack_from(packet, 28)


def parse_cutoffs(packet):
    values = _CUTOFFS.unpack_from(packet, 28)
    return list(values[:8]), values[8]


def parse_acks(packet):
    count = min(struct.unpack_from(">H", packet, 28)[0], 5)
    return [_ACK_ENTRY.unpack_from(packet, 30 + 10 * index) for index in range(count)]


def checksum(source, destination, packet):
    """The TCP checksum with its pseudo header, over `packet` as it is: 0 for one that holds a right one."""
    padded = packet + b"\0" if len(packet) % 2 else packet
    if len(source) == 4:
        pseudo = source + destination + struct.pack(">HH", TCP, len(packet))
    else:
        pseudo = source + destination + struct.pack(">II", len(packet), TCP)
    # 2^16 = 1 modulo 65535: the remainder of the whole number is the sum of its 16-bit words.
    return 0xFFFF - (int.from_bytes(pseudo + padded, "big") % 0xFFFF or 0xFFFF)


def with_checksum(source, destination, packet):
    value = checksum(source, destination, packet)
    return packet[:16] + struct.pack(">H", value) + packet[18:]


def pattern(seed, length):
    """Byte i is (seed + 31 i + (i >> 8)) mod 256, as in the recordings of Linux hosts."""
    blocks = -(-length // 256)
    return b"".join(_block((seed + index) & 0xFF) for index in range(blocks))[:length]


def _block(start, cache={}):
    if start not in cache:
        cache[start] = bytes((start + 31 * index) & 0xFF for index in range(256))
    return cache[start]
