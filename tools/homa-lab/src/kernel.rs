//! The switch made of parts of the kernel: routes from port to port, and HTB with one class per
//! priority level on every port towards a host.

use serde::Deserialize;

use crate::{
    LEVELS, LabError, LabSpec, PortCounters,
    host::{ipv4_of, ipv6_of, mac_of, mac_text},
    namespace::NetNs,
    plumbing::{batch, query},
    qdiscs::Qdiscs,
};

/// What a class may send ahead of its rate, as time: wake-ups of the kernel's packet scheduler come
/// late by some ten microseconds, and what was missed must be made up for.
const BURST_US: u64 = 100;

/// Name of the switch's end of a host's link.
pub(crate) fn port_name(host: usize) -> String {
    format!("p{host}")
}

/// Ethernet address of the switch's end of a host's link: what the host sends all packets to.
pub(crate) fn port_mac(host: usize) -> [u8; 6] {
    let [_, _, _, _, high, low] = mac_of(host);
    [0x02, 0x66, 0, 1, high, low]
}

/// Joins the ports by routes and shapes them; the links are there already. A bridge would do less
/// work per packet, but a packet that waits in it still counts for the socket that sent it: senders
/// would feel a queue in the middle of the network as if it were in their own interface. What a
/// router receives has left its sender.
pub(crate) fn build(fabric: &NetNs, spec: &LabSpec) -> Result<(), LabError> {
    let hosts = 0..spec.hosts as usize;
    for (key, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv6/conf/all/forwarding", "1"),
    ] {
        fabric.sysctl(key, value)?;
    }
    let mut ip = Vec::new();
    let mut shaping = Vec::new();
    for host in hosts {
        let port = port_name(host);
        // The port forwards packets of both kinds and has no address of its own.
        fabric.sysctl(&format!("ipv6/conf/{port}/addr_gen_mode"), "1")?;
        fabric.sysctl(&format!("ipv6/conf/{port}/disable_ipv6"), "0")?;
        let mac = mac_text(mac_of(host));
        for (address, length) in [(ipv4_of(host).to_string(), 32), (ipv6_of(host).to_string(), 128)]
        {
            ip.push(format!("neigh replace {address} lladdr {mac} dev {port} nud permanent"));
            ip.push(format!("route add {address}/{length} dev {port}"));
        }
        shaping.extend(port_shaping(&port, spec));
    }
    batch(fabric, "ip", &ip)?;
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
