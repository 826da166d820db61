//! What this process may do, and whether the kernel does it itself.

use std::{
    fs,
    process::{Command, Stdio},
};

use homa_io::ip::kernel_serves_homa;
use rustix::{
    process::geteuid,
    thread::{CapabilitySet, capabilities},
};

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

/// Namespaces without privileges, for the lab.
pub(super) fn user_namespaces() -> Finding {
    let check = "user namespaces";
    if geteuid().is_root() {
        return Finding::ok(check, "not needed by root", "`homa lab` works.");
    }
    let sysctl = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
    };
    let mut mend = Vec::new();
    for (name, wanted) in [
        ("kernel/unprivileged_userns_clone", 1),
        ("kernel/apparmor_restrict_unprivileged_userns", 0),
    ] {
        if sysctl(name).is_some_and(|value| value != wanted) {
            mend.push(format!("sudo sysctl -w {}={wanted}", name.replace('/', ".")));
        }
    }
    if sysctl("user/max_user_namespaces") == Some(0) {
        mend.push("sudo sysctl -w user.max_user_namespaces=10000".to_owned());
    }
    if mend.is_empty() && can_unshare() {
        return Finding::ok(check, "allowed", "`homa lab` works without root.");
    }
    let meaning = "`homa lab` and comparisons in it need root.";
    let finding = Finding::warning(check, "not allowed", meaning);
    if mend.is_empty() { finding } else { finding.mended_by(mend.join("\n")) }
}

/// Tries it in a process of its own. Without the tool to try it the settings have to do.
fn can_unshare() -> bool {
    Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_or(true, |status| status.success())
}
