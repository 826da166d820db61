//! Queues and throughput over simulated time.

use std::io::{self, Write};

use homa_sim::{Moment, PRIORITIES, PortKind};

/// Looks at the network.
#[derive(Debug, Default)]
pub(super) struct Series(Vec<Look>);

/// What the ports to the hosts do at a moment.
#[derive(Debug)]
struct Look {
    time_ns: u64,
    /// Bytes that wait at a port, by priority, in the mean.
    queued_bytes: [f64; PRIORITIES],
    /// Bytes of link time that a port has sent, in the mean.
    sent_bytes: f64,
}

impl Series {
    /// Looks at the network.
    pub(super) fn look(&mut self, moment: &Moment<'_>) {
        let ports = moment.ports(PortKind::RackDown);
        let mean = |sum: u64| sum as f64 / ports.len().max(1) as f64;
        let queued =
            |level: usize| ports.iter().map(move |port| u64::from(port.queued_bytes[level]));
        self.0.push(Look {
            time_ns: moment.time.as_ps() / 1_000,
            queued_bytes: std::array::from_fn(|level| mean(queued(level).sum())),
            sent_bytes: mean(ports.iter().map(|port| port.sent_bytes).sum()),
        });
    }

    /// Lines of `queues.csv`: the mean of all ports.
    pub(super) fn write_queues(&self, out: &mut impl Write, name: &str) -> io::Result<()> {
        for look in &self.0 {
            for (level, bytes) in look.queued_bytes.iter().enumerate() {
                writeln!(out, "{name},0,{},mean,{level},{bytes:.0}", look.time_ns)?;
            }
        }
        Ok(())
    }

    /// Lines of `throughput.csv`: the mean of all hosts.
    pub(super) fn write_throughput(&self, out: &mut impl Write, name: &str) -> io::Result<()> {
        for looks in self.0.windows(2) {
            let [before, after] = looks else { continue };
            let seconds = after.time_ns.saturating_sub(before.time_ns) as f64 / 1e9;
            let bits = 8.0 * (after.sent_bytes - before.sent_bytes);
            // A port that is measured anew begins with none.
            if seconds > 0.0 && bits >= 0.0 {
                writeln!(out, "{name},0,{},mean,{:.0}", after.time_ns, bits / seconds)?;
            }
        }
        Ok(())
    }
}
