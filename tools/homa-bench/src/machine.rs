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
    fn every_linux_has_a_release_and_a_load_average() {
        assert!(kernel().unwrap().contains('.'));
        assert!(load_average().unwrap().parse::<f64>().unwrap() >= 0.0);
        assert_eq!(line("/no/such/file"), None);
    }
}
