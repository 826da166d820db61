//! Which congestion controls TCP may use here, for the comparisons with it.

use std::fs;

use rustix::{
    process::geteuid,
    thread::{CapabilitySet, capabilities},
};

use super::finding::Finding;

/// What the kernel says of its congestion controls.
#[derive(Debug, Default)]
struct Controls {
    default: String,
    allowed: Vec<String>,
    available: Vec<String>,
}

/// Congestion controls of TCP.
pub(super) fn controls() -> Finding {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{name}congestion_control"));
        text.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let controls = Controls {
        default: read("").into_iter().next().unwrap_or_default(),
        allowed: read("allowed_"),
        available: read("available_"),
    };
    let privileged = geteuid().is_root()
        || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN));
    of_controls(&controls, privileged)
}

fn of_controls(controls: &Controls, privileged: bool) -> Finding {
    let check = "congestion controls of TCP";
    let Controls { default, allowed, available } = controls;
    if available.is_empty() {
        return Finding::ok(check, "the kernel does not tell", "`homa bench` takes its default.");
    }
    let usable = if privileged { available } else { allowed };
    let found = format!("default {default}; this user may choose {}", usable.join(", "));
    let forbidden: Vec<&str> =
        available.iter().filter(|name| !usable.contains(name)).map(String::as_str).collect();
    if forbidden.is_empty() {
        return Finding::ok(check, found, "`homa bench` compares with each of them.");
    }
    let meaning = format!(
        "Over loopback (`homa bench local`) this user cannot compare with {}; in a lab everybody can. The setting is net.ipv4.\
         tcp_allowed_congestion_control.",
        forbidden.join(", ")
    );
    Finding::ok(check, found, meaning).mended_by(format!(
        "sudo sysctl -w net.ipv4.tcp_allowed_congestion_control=\"{}\"",
        available.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_user_is_told_what_the_kernel_allows_and_how_to_allow_more() {
        let controls = Controls {
            default: "bbr".into(),
            allowed: names("reno bbr"),
            available: names("reno bbr cubic"),
        };
        let user = of_controls(&controls, false);
        assert_eq!(user.found, "default bbr; this user may choose reno, bbr");
        assert!(user.meaning.contains("cannot compare with cubic;"), "{}", user.meaning);
        assert!(user.mend.unwrap().ends_with("=\"reno bbr cubic\""));
        let root = of_controls(&controls, true);
        assert!(root.found.ends_with("reno, bbr, cubic") && root.mend.is_none());
    }
}
