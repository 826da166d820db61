//! Facts about the machine that a reader must know to judge figures; `None` where they cannot be found.

use std::fs;

/// Model of the processor.
pub fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Release of the kernel.
pub fn kernel() -> Option<String> {
    line("/proc/sys/kernel/osrelease")
}

/// Mean number of runnable threads over the last minute, as the kernel writes it.
pub fn load_average() -> Option<String> {
    Some(line("/proc/loadavg")?.split_whitespace().next()?.to_owned())
}

/// What a file of one line says, such as one below `/proc/sys`, without white space around it.
pub fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linux_has_a_release_and_a_load_average() {
        assert!(kernel().unwrap().contains('.'));
        assert!(load_average().unwrap().parse::<f64>().unwrap() >= 0.0);
        assert_eq!(line("/no/such/file"), None);
    }
}
