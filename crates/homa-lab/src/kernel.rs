//! The switch made of parts of the kernel: a bridge, and HTB with one class per priority level on
//! every port towards a host.

use serde::Deserialize;

use crate::{
    LEVELS, LabError, LabSpec, LevelCounters, PortCounters,
    host::{mac_of, mac_text},
    namespace::NetNs,
    plumbing::{batch, query},
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

/// A queue as `tc -j -s qdisc` describes it; other members are ignored.
#[derive(Debug, Deserialize)]
struct Queue {
    dev: String,
    parent: Option<String>,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    packets: u64,
    #[serde(default)]
    drops: u64,
    #[serde(default)]
    backlog: u64,
    #[serde(default)]
    qlen: u64,
}

/// Reads what the ports have carried.
pub(crate) fn counters(fabric: &NetNs, hosts: usize) -> Result<Vec<PortCounters>, LabError> {
    let text = query(fabric, "tc", &["-j", "-s", "qdisc", "show"])?;
    let queues: Vec<Queue> = serde_json::from_slice(&text)
        .map_err(|error| LabError::setup("read the counters of `tc`", error))?;
    let mut ports: Vec<_> =
        (0..hosts).map(|host| PortCounters { host, ..PortCounters::default() }).collect();
    for queue in &queues {
        let place = level_of(queue).and_then(|level| {
            let host: usize = queue.dev.strip_prefix('p')?.parse().ok()?;
            ports.get_mut(host)?.levels.get_mut(level)
        });
        if let Some(counters) = place {
            *counters = LevelCounters {
                sent_packets: queue.packets,
                sent_bytes: queue.bytes,
                dropped_packets: queue.drops,
                queue_packets: queue.qlen,
                queue_bytes: queue.backlog,
                marked_packets: 0,
            };
        }
    }
    Ok(ports)
}

fn level_of(queue: &Queue) -> Option<usize> {
    let minor: usize = queue.parent.as_deref()?.strip_prefix("1:")?.parse().ok()?;
    minor.checked_sub(class_minor(0))
}
