//! A lab that is up: hosts, a switch, programs inside, counters.

use std::{ffi::OsStr, io, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{
    Backend, HostCommand, HostHandle, LabError, LabHost, LabSpec, PortCounters, QueueTrace,
    Reading, acquire_privileges, ethtool,
    host::{INTERFACE, NETWORK, ipv4_of, ipv6_of, mac_of, mac_text, name_of, names_of},
    kernel,
    kernel::{KernelCounters, port_mac, port_name},
    namespace::{HostSpace, NetNs, Sandbox},
    plumbing::{batch, wait_for_links},
    switch::{SwitchConfig, run::RunningSwitch},
};

/// A lab that is up. Dropping it takes it down: programs inside are killed, nothing remains.
#[derive(Debug)]
pub struct Lab {
    spec: LabSpec,
    choice: Choice,
    hosts: Vec<LabHost>,
    since: Instant,
    switch: Switch,
    spaces: Vec<HostSpace>,
    // Keeps the namespace of the switch.
    _fabric: NetNs,
    // Dropped last: when its processes are gone, the descriptors above were the last references.
    sandbox: Sandbox,
}

impl Lab {
    /// Builds a lab.
    ///
    /// # Errors
    /// [`LabError::Spec`] before anything is built; [`LabError::NoPermission`],
    /// [`LabError::MissingProgram`] and [`LabError::Setup`] name what the machine lacks. What was
    /// built by then is gone again.
    pub fn up(spec: &LabSpec) -> Result<Self, LabError> {
        spec.validate()?;
        Self::build(spec, choose(spec)?)
    }

    /// Builds a lab with the switch that [`choose_for`](crate::calibrate::choose_for) found best.
    ///
    /// # Errors
    /// Those of [`Lab::up`], also if the switch is not one that the specification allows.
    pub fn up_with(spec: &LabSpec, choice: Choice) -> Result<Self, LabError> {
        spec.validate()?;
        choose(&LabSpec { backend: choice.backend, ..spec.clone() })?;
        Self::build(spec, choice)
    }

    fn build(spec: &LabSpec, choice: Choice) -> Result<Self, LabError> {
        acquire_privileges()?;
        let sandbox = Sandbox::new(&names_of(spec.hosts as usize))?;
        let fabric = NetNs::new()?;
        let spaces =
            (0..spec.hosts).map(|_| HostSpace::new(&sandbox)).collect::<Result<Vec<_>, _>>()?;
        let hosts =
            spaces.iter().enumerate().map(|(index, space)| describe(index, space)).collect();
        connect(&fabric, &spaces, spec)?;
        for (index, space) in spaces.iter().enumerate() {
            configure_host(&space.net, index, spec, choice.backend)?;
        }
        wait_for_links(&fabric, &(0..spaces.len()).map(port_name).collect::<Vec<_>>())?;
        for space in &spaces {
            wait_for_links(&space.net, &[INTERFACE.to_owned()])?;
        }
        let since = Instant::now();
        let switch = match choice.backend {
            Backend::Switch => Switch::Own(own_switch(&fabric, &spaces, spec, since)?),
            _ => {
                kernel::build(&fabric, spec)?;
                Switch::Kernel(KernelCounters::open(&fabric, spaces.len())?)
            }
        };
        Ok(Self {
            spec: spec.clone(),
            choice,
            hosts,
            since,
            switch,
            spaces,
            _fabric: fabric,
            sandbox,
        })
    }

    /// What was asked for.
    pub fn spec(&self) -> &LabSpec {
        &self.spec
    }

    /// What emulates the switch: never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        self.choice.backend
    }

    /// Why it is that one.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The hosts, in the order of their index.
    pub fn hosts(&self) -> &[LabHost] {
        &self.hosts
    }

    /// One host.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`].
    pub fn host(&self, index: usize) -> Result<&LabHost, LabError> {
        self.hosts.get(index).ok_or(LabError::NoSuchHost { index, hosts: self.hosts.len() })
    }

    /// When the lab came up: the zero of all its records.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Nanoseconds since the lab came up: the time base of all its records.
    pub fn uptime_ns(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Prepares to start a program inside a host.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`].
    pub fn command(
        &self,
        host: usize,
        program: impl AsRef<OsStr>,
    ) -> Result<HostCommand<'_>, LabError> {
        Ok(HostCommand::new(&self.sandbox, self.space(host)?, program.as_ref()))
    }

    /// What every port has carried since the lab came up, by level.
    ///
    /// # Errors
    /// [`LabError::Setup`] if the kernel does not tell.
    pub fn counters(&self) -> Result<Vec<PortCounters>, LabError> {
        self.read().map(|reading| reading.ports)
    }

    /// The same with the time at which it was so. Costs some ten microseconds of a core per host.
    ///
    /// # Errors
    /// [`LabError::Setup`] if the kernel does not tell.
    pub fn read(&self) -> Result<Reading, LabError> {
        match &self.switch {
            Switch::Own(switch) => Ok(switch.read()),
            Switch::Kernel(counters) => {
                let from_ns = self.uptime_ns();
                let ports = counters.read()?;
                Ok(Reading { from_ns, until_ns: self.uptime_ns(), ports })
            }
        }
    }

    /// Queue lengths over time. The kernel's switch records none.
    pub fn queue_trace(&self) -> QueueTrace {
        match &self.switch {
            Switch::Own(switch) => switch.trace(),
            Switch::Kernel(_) => QueueTrace::default(),
        }
    }

    /// The same, which is forgotten then. Takes no time of the switch.
    pub fn take_queue_trace(&self) -> QueueTrace {
        match &self.switch {
            Switch::Own(switch) => switch.take_trace(),
            Switch::Kernel(_) => QueueTrace::default(),
        }
    }

    /// Does something in a thread that uses the network of a host: sockets opened there belong to
    /// the host for good, wherever they are used afterwards.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`], and those of `work`.
    pub fn within<T: Send>(
        &self,
        host: usize,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<T, LabError> {
        Ok(self.space(host)?.net.run(work)?)
    }

    /// How another process finds its way into a host.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`].
    pub fn handle(&self, host: usize) -> Result<HostHandle, LabError> {
        Ok(self.space(host)?.handle(&self.sandbox))
    }

    /// The process that all programs inside the lab end with, as this process sees it.
    pub fn first_process(&self) -> u32 {
        self.sandbox.first_process()
    }

    /// Takes a host's interface down. What is sent to or from it is lost, and the host has no
    /// route, until [`Lab::plug`].
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`]; [`LabError::Setup`] if the kernel refuses.
    pub fn unplug(&self, host: usize) -> Result<(), LabError> {
        batch(&self.space(host)?.net, "ip", &[format!("link set {INTERFACE} down")])
    }

    /// Takes it up again, with all that the kernel forgets of an interface that is down, and waits
    /// until it carries packets.
    ///
    /// # Errors
    /// As [`Lab::unplug`].
    pub fn plug(&self, host: usize) -> Result<(), LabError> {
        let net = &self.space(host)?.net;
        let mut lines = vec![
            format!("link set {INTERFACE} up"),
            format!("addr replace {}/64 dev {INTERFACE} nodad", ipv6_of(host)),
        ];
        lines.extend(neighbours(host, &self.spec, self.choice.backend));
        batch(net, "ip", &lines)?;
        wait_for_links(net, &[INTERFACE.to_owned()])
    }

    /// Takes away or gives back a host's route to the others over IPv4. Without it the host is told
    /// that the network cannot be reached whenever it sends.
    ///
    /// # Errors
    /// As [`Lab::unplug`].
    pub fn set_route(&self, host: usize, there: bool) -> Result<(), LabError> {
        let own = ipv4_of(host);
        let action = if there { "add" } else { "del" };
        let line =
            format!("route {action} {NETWORK} dev {INTERFACE} proto kernel scope link src {own}");
        batch(&self.space(host)?.net, "ip", &[line])
    }

    fn space(&self, host: usize) -> Result<&HostSpace, LabError> {
        self.spaces.get(host).ok_or(LabError::NoSuchHost { index: host, hosts: self.spaces.len() })
    }
}

#[derive(Debug)]
enum Switch {
    Own(RunningSwitch),
    Kernel(KernelCounters),
}

/// What became of [`Backend::Auto`], and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What emulates the switch: never [`Backend::Auto`].
    pub backend: Backend,
    /// Why, in words.
    pub reason: String,
}

/// The own switch only where it is needed: it costs most of a core.
pub(crate) fn choose(spec: &LabSpec) -> Result<Choice, LabError> {
    let (backend, reason) = match (spec.backend, spec.needs_switch()) {
        (Backend::Kernel, Some(key)) => {
            let reason =
                "the kernel's switch cannot do this; choose the backend `switch` or `auto`";
            return Err(LabError::Spec { key, reason: reason.into() });
        }
        (Backend::Auto, Some(key)) => {
            (Backend::Switch, format!("only the own switch knows `{key}`"))
        }
        (Backend::Auto, None) => {
            (Backend::Kernel, "nothing was asked for that only the own switch can do".into())
        }
        (backend, _) => (backend, "as asked for".into()),
    };
    Ok(Choice { backend, reason })
}

fn own_switch(
    fabric: &NetNs,
    spaces: &[HostSpace],
    spec: &LabSpec,
    since: Instant,
) -> Result<RunningSwitch, LabError> {
    for space in spaces {
        // The switch passes frames on as they are: a checksum left to the device would never be
        // made.
        ethtool::switch_off(&space.net, INTERFACE, &["tx-checksum-ip-generic"])?;
    }
    let config = SwitchConfig {
        ports: spaces.len(),
        rate_bytes_per_s: spec.port_bytes_per_s(),
        // Room for a VLAN tag that a program might add.
        frame_bytes: spec.frame_bytes() as usize + 4,
        buffer: spec.buffer,
        buffer_bytes: spec.buffer_bytes,
        shared_alpha: spec.shared_alpha,
        ecn_bytes: spec.ecn_bytes,
        priorities: spec.priorities as usize,
        up: spec.up,
        down: spec.down,
        seed: spec.seed,
        trace_interval_ns: spec.trace_interval_us * 1_000,
        trace_samples: spec.trace_samples,
    };
    RunningSwitch::start(fabric, config, since)
}

fn describe(index: usize, space: &HostSpace) -> LabHost {
    LabHost {
        name: name_of(index),
        index,
        ipv4: ipv4_of(index),
        ipv6: ipv6_of(index),
        mac: mac_text(mac_of(index)),
        netns: space.net.path(),
    }
}

/// One link per host: `eth0` inside, `pN` at the switch.
fn connect(fabric: &NetNs, spaces: &[HostSpace], spec: &LabSpec) -> Result<(), LabError> {
    let mtu = spec.mtu;
    // A port takes part in no protocol of its own: no IPv6 address, no multicast of its own.
    fabric.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    let mut lines = Vec::new();
    for (index, space) in spaces.iter().enumerate() {
        let port = port_name(index);
        let mac = mac_text(mac_of(index));
        let netns = space.net.path();
        let port_mac = mac_text(port_mac(index));
        lines.push(format!(
            "link add {port} address {port_mac} mtu {mtu} type veth peer name {INTERFACE} mtu {mtu} address {mac} netns {}",
            netns.display()
        ));
        lines.push(format!("link set {port} txqueuelen 1000 up"));
    }
    batch(fabric, "ip", &lines)
}

/// Addresses, known neighbours, and the interface's own rate and queue.
fn configure_host(
    net: &NetNs,
    index: usize,
    spec: &LabSpec,
    backend: Backend,
) -> Result<(), LabError> {
    for (key, value) in [
        ("ipv6/conf/eth0/accept_dad", "0"),
        ("ipv6/conf/eth0/addr_gen_mode", "1"),
        ("ipv6/conf/eth0/router_solicitations", "0"),
    ] {
        net.sysctl(key, value)?;
    }
    let mut lines = vec![
        "link set lo up".to_owned(),
        // No packet larger than the MTU enters the queue: TCP builds none, the shaper cuts those of
        // UDP.
        format!("link set {INTERFACE} gso_max_segs 1 txqueuelen 1000 up"),
        format!("addr add {}/16 dev {INTERFACE}", ipv4_of(index)),
        format!("addr add {}/64 dev {INTERFACE} nodad", ipv6_of(index)),
    ];
    lines.extend(neighbours(index, spec, backend));
    batch(net, "ip", &lines)?;
    batch(net, "tc", &[uplink(spec)])
}

/// Where the other hosts are found on the link.
fn neighbours(index: usize, spec: &LabSpec, backend: Backend) -> Vec<String> {
    let mut lines = Vec::new();
    for peer in (0..spec.hosts as usize).filter(|peer| *peer != index) {
        // The kernel's switch routes: to its hosts it is the next hop on the way to all others.
        let mac = mac_text(match backend {
            Backend::Switch => mac_of(peer),
            _ => port_mac(index),
        });
        for address in [ipv4_of(peer).to_string(), ipv6_of(peer).to_string()] {
            lines.push(format!(
                "neigh replace {address} lladdr {mac} dev {INTERFACE} nud permanent"
            ));
        }
    }
    lines
}

/// The host's own interface sends at the rate of the link. TBF cuts what is longer than its burst
/// into packets on entry.
fn uplink(spec: &LabSpec) -> String {
    let burst = u64::from(2 * spec.frame_bytes()).max(spec.port_bytes_per_s() / 10_000);
    format!(
        "qdisc add dev {INTERFACE} root tbf rate {}mbit burst {burst} limit {}",
        spec.port_mbps, spec.uplink_buffer_bytes
    )
}
