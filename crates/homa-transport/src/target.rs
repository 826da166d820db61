//! Whom a call goes to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The server of a call: an address, or a name that is resolved when the call begins, by a thread
/// of its own. Calls by address cost less: resolve a name that is called often once.
///
/// ```
/// use homa_transport::Target;
/// let [by_name, by_address] = ["storage:4000", "[2001:db8::1]:4000"].map(Target::from);
/// assert_eq!(by_name.address(), None);
/// assert_eq!(by_address.address(), "[2001:db8::1]:4000".parse().ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Address(SocketAddr),
    Name(Box<str>),
}

impl Target {
    /// The address; `None`: it is a name.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.0 {
            Kind::Address(address) => Some(address),
            Kind::Name(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Address(address) => address.fmt(f),
            Kind::Name(name) => name.fmt(f),
        }
    }
}

impl From<SocketAddr> for Target {
    /// IPv4 addresses in IPv6 form become IPv4 addresses.
    fn from(address: SocketAddr) -> Self {
        Self(Kind::Address(SocketAddr::new(address.ip().to_canonical(), address.port())))
    }
}

impl From<&SocketAddr> for Target {
    fn from(address: &SocketAddr) -> Self {
        (*address).into()
    }
}

impl From<(IpAddr, u16)> for Target {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(Ipv4Addr, u16)> for Target {
    fn from(address: (Ipv4Addr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(Ipv6Addr, u16)> for Target {
    fn from(address: (Ipv6Addr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<&str> for Target {
    /// An address, or a name and a port: `"storage:4000"`.
    fn from(text: &str) -> Self {
        match text.parse::<SocketAddr>() {
            Ok(address) => address.into(),
            Err(_) => Self(Kind::Name(text.into())),
        }
    }
}

impl From<String> for Target {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Target {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<(&str, u16)> for Target {
    fn from((name, port): (&str, u16)) -> Self {
        match name.parse::<IpAddr>() {
            Ok(ip) => (ip, port).into(),
            Err(_) => Self(Kind::Name(format!("{name}:{port}").into())),
        }
    }
}

impl From<&Self> for Target {
    fn from(target: &Self) -> Self {
        target.clone()
    }
}
