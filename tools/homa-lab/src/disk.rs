//! A file system that is soon full: for what programs do when writing fails.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::OwnedFd,
    thread,
};

use nix::sched::{CloneFlags, unshare};
use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, unlinkat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    },
};

use crate::LabError;

/// A file system in memory that is mounted nowhere and has files without names: it is gone with the
/// last descriptor of it and of its files.
#[derive(Debug)]
pub struct SmallDisk(OwnedFd);

/// What takes all room that is left on a [`SmallDisk`], until it is dropped.
#[derive(Debug)]
pub struct Ballast(#[expect(dead_code, reason = "its bytes are kept while it is open")] File);

/// Bytes written at a time when a disk is filled.
static CHUNK: [u8; 64 << 10] = [0; 64 << 10];

impl SmallDisk {
    /// A disk for so many bytes. Needs [`acquire_privileges`](crate::acquire_privileges).
    ///
    /// # Errors
    /// [`LabError::NoPermission`] if this process may not mount; [`LabError::Setup`] if the kernel
    /// (before 5.2) has no mounts without a place.
    pub fn new(bytes: u64) -> Result<Self, LabError> {
        // The mounts of a thread of its own: those of the machine are not this user's to add to.
        let made = thread::scope(|scope| scope.spawn(|| make(bytes)).join());
        match made.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Ok(disk) => Ok(Self(disk)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(LabError::NoPermission { reason: format!("mount a disk: {error}") })
            }
            Err(error) => Err(LabError::setup("make a file system in memory", error)),
        }
    }

    /// A new file without a name, for reading and appending.
    ///
    /// # Errors
    /// Those of `openat(2)`.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?;
        unlinkat(&self.0, name, AtFlags::empty())?;
        Ok(file.into())
    }

    /// Takes all room that is left.
    ///
    /// # Errors
    /// Those of writing, but for that there is no room.
    pub fn fill(&self) -> io::Result<Ballast> {
        let mut file = self.file("ballast")?;
        let mut chunk = &CHUNK[..];
        loop {
            match file.write(chunk) {
                Err(error) if error.kind() == ErrorKind::StorageFull && chunk.len() == 1 => {
                    return Ok(Ballast(file));
                }
                Err(error) if error.kind() == ErrorKind::StorageFull => chunk = &CHUNK[..1],
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
    }
}

fn make(bytes: u64) -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", bytes.to_string())?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}
