//! What moves the packets of an endpoint.

use homa_io::xdp::XdpPlace;

/// What shall move the packets of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverChoice {
    /// The kernel's sockets, which work everywhere.
    #[default]
    Sockets,
    /// AF_XDP if the interface's own driver takes the filter, otherwise sockets;
    /// [`Endpoint::driver`](crate::Endpoint::driver) says which, and why.
    Auto,
    /// AF_XDP, or no endpoint ([`BindError::Xdp`](crate::BindError::Xdp)).
    Xdp,
}

/// What moved the packets of an endpoint when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverInUse {
    /// The kernel's sockets.
    #[non_exhaustive]
    Sockets {
        /// Why it is not AF_XDP, if that was looked for.
        why: Option<String>,
    },
    /// AF_XDP, at this place, and sockets for what does not go through there.
    Xdp(XdpPlace),
    /// One's own ([`EndpointBuilder::on_driver`](crate::EndpointBuilder::on_driver)).
    Own,
}
