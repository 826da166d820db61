//! What this process may do, and whether the kernel does it itself.

use homa_io::ip::kernel_serves_homa;
use rustix::thread::{CapabilitySet, capabilities};

use super::finding::Finding;

/// Raw sockets.
pub(super) fn raw_sockets(needed: bool) -> Finding {
    let check = "raw sockets (CAP_NET_RAW)";
    let has = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_RAW));
    if has {
        return Finding::ok(check, "allowed", "Raw IP and recording packets are possible.");
    }
    Finding::lacking(
        needed,
        check,
        "not allowed",
        "Endpoints over raw IP (--carriage ip) cannot be opened and packets cannot be recorded; UDP works.",
    )
    .mended_by("sudo setcap cap_net_raw+ep \"$(readlink -f \"$(command -v homa)\")\"")
}

/// The Linux module.
pub(super) fn kernel_module(raw: bool) -> Finding {
    let check = "kernel module of Homa";
    if !kernel_serves_homa() {
        return Finding::ok(
            check,
            "not loaded",
            "IP protocol 146 is free for endpoints over raw IP.",
        );
    }
    Finding::lacking(
        raw,
        check,
        "loaded",
        "It answers every packet of IP protocol 146, so endpoints over raw IP are refused; UDP works.",
    )
    .mended_by("sudo rmmod homa")
}
