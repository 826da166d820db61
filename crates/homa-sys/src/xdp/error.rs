//! Reasons why AF_XDP cannot be used.

use crate::errno;
use std::io;

/// Why AF_XDP cannot be used here, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XdpError {
    /// Use sockets, or a newer kernel.
    #[error("AF_XDP needs Linux 5.11, this is {release}")]
    #[non_exhaustive]
    OldKernel {
        /// Release of the kernel.
        release: String,
    },
    /// The kernel was built without AF_XDP or BPF. Use sockets.
    #[error("the kernel was built without AF_XDP (CONFIG_XDP_SOCKETS, CONFIG_BPF_SYSCALL)")]
    NotInKernel,
    /// The process lacks capabilities.
    #[error(
        "AF_XDP needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF ({missing} failed): run as root, or \
         `sudo setcap cap_net_raw,cap_net_admin,cap_bpf+ep PROGRAM`"
    )]
    #[non_exhaustive]
    NoCapability {
        /// What was refused.
        missing: &'static str,
    },
    /// The memory for packets is more than the process may lock.
    #[error(
        "the memory limit for locked pages is too low for {bytes} bytes of packets: raise it \
         (`ulimit -l`, LimitMEMLOCK=) or give CAP_IPC_LOCK"
    )]
    #[non_exhaustive]
    MemoryLock {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// Another XDP program is at the interface, perhaps of another endpoint: end that, use another
    /// interface, or use sockets.
    #[error("another XDP program is at the interface (`ip link show` tells which)")]
    InterfaceBusy,
    /// Another AF_XDP socket has the queue: end that, or use sockets.
    #[error("another process has queue {queue} of the interface")]
    #[non_exhaustive]
    QueueBusy {
        /// Number of the queue.
        queue: u32,
    },
    /// There is no such interface, or it went away.
    #[error("no such network interface")]
    NoInterface,
    /// The interface cannot do this at all, natively or generically, or not with this MTU.
    #[error("the network interface does not take XDP programs or sockets like this: {reason}")]
    #[non_exhaustive]
    NotSupported {
        /// What the kernel says.
        reason: io::Error,
    },
    /// The system refused something else.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl XdpError {
    /// Meaning of an `error` of a step for which `what` is needed.
    pub(super) fn of(error: io::Error, what: &'static str) -> Self {
        match error.raw_os_error() {
            Some(errno::EPERM | errno::EACCES) => Self::NoCapability { missing: what },
            Some(libc::EAFNOSUPPORT | libc::ENOSYS) => Self::NotInKernel,
            Some(libc::ENODEV | libc::ENXIO) => Self::NoInterface,
            Some(libc::EOPNOTSUPP | errno::EINVAL | libc::ERANGE) => {
                Self::NotSupported { reason: error }
            }
            _ => Self::System(error),
        }
    }
}
