//! What tests drive engines with, in virtual time: [`Host`] and [`Solo`] are one engine that is
//! driven by hand, [`Net`] is several on a wire, [`replay`] puts one in the place of a recorded
//! host.

mod host;
mod net;
mod packet;
pub(crate) mod replay;
mod solo;

pub(crate) use host::*;
pub(crate) use net::*;
pub(crate) use packet::*;
pub(crate) use solo::*;
