#!/usr/bin/env python3
"""A model of a host with the Linux kernel module of Homa: `peer.py serve` and `peer.py call`.

It prints one JSON document when it ends: what became of the calls, counters of packets, and violations, which are
packets of the other host that a Linux host would not have sent. SIGTERM ends it.
"""

import argparse
import heapq
import json
import signal
import sys
import time
from collections import Counter

import wire
from host import Host, Timers
from net import Net
from observer import Observer


class Server:
    """Echoes, or answers as the options say."""

    def __init__(self, host, options):
        self.host, self.options = host, options
        self.served = 0
        self.due = []
        host.server_port = options.port

    def requested(self, rpc, body):
        self.served += 1
        options = self.options
        if options.close_after and self.served >= options.close_after:
            self.host.server_port = None
            self.host.restart()
            return
        if options.restart_at and self.served == options.restart_at:
            self.host.restart()
            return
        answer = body if options.reply is None else wire.pattern(self.served & 0xFF, options.reply)
        heapq.heappush(self.due, (time.monotonic() + options.delay_ms / 1000, self.served, rpc, answer))

    def next_at(self):
        return self.due[0][0] if self.due else None

    def work(self, now):
        while self.due and self.due[0][0] <= now:
            _, _, rpc, answer = heapq.heappop(self.due)
            self.host.send_response(rpc, answer)
            if self.options.twice:
                self.host.send_again(rpc)
        return False

    def report(self):
        return {"served": self.served}


class Client:
    """Calls with so many outstanding, checks the answers, and stays for a while when all have ended."""

    PORT = 32768

    def __init__(self, host, options):
        self.host, self.options = host, options
        self.server = host.net.parse(options.server)
        self.started = self.completed = self.wrong = 0
        self.failures, self.open = Counter(), {}
        self.done_at = self.deaf_at = self.back_at = None
        self.ports = range(self.PORT, self.PORT + options.sockets)
        host.client_ports.update(self.ports)

    def answered(self, rpc, body):
        expected = self.open.pop(rpc.id)
        if self.options.reply is not None:
            expected = wire.pattern(self.options.reply_seed, self.options.reply)
        self.completed += 1
        self.wrong += body != expected

    def failed(self, rpc, why):
        self.open.pop(rpc.id)
        self.failures[why] += 1

    def next_at(self):
        return self.done_at

    def work(self, now):
        options = self.options
        while self.started < options.count and len(self.open) < options.outstanding:
            self._start()
        if options.vanish_at_data is not None:
            self._vanish(now)
        if not self.open and self.started == options.count and self.done_at is None:
            self.done_at = now + options.linger_ms / 1000
        return self.done_at is not None and now >= self.done_at

    def _start(self):
        body = wire.pattern((self.options.seed + self.started) & 0xFF, self.options.size)
        port = self.ports[self.started % len(self.ports)]
        self.started += 1
        self.open[self.host.next_id] = body
        self.host.send_request(self.server, port, self.options.port, body)

    def _vanish(self, now):
        """The host falls silent for a while: packets are watched but nobody reads or answers them."""
        if self.deaf_at is None and self.host.counts["data_kept"] >= self.options.vanish_at_data:
            self.deaf_at = now
            self.back_at = now + self.options.vanish_for_ms / 1000
        self.host.deaf = self.deaf_at is not None and now < self.back_at

    def report(self):
        return {
            "completed": self.completed, "failed": self.failures, "wrong": self.wrong, "open": len(self.open),
        }


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("role", choices=["serve", "call"])
    add("--address", required=True, help="of this host")
    add("--port", type=int, required=True, help="of the server")
    add("--mtu", type=int, default=1500)
    add("--path-mtu", type=int, help="what the other host has to cut its messages to; as --mtu")
    add("--segments", type=int, default=1, help="segments per super-packet")
    add("--ipv6-socket", action="store_true", help="segments for IPv6 over IPv4")
    add("--no-gro", action="store_true", help="offsets in `sequence` alone are not understood")
    add("--encapsulate", action="store_true", help="in TCP frames")
    add("--cutoff-version", type=int, default=1)
    add("--loss", type=float, default=0.0, help="probability, in each direction")
    add("--seed", type=int, default=1)
    add("--first-id", type=int, default=2, help="a host counts on from there")
    add("--timers", type=int, nargs=4, default=[5, 5, 2, 100],
        help="resend_ticks resend_interval request_ack_ticks timeout_ticks")
    add("--patience-ms", type=float, default=4.0)
    add("--duration-secs", type=float, default=240.0, help="the end, whatever is open")
    add("--reply", type=int, help="bytes of the answer; the request itself otherwise")
    add("--reply-seed", type=int, default=0)
    add("--slow-ms", type=float, default=0.0, help="time until a packet that arrived is looked at")
    add("--twice", action="store_true", help="each answer of the server is sent again at once, as if asked for")
    add("--delay-ms", type=float, default=0.0, help="of each answer of the server")
    add("--restart-at", type=int, help="request with which the server forgets everything")
    add("--close-after", type=int, help="request with which the server's port closes")
    add("--server", help="address to call")
    add("--size", type=int, default=100)
    add("--count", type=int, default=1)
    add("--outstanding", type=int, default=1)
    add("--sockets", type=int, default=1, help="of the client, which take turns")
    add("--linger-ms", type=float, default=100.0)
    add("--vanish-at-data", type=int, help="packets of answers after which the client is silent")
    add("--vanish-for-ms", type=float, default=0.0)
    options = parser.parse_args()
    options.path_mtu = options.path_mtu or options.mtu
    options.timers = Timers(*options.timers)
    return options


class Stop:
    """A server that is told to end looks at what has arrived, and waits a little for what belongs to open calls."""

    LINGER_SECS = 0.5

    def __init__(self):
        self.at = None
        signal.signal(signal.SIGTERM, self._told)

    def _told(self, *_):
        self.at = time.monotonic()

    def is_due(self, host):
        if self.at is None or not host.drained:
            return False
        return not host.rpcs or time.monotonic() >= self.at + self.LINGER_SECS


def main():
    options = parse_arguments()
    net = Net(options.address, options.encapsulate, options.loss, options.seed)
    observer = Observer(net, options)
    host = Host(net, observer, options)
    application = (Server if options.role == "serve" else Client)(host, options)
    host.application = application
    until = time.monotonic() + options.duration_secs
    stop = Stop()
    print("ready", file=sys.stderr, flush=True)
    while time.monotonic() < until and not application.work(time.monotonic()) and not stop.is_due(host):
        host.turn(min(until, application.next_at() or until))
    document = application.report() | {
        "rpcs_left": len(host.rpcs),
        "overflowed": net.overflowed,
        "host": host.counts,
        "packets": observer.counts,
        "resend_intervals_ms": [round(interval * 1000, 3) for interval in observer.resend_intervals],
        "need_ack_intervals_ms": [round(interval * 1000, 3) for interval in observer.need_ack_intervals],
        "violations": observer.violations,
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
