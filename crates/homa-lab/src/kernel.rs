//! The switch made of parts of the kernel: a bridge, and HTB with one class per priority level on
//! every port towards a host.

use serde::Deserialize;

use crate::{
    LEVELS, LabError, LabSpec, PortCounters,
    host::{mac_of, mac_text},
    namespace::NetNs,
    plumbing::{batch, query},
    qdiscs::Qdiscs,
};

const BRIDGE: &str = "switch";

/// What a class may send ahead of its rate, as time: wake-ups of the kernel's packet scheduler come late by
/// some ten microseconds, and what was missed must be made up for.
const BURST_US: u64 = 100;

/// Name of the switch's end of a host's link.
pub(crate) fn port_name(host: usize) -> String {
    format!("p{host}")
}

/// Joins the ports by a bridge and shapes them; the links are there already.
pub(crate) fn build(fabric: &NetNs, spec: &LabSpec) -> Result<(), LabError> {
    // Where the bridge shows packets to the firewall, each looks up a route on its way; a switch has no firewall.
    // Kernels that leave the choice to root of the machine are only slower.
    for hook in ["iptables", "ip6tables", "arptables"] {
        let _ = fabric.sysctl(&format!("bridge/bridge-nf-call-{hook}"), "0");
    }
    let hosts = 0..spec.hosts as usize;
    let mut ip = vec![format!("link add {BRIDGE} type bridge stp_state 0 forward_delay 0")];
    ip.push(format!("link set {BRIDGE} mtu {} up", spec.mtu));
    let mut forwarding = Vec::new();
    let mut shaping = Vec::new();
    for host in hosts {
        let port = port_name(host);
        ip.push(format!("link set {port} master {BRIDGE}"));
        ip.push(format!("link set {port} type bridge_slave learning off flood off"));
        let mac = mac_text(mac_of(host));
        forwarding.push(format!("fdb replace {mac} dev {port} master static"));
        shaping.extend(port_shaping(&port, spec));
    }
    batch(fabric, "ip", &ip)?;
    batch(fabric, "bridge", &forwarding)?;
    batch(fabric, "tc", &shaping)
}

/// HTB serves the classes that borrow in the order of `prio`; the share guaranteed to each is
/// next to nothing, so that all of them borrow.
fn port_shaping(port: &str, spec: &LabSpec) -> Vec<String> {
    let frame = spec.frame_bytes();
    let rate = format!("{}mbit", spec.port_mbps);
    let burst = u64::from(2 * frame).max(spec.port_bytes_per_s() * BURST_US / 1_000_000);
    let buffer = spec.buffer_bytes;
    let group = LEVELS / (spec.priorities as usize).clamp(1, LEVELS);
    let mut lines = vec![
        format!("qdisc add dev {port} root handle 1: htb default 10"),
        format!(
            "class add dev {port} parent 1: classid 1:1 htb rate {rate} ceil {rate} burst {burst} cburst {burst} quantum {frame}"
        ),
    ];
    for level in (0..LEVELS).step_by(group) {
        let class = class_minor(level);
        let prio = LEVELS - 1 - level;
        lines.push(format!(
            "class add dev {port} parent 1:1 classid 1:{class} htb rate 1kbit ceil {rate} burst {frame} \
             cburst {burst} prio {prio} quantum {frame}"
        ));
        lines.push(format!(
            "qdisc add dev {port} parent 1:{class} handle {class}: bfifo limit {buffer}"
        ));
        // What matches no filter goes to the lowest level.
        let members = (level..level + group).filter(|member| *member > 0);
        for selector in members.map(|member| format!("{:#x}", member << 5)) {
            lines.push(format!(
                "filter add dev {port} protocol ip parent 1: prio 1 u32 match ip tos {selector} 0xe0 flowid 1:{class}"
            ));
            lines.push(format!(
                "filter add dev {port} protocol ipv6 parent 1: prio 2 u32 match ip6 priority {selector} 0xe0 flowid 1:{class}"
            ));
        }
    }
    lines
}

/// Minor number of the class of a level, hexadecimal as tc writes it.
fn class_minor(level: usize) -> usize {
    10 + level
}

/// The counters of the switch that [`build`] made.
#[derive(Debug)]
pub(crate) struct KernelCounters {
    qdiscs: Qdiscs,
    /// Index of the device of each port.
    devices: Vec<i32>,
}

/// A device as `ip -j link` describes it; other members are ignored.
#[derive(Debug, Deserialize)]
struct Device {
    ifname: String,
    ifindex: i32,
}

impl KernelCounters {
    /// Finds the ports.
    pub(crate) fn open(fabric: &NetNs, hosts: usize) -> Result<Self, LabError> {
        let text = query(fabric, "ip", &["-j", "link", "show"])?;
        let found: Vec<Device> = serde_json::from_slice(&text)
            .map_err(|error| LabError::setup("read the links of `ip`", error))?;
        let device = |host| {
            let name = port_name(host);
            let device = found.iter().find(|device| device.ifname == name);
            device.map(|device| device.ifindex).ok_or_else(|| LabError::setup(name, "is gone"))
        };
        let devices = (0..hosts).map(device).collect::<Result<_, _>>()?;
        let qdiscs = Qdiscs::open(fabric)
            .map_err(|error| LabError::setup("ask the kernel for its queues", error))?;
        Ok(Self { qdiscs, devices })
    }

    /// What the ports have carried, dropped and hold.
    pub(crate) fn read(&self) -> Result<Vec<PortCounters>, LabError> {
        let found = self
            .qdiscs
            .read()
            .map_err(|error| LabError::setup("ask the kernel for its queues", error))?;
        let level = |device: i32, level: usize| {
            found.get(&(device, class_number(level))).copied().unwrap_or_default()
        };
        let port = |(host, device): (usize, &i32)| PortCounters {
            host,
            levels: std::array::from_fn(|index| level(*device, index)),
            ..PortCounters::default()
        };
        Ok(self.devices.iter().enumerate().map(port).collect())
    }
}

/// Minor number of the class of a level: `tc` reads [`class_minor`] as hexadecimal.
fn class_number(level: usize) -> u16 {
    0x10 + level as u16
}
