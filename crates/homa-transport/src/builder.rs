//! How an endpoint is set up.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use homa_core::{Carriage, Config};
use homa_io::ip::TcpForm;
use homa_io::xdp::XdpConfig;

use crate::{BindError, Clock, Drive, Driver, DriverChoice, Endpoint};

/// Sets an endpoint up; all settings have documented defaults. Ended by [`EndpointBuilder::bind`]
/// or [`EndpointBuilder::client`].
///
/// ```
/// # fn main() -> Result<(), homa_transport::BindError> {
/// let endpoint = homa_transport::EndpointBuilder::new()
///     .max_message_bytes(8 << 20)
///     .outstanding_calls_max(1_000)
///     .client()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct EndpointBuilder {
    pub(crate) config: Config,
    pub(crate) carriage: Carriage,
    pub(crate) tcp_form: TcpForm,
    pub(crate) driver: DriverChoice,
    pub(crate) xdp: XdpConfig,
    pub(crate) automatic_cutoffs: Option<bool>,
    pub(crate) receive_buffer_bytes: Option<u32>,
    pub(crate) outstanding_calls_max: usize,
    pub(crate) outstanding_bytes_max: u64,
    pub(crate) accept_queue_max: usize,
    pub(crate) queue_time_max: Option<Duration>,
    pub(crate) spin: Duration,
    pub(crate) busy_poll: bool,
    pub(crate) streaming_requests: bool,
    pub(crate) linger: Duration,
    pub(crate) seed: Option<u64>,
    client_ip: Option<IpAddr>,
}

impl Default for EndpointBuilder {
    fn default() -> Self {
        Self {
            config: Config::default(),
            carriage: Carriage::Udp,
            tcp_form: TcpForm::default(),
            driver: DriverChoice::default(),
            xdp: XdpConfig::default(),
            automatic_cutoffs: None,
            receive_buffer_bytes: Some(16 << 20),
            outstanding_calls_max: 65_536,
            outstanding_bytes_max: 1 << 30,
            accept_queue_max: 4_096,
            queue_time_max: None,
            spin: Duration::from_micros(50),
            busy_poll: false,
            streaming_requests: false,
            linger: Duration::from_secs(1),
            seed: None,
            client_ip: None,
        }
    }
}

impl EndpointBuilder {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// All protocol settings at once ([`Config`]); replaces what was set by
    /// [`EndpointBuilder::max_message_bytes`] and [`EndpointBuilder::mtu_max`] before.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// How packets travel. Default UDP, which needs no privileges. [`Carriage::Ip`] speaks with
    /// hosts that run the Linux module and needs `CAP_NET_RAW`; ports from 1 to 32,767 can be asked
    /// for there, on all addresses of the host at once.
    #[must_use]
    pub fn carriage(mut self, carriage: Carriage) -> Self {
        self.carriage = carriage;
        self
    }

    /// What moves the packets, apart from how they travel. Default: sockets. With AF_XDP
    /// ([`DriverChoice::Xdp`], [`DriverChoice::Auto`]) packets pass the kernel's network stack by,
    /// which takes privileges, and an interface has one such endpoint. No effect on
    /// [`EndpointBuilder::bind_socket`].
    #[must_use]
    pub fn driver(mut self, choice: DriverChoice) -> Self {
        self.driver = choice;
        self
    }

    /// Settings of AF_XDP, where that is chosen ([`EndpointBuilder::driver`]): above all the
    /// interface, if an endpoint at all addresses cannot tell which one.
    #[must_use]
    pub fn xdp(mut self, config: XdpConfig) -> Self {
        self.xdp = config;
        self
    }

    /// Sends packets over raw IP so that they look like TCP segments, as the Linux module does with
    /// `hijack_tcp`: network cards may take them more readily, firewalls less. Default off. Every
    /// raw IP driver understands both forms, so the two ends may differ. No effect over UDP.
    #[must_use]
    pub fn tcp_encapsulated(mut self, on: bool) -> Self {
        self.tcp_form = if on { TcpForm::Sent } else { TcpForm::Understood };
        self
    }

    /// Whether packets that look like TCP segments are understood over raw IP. Default on. Each
    /// endpoint that understands them costs every ordinary TCP segment of its host some tenths of a
    /// microsecond, which `false` saves: also where the rule that `homa doctor` prints is loaded,
    /// with which all endpoints understand them anyway. The last one of this and
    /// [`EndpointBuilder::tcp_encapsulated`] counts.
    #[must_use]
    pub fn tcp_understood(mut self, on: bool) -> Self {
        self.tcp_form = if on { TcpForm::Understood } else { TcpForm::Ignored };
        self
    }

    /// Whether the thresholds of unscheduled priorities follow the lengths of the messages that
    /// come ([`homa_core::CutoffSource::Automatic`]). Default: over UDP as
    /// [`priorities.cutoffs`](Config::priorities) says, over raw IP not. There the thresholds hold
    /// for all programs of a host together, of which each sees only its own messages; switch it on
    /// where this is the only one.
    #[must_use]
    pub fn automatic_cutoffs(mut self, on: bool) -> Self {
        self.automatic_cutoffs = Some(on);
        self
    }

    /// Longest message sent or accepted, 1 to 2^30 bytes. Default 1,000,000. Both ends need it.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.config.limits.max_message_bytes = bytes;
        let least = u64::from(bytes).saturating_mul(2);
        self.config.limits.receive_memory_bytes =
            self.config.limits.receive_memory_bytes.max(least);
        self
    }

    /// Longest IP packet sent, in bytes, before or after the path MTU is known. Default 65,535.
    #[must_use]
    pub fn mtu_max(mut self, bytes: u32) -> Self {
        self.config.output.mtu_max = bytes;
        self
    }

    /// Receive buffer asked of the system, in bytes. Default 16 MiB; the system may give less
    /// (`net.core.rmem_max`), which is measured and respected.
    #[must_use]
    pub fn receive_buffer_bytes(mut self, bytes: u32) -> Self {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    /// Leaves the receive buffer as the system gives it (212,992 bytes on many systems).
    #[must_use]
    pub fn stock_receive_buffer(mut self) -> Self {
        self.receive_buffer_bytes = None;
        self
    }

    /// Calls to one server that may be without a response at a time; further ones wait, or return
    /// [`LimitReached`](crate::CallErrorKind::LimitReached). Calls to other servers have places of
    /// their own; all together are limited by [`limits.max_rpcs`](Config::limits). Default 65,536;
    /// at least 1.
    #[must_use]
    pub fn outstanding_calls_max(mut self, calls: usize) -> Self {
        self.outstanding_calls_max = calls.max(1);
        self
    }

    /// Bytes of requests to one server without a response, and bytes of responses that their
    /// clients do not have yet, each at most this many at a time. A single message may always go.
    /// Default 1 GiB.
    ///
    /// Room for responses is shared. A client may have more there as long as it has less than is
    /// free beyond what all clients of its host have: alone a third of the room, two hosts a third
    /// and two ninths, and always something is left for the next one. One that has half of what it
    /// may have does not get its requests accepted until it takes responses; a reply to one that
    /// has all of it waits while it takes some, [`recovery.timeout`](Config::recovery) at a time,
    /// and fails with [`crate::ReplyError::NoRoom`] when it takes none. So a client that takes
    /// nothing does not stop replies to others. What responses that are supplied piece by piece
    /// hold is limited with the others by [`responses.unacknowledged_bytes`](Config::responses),
    /// which is at most this.
    #[must_use]
    pub fn outstanding_bytes_max(mut self, bytes: u64) -> Self {
        self.outstanding_bytes_max = bytes;
        self
    }

    /// Complete requests kept ready for `accept`; more stay in the receive memory
    /// ([`limits.receive_memory_bytes`](Config::limits)). A client has a third of the places at
    /// most, and the requests of clients are accepted in turn: one of each host, and of a host one
    /// of each port. Default 4,096.
    #[must_use]
    pub fn accept_queue_max(mut self, requests: usize) -> Self {
        self.accept_queue_max = requests.max(1);
        self
    }

    /// Longest time that a request waits to be accepted; then its client is told
    /// [`Overloaded`](crate::CallErrorKind::Overloaded), and may call again or elsewhere, since no
    /// handler has seen it. Default: a quarter of the time that its client gives it; without a
    /// deadline no limit. With both the shorter one counts.
    ///
    /// A server that gets more than it can do answers in good time what it answers, and refuses the
    /// rest early, within a millisecond and also while nobody accepts. A request is complete when
    /// this time begins, and looked at when it has a place in the queue
    /// ([`EndpointBuilder::accept_queue_max`]).
    #[must_use]
    pub fn queue_time_max(mut self, duration: Duration) -> Self {
        self.queue_time_max = Some(duration);
        self
    }

    /// How long a blocking call looks for packets before it sleeps, if that paid off lately.
    /// Default 50 µs; zero never spins.
    #[must_use]
    pub fn spin(mut self, duration: Duration) -> Self {
        self.spin = duration;
        self
    }

    /// Blocking calls never sleep: lowest latency for a whole core. Default off.
    #[must_use]
    pub fn busy_poll(mut self, on: bool) -> Self {
        self.busy_poll = on;
        self
    }

    /// Requests are handed out at their first byte, by `accept_streaming`, instead of whole.
    /// Default off.
    #[must_use]
    pub fn streaming_requests(mut self, on: bool) -> Self {
        self.streaming_requests = on;
        self
    }

    /// How long a closing endpoint waits for accepted requests and their responses, if
    /// [`Endpoint::drain`] is not told another time. Default 1 s.
    #[must_use]
    pub fn linger(mut self, duration: Duration) -> Self {
        self.linger = duration;
        self
    }

    /// Local address of an endpoint that only calls. Default: all of IPv4 and IPv6, if the system
    /// has both. With `0.0.0.0` it can call IPv4 servers only, and each packet costs some 150 ns
    /// less.
    ///
    /// ```
    /// # fn main() -> Result<(), homa_transport::BindError> {
    /// let any = std::net::Ipv4Addr::UNSPECIFIED;
    /// let client = homa_transport::EndpointBuilder::new().client_ip(any.into()).client()?;
    /// assert!(client.local_addr().is_ipv4());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn client_ip(mut self, ip: IpAddr) -> Self {
        self.client_ip = Some(ip);
        self
    }

    /// Seed of all random choices (RPC ids, incarnations, hashing), for tests: with it packets can
    /// be forged. Default: 128 random bits from the system.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// An endpoint that serves at `address`; port 0 lets the system choose, `[::]` takes IPv4 and
    /// IPv6. Names are resolved in the calling thread.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(self, address: impl ToSocketAddrs) -> Result<Endpoint, BindError> {
        Endpoint::from_builder(&self, &resolve(address)?, true)
    }

    /// An endpoint that only calls, at a port of the system's choice.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn client(self) -> Result<Endpoint, BindError> {
        Endpoint::from_builder(&self, &self.client_addresses(), false)
    }

    /// An endpoint that serves at a UDP socket that is bound already: one that a supervisor passes
    /// on while it replaces the program, or one with options of its own.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind_socket(self, socket: std::net::UdpSocket) -> Result<Endpoint, BindError> {
        Endpoint::from_socket(&self, socket)
    }

    /// An endpoint on a driver and a clock of one's own, for example in a simulation, and what
    /// drives it: nothing else does, so it has no thread.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn on_driver(
        self,
        driver: impl Driver + fmt::Debug + Send + 'static,
        clock: impl Clock + 'static,
        serve: bool,
    ) -> Result<(Endpoint, Drive), BindError> {
        Endpoint::on_driver(&self, driver, clock, serve)
    }

    /// Dual stack if the system has IPv6, else IPv4; or what was asked for.
    fn client_addresses(&self) -> Vec<SocketAddr> {
        match self.client_ip {
            Some(ip) => vec![SocketAddr::new(ip, 0)],
            None => vec![
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            ],
        }
    }
}

fn resolve(address: impl ToSocketAddrs) -> Result<Vec<SocketAddr>, BindError> {
    let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(BindError::Resolve)?.collect();
    if found.is_empty() {
        let nothing = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        return Err(BindError::Resolve(nothing));
    }
    Ok(found)
}
