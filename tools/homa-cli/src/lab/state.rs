//! Which labs there are: a file per lab, and whether its process still lives.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use homa_lab::{Choice, HostHandle, LabHost, LabSpec};
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// The longest state file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What the file of a lab says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LabState {
    /// The process that holds the lab.
    pub process: ProcessId,
    /// The process all programs inside end with.
    pub first_process: u32,
    /// What was asked for.
    pub spec: LabSpec,
    /// What emulates the switch, and why.
    pub choice: Choice,
    /// The hosts.
    pub hosts: Vec<LabHost>,
    /// The ways into them.
    pub handles: Vec<HostHandle>,
}

/// A process that cannot be taken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in the ticks of the kernel.
    pub started: u64,
}

impl ProcessId {
    /// This process.
    pub(crate) fn own() -> io::Result<Self> {
        let pid = std::process::id();
        started(pid).map(|started| Self { pid, started })
    }

    /// Whether it still runs.
    pub(crate) fn lives(self) -> bool {
        started(self.pid).is_ok_and(|started| started == self.started)
    }
}

/// The 22nd field of `/proc/PID/stat`, counted behind the name, which may contain anything.
fn started(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_ascii_whitespace();
    if fields.next() == Some("Z") {
        return Err(ErrorKind::NotFound.into());
    }
    fields.nth(18).and_then(|field| field.parse().ok()).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// The directory of this user's labs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateDirectory(PathBuf);

impl StateDirectory {
    /// Finds or makes it. Call this before entering a user namespace, where everybody is root.
    pub(crate) fn open() -> Result<Self, CliError> {
        let user = rustix::process::geteuid().as_raw();
        let path = match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(directory) if !directory.is_empty() => PathBuf::from(directory).join("homa-lab"),
            _ => std::env::temp_dir().join(format!("homa-lab-{user}")),
        };
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(file_error("make", &path, &error));
            }
            _ => {}
        }
        // Somebody else's directory in /tmp could lead to somebody else's processes.
        let data = fs::symlink_metadata(&path).map_err(|e| file_error("read", &path, &e))?;
        if !data.is_dir() || data.uid() != user || data.mode() & 0o077 != 0 {
            let reason = "it must be a directory that is yours and closed to others".into();
            return Err(CliError::File { action: "use", path, reason });
        }
        Ok(Self(path))
    }

    /// The file of a lab.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// The socket of a lab.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.sock"))
    }

    /// Names of all labs that have a file.
    pub(crate) fn names(&self) -> Result<Vec<String>, CliError> {
        let entries = fs::read_dir(&self.0).map_err(|e| file_error("read", &self.0, &e))?;
        let mut names: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Reads the file of a lab; nothing if there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<LabState>, CliError> {
        let path = self.file(name);
        let text = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(data) if data.len() > FILE_BYTES_MAX => Err(ErrorKind::FileTooLarge.into()),
            _ => fs::read_to_string(&path),
        };
        let text = text.map_err(|error| file_error("read", &path, &error))?;
        serde_json::from_str(&text).map(Some).map_err(|error| CliError::File {
            action: "read",
            path,
            reason: error.to_string(),
        })
    }

    /// Writes the file of a new lab; fails if there is one of that name.
    pub(crate) fn create(&self, state: &LabState) -> Result<(), CliError> {
        let path = self.file(&state.spec.name);
        let text = serde_json::to_vec(state).map_err(|e| CliError::Process(e.to_string()))?;
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(&text))
            .map_err(|error| file_error("write", &path, &error))
    }

    /// Removes what a lab has left here.
    pub(crate) fn remove(&self, name: &str) -> Result<(), CliError> {
        for path in [self.file(name), self.socket(name)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(file_error("remove", &path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn file_error(action: &'static str, path: &Path, error: &io::Error) -> CliError {
    CliError::File { action, path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_not_taken_for_another_with_its_number() {
        let own = ProcessId::own().unwrap();
        assert!(own.lives());
        assert!(!ProcessId { started: own.started + 1, ..own }.lives());
        assert!(!ProcessId { pid: u32::MAX, started: 1 }.lives());
    }
}
