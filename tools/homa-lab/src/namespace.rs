//! Namespaces without names: descriptors of this process keep them alive.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
    },
};

use crate::{LabError, attach::HostHandle};

/// A network namespace.
#[derive(Debug)]
pub(crate) struct NetNs(File);

impl NetNs {
    /// Makes a new, empty one.
    pub(crate) fn new() -> Result<Self, LabError> {
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })
        .map(Self)
        .map_err(|error| LabError::setup("make a network namespace", error))
    }

    /// Does something in this namespace.
    ///
    /// # Errors
    /// Those of `work`, and of entering.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        in_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// A path that names the namespace while this process lives.
    pub(crate) fn path(&self) -> PathBuf {
        path_of(&self.0)
    }

    /// Writes a setting of this namespace below `/proc/sys/net`; one that this kernel lacks is
    /// skipped.
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        let path = PathBuf::from("/proc/sys/net").join(key);
        match self.run(|| fs::write(&path, value)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LabError::File { action: "write", path, reason: error })
            }
            _ => Ok(()),
        }
    }
}

/// The processes of all programs of a lab. All of them end when this value is dropped or our
/// process ends, however it does.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pid: File,
    mount: File,
    /// There until the value is dropped.
    first: Option<Child>,
    /// The first process of the process namespace lives until this pipe closes; only we hold it.
    lifeline: Option<ChildStdin>,
}

/// The first process: shows the sandbox in its `/proc` where that is allowed, then waits for the
/// end.
const FIRST: &str = "mount -t proc proc /proc 2>/dev/null; echo ready; exec cat >/dev/null";

impl Sandbox {
    /// Starts an empty one; its programs find `hosts` in `/etc/hosts`, in front of what the machine
    /// has there.
    pub(crate) fn new(hosts: &str) -> Result<Self, LabError> {
        Self::start(hosts).map_err(|error| LabError::setup("make a process namespace", error))
    }

    fn start(hosts: &str) -> io::Result<Self> {
        let (mount, mut first) = in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
            keep_mounts_private()?;
            // Where mounting is not allowed, hosts have addresses only.
            let _ = name_hosts(hosts);
            let mount = File::open("/proc/thread-self/ns/mnt")?;
            let first = Command::new("/bin/sh")
                .args(["-c", FIRST])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            Ok((mount, first))
        })?;
        let lifeline = first.stdin.take();
        // From here on dropping the value ends what was started.
        let pid = File::open(format!("/proc/{}/ns/pid", first.id()))?;
        let ready = first.stdout.take();
        let sandbox = Self { pid, mount, first: Some(first), lifeline };
        let mut line = String::new();
        if let Some(ready) = ready {
            BufReader::new(ready).read_line(&mut line)?;
        }
        match line.trim_end() {
            "ready" => Ok(sandbox),
            _ => Err(io::Error::other("its first process ended at once")),
        }
    }

    /// The process that all others of the sandbox end with, seen from outside.
    pub(crate) fn first_process(&self) -> u32 {
        self.first.as_ref().map_or(0, Child::id)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let Some(mut first) = self.first.take() else { return };
        // Killing as well: the first process may be stopped. Fails only if it has ended already.
        let _ = first.kill();
        // It is over when all others are, and those that this process has started are only when
        // somebody has waited for them: the owner of the `Child`, perhaps after this. They are dead
        // all the same.
        for _ in 0..ENDING_LOOKS {
            if !matches!(first.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(ENDING_LOOK);
        }
        // Without the thread a zombie is left until this process ends.
        let _ = thread::Builder::new().name("lab-end".into()).spawn(move || first.wait());
    }
}

/// How often and how long dropping waits for the processes of a lab to be gone.
const ENDING_LOOKS: u32 = 50;
const ENDING_LOOK: Duration = Duration::from_millis(1);

/// What a program in a host sees: the host's network, the sandbox's processes, and a `/sys` that
/// fits.
#[derive(Debug)]
pub(crate) struct HostSpace {
    /// The host's network.
    pub net: NetNs,
    mount: File,
}

impl HostSpace {
    /// Makes the space of one host.
    pub(crate) fn new(sandbox: &Sandbox) -> Result<Self, LabError> {
        let net = NetNs::new()?;
        let mount = in_thread(|| {
            // Opened before the view of `/proc` changes.
            let own = File::open("/proc/thread-self/ns")?;
            unshare(CloneFlags::CLONE_FS)?;
            setns(&net.0, CloneFlags::CLONE_NEWNET)?;
            setns(&sandbox.mount, CloneFlags::CLONE_NEWNS)?;
            unshare(CloneFlags::CLONE_NEWNS)?;
            show_own_devices();
            let opened = openat(&own, "mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            Ok(File::from(opened))
        })
        .map_err(|error| LabError::setup("make the mounts of a host", error))?;
        Ok(Self { net, mount })
    }

    /// Names everything by paths, for other processes.
    pub(crate) fn handle(&self, sandbox: &Sandbox) -> HostHandle {
        HostHandle {
            user: PathBuf::from(format!("/proc/{}/ns/user", process::id())),
            net: self.net.path(),
            pid: path_of(&sandbox.pid),
            mount: path_of(&self.mount),
        }
    }

    /// Does something in a thread whose children live in this host.
    pub(crate) fn run<T: Send>(
        &self,
        sandbox: &Sandbox,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let directory = std::env::current_dir();
        in_thread(|| {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.net.0, CloneFlags::CLONE_NEWNET)?;
            setns(&sandbox.pid, CloneFlags::CLONE_NEWPID)?;
            setns(&self.mount, CloneFlags::CLONE_NEWNS)?;
            // Entering other mounts moves a thread to the root directory.
            if let Ok(directory) = directory {
                std::env::set_current_dir(directory)?;
            }
            work()
        })
    }
}

fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd()))
}

/// Without this, mounts of the lab would appear in the rest of the system.
fn keep_mounts_private() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?)
}

/// The file that the C library looks names up in.
const HOSTS: &str = "/etc/hosts";

/// Any directory that is there: for a moment it holds a file system in memory, which only this
/// thread sees.
const SCRATCH: &str = "/proc";

/// Puts lines in front of `/etc/hosts`, in the mounts of this thread only.
fn name_hosts(lines: &str) -> io::Result<()> {
    let text = [lines.as_bytes(), &fs::read(HOSTS).unwrap_or_default()].concat();
    mount("hosts", SCRATCH, "tmpfs", MountFlags::empty(), None)?;
    let file = Path::new(SCRATCH).join("hosts");
    let bound = fs::write(&file, text).and_then(|()| Ok(mount_bind(&file, HOSTS)?));
    // The file lives on where it is bound.
    unmount(SCRATCH, UnmountFlags::DETACH)?;
    bound
}

/// `/sys/class/net` shows the devices of the namespace that mounted it. Where mounting is not
/// allowed, programs see those of the machine there; everything else works.
fn show_own_devices() {
    let _ = mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None);
}

/// Does something in a thread of its own, whose namespaces end with it.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, work)?.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
