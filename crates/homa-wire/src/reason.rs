//! Why a control packet was sent.

use core::fmt;

/// Declares the reasons, each once: its code on the wire and its meaning in words.
macro_rules! reasons {
    ($($(#[$attribute:meta])* $name:ident = $code:literal, $meaning:literal;)*) => {
        /// Why a control packet of the native profile was sent (docs/spec/wire-format.md §12): the
        /// reason byte of its [`Extension`](crate::Extension). Every byte is a reason: codes that
        /// this version does not know are kept as they are.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$attribute])* $name,)*
            /// The code of a later version; only `Reason::from` makes it.
            #[non_exhaustive]
            Unknown(u8),
        }

        impl Reason {
            /// All reasons that this version knows, in the order of their codes.
            pub const KNOWN: &'static [Self] = &[$(Self::$name),*];

            /// The code on the wire.
            #[inline]
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unknown(code) => code,
                }
            }

            /// The reason in words.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                    Self::Unknown(_) => "unknown reason",
                }
            }
        }

        impl From<u8> for Reason {
            #[inline]
            fn from(code: u8) -> Self {
                match code {
                    $($code => Self::$name,)*
                    code => Self::Unknown(code),
                }
            }
        }
    };
}

reasons! {
    /// None is given. So do all packets of Linux hosts.
    #[default]
    None = 0, "none";
    /// RPC_UNKNOWN: this RPC was never seen here; the value is the sender's age in µs.
    NeverSeen = 1, "never seen";
    /// RPC_UNKNOWN: it is over here; the value is 0, or [`Reason::REPEATED`].
    Finished = 2, "finished";
    /// RPC_UNKNOWN: no server at the port; the value is 0, or [`Reason::MAY_HAVE_BEGUN`].
    NoService = 3, "no service at the port";
    /// RPC_UNKNOWN: the endpoint is closing.
    Closing = 4, "endpoint is closing";
    /// RPC_UNKNOWN: the application dropped the request.
    Rejected = 5, "rejected by the application";
    /// RPC_UNKNOWN: the request names another incarnation of this server; the value is its age in
    /// µs.
    Restarted = 6, "server restarted";
    /// RPC_UNKNOWN: the message is too long for this end; the value is the most that it takes, in
    /// bytes, or 0.
    TooLong = 7, "message too long";
    /// RPC_UNKNOWN: a limit is reached here, the request was not executed; the value is 0, or
    /// [`Reason::REPEATED`].
    Overloaded = 8, "overloaded";
    /// RPC_UNKNOWN from a client: it does not want the answer any more.
    Cancelled = 9, "cancelled";
    /// RPC_UNKNOWN: this end speaks another version; the value is that version.
    Version = 10, "other version";
    /// NEED_ACK: just say whether you have the RPC.
    Probe = 11, "probe";
    /// RPC_UNKNOWN: the server is closing, the request was not executed; the value is 0,
    /// [`Reason::REPEATED`] or [`Reason::MAY_HAVE_BEGUN`].
    NotExecuted = 12, "closing; the request was not executed";
}

impl Reason {
    /// Value beside [`Reason::Overloaded`], [`Reason::NotExecuted`] and [`Reason::Finished`]: the
    /// server says it again until it is acknowledged, as it always does with [`Reason::Rejected`].
    pub const REPEATED: u32 = 1;

    /// Value beside [`Reason::NoService`] and [`Reason::NotExecuted`]: the request was sent again
    /// or asked about. Whoever was there before may have begun with it.
    pub const MAY_HAVE_BEGUN: u32 = 2;

    /// Whether an RPC_UNKNOWN with this reason and this `value` is sent again until the client
    /// acknowledges it.
    pub const fn is_repeated(self, value: u32) -> bool {
        match self {
            Self::Rejected => true,
            Self::Overloaded | Self::NotExecuted | Self::Finished => value == Self::REPEATED,
            _ => false,
        }
    }

    /// Whether an RPC_UNKNOWN with this reason ends the client's call; after all others it may send
    /// the request again.
    pub const fn ends_call(self) -> bool {
        match self {
            Self::Finished
            | Self::NoService
            | Self::Closing
            | Self::Rejected
            | Self::TooLong
            | Self::Overloaded
            | Self::NotExecuted
            | Self::Version => true,
            Self::None
            | Self::NeverSeen
            | Self::Restarted
            | Self::Cancelled
            | Self::Probe
            | Self::Unknown(_) => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_a_reason_with_that_code() {
        for code in 0..=u8::MAX {
            let reason = Reason::from(code);
            assert_eq!(reason.code(), code);
            assert_eq!(matches!(reason, Reason::Unknown(_)), code > 12);
        }
    }

    #[test]
    fn the_codes_are_those_of_peers_in_service() {
        let expected = [
            Reason::None,
            Reason::NeverSeen,
            Reason::Finished,
            Reason::NoService,
            Reason::Closing,
            Reason::Rejected,
            Reason::Restarted,
            Reason::TooLong,
            Reason::Overloaded,
            Reason::Cancelled,
            Reason::Version,
            Reason::Probe,
            Reason::NotExecuted,
        ];
        assert_eq!(Reason::KNOWN, expected);
        for (code, reason) in (0..).zip(expected) {
            assert_eq!(reason.code(), code);
        }
        assert_eq!(Reason::default(), Reason::None);
    }
}
