//! What the system counted, for transports that do not count by themselves.

/// A counter of `/proc/net/snmp`, such as `Tcp` and `RetransSegs`: of all programs in this network
/// namespace (a host of a lab has one for itself), since it exists. 0 where the system does not
/// tell.
pub fn snmp_counter(protocol: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/snmp").unwrap_or_default();
    find(&text, protocol, name).unwrap_or(0)
}

/// Each protocol has a line of names and a line of values.
fn find(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'));
    let column = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "Ip: a b\nIp: 1 2\nTcp: RtoAlgorithm OutSegs RetransSegs\nTcp: 1 22 333\n";
        assert_eq!(find(text, "Tcp", "RetransSegs"), Some(333));
        assert_eq!(find(text, "Udp", "InErrors"), None);
        assert_eq!(find("Tcp: x\n", "Tcp", "x"), None);
    }
}
