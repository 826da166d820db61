//! The right to make network namespaces: root, or root of a user namespace of our own.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};
use rustix::{
    process::{getegid, geteuid},
    thread::gettid,
};
use serde::Serialize;

use crate::LabError;

/// A thread that has ended is gone by then.
const ENDING_MAX: Duration = Duration::from_secs(5);

/// Where the right to make namespaces comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Privilege {
    /// The process had it already (root).
    Root,
    /// The process moved into a user namespace of its own, where it is root.
    UserNamespace,
}

/// Makes sure that this process may make namespaces. A process without the right moves into a user
/// namespace of its own, which only a process with a single thread can: call this first in `main`.
/// A second call changes nothing.
///
/// # Errors
/// [`LabError::NoPermission`] if the system forbids it or the process has several threads.
pub fn acquire_privileges() -> Result<Privilege, LabError> {
    if may_make_namespaces() {
        return Ok(Privilege::Root);
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(refused)?;
    map("/proc/self/setgroups", "deny")?;
    map("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    map("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    match may_make_namespaces() {
        true => Ok(Privilege::UserNamespace),
        false => {
            Err(LabError::NoPermission { reason: "a user namespace gives no rights here".into() })
        }
    }
}

/// Tries it in a thread of its own: only that thread moves, and what it made ends with it.
fn may_make_namespaces() -> bool {
    let trial = || (gettid(), unshare(CloneFlags::CLONE_NEWNET).is_ok());
    let Ok((thread, may)) = thread::spawn(trial).join() else { return false };
    // Who joins a thread is woken before the process is without it.
    let entry = format!("/proc/self/task/{}", thread.as_raw_nonzero());
    let start = Instant::now();
    while Path::new(&entry).exists() && start.elapsed() < ENDING_MAX {
        thread::yield_now();
    }
    may
}

fn refused(errno: Errno) -> LabError {
    let reason = match errno {
        Errno::EINVAL => "this process has several threads already".to_owned(),
        Errno::ENOSPC | Errno::EUSERS => {
            "there are as many user namespaces as user.max_user_namespaces allows".to_owned()
        }
        other => other.to_string(),
    };
    LabError::NoPermission { reason }
}

fn map(path: &str, line: &str) -> Result<(), LabError> {
    fs::write(path, line)
        .map_err(|error| LabError::NoPermission { reason: format!("{path}: {error}") })
}
