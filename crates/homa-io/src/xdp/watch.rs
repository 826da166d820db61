//! Changes of the network: addresses, routes, the interface and its MTU.

use std::io;
use std::os::fd::AsFd;

use homa_sys::netlink::Interface;
use homa_sys::xdp::XdpError as Unusable;
use homa_sys::{Epoll, XdpSocket, errno, monotonic_ns};

use super::rings::{Rings, served};
use super::{SocketDriver, XdpDriver, XdpError, capacity};

/// Time between examinations at least: routes may change all the time.
const BETWEEN_EXAMINATIONS_NS: u64 = 20_000_000;

impl<D: SocketDriver> XdpDriver<D> {
    /// Something changed, or may have: finds out what that means here.
    #[cold]
    pub(super) fn examine(&mut self) {
        let now_ns = monotonic_ns();
        if now_ns < self.looks.examined_ns.saturating_add(BETWEEN_EXAMINATIONS_NS) {
            return;
        }
        self.looks.examined_ns = now_ns;
        self.looks.examination_due = false;
        self.stats.changes += 1;
        self.hops.forget();
        let Ok(rings) = &mut self.rings else {
            return;
        };
        match self.netlink.interface(rings.interface.index) {
            Ok(interface) if interface.mtu > rings.mtu_max => self.reopen(interface),
            Ok(interface) => {
                rings.interface = interface;
                if let Err(error) = self.follow_addresses() {
                    self.lose(error.into());
                }
            }
            Err(error) if error.raw_os_error() == Some(errno::ENODEV) => {
                self.lose(Unusable::NoInterface.into());
            }
            // Out of memory: the next time.
            Err(_) => self.looks.examination_due = true,
        }
    }

    /// Redirects packets to the addresses that the host has now.
    fn follow_addresses(&mut self) -> io::Result<()> {
        let addresses = served(&mut self.netlink, self.local)?;
        match &mut self.rings {
            Ok(rings) => rings.filter.set_addresses(&addresses),
            Err(_) => Ok(()),
        }
    }

    /// Sets the rings up anew with frames for another MTU. The kernel takes some milliseconds to
    /// let go of a queue, which is waited for, half a second at most.
    fn reopen(&mut self, interface: Interface) {
        self.dropped_before += self.dropped_at_queues();
        // An interface takes one filter, and a queue one socket: those that are here go first.
        self.rings = Err(Unusable::InterfaceBusy.into());
        self.stats.reopened += 1;
        let opened = served(&mut self.netlink, self.local).map_err(XdpError::from);
        let opened = opened.and_then(|addresses| {
            let (form, port, config) = (self.form, self.local.port(), &self.config);
            let open = || Ok(Rings::open(interface, form, port, &addresses, config));
            let rings = self.home.within(open)??;
            add_queues(&self.epoll, &rings)?;
            Ok(rings)
        });
        match opened {
            Ok(rings) => {
                self.capacity = capacity(&rings);
                self.rings = Ok(rings);
            }
            Err(error) => self.lose(error),
        }
    }

    /// Goes on with the sockets alone.
    fn lose(&mut self, why: XdpError) {
        self.dropped_before += self.dropped_at_queues();
        self.rings = Err(why);
        // News would keep the set readable, and mean nothing any more.
        let _ = self.epoll.remove(self.monitor.as_fd());
    }

    /// Packets dropped at the queues that are open.
    pub(super) fn dropped_at_queues(&self) -> u64 {
        let dropped = |queue: &XdpSocket| {
            let statistics = queue.statistics().unwrap_or_default();
            statistics.rx_dropped + statistics.rx_ring_full
        };
        self.rings.iter().flat_map(|rings| &rings.queues).map(dropped).sum()
    }
}

/// Has `epoll` say when packets wait at a queue.
pub(super) fn add_queues(epoll: &Epoll, rings: &Rings) -> io::Result<()> {
    for (token, queue) in (0..).zip(&rings.queues) {
        epoll.add(queue.as_fd(), token, true, false)?;
    }
    Ok(())
}
