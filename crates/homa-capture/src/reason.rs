//! What the reason byte of this implementation's control packets means
//! (docs/spec/wire-format.md §12).

/// No reason given, as always on Linux.
pub(crate) const NONE: u8 = 0;
/// NEED_ACK: just say whether you have the RPC.
pub(crate) const PROBE: u8 = 11;

/// The reason in words.
pub(crate) fn name(reason: u8) -> &'static str {
    match reason {
        NONE => "no reason",
        1 => "never seen",
        2 => "finished",
        3 => "no service at the port",
        4 => "endpoint is closing",
        5 => "rejected by the application",
        6 => "server restarted",
        7 => "message too long",
        8 => "overloaded",
        9 => "cancelled",
        10 => "other version",
        PROBE => "probe",
        _ => "unknown reason",
    }
}

/// Whether an RPC_UNKNOWN with this reason ends the client's call; after the others it sends the request
/// again.
pub(crate) fn is_final(reason: u8) -> bool {
    matches!(reason, 2..=5 | 7 | 8 | 10)
}
