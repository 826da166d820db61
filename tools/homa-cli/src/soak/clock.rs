//! A wall clock that can be moved for one process: `libfaketime`, where it is installed. Time
//! namespaces do not hold the wall clock, and that of the machine belongs to everybody.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use super::plan::Who;

/// Where distributions install it, below a directory of the architecture or not.
const PLACES: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib"];
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// How far the clock jumps; forward and back in turn.
const STEP: &str = "+1h";

/// The library, and files that tell it the time.
#[derive(Debug)]
pub(super) struct WallClock {
    library: PathBuf,
    directory: PathBuf,
}

impl WallClock {
    /// Finds the library; `None` if nobody wants it.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn find(wanted: bool) -> Result<Option<Self>, String> {
        if !wanted {
            return Ok(None);
        }
        let library = library().ok_or("libfaketime is not installed (package libfaketime)")?;
        let name = format!("homa-soak-{}-clocks", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(Some(WallClock { library, directory }))
    }

    /// Starts a process with such a clock.
    pub(super) fn give_to(&self, command: &mut Command, who: Who) -> io::Result<()> {
        fs::write(self.path(who), "+0")?;
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.path(who))
            .env("FAKETIME_NO_CACHE", "1")
            // The monotonic clock, which the transport reads, cannot be set.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Ok(())
    }

    /// Moves the clock of a process.
    pub(super) fn step(&self, who: Who) -> io::Result<()> {
        let path = self.path(who);
        let next = if fs::read_to_string(&path)? == "+0" { STEP } else { "+0" };
        // Never empty: a file of its own takes the place of the old one.
        let new = path.with_extension("new");
        fs::File::create(&new)?.write_all(next.as_bytes())?;
        fs::rename(new, path)
    }

    fn path(&self, who: Who) -> PathBuf {
        self.directory.join(who.to_string().replace(' ', "-"))
    }
}

impl Drop for WallClock {
    fn drop(&mut self) {
        // What cannot be removed is some bytes in the directory for such things.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn library() -> Option<PathBuf> {
    let below = |place: &str| {
        let own = Path::new(place).join(LIBRARY);
        let entries = fs::read_dir(place).ok()?;
        let others = entries.flatten().map(|entry| entry.path().join(LIBRARY));
        std::iter::once(own).chain(others).find(|path| path.exists())
    };
    PLACES.into_iter().find_map(below)
}
