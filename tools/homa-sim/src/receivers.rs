//! Receivers whose links idle although messages to them are under way: wasted bandwidth.

use crate::{
    event::HostId,
    time::{Span, Time},
};

/// What is measured of all receivers.
#[derive(Debug)]
pub(crate) struct Receivers(Vec<Receiver>);

#[derive(Clone, Copy, Debug, Default)]
struct Receiver {
    /// Messages of several packets to it, of which the first one has left and the end is not there.
    incoming: u32,
    /// Since when there are any, and what its link had carried by then.
    since: Time,
    carried_then: u64,
    /// Time with any, and bytes of link time that its link carried meanwhile.
    waiting_ps: u64,
    carried_bytes: u64,
}

impl Receiver {
    /// As it would be if the messages ended now.
    fn until(mut self, now: Time, carried: u64) -> Self {
        if self.incoming > 0 {
            self.waiting_ps += now.since(self.since).as_ps();
            self.carried_bytes += carried - self.carried_then;
        }
        self
    }
}

impl Receivers {
    pub(crate) fn new(hosts: u32) -> Self {
        Self(vec![Receiver::default(); hosts as usize])
    }

    /// Begins to measure anew; what links carried counts from here.
    pub(crate) fn measure(&mut self, now: Time) {
        for receiver in &mut self.0 {
            *receiver = Receiver { incoming: receiver.incoming, since: now, ..Receiver::default() };
        }
    }

    /// The first packet of a message has left; its receiver's link has carried so much.
    pub(crate) fn begins(&mut self, to: HostId, now: Time, carried: u64) {
        let receiver = &mut self.0[to.0 as usize];
        if receiver.incoming == 0 {
            (receiver.since, receiver.carried_then) = (now, carried);
        }
        receiver.incoming += 1;
    }

    /// A message has arrived.
    pub(crate) fn ends(&mut self, to: HostId, now: Time, carried: u64) {
        let receiver = &mut self.0[to.0 as usize];
        if receiver.incoming == 1 {
            *receiver = receiver.until(now, carried);
        }
        receiver.incoming -= 1;
    }

    /// Part of the capacity of all receivers' links that was wasted in the time `span` up to now.
    /// `carried` tells what a link has carried, `byte_ps` how long a byte takes.
    pub(crate) fn wasted(
        &self,
        now: Time,
        span: Span,
        byte_ps: f64,
        carried: impl Fn(HostId) -> u64,
    ) -> f64 {
        let idle_ps = |(host, receiver): (u32, &Receiver)| {
            let receiver = receiver.until(now, carried(HostId(host)));
            // A packet counts from its begin.
            (receiver.waiting_ps as f64 - receiver.carried_bytes as f64 * byte_ps).max(0.0)
        };
        let idle: f64 = (0..).zip(&self.0).map(idle_ps).sum();
        idle / (span.as_ps().max(1) as f64 * self.0.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_wastes_what_it_does_not_carry_while_messages_are_under_way() {
        let mut receivers = Receivers::new(2);
        let (host, at) = (HostId(1), Time::from_ps);
        receivers.begins(host, at(0), 0);
        receivers.measure(at(100));
        // Two messages overlap from 200 to 300; a byte takes a picosecond.
        receivers.begins(host, at(200), 40);
        receivers.ends(host, at(300), 140);
        receivers.ends(host, at(400), 190);
        receivers.begins(host, at(600), 190);
        let carried = |host: HostId| if host.0 == 1 { 290 } else { 1000 };
        let wasted = receivers.wasted(at(800), Span::from_ps(700), 1.0, carried);
        // 300 of waiting with 190 bytes, then 200 with 100; of two links for 700 each.
        assert!((wasted - 210.0 / 1400.0).abs() < 1e-9, "{wasted}");
    }
}
