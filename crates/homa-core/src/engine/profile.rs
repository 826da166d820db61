//! Profile of packets: what they carry besides what Linux sends.

use homa_wire::{Header, VERSION};

use crate::addr::Carriage;

/// Profile of packets (docs/spec/wire-format.md §12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Between peers of this implementation.
    Native,
    /// As Linux hosts send and understand them.
    Linux,
}

impl Profile {
    /// The profile of a packet. One of another version is not native.
    #[inline]
    pub(crate) fn of(header: &Header) -> Self {
        match header.common.version() {
            Some(VERSION) => Self::Native,
            _ => Self::Linux,
        }
    }

    /// The profile of peers of which nothing is known. Over UDP there are no Linux hosts.
    #[inline]
    pub(crate) const fn over(carriage: Carriage) -> Self {
        match carriage {
            Carriage::Udp => Self::Native,
            Carriage::Ip => Self::Linux,
        }
    }

    #[inline]
    pub(crate) fn is_native(self) -> bool {
        self == Self::Native
    }
}
