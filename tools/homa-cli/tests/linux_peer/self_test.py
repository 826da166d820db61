"""The observer notices each kind of packet that a Linux host would not send, and nothing in the ones it would."""

import argparse
import time
import unittest

import wire
from messages import Incoming
from net import Arrived
from observer import Observer

US, THEM = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
CALL, SERVED = 3, 5  # RPC 2 is a call of this host, RPC 4 one of the other host.


class FakeNet:
    address, encapsulate, overflowed = US, False, 0


def data(offset=0, size=1424, length=3000, incoming=3000, sender_id=4, **changes):
    fields = {"ack": 0, "ack_port": 0, "version": 0, "again": 0, "pad": b"\0\0\0", "seg_offset": offset, "sequence": offset}
    fields |= changes
    tail = (length, incoming, fields["ack"], fields["ack_port"], fields["version"], fields["again"], fields["pad"],
            fields["seg_offset"])
    return wire.data((40000, 99), sender_id, fields["sequence"], tail, bytes(size))


def changed(packet, at, value):
    return packet[:at] + bytes([value]) + packet[at + 1:]


class Watching(unittest.TestCase):
    def setUp(self):
        options = argparse.Namespace(patience_ms=4.0, path_mtu=1500, cutoff_version=1)
        self.observer = Observer(FakeNet(), options)

    def arrives(self, packet, level=None, at=None, fragmentable=False, octet=None):
        level = level if level is not None else 6 if packet[11] == wire.DATA else 7
        arrived = Arrived(at or time.time(), THEM, US, octet or level << 5, fragmentable, True, packet, b"")
        before = len(self.observer.violations)
        self.observer.received(arrived, False)
        return self.observer.violations[before:]

    def right(self, packet, **more):
        self.assertEqual(self.arrives(packet, **more), [])

    def wrong(self, word, packet, **more):
        found = self.arrives(packet, **more)
        self.assertTrue(any(word in text for text in found), f"{word}: {found}")

    def send(self, packet, lost=False):
        self.observer.sent(THEM, packet, lost)

    def send_request(self, lost=False):
        """Three packets of RPC 2, the middle one perhaps lost; 40,000 of 44,000 bytes without grant."""
        for offset in (0, 1424, 2848):
            packet = data(offset, 1424, 4272, 4272, 2, seg_offset=wire.ALL_ONES)
            self.send(packet, lost and offset == 1424)

    def test_a_message_in_order_is_right(self):
        for offset, size in ((0, 1424), (1424, 1424), (2848, 152)):
            self.right(data(offset, size))

    def test_format(self):
        self.wrong("window", changed(data(), 14, 0xA0))
        self.wrong("window", changed(data(), 9, 1))
        self.wrong("flags", changed(data(), 13, 0))
        self.wrong("urgent", changed(data(), 18, 0))
        self.wrong("doff", changed(data(), 12, 0xD0))
        self.wrong("checksum", changed(data(), 16, 1))
        self.wrong("not a packet", data()[:40])
        self.wrong("octet", data(), octet=6 << 5 | 1)
        self.wrong("fragmentable", data(), fragmentable=True)
        self.wrong("bytes long", wire.control(wire.ACK, (1, 2), 2, wire.ack_body([])) + bytes(8))
        self.wrong("octet", wire.control(wire.ACK, (1, 2), 2, wire.ack_body([])), level=6)

    def test_an_announcement_is_allowed_in_cutoffs_alone(self):
        self.send(data(sender_id=5))
        cutoffs = wire.control(wire.CUTOFFS, (1, 2), 4, wire.cutoffs_body([0x7FFFFFFF] + [0] * 7, 1))
        self.right(changed(changed(cutoffs, 14, 0xA0), 8, 77))
        self.wrong("more of them", cutoffs)

    def test_data_fields(self):
        self.wrong("sequence", data(sequence=1))
        self.wrong("pad", data(pad=b"\1\0\0"))
        self.wrong("version", data(version=9))
        self.wrong("out of range", data(2848, 1424))
        self.wrong("before the length", data(1424, 1424, length=3001))
        self.wrong("incoming", data(1424, 1424, incoming=2000))

    def test_boundaries(self):
        self.wrong("grid", data(0, 1000))
        self.wrong("grid", data(0, 1424, length=9000, incoming=1000, sender_id=6))
        self.wrong("grid", data(700, 1424, sender_id=8))

    def test_levels(self):
        self.wrong("at level", data(), level=7)
        self.right(data(0, 100, 100, 100, 6, version=1), level=7)
        self.wrong("at level", data(0, 100, 100, 100, 8, version=1), level=6)

    def test_grants_are_kept(self):
        first = data(0, 1424, length=9000, incoming=1424)
        self.right(first)
        beyond = data(1424, 1424, length=9000, incoming=1424)
        self.wrong("not granted", beyond, level=0)
        self.setUp()
        self.right(first)
        self.send(wire.control(wire.GRANT, (99, 40000), 5, wire.grant_body(1500, 3)))
        self.right(beyond, level=3)
        self.wrong("not granted", data(2848, 1424, length=9000, incoming=1424), level=3)

    def test_retransmissions_have_to_be_asked_for(self):
        again = data(0, 1424, again=1)
        self.right(data())
        self.wrong("without being marked", data())
        self.wrong("asked for 0", again)
        self.send(wire.control(wire.RESEND, (99, 40000), 5, wire.resend_body(0, 1424, 6)))
        # The one above counts.
        self.wrong("asked for 1", again)
        self.wrong("never sent before", data(1424, 1424, again=1))
        self.wrong("with incoming", data(0, 1424, incoming=100, again=1))

    def test_questions_about_what_was_not_lost(self):
        resend = lambda offset, length: wire.control(wire.RESEND, (99, 1), CALL, wire.resend_body(offset, length, 7))
        self.send_request(lost=True)
        later = time.time() + 1
        # As long as nothing shows that it has read them, it may not have come to that.
        for question in (resend(1424, 1424), resend(2848, 1424), resend(0, -1)):
            self.right(question, at=later)
        self.send(data(0, 100, 100, 100, 5))
        self.right(wire.control(wire.ACK, (1, 2), 4, wire.ack_body([])))
        self.right(resend(1424, 1424), at=later)
        self.wrong("long ago", resend(2848, 1424), at=later)
        self.wrong("long ago", resend(0, -1), at=later)
        self.wrong("out of range", resend(4000, 1000), at=later)

    def test_questions_begin_where_something_ended_that_was_read(self):
        resend = lambda offset, length: wire.control(wire.RESEND, (99, 1), CALL, wire.resend_body(offset, length, 7))
        self.send_request()
        later = time.time() + 1
        self.right(resend(1424, 1424), at=later)
        for again in (1424, 2848):
            self.send(data(again, 1424, 4272, 4272, 2, again=1))
        self.right(resend(0, 1424), at=later)
        self.send(data(0, 1424, 4272, 4272, 2, again=1))
        self.right(resend(2848, 1424), at=later)

    def test_acknowledgements_before_completion(self):
        for packet in (
            wire.control(wire.ACK, (1, 2), 4, wire.ack_body([])),
            data(0, 100, 100, 100, 6, ack=4, ack_port=99),
        ):
            self.wrong("not complete", packet)
        self.send(data(0, 100, 100, 100, 5))
        self.right(wire.control(wire.ACK, (1, 2), 4, wire.ack_body([])))
        self.wrong("from a server", wire.control(wire.ACK, (1, 2), 5, wire.ack_body([])))

    def test_grants_and_other_control_packets(self):
        grant = lambda offset: wire.control(wire.GRANT, (99, 1), CALL, wire.grant_body(offset, 0))
        self.wrong("never sent", grant(100))
        self.send_request()
        self.wrong("unscheduled", grant(4272))
        self.wrong("length", grant(5000))
        self.wrong("BUSY for 0", wire.control(wire.BUSY, (99, 1), CALL))
        self.wrong("not asked", wire.control(wire.UNKNOWN, (99, 1), 7))
        self.send(data(0, 100, 100, 100, 9))
        self.wrong("not asked", wire.control(wire.UNKNOWN, (1, 2), 8))
        self.wrong("not sent completely", wire.control(wire.NEED_ACK, (99, 1), CALL))
        self.wrong("from a client", wire.control(wire.NEED_ACK, (99, 1), 4))
        self.wrong("debugging", wire.control(wire.FREEZE, (99, 1), CALL))


class Receiving(unittest.TestCase):
    def test_packets_that_overlap_in_part_are_dropped(self):
        message = Incoming(5000, 5000, 0.0)
        self.assertEqual(message.add(1000, bytes(1000)), "kept")
        self.assertEqual(message.add(3000, bytes(2000)), "kept")
        self.assertEqual(message.wanted(), [(0, 1000), (2000, 1000)])
        self.assertEqual(message.add(1000, bytes(1000)), "duplicate")
        self.assertEqual(message.add(500, bytes(1000)), "overlap")
        self.assertEqual(message.add(2200, bytes(100)), "kept")
        self.assertEqual(message.wanted(), [(0, 1000), (2000, 200), (2300, 700)])
        self.assertEqual(message.missing, 1900)

    def test_a_checksum_that_was_filled_in_verifies(self):
        for packet in (data(), data(0, 1423, 1423)):
            filled = wire.with_checksum(US, THEM, packet)
            self.assertEqual(wire.checksum(US, THEM, filled), 0)
            self.assertNotEqual(wire.checksum(US, THEM, changed(filled, 60, 1)), 0)


class Example(unittest.TestCase):
    """The worked examples of docs/spec/wire-format.md §10."""

    def test_request_in_one_packet(self):
        tail = (12, 12, 0, 0, 0, 0, b"\0\0\0", wire.ALL_ONES)
        packet = wire.data((32768, 4000), 2, 0, tail, b"Hello, Homa!")
        self.assertEqual(packet.hex(), (
            "80000fa00000000000000010e0060000" "0000b97d00000000000000020000000c"
            "0000000c000000000000000000000000" "00000000ffffffff48656c6c6f2c2048" "6f6d6121"))

    def test_acknowledgement(self):
        packet = wire.control(wire.ACK, (32768, 4000), 2, wire.ack_body([(4, 4000), (8, 4001)]))
        self.assertEqual(packet[:0x32].hex(), (
            "80000fa0000000000000001850060000" "0000b97d000000000000000200020000"
            "0000000000040fa00000000000000008" "0fa1"))
        self.assertEqual(len(packet), 80)

    def test_tcp_checksum(self):
        # Example F: the same packet between these addresses.
        tail = (12, 12, 0, 0, 0, 0, b"\0\0\0", wire.ALL_ONES)
        packet = wire.data((32768, 4000), 2, 0, tail, b"Hello, Homa!")
        self.assertEqual(wire.checksum(bytes([10, 0, 1, 1]), bytes([10, 0, 1, 2]), packet), 0xAB8E)


if __name__ == "__main__":
    unittest.main()
