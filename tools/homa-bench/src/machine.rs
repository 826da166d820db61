//! Facts about machine and program that a reader must know to judge figures; `None` where they
//! cannot be found.

use std::{fs, path::Path, time::SystemTime};

use serde::Serialize;

/// Which program made a document, where and when.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    /// When, in UTC, as RFC 3339 writes it.
    pub date: String,
    /// Name of the host.
    pub host: String,
    /// The program.
    pub homa: Version,
    /// The command line as a user types it.
    pub command: Vec<String>,
}

/// Which program it is.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Version {
    /// Its version.
    pub version: &'static str,
    /// The commit that was checked out when it was built; changes that were not committed do not
    /// show. None in packages.
    pub commit: Option<&'static str>,
}

/// This program.
pub const VERSION: Version =
    Version { version: env!("CARGO_PKG_VERSION"), commit: option_env!("HOMA_COMMIT") };

impl Provenance {
    /// This program, here and now.
    pub fn now() -> Self {
        Provenance {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            homa: VERSION,
            command: command(std::env::args()),
        }
    }
}

/// The command as a user types it, wherever the program lies.
fn command(mut arguments: impl Iterator<Item = String>) -> Vec<String> {
    let program = arguments.next().unwrap_or_default();
    let name = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned());
    name.into_iter().chain(arguments).collect()
}

/// What a reader must know of the machine to judge figures.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Model of the processor.
    pub cpu: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, in units of 1,024 bytes.
    pub memory_kib: Option<u64>,
    /// Mean number of runnable threads over the last minute, as the kernel writes it.
    pub load_average: Option<String>,
}

impl Machine {
    /// This machine, now.
    pub fn now() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let word = |text: &str, index| text.split_whitespace().nth(index).map(str::to_owned);
        let cpuinfo = text("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find(|line| line.starts_with("model name"));
        Machine {
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: cpu.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: word(&text("/proc/meminfo"), 1).and_then(|kib| kib.parse().ok()),
            load_average: word(&text("/proc/loadavg"), 0),
        }
    }
}

/// What a file of one line says, such as one below `/proc/sys`, without white space around it.
pub fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_one_that_a_user_types() {
        let typed = ["/home/somebody/target/release/homa", "bench", "plan", "plans/goal.toml"];
        let found = command(typed.iter().map(|word| (*word).to_owned()));
        assert_eq!(found, ["homa", "bench", "plan", "plans/goal.toml"]);
    }

    #[test]
    fn a_document_says_when_and_where_it_was_made() {
        let found = Provenance::now();
        let date = humantime::parse_rfc3339(&found.date).unwrap();
        assert!(date.elapsed().unwrap_or_default().as_secs() < 3_600, "{}", found.date);
        assert!(!found.host.is_empty() && found.homa.version.contains('.'));
    }

    #[test]
    fn every_linux_has_a_release_memory_and_a_load_average() {
        let found = Machine::now();
        assert!(found.kernel.unwrap().contains('.') && found.memory_kib.unwrap() > 1_000);
        assert!(found.load_average.unwrap().parse::<f64>().unwrap() >= 0.0);
        assert_eq!(line("/no/such/file"), None);
    }
}
