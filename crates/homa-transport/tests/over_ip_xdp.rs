//! Endpoints over AF_XDP in two network namespaces.
#![cfg(not(loom))]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use common::{at_client, at_server, builder, server_ip_of_each_version};
use homa_transport::{
    BindError, Carriage, DriverChoice, DriverInUse, Endpoint, EndpointBuilder, XdpConfig,
};

const PORT: u16 = 3_000;
const SIZES: [usize; 9] = [1, 100, 1_400, 1_500, 3_000, 10_000, 65_536, 500_000, 1_000_000];
const CARRIAGES: [Carriage; 2] = [Carriage::Udp, Carriage::Ip];

/// One test at a time: an interface has one endpoint over AF_XDP.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn settings(carriage: Carriage, driver: DriverChoice) -> EndpointBuilder {
    builder().carriage(carriage).driver(driver)
}

fn server(carriage: Carriage, driver: DriverChoice) -> Endpoint {
    in_time(|| at_server(|| settings(carriage, driver).bind(("::", PORT))))
}

fn client(carriage: Carriage, driver: DriverChoice) -> Endpoint {
    in_time(|| at_client(|| settings(carriage, driver).client()))
}

/// Opens an endpoint when the one before has let go of its place: its last acknowledgements go
/// before.
fn in_time(open: impl Fn() -> Result<Endpoint, BindError>) -> Endpoint {
    let until = Instant::now() + common::SOON;
    loop {
        match open() {
            Ok(endpoint) => return endpoint,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_over_xdp(endpoint: &Endpoint) -> bool {
    matches!(endpoint.driver(), DriverInUse::Xdp(_))
}

/// Answers each request with its body until the endpoint closes.
fn echo(server: &Endpoint) {
    while let Ok(mut request) = server.accept().wait() {
        let body = request.take_body();
        let _ = request.reply(body).wait();
    }
}

fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8).collect()
}

fn call(client: &Endpoint, server: SocketAddr, bytes: usize) {
    let body = body(bytes);
    let answer = client.call(server, body.clone()).timeout(Duration::from_secs(20)).wait();
    assert_eq!(answer.unwrap().into_bytes(), body, "{bytes} bytes");
}

fn calls_of_all_sizes(client: &Endpoint, server: SocketAddr) {
    SIZES.iter().for_each(|&bytes| call(client, server, bytes));
    // Many at a time.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|i| call(client, server, 1 + i * 300)));
        }
    });
}

#[test]
fn calls_of_all_sizes_are_answered_whichever_end_is_over_xdp() {
    let _alone = alone();
    for carriage in CARRIAGES {
        for (at_server, at_client) in [
            (DriverChoice::Xdp, DriverChoice::Xdp),
            (DriverChoice::Xdp, DriverChoice::Sockets),
            (DriverChoice::Sockets, DriverChoice::Xdp),
        ] {
            let server = server(carriage, at_server);
            assert_eq!(is_over_xdp(&server), at_server == DriverChoice::Xdp);
            thread::scope(|scope| {
                scope.spawn(|| echo(&server));
                for ip in server_ip_of_each_version() {
                    let client = client(carriage, at_client);
                    assert_eq!(is_over_xdp(&client), at_client == DriverChoice::Xdp);
                    calls_of_all_sizes(&client, SocketAddr::new(ip, PORT));
                }
                server.close().wait();
            });
        }
    }
}

#[test]
fn a_server_over_xdp_is_called_from_its_own_host_too() {
    let _alone = alone();
    for carriage in CARRIAGES {
        let server = server(carriage, DriverChoice::Xdp);
        let client = at_server(|| settings(carriage, DriverChoice::Sockets).client()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| echo(&server));
            for ip in [IpAddr::from([127, 0, 0, 1]), server_ip_of_each_version()[0]] {
                let address = SocketAddr::new(ip, PORT);
                SIZES.iter().for_each(|&bytes| call(&client, address, bytes));
            }
            server.close().wait();
        });
    }
}

#[test]
fn a_second_endpoint_is_refused_or_gets_sockets_and_says_why() {
    let _alone = alone();
    let xdp = server(Carriage::Udp, DriverChoice::Xdp);
    drop(xdp);
    let _first = at_server(|| {
        in_time(|| {
            let builder = settings(Carriage::Udp, DriverChoice::Auto).bind(("::", PORT))?;
            match is_over_xdp(&builder) {
                true => Ok(builder),
                false => Err(BindError::Resources(std::io::ErrorKind::WouldBlock.into())),
            }
        })
    });
    let second = at_server(|| settings(Carriage::Udp, DriverChoice::Xdp).client());
    let error = second.unwrap_err();
    assert!(matches!(error, BindError::Xdp(_)), "{error}");
    assert!(error.to_string().contains("another XDP program"), "{error}");
    let third = at_server(|| settings(Carriage::Udp, DriverChoice::Auto).client()).unwrap();
    let DriverInUse::Sockets { why: Some(why), .. } = third.driver() else {
        panic!("{:?}", third.driver());
    };
    assert!(why.contains("another XDP program"), "{why}");
    let fourth = client(Carriage::Udp, DriverChoice::Sockets);
    assert!(matches!(fourth.driver(), DriverInUse::Sockets { why: None, .. }));
    let form =
        at_client(|| settings(Carriage::Ip, DriverChoice::Xdp).tcp_encapsulated(true).client());
    assert!(matches!(form, Err(BindError::Xdp(homa_transport::XdpError::TcpForm))));
}

#[test]
fn calls_end_when_the_interface_goes_away() {
    let _alone = alone();
    let Some(host) = common::new_host() else { return };
    let set_up = [
        "link add x0 type veth peer name x1",
        "addr add 10.150.0.1/24 dev x0",
        "link set x0 up",
        "link set x1 up",
        "neigh add 10.150.0.2 lladdr 02:00:00:00:00:02 dev x0",
    ];
    let run = |line: &str| {
        let status = Command::new("ip").args(line.split(' ')).stdout(Stdio::null()).status();
        assert!(status.unwrap().success(), "{line}");
    };
    common::at(&host, || set_up.into_iter().for_each(run));
    // The other end has no address but is up, too.
    let config = XdpConfig::default().interface("x0");
    let settings = settings(Carriage::Udp, DriverChoice::Xdp).xdp(config);
    let client = common::at(&host, || settings.client()).unwrap();
    let nobody = SocketAddr::from(([10, 150, 0, 2], PORT));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.call(nobody, "hello").wait().unwrap_err());
        thread::sleep(Duration::from_millis(50));
        common::at(&host, || run("link del x0"));
        // With an error, which is what it waits for.
        waiting.join().unwrap();
    });
}

#[test]
fn tasks_of_a_runtime_wait_for_rings_and_sockets_alike() {
    let _alone = alone();
    for carriage in CARRIAGES {
        let server = server(carriage, DriverChoice::Xdp);
        let far = client(carriage, DriverChoice::Sockets);
        let near = at_server(|| settings(carriage, DriverChoice::Sockets).client()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ip = server_ip_of_each_version()[0];
        thread::scope(|scope| {
            scope.spawn(|| {
                runtime.block_on(async {
                    while let Ok(mut request) = server.accept().await {
                        let body = request.take_body();
                        let _ = request.reply(body).await;
                    }
                });
            });
            let started = Instant::now();
            for _ in 0..30 {
                call(&far, SocketAddr::new(ip, PORT), 100);
                // Through the sockets, which a task that sleeps is woken by as well.
                call(&near, SocketAddr::new([127, 0, 0, 1].into(), PORT), 100);
                thread::sleep(Duration::from_millis(2));
            }
            // Not by timers that find out later what was missed.
            assert!(started.elapsed() < common::SOON, "{:?}", started.elapsed());
            server.close().wait();
        });
    }
}
