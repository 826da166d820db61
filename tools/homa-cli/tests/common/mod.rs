//! A place for labs, and processes inside them.
#![allow(dead_code, missing_docs)]

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

pub(crate) const NOBODY: u32 = 65_534;

/// What ordinary users of Debian have; `tc` and `nft` are elsewhere.
pub(crate) const USERS_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";

/// A place for the state of labs that other tests do not see, as root or as an ordinary user.
pub(crate) struct Place {
    directory: TempDir,
    program: PathBuf,
    user: Option<u32>,
}

impl Place {
    /// Nothing if labs are not possible here.
    pub(crate) fn new(user: Option<u32>) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        // The directory of the build may be closed to others. A copy by this process could be open
        // for writing in programs that other tests start in this moment, and could not be run then.
        let program = path.join("homa");
        let copy = Command::new("cp").arg(env!("CARGO_BIN_EXE_homa")).arg(&program).status();
        assert!(copy.unwrap().success());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let state = path.join("state");
        fs::create_dir(&state).unwrap();
        if let Some(user) = user {
            if !geteuid().is_root() {
                println!("SKIPPED: only root can become another user");
                return None;
            }
            chown(&state, Some(user), Some(user)).unwrap();
        }
        let place = Self { directory, program, user };
        let output = place.run(&["lab", "up", "--force", "--hosts", "2", "--name", "try"]);
        if output.status.success() {
            place.succeed(&["lab", "down", "try"]);
            return Some(place);
        }
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let installed = Path::new("/usr/sbin/tc").exists();
        let lacking =
            error.contains("no permission") || (error.contains("not installed") && !installed);
        let must = std::env::var("CI").is_ok_and(|ci| ci == "true") && geteuid().is_root();
        assert!(lacking && !must, "{error}");
        println!("SKIPPED: {error}");
        None
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("XDG_RUNTIME_DIR", self.path().join("state")).current_dir("/");
        if let Some(user) = self.user {
            command.uid(user).gid(user).env("PATH", USERS_PATH);
        }
        command
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// A test that fails leaves no lab.
impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.command(&["lab", "down"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// A `sleep` that no other test starts.
pub(crate) fn unique_sleep() -> String {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{}.{}{number}", 5_000, std::process::id())
}

/// Numbers of the processes with this argument; zombies have none.
pub(crate) fn processes(argument: &str) -> Vec<i32> {
    let is_it = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()))
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(is_it)
        .collect()
}

pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}
