//! Priorities: what network devices make of them, and which message gets which.

use std::{fs, path::Path};

use homa_core::Cutoffs;
use homa_lab::tool;
use serde_json::Value;

use super::finding::Finding;

/// Devices reported one by one.
const DEVICES_MAX: usize = 16;
/// Priority levels of the default table.
const LEVELS: u8 = 8;

/// What the devices that are up do with packets of different priorities.
pub(super) fn device_queues() -> Vec<Finding> {
    let check = "priorities at the network devices";
    let devices = physical_devices(Path::new("/sys/class/net"));
    if devices.is_empty() {
        let meaning = "Homa's priorities act in switches and devices; here is none.";
        return vec![Finding::ok(check, "no physical device is up", meaning)];
    }
    devices.iter().map(|device| of_device(check, device, discipline(device).as_deref())).collect()
}

fn of_device(check: &'static str, device: &str, discipline: Option<&str>) -> Finding {
    let queues = fs::read_dir(format!("/sys/class/net/{device}/queues")).map_or(0, |queues| {
        let names = queues.filter_map(Result::ok).map(|queue| queue.file_name());
        names.filter(|name| name.as_encoded_bytes().starts_with(b"tx-")).count()
    });
    let found = format!(
        "{device}: {}, {queues} transmit queues",
        discipline.map_or("discipline unknown".to_owned(), |name| format!("discipline {name}"))
    );
    let own = match discipline {
        Some("prio" | "mqprio" | "ets" | "taprio") => {
            "It has classes: let the highest serve DSCP CS7, the next CS6, down to CS0."
        }
        Some(_) => {
            "It does not look at Homa's priorities. Homa keeps its own queue here short, so that matters only if \
             other traffic fills the link."
        }
        None => "`tc` (package iproute2) would say what its queue does with priorities.",
    };
    let meaning = format!(
        "{own}\nSwitches: map DSCP CS0 to CS7 to eight strict priority queues, CS7 first, and trust DSCP at the ports."
    );
    Finding::ok(check, found, meaning)
}

/// Devices of the hardware that are up.
fn physical_devices(class: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(class) else {
        return Vec::new();
    };
    let is_up = |path: &Path| {
        let state = fs::read_to_string(path.join("operstate")).unwrap_or_default();
        path.join("device").exists() && state.trim() != "down"
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| is_up(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names.truncate(DEVICES_MAX);
    names
}

/// The queueing discipline of a device, as `tc` says.
fn discipline(device: &str) -> Option<String> {
    let output =
        tool::command("tc").ok()?.args(["-j", "qdisc", "show", "dev", device]).output().ok()?;
    let list: Value = serde_json::from_slice(&output.stdout).ok()?;
    let root = list.as_array()?.iter().find(|one| one["root"] == true)?;
    Some(root["kind"].as_str()?.to_owned())
}

/// Which unscheduled messages get which priority.
pub(super) fn cutoffs(raw: bool) -> Finding {
    let check = "thresholds of unscheduled priorities (cutoffs)";
    let levels = *Cutoffs::default_for(LEVELS).levels();
    let table: Vec<String> = (0..LEVELS)
        .zip(levels)
        .rev()
        .filter(|&(_, bytes)| bytes > 0)
        .map(|(level, bytes)| match (level, bytes) {
            (0, _) => "level 0 for longer ones".to_owned(),
            _ => format!("level {level} up to {bytes} bytes"),
        })
        .collect();
    let first = table.join(", ");
    match raw {
        true => Finding::ok(
            check,
            format!("fixed: {first}"),
            "They hold for all processes at an address, of whose traffic each sees a part, so they follow it only \
             where EndpointBuilder::automatic_cutoffs(true) says so.",
        ),
        false => Finding::ok(
            check,
            format!("follow the traffic of each endpoint, from {first}"),
            "Nothing has to be set. Over raw IP they are fixed.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_without_hardware_behind_them_do_not_count() {
        assert!(!physical_devices(Path::new("/sys/class/net")).contains(&"lo".to_owned()));
        assert_eq!(physical_devices(Path::new("/none/such")), Vec::<String>::new());
    }

    #[test]
    fn the_thresholds_of_the_engine_are_named() {
        let finding = cutoffs(true);
        assert!(finding.found.contains("level 7 up to"), "{}", finding.found);
        assert!(finding.found.ends_with("level 0 for longer ones"), "{}", finding.found);
        assert!(of_device("", "none-such", Some("prio")).meaning.starts_with("It has classes"));
    }
}
