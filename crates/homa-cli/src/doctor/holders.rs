//! Who on this host speaks Homa over raw IP: the names of their ports tell.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
};

use super::finding::Finding;

/// What the abstract Unix sockets of ports and of the responder are called.
const PREFIX: &str = "@homa/146/";
const RESPONDER: &str = "responder";
/// Ports listed one by one.
const PORTS_SHOWN: usize = 16;

/// The sockets found, by inode.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    ports: BTreeMap<u64, u16>,
    /// The one that listens.
    responder: Option<u64>,
}

/// A process: its id and what it is called.
type Process = (u32, String);

/// Who answers for ports of nobody, and how many share the host.
pub(super) fn all() -> Vec<Finding> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let names = names(&table);
    let wanted = names.ports.keys().copied().chain(names.responder).collect();
    let processes = processes(&wanted);
    vec![responder(&names, &processes), sharing(&names, &processes)]
}

fn responder(names: &Names, processes: &HashMap<u64, Process>) -> Finding {
    let check = "responder (homa/146/responder)";
    match names.responder {
        Some(inode) => {
            let who = match processes.get(&inode) {
                Some((pid, name)) => format!("held by {name} (process {pid})"),
                None => "held by a process that only root can see".to_owned(),
            };
            let meaning = "It answers over raw IP for ports of this host that nobody has.";
            Finding::ok(check, who, meaning)
        }
        None if names.ports.is_empty() => {
            let meaning = "Nobody speaks raw IP here; the first endpoint to do so takes the role.";
            Finding::ok(check, "held by nobody", meaning)
        }
        None => Finding::warning(
            check,
            "held by nobody, though ports are taken",
            "Calls to ports of this host that nobody has end by time-out only. An endpoint takes the role as \
             soon as it is driven; one that was stopped (SIGSTOP) does not.",
        ),
    }
}

fn sharing(names: &Names, processes: &HashMap<u64, Process>) -> Finding {
    let check = "endpoints over raw IP";
    let ports: BTreeSet<u16> = names.ports.values().copied().collect();
    // Ports whose process cannot be seen count as one each.
    let known: BTreeSet<u32> =
        names.ports.keys().filter_map(|inode| Some(processes.get(inode)?.0)).collect();
    let hidden = names.ports.keys().filter(|inode| !processes.contains_key(inode)).count();
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

/// Reads what `/proc/net/unix` has: Num RefCount Protocol Flags Type St Inode Path.
fn names(table: &str) -> Names {
    let mut names = Names::default();
    for line in table.lines() {
        let mut fields = line.split_whitespace();
        let (Some(flags), Some(inode), Some(path)) = (fields.nth(3), fields.nth(2), fields.next())
        else {
            continue;
        };
        let (Some(name), Ok(inode)) = (path.strip_prefix(PREFIX), inode.parse()) else {
            continue;
        };
        // __SO_ACCEPTCON: connections to the listener have its name too.
        let listens = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 0x1_0000 != 0);
        if name == RESPONDER {
            if listens {
                names.responder = Some(inode);
            }
        } else if let Ok(port) = name.parse() {
            names.ports.insert(inode, port);
        }
    }
    names
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

    const TABLE: &str = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00000000 0002 01 101 @homa/146/99
0000000000000000: 00000002 00000000 00000000 0002 01 102 @homa/146/40000
0000000000000000: 00000002 00000000 00010000 0001 01 103 @homa/146/responder
0000000000000000: 00000003 00000000 00000000 0001 03 104 @homa/146/responder
0000000000000000: 00000002 00000000 00010000 0001 01 105 /run/homa/146/7
0000000000000000: 00000003 00000000 00000000 0001 03 106
";

    #[test]
    fn ports_and_the_responder_are_read_from_the_table_of_unix_sockets() {
        let names = names(TABLE);
        assert_eq!(names.ports, BTreeMap::from([(101, 99), (102, 40_000)]));
        assert_eq!(names.responder, Some(103));
        let process = |pid| (pid, "homa".to_owned());
        let one = HashMap::from([(101, process(7)), (102, process(7)), (103, process(7))]);
        assert_eq!(sharing(&names, &one).state, State::Warning);
        assert!(sharing(&names, &one).found.starts_with("2 endpoints in 1 process, with ports"));
        assert_eq!(sharing(&Names::default(), &one).state, State::Ok);
        assert!(responder(&names, &one).found.contains("process 7"));
        let two = HashMap::from([(101, process(7))]);
        assert_eq!(sharing(&names, &two).found, "2 endpoints in 2 processes, with ports 99, 40000");
        assert_eq!(responder(&Names::default(), &two).state, State::Ok);
        let headless = Names { responder: None, ..names };
        assert_eq!(responder(&headless, &two).state, State::Warning);
    }
}
