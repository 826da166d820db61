//! The network namespace that a driver belongs to.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where this thread's sockets are made.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// The namespace in which the driver was opened. Sockets made later have to be made there too,
/// whichever thread drives then.
#[derive(Debug)]
pub(crate) struct Home {
    namespace: File,
}

impl Home {
    /// The namespace of this thread.
    pub(crate) fn here() -> io::Result<Self> {
        Ok(Self { namespace: File::open(CURRENT)? })
    }

    /// Does `what` in this namespace: directly, or if this thread is in another one, on a thread
    /// that goes there, which takes a program that may change namespaces, as one that is in several
    /// can.
    pub(crate) fn within<T: Send>(
        &self,
        what: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        if identity(&File::open(CURRENT)?)? == identity(&self.namespace)? {
            return what();
        }
        let namespace = &self.namespace;
        std::thread::scope(|scope| {
            let visit = move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                what()
            };
            let thread = std::thread::Builder::new().spawn_scoped(scope, visit)?;
            thread.join().map_err(|_| io::Error::other("a thread for system calls panicked"))?
        })
    }
}

/// Identity of a namespace.
fn identity(file: &File) -> io::Result<(u64, u64)> {
    let facts = file.metadata()?;
    Ok((facts.dev(), facts.ino()))
}
