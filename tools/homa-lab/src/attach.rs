//! Programs inside a lab that another process holds.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use crate::LabError;

/// The namespaces of a host, by paths that are valid while the process that holds the lab lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHandle {
    /// The user namespace.
    pub user: PathBuf,
    /// The network.
    pub net: PathBuf,
    /// The processes.
    pub pid: PathBuf,
    /// The mounts.
    pub mount: PathBuf,
}

impl HostHandle {
    /// Moves this process into the host and starts a program there; the program ends with the lab.
    /// The process must have a single thread, stays in the host, and should do no more than wait
    /// for the program.
    ///
    /// # Errors
    /// [`LabError::File`] if the lab is gone or belongs to somebody else,
    /// [`LabError::NoPermission`] if this process may not enter, [`LabError::Io`] if the program
    /// cannot be started.
    pub fn enter_and_spawn(&self, command: &mut Command) -> Result<Child, LabError> {
        let directory = std::env::current_dir();
        let other_user = !same_namespace(&self.user, Path::new("/proc/self/ns/user"));
        // All are opened first: behind the mounts of the host these paths mean something else.
        let user = open(&self.user)?;
        let others = [
            (open(&self.net)?, CloneFlags::CLONE_NEWNET),
            (open(&self.pid)?, CloneFlags::CLONE_NEWPID),
            (open(&self.mount)?, CloneFlags::CLONE_NEWNS),
        ];
        if other_user {
            enter(&user, CloneFlags::CLONE_NEWUSER)?;
        }
        unshare(CloneFlags::CLONE_FS).map_err(io::Error::from)?;
        for (namespace, kind) in &others {
            enter(namespace, *kind)?;
        }
        if let Ok(directory) = directory {
            // Entering other mounts moves a process to the root directory.
            std::env::set_current_dir(directory)?;
        }
        Ok(command.spawn()?)
    }
}

fn open(path: &Path) -> Result<File, LabError> {
    File::open(path).map_err(|reason| LabError::File {
        action: "enter",
        path: path.to_owned(),
        reason,
    })
}

fn enter(namespace: &File, kind: CloneFlags) -> Result<(), LabError> {
    setns(namespace, kind).map_err(|errno| LabError::NoPermission {
        reason: format!("cannot enter the lab: {}", errno.desc()),
    })
}

fn same_namespace(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    identity(one) == identity(other)
}
