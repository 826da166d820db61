//! Users of one host who may and who may not speak raw IP: the latter take nothing from the former.
//! The test binary starts itself again as another user.

mod common;

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use common::raw::{Sink, receive_until, request, send};
use homa_core::IcmpKind;
use homa_io::driver::{Driver, RxStatus};
use homa_io::ip::{IpConfig, IpDriver, IpError};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

const ROLE: &str = "HOMA_TEST_ROLE";
const NOBODY: u32 = 65_534;
/// Asked for by both users, and by none.
const WANTED: u16 = 900;
const UNWANTED: u16 = 901;
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// An ordinary user who wants to keep others from speaking Homa, as long as it lives.
struct Squatter(Child);

impl Squatter {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "plays_its_role_if_it_has_one", "--nocapture"])
            .env(ROLE, "squatter")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("squats")), "it ended");
        Self(child)
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what a process started by the other tests does.
#[test]
fn plays_its_role_if_it_has_one() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    nix::unistd::setgid(nix::unistd::Gid::from_raw(NOBODY)).unwrap();
    nix::unistd::setuid(nix::unistd::Uid::from_raw(NOBODY)).unwrap();
    let refused = IpDriver::bind(SocketAddr::new(LOOPBACK, WANTED), &IpConfig::default());
    assert!(matches!(refused, Err(IpError::NoCapability)), "{refused:?}");
    let mut names = vec!["responder".to_owned()];
    for port in [WANTED, UNWANTED] {
        let marks = (0..200).map(|mark| format!("{port}/{mark}/{LOOPBACK}"));
        names.extend(marks.chain([
            format!("{port}"),
            format!("{port}/{LOOPBACK}"),
            format!("{port}/::"),
        ]));
    }
    let _taken: Vec<OwnedFd> = names.iter().map(|name| squat(name)).collect();
    println!("squats");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Takes an abstract name and listens there.
fn squat(name: &str) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    let name = format!("homa/146/{name}");
    bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap()).unwrap();
    listen(&socket, 16).unwrap();
    socket
}

#[test]
fn a_user_without_the_capability_can_take_neither_a_port_nor_the_role_of_the_responder() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can be another user");
        return;
    }
    let Some(host) = common::new_host() else {
        return;
    };
    let _squatter = common::at(&host, Squatter::start);
    let open = |port| {
        common::at(&host, || IpDriver::bind(SocketAddr::new(LOOPBACK, port), &IpConfig::default()))
    };
    let mut server = open(WANTED).unwrap();
    assert!(server.is_responder());
    assert!(matches!(open(WANTED).unwrap_err(), IpError::PortInUse { port: WANTED, .. }));
    let mut client = open(0).unwrap();
    // Neither is one taken for the other: nobody answers for the port that is served, somebody for
    // the other.
    for (port, answered) in [(WANTED, 0), (UNWANTED, 1)] {
        let to = SocketAddr::new(LOOPBACK, port);
        let packet = request(&client, to, false, 10);
        send(&mut client, to, None, 0, &packet, 1).unwrap();
        let mut sink = Sink::default();
        receive_until(&mut server, &mut sink, |sink| !sink.packets.is_empty() || port == UNWANTED);
        for _ in 0..20 {
            while server.receive(&mut sink).unwrap() == RxStatus::More {}
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(sink.packets.len(), usize::from(port == WANTED));
        assert_eq!(server.stats().answered_for_nobody, answered);
    }
    let mut told = Sink::default();
    assert!(receive_until(&mut client, &mut told, |told| !told.errors.is_empty()));
    assert_eq!(told.errors[0].0, IcmpKind::PortUnreachable);
}
