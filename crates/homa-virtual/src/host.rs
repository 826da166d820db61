//! Hosts: what is planned of them, and their state.

use std::net::SocketAddr;

use homa_core::{Carriage, Config, Stats};
use homa_io::Shard;
use homa_io::driver::Driver;

use crate::app::App;
use crate::attached::AttachedDriver;
use crate::conduct::Conduct;
use crate::driver::VirtualDriver;
use crate::fault::RefusalRates;
use crate::link::{Port, PortPlan};

/// A host to be.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// Settings of its engine, in every incarnation.
    pub config: Config,
    /// Its address; the port is also its Homa port.
    pub address: SocketAddr,
    /// How its packets travel.
    pub carriage: Carriage,
    /// After its first restart it speaks pure Linux format only, like another machine at its
    /// address.
    pub returns_as_linux: bool,
    /// Whether it keeps to the protocol.
    pub conduct: Conduct,
    /// Whether it accepts requests.
    pub serves: bool,
    /// Whether it reads requests as they arrive.
    pub stream_requests: bool,
    /// Time between news of stream bytes and reading them, in ns.
    pub read_delay_ns: u64,
    /// Receive buffer in bytes as the kernel counts them.
    pub rx_buffer_bytes: u64,
    /// Speed of its network card in 10^6 bit/s; `None`: infinitely fast.
    pub uplink_mbps: Option<u32>,
    /// Bytes the card's queue takes before the driver says "no room".
    pub tx_queue_bytes: u64,
    /// The switch port in front of it.
    pub port: PortPlan,
    /// Least time between two turns, in ns.
    pub turn_gap_ns: u64,
}

impl HostPlan {
    /// A serving host 10.0.0.`number`:4000 with the default configuration on an infinitely fast
    /// network.
    pub fn new(number: u8) -> Self {
        Self {
            config: Config::default(),
            address: SocketAddr::from(([10, 0, 0, number], 4000)),
            carriage: Carriage::Udp,
            returns_as_linux: false,
            conduct: Conduct::Honest,
            serves: true,
            stream_requests: false,
            read_delay_ns: 0,
            rx_buffer_bytes: 4 << 20,
            uplink_mbps: None,
            tx_queue_bytes: u64::MAX,
            port: PortPlan::default(),
            turn_gap_ns: 1_000,
        }
    }
}

/// A host of a world.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) plan: HostPlan,
    pub(crate) shard: Option<Shard<VirtualDriver>>,
    pub(crate) app: App,
    pub(crate) port: Port,
    pub(crate) wake_ns: Option<u64>,
    pub(crate) turned_ns: u64,
    pub(crate) paused_until_ns: u64,
    pub(crate) uplink_free_ns: u64,
    pub(crate) turns: u64,
    /// Counters of earlier incarnations.
    pub(crate) past: Vec<Stats>,
    /// Packets that overflowed the receive buffers of earlier incarnations.
    pub(crate) rx_dropped_before: u64,
    pub(crate) refusals: RefusalRates,
    /// There is no engine: packets are kept for the script that plays its part.
    pub(crate) listens: bool,
    /// The driver, where somebody else takes the turns.
    pub(crate) attached: Option<AttachedDriver>,
}

impl Host {
    /// Whether there is somebody whom packets reach.
    pub(crate) fn is_up(&self) -> bool {
        self.shard.is_some() || self.attached.is_some()
    }

    /// Lets the driver of a host that is up be changed; `false`: it is not.
    pub(crate) fn with_driver(&mut self, change: impl FnOnce(&mut VirtualDriver)) -> bool {
        match (&mut self.shard, &self.attached) {
            (Some(shard), _) => change(shard.driver_mut()),
            (None, Some(attached)) => change(&mut attached.lock()),
            (None, None) => return false,
        }
        true
    }

    /// Brings what the driver knows of the time and of its card up to date.
    pub(crate) fn update_driver(&mut self, now_ns: u64) {
        let free_ns = self.uplink_free_ns;
        let backlog = self.plan.uplink_mbps.map(|mbps| backlog_bytes(free_ns, now_ns, mbps));
        self.with_driver(|driver| {
            driver.now_ns = now_ns;
            driver.backlog_bytes = backlog.unwrap_or(0);
        });
    }

    /// Packets that overflowed the receive buffer, in all incarnations.
    pub(crate) fn rx_dropped(&self) -> u64 {
        let present = match (&self.shard, &self.attached) {
            (Some(shard), _) => Driver::rx_dropped(shard.driver()),
            (None, Some(attached)) => Driver::rx_dropped(attached),
            (None, None) => 0,
        };
        self.rx_dropped_before + present
    }

    pub(crate) fn leftovers(&self, index: usize) -> Vec<String> {
        let Some(shard) = &self.shard else {
            return Vec::new();
        };
        let stats = shard.stats();
        let store = shard.store();
        [
            ("live RPCs", stats.live_rpcs),
            ("finished entries", stats.finished_entries),
            ("bytes of receive memory", stats.receive_memory_bytes),
            ("bytes granted and not received", stats.incoming_bytes),
            ("RPCs without Ended", self.app.watching() as u64),
            ("places in the store", store.live() as u64),
            ("incoming bytes in the store", store.incoming_bytes()),
            ("outgoing bytes in the store", store.outgoing_bytes()),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("host {index}: {count} {what}"))
        .collect()
    }
}

/// The driver of a host at the beginning of an incarnation.
pub(crate) fn driver_of(plan: &HostPlan, refusals: RefusalRates, seed: u64) -> VirtualDriver {
    let mut driver = VirtualDriver::new(plan.address, plan.carriage, plan.rx_buffer_bytes, seed);
    driver.backlog_max_bytes = plan.tx_queue_bytes;
    driver.has_card = plan.uplink_mbps.is_some();
    driver.refusals = refusals;
    driver
}

/// Bytes that have not left a card of `mbps` whose line is free at `free_ns`.
fn backlog_bytes(free_ns: u64, now_ns: u64, mbps: u32) -> u64 {
    free_ns.saturating_sub(now_ns) * u64::from(mbps) / 8_000
}
