//! What `homa lab` needs, tried by building the smallest lab, and what `homa bench` does without
//! one.

use std::fs;

use homa_lab::tool;

use super::finding::Finding;
use crate::lab::trial::{self, Trial};

/// The programs that build labs, all of the package iproute2.
const PROGRAMS: [&str; 2] = ["ip", "tc"];

/// Settings of the kernel that can forbid user namespaces, and what they have to be.
const SETTINGS: [(&str, &str); 2] = [
    ("kernel.unprivileged_userns_clone", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "0"),
];

/// The limit of user namespaces; zero forbids them.
const LIMIT: &str = "user.max_user_namespaces";

/// All that labs and comparisons in them need.
pub(super) fn all() -> Vec<Finding> {
    let trial = trial::in_process();
    vec![programs(tool::find), namespaces(&trial, setting), lab(&trial), bench(&trial)]
}

fn programs(find: impl Fn(&str) -> Option<std::path::PathBuf>) -> Finding {
    let check = "programs that build labs";
    let found = PROGRAMS.map(|program| (program, find(program)));
    let missing: Vec<&str> =
        found.iter().filter(|(_, path)| path.is_none()).map(|(program, _)| *program).collect();
    if missing.is_empty() {
        let paths: Vec<String> = found
            .iter()
            .flat_map(|(_, path)| path)
            .map(|path| path.display().to_string())
            .collect();
        return Finding::ok(check, paths.join(", "), "`homa lab` runs them.");
    }
    let meaning = "No lab can be built. Looked for in PATH, /usr/local/sbin, /usr/sbin and /sbin.";
    Finding::warning(check, format!("there is no {}", missing.join(" and no ")), meaning)
        .mended_by("sudo apt-get install iproute2")
}

fn namespaces(trial: &Trial, setting: impl Fn(&str) -> Option<String>) -> Finding {
    let check = "user namespaces";
    if rustix::process::geteuid().is_root() && !matches!(trial, Trial::Refused(_)) {
        return Finding::ok(check, "not needed by root", "Root may make networks of its own.");
    }
    let Trial::Refused(reason) = trial else {
        let meaning = "Users without privileges may make networks of their own.";
        return Finding::ok(check, "allowed", meaning);
    };
    let mut mend: Vec<String> = SETTINGS
        .iter()
        .filter(|(name, wanted)| setting(name).is_some_and(|value| value != *wanted))
        .map(|(name, wanted)| format!("sudo sysctl -w {name}={wanted}"))
        .collect();
    if setting(LIMIT).is_some_and(|value| value == "0") {
        mend.push(format!("sudo sysctl -w {LIMIT}=10000"));
    }
    let meaning = "`homa lab` and comparisons in it need root, or these.";
    let finding = Finding::warning(check, format!("not allowed ({reason})"), meaning);
    if mend.is_empty() { finding } else { finding.mended_by(mend.join("\n")) }
}

fn setting(name: &str) -> Option<String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn lab(trial: &Trial) -> Finding {
    let check = "lab of two hosts";
    match trial {
        Trial::Works { switches, failed } if failed.is_empty() => {
            let names: Vec<String> = switches.iter().map(ToString::to_string).collect();
            let found = format!("built and taken down, switches: {}", names.join(", "));
            Finding::ok(check, found, "`homa lab` works.")
        }
        Trial::Works { failed, .. } => {
            let meaning = "`homa lab` works with the other switch only; --backend chooses it.";
            Finding::warning(check, failed.join("; "), meaning).mended_by(modules())
        }
        Trial::Refused(_) => Finding::warning(
            check,
            "not tried: namespaces are refused",
            "`homa lab` does not work.",
        ),
        Trial::Fails(reason) => {
            let finding = Finding::warning(check, reason.as_str(), "`homa lab` does not work.");
            // Without its programs nothing was asked of the kernel.
            if reason.contains("not installed") { finding } else { finding.mended_by(modules()) }
        }
    }
}

fn modules() -> &'static str {
    "sudo modprobe -a veth sch_htb sch_tbf cls_u32 af_packet"
}

fn bench(trial: &Trial) -> Finding {
    let check = "`homa bench` on this host";
    match trial {
        Trial::Works { .. } => Finding::ok(
            check,
            "compares in a lab",
            "Hosts, links and queues are emulated; at the start it measures what this machine can carry.",
        ),
        _ => Finding::warning(
            check,
            "compares over loopback, as `homa bench local`: no lab can be built, see above",
            "Both transports run without a network between them, so queues and priorities play no part.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use homa_lab::Backend;

    use super::*;
    use crate::doctor::finding::State;

    fn works() -> Trial {
        Trial::Works { switches: vec![Backend::Kernel, Backend::Switch], failed: Vec::new() }
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let without_tc = |program: &str| (program == "ip").then(|| PathBuf::from("/bin/ip"));
        let finding = programs(without_tc);
        assert_eq!((finding.state, finding.found.as_str()), (State::Warning, "there is no tc"));
        assert_eq!(finding.mend.as_deref(), Some("sudo apt-get install iproute2"));
        assert_eq!(programs(|_| Some("/x".into())).state, State::Ok);
    }

    #[test]
    fn refused_namespaces_name_the_settings_that_forbid_them() {
        let refused = Trial::Refused("Operation not permitted".into());
        let mend = |name: &'static str, value: &'static str| {
            namespaces(&refused, move |asked| (asked == name).then(|| value.to_owned())).mend
        };
        let apparmor = "kernel.apparmor_restrict_unprivileged_userns";
        assert_eq!(mend(apparmor, "1"), Some(format!("sudo sysctl -w {apparmor}=0")));
        assert_eq!(mend(apparmor, "0"), None);
        assert_eq!(mend(LIMIT, "0"), Some(format!("sudo sysctl -w {LIMIT}=10000")));
        assert_eq!(namespaces(&works(), |_| Some("1".into())).state, State::Ok);
    }

    #[test]
    fn the_comparison_needs_a_lab_that_could_be_built() {
        assert_eq!(bench(&works()).found, "compares in a lab");
        let fails = Trial::Fails("tc qdisc add: unknown".into());
        assert!(bench(&fails).found.starts_with("compares over loopback"));
        assert!(lab(&fails).mend.is_some());
        let half =
            Trial::Works { switches: vec![Backend::Switch], failed: vec!["kernel: no".into()] };
        assert_eq!((lab(&half).state, bench(&half).state), (State::Warning, State::Ok));
    }
}
