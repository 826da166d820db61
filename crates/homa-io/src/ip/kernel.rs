//! Whether the Linux module of Homa is loaded.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Whether the kernel of this host serves Homa itself: it registered the protocol, or its settings
/// are there. No [`IpDriver`](super::IpDriver) can be opened then.
pub fn kernel_serves_homa() -> bool {
    let registered = fs::File::open("/proc/net/protocols").is_ok_and(|file| {
        BufReader::new(file).lines().map_while(Result::ok).any(|line| names_homa(&line))
    });
    registered || Path::new("/proc/sys/net/homa").exists()
}

/// Lines begin with the name of the protocol.
fn names_homa(line: &str) -> bool {
    line.split_whitespace().next().is_some_and(|name| matches!(name, "HOMA" | "HOMAv6"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_module_of_homa_is_taken_for_it() {
        assert!(names_homa("HOMA      1024      0      -1   NI       0   no   homa  y  y"));
        assert!(names_homa("HOMAv6    1024      0"));
        assert!(!names_homa("TCPv6     2624      6       2   no     320   yes  kernel"));
        assert!(!names_homa(""));
    }
}
