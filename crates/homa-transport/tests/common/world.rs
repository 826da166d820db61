//! Where the endpoints of tests live: on loopback, over UDP; or, in the binaries `over_ip...`, in
//! two network namespaces joined by a veth pair, over raw IP.
//!
//! The namespaces have no names and go with the process. Where they cannot be made the binary says
//! SKIPPED and succeeds, unless it must not (`CI=true` as root).

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use homa_transport::Carriage;
use nix::sched::{CloneFlags, setns, unshare};

/// Which of the two raw IP worlds this binary is, by its name.
const CRATE: &str = env!("CARGO_CRATE_NAME");
/// Ports that this process serves at, if it was not started by another one of these tests; those
/// that such processes serve at.
const PORTS: u16 = 2_000;
const CHILDREN_PORTS: u16 = 10_000;
const PORTS_PER_CHILD: u16 = 100;

/// Set for processes that were started in the place where they shall be, to the first port that is
/// theirs.
const INSIDE: &str = "HOMA_TEST_INSIDE";
/// Where this thread is.
const CURRENT: &str = "/proc/thread-self/ns/net";

const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 146, 0, 1);
const SECOND_SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 146, 0, 3);
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x92, 0, 0, 0, 0, 0, 1);
const SECOND_SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x92, 0, 0, 0, 0, 0, 3);

/// The commands that set the ends up.
const SERVER_END: [&str; 6] = [
    "link set lo up",
    "addr add 10.146.0.1/24 dev homa0",
    "addr add 10.146.0.3/24 dev homa0",
    "addr add fd00:92::1/64 dev homa0 nodad",
    "addr add fd00:92::3/64 dev homa0 nodad",
    "link set homa0 up",
];
const CLIENT_END: [&str; 4] = [
    "link set lo up",
    "addr add 10.146.0.2/24 dev homa1",
    "addr add fd00:92::2/64 dev homa1 nodad",
    "link set homa1 up",
];

/// The two ends.
struct Ends {
    server: File,
    client: File,
}

pub(crate) fn is_raw() -> bool {
    CRATE.starts_with("over_ip")
}

fn is_v6() -> bool {
    CRATE.starts_with("over_ip6")
}

/// Whether packets shall look like TCP segments.
pub(crate) fn is_tcp_form() -> bool {
    CRATE.ends_with("_as_tcp")
}

pub(crate) fn carriage() -> Carriage {
    if is_raw() { Carriage::Ip } else { Carriage::Udp }
}

/// Does something where servers are.
pub(crate) fn at_server<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    within(ends().map(|ends| &ends.server), what)
}

/// Does something where clients are.
pub(crate) fn at_client<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    within(ends().map(|ends| &ends.client), what)
}

/// Starts a process where servers are.
pub(crate) fn spawn_at_server(command: &mut Command) -> Child {
    command.env(INSIDE, ports_of_a_child());
    at_server(|| command.spawn()).unwrap()
}

/// Starts a process where clients are.
pub(crate) fn spawn_at_client(command: &mut Command) -> Child {
    command.env(INSIDE, ports_of_a_child());
    at_client(|| command.spawn()).unwrap()
}

/// Where a server can be reached.
pub(crate) fn server_ip() -> IpAddr {
    match (is_raw(), is_v6()) {
        (false, _) => Ipv4Addr::LOCALHOST.into(),
        (true, false) => SERVER_V4.into(),
        (true, true) => SERVER_V6.into(),
    }
}

/// Another address of the same host.
pub(crate) fn second_server_ip() -> IpAddr {
    match (is_raw(), is_v6()) {
        (false, _) => Ipv4Addr::new(127, 0, 0, 2).into(),
        (true, false) => SECOND_SERVER_V4.into(),
        (true, true) => SECOND_SERVER_V6.into(),
    }
}

pub(crate) fn server_ip_of_each_version() -> [IpAddr; 2] {
    match is_raw() {
        false => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        true => [SERVER_V4.into(), SERVER_V6.into()],
    }
}

/// An address to serve at, with a port that is free.
pub(crate) fn address() -> SocketAddr {
    SocketAddr::new(server_ip(), port())
}

/// The same on all addresses of one IP version, or of both.
pub(crate) fn any_address(both_versions: bool) -> SocketAddr {
    match both_versions || is_v6() {
        true => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port()),
        false => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port()),
    }
}

/// An address at which nobody serves.
pub(crate) fn unused_address() -> SocketAddr {
    match is_raw() {
        true => address(),
        false => std::net::UdpSocket::bind(address()).unwrap().local_addr().unwrap(),
    }
}

/// The first of the ports that the next process started here may use.
fn ports_of_a_child() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(CHILDREN_PORTS);
    NEXT.fetch_add(PORTS_PER_CHILD, Ordering::Relaxed).to_string()
}

/// Over raw IP, ports that the system chooses could not be asked for again; so none is left to it.
fn port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    if !is_raw() {
        return 0;
    }
    // A process started by this one is in the same namespaces and was given ports of its own.
    let given = || std::env::var(INSIDE).ok()?.parse().ok();
    let first = || AtomicU16::new(given().unwrap_or(PORTS));
    NEXT.get_or_init(first).fetch_add(1, Ordering::Relaxed)
}

/// Sends bytes that are no Homa packet, or not on purpose, in a packet to `server`.
pub(crate) fn send_garbage(server: SocketAddr, bytes: &[u8]) {
    // What is too long for the path is refused, which is as good.
    match is_raw() {
        false => drop(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(bytes, server)),
        true => at_client(|| {
            use homa_sys::raw::{Filter, Outgoing};
            let family = homa_sys::address::Family::of(server.ip());
            let socket = homa_sys::RawSocket::open(family, 146, &Filter::nothing()).unwrap();
            // Where its ports would be, so that it passes the filter.
            let mut bytes = bytes.to_vec();
            if let Some(port) = bytes.get_mut(2..4) {
                port.copy_from_slice(&server.port().to_be_bytes());
            }
            let mut packets = Outgoing::new();
            packets.push(|packet| packet.push(&bytes));
            drop(socket.send(server, None, 0, &packets));
        }),
    }
}

/// A host of its own, with nothing but loopback; `None` where that cannot be made.
pub(crate) fn new_host() -> Option<File> {
    if !can_make_hosts() {
        return None;
    }
    let host = new_namespace().unwrap();
    within(Some(&host), || ip("link set lo up")).unwrap();
    Some(host)
}

/// Whether hosts can be made here; says so if not.
pub(super) fn can_make_hosts() -> bool {
    ends().is_some()
}

/// Does something at such a host.
pub(crate) fn at<T: Send>(host: &File, what: impl FnOnce() -> T + Send) -> T {
    within(Some(host), what)
}

pub(super) fn within<T: Send>(place: Option<&File>, what: impl FnOnce() -> T + Send) -> T {
    let Some(place) = place else {
        return what();
    };
    let visit = || {
        setns(place, CloneFlags::CLONE_NEWNET).unwrap();
        what()
    };
    let result = std::thread::scope(|scope| scope.spawn(visit).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// `None`: everything is here.
fn ends() -> Option<&'static Ends> {
    static ENDS: OnceLock<Option<Ends>> = OnceLock::new();
    let make = || {
        if !is_raw() || std::env::var_os(INSIDE).is_some() {
            return None;
        }
        Some(make_ends().unwrap_or_else(|why| cannot_run(&why)))
    };
    ENDS.get_or_init(make).as_ref()
}

/// Ends the process: no test of this binary can run.
fn cannot_run(why: &str) -> ! {
    let must = std::env::var("CI").is_ok_and(|ci| ci == "true") && nix::unistd::geteuid().is_root();
    // Not `println`, which the test harness would keep for itself.
    let word = if must { "FAILED" } else { "SKIPPED" };
    let _ = writeln!(std::io::stdout(), "{word}: {CRATE}: {why}");
    std::process::exit(i32::from(must));
}

fn make_ends() -> Result<Ends, String> {
    let server = new_namespace()?;
    let client = new_namespace()?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), client.as_raw_fd());
    let link = format!("link add homa0 mtu 1500 type veth peer name homa1 mtu 1500 netns {path}");
    within(Some(&server), || ip(&link))?;
    within(Some(&server), || SERVER_END.iter().try_for_each(|line| ip(line)))?;
    within(Some(&client), || CLIENT_END.iter().try_for_each(|line| ip(line)))?;
    Ok(Ends { server, client })
}

/// A namespace that lives as long as the file.
pub(super) fn new_namespace() -> Result<File, String> {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("no new namespace: {error}"))?;
        File::open(CURRENT).map_err(|error| format!("{CURRENT}: {error}"))
    };
    std::thread::scope(|scope| scope.spawn(make).join()).unwrap()
}

pub(super) fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(line.split_whitespace())
        .output()
        .map_err(|error| format!("`ip` (package iproute2): {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
