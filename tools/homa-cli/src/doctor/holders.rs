//! Who on this host speaks Homa over raw IP: the claims to their ports tell.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
};

use homa_io::ip::Claim;

use super::finding::Finding;

/// Ports listed one by one.
const PORTS_SHOWN: usize = 16;

/// What is claimed, by the inode of the socket that claims it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Claims {
    ports: BTreeMap<u64, u16>,
    responder: Option<u64>,
}

/// A process: its id and what it is called.
type Process = (u32, String);

/// Who answers for ports of nobody, and how many share the host.
pub(super) fn all() -> Vec<Finding> {
    let claims = of_claims(&homa_io::ip::claims().unwrap_or_default());
    let wanted = claims.ports.keys().copied().chain(claims.responder).collect();
    let processes = processes(&wanted);
    vec![responder(&claims, &processes), sharing(&claims, &processes)]
}

fn responder(claims: &Claims, processes: &HashMap<u64, Process>) -> Finding {
    let check = "responder";
    match claims.responder {
        Some(inode) => {
            let who = match processes.get(&inode) {
                Some((pid, name)) => format!("held by {name} (process {pid})"),
                None => "held by a process that only root can see".to_owned(),
            };
            let meaning = "It answers over raw IP for ports of this host that nobody has.";
            Finding::ok(check, who, meaning)
        }
        None if claims.ports.is_empty() => {
            let meaning = "Nobody speaks raw IP here; the first endpoint to do so takes the role.";
            Finding::ok(check, "held by nobody", meaning)
        }
        None => Finding::warning(
            check,
            "held by nobody, though ports are taken",
            "Calls to ports of this host that nobody has end by timeout only. An endpoint takes the role as \
             soon as it is driven; one that was stopped (SIGSTOP) does not.",
        ),
    }
}

fn sharing(claims: &Claims, processes: &HashMap<u64, Process>) -> Finding {
    let check = "endpoints over raw IP";
    let ports: BTreeSet<u16> = claims.ports.values().copied().collect();
    // Ports whose process cannot be seen count as one each.
    let known: BTreeSet<u32> =
        claims.ports.keys().filter_map(|inode| Some(processes.get(inode)?.0)).collect();
    let hidden = claims.ports.keys().filter(|inode| !processes.contains_key(inode)).count();
    let count = known.len() + hidden;
    let list: Vec<String> = ports.iter().take(PORTS_SHOWN).map(u16::to_string).collect();
    let more = if ports.len() > list.len() { ", ..." } else { "" };
    let found = match ports.len() {
        0 => "none".to_owned(),
        endpoints => {
            let plural = |n: usize, one: &str, many: &str| {
                format!("{n} {}", if n == 1 { one } else { many })
            };
            format!(
                "{} in {}, with {} {}{more}",
                plural(endpoints, "endpoint", "endpoints"),
                plural(count, "process", "processes"),
                if endpoints == 1 { "port" } else { "ports" },
                list.join(", ")
            )
        }
    };
    if ports.len() < 2 {
        return Finding::ok(check, found, "Nobody else grants for the same link.");
    }
    Finding::warning(
        check,
        found,
        "They share the host without a common budget: each grants as if the link were its own, so queues in \
         front of this host grow with their number, and thresholds of priorities do not follow the traffic. \
         Where that matters let one endpoint serve.",
    )
}

fn of_claims(found: &[(Claim, u64)]) -> Claims {
    let mut claims = Claims::default();
    for &(claim, inode) in found {
        match claim {
            Claim::Port { port, .. } => {
                claims.ports.insert(inode, port);
            }
            Claim::Responder { .. } => claims.responder = Some(inode),
        }
    }
    claims
}

/// Who has the sockets with the inodes `wanted`, as far as this process may see.
fn processes(wanted: &BTreeSet<u64>) -> HashMap<u64, Process> {
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return found;
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return found;
    };
    for entry in entries.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        for descriptor in descriptors.filter_map(Result::ok) {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            let inode = target.to_str().and_then(|text| {
                text.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
            });
            if let Some(inode) = inode.filter(|inode| wanted.contains(inode)) {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                found.insert(inode, (pid, name.trim().to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn ports_and_the_responder_are_told_with_their_processes() {
        let claims =
            Claims { ports: BTreeMap::from([(101, 99), (102, 40_000)]), responder: Some(103) };
        let process = |pid| (pid, "homa".to_owned());
        let one = HashMap::from([(101, process(7)), (102, process(7)), (103, process(7))]);
        assert_eq!(sharing(&claims, &one).state, State::Warning);
        assert!(sharing(&claims, &one).found.starts_with("2 endpoints in 1 process, with ports"));
        assert_eq!(sharing(&Claims::default(), &one).state, State::Ok);
        assert!(responder(&claims, &one).found.contains("process 7"));
        let two = HashMap::from([(101, process(7))]);
        assert_eq!(
            sharing(&claims, &two).found,
            "2 endpoints in 2 processes, with ports 99, 40000"
        );
        assert_eq!(responder(&Claims::default(), &two).state, State::Ok);
        let headless = Claims { responder: None, ..claims };
        assert_eq!(responder(&headless, &two).state, State::Warning);
    }
}
