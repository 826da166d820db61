//! Why a lab could not do what was asked for.

use std::{io, path::PathBuf};

/// Why a lab could not do what was asked for; each variant says what the user can do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The process may not make network namespaces: run as root or allow user namespaces.
    #[error(
        "no permission to make network namespaces ({reason}); run as root, or allow unprivileged user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
    )]
    #[non_exhaustive]
    NoPermission {
        /// What the system said.
        reason: String,
    },
    /// A program the lab needs is not installed: install the package.
    #[error(
        "`{program}` is not installed: neither PATH nor /usr/local/sbin, /usr/sbin or /sbin has it; install the package \
         `{package}`"
    )]
    #[non_exhaustive]
    MissingProgram {
        /// Name of the program.
        program: &'static str,
        /// Name of the package in the usual distributions.
        package: &'static str,
    },
    /// A number or a combination of the specification makes no sense: change it.
    #[error("{key}: {reason}")]
    #[non_exhaustive]
    Spec {
        /// The field of [`crate::LabSpec`].
        key: &'static str,
        /// What is wrong with it and which values are allowed.
        reason: String,
    },
    /// There is no such host: hosts count from zero.
    #[error("there is no host {index}; this lab has {hosts} (0 to {})", hosts.saturating_sub(1))]
    #[non_exhaustive]
    NoSuchHost {
        /// What was asked for.
        index: usize,
        /// Number of hosts of the lab.
        hosts: usize,
    },
    /// The kernel refused to build a part of the lab, most often because a module is missing.
    #[error("{action}: {reason}")]
    #[non_exhaustive]
    Setup {
        /// What was attempted.
        action: String,
        /// What the system or the program said.
        reason: String,
    },
    /// The machine cannot carry this: lower the rate or the number of hosts.
    #[error(
        "the emulation saturates at {packets_per_s} packets/s = {mbps_per_port} Mbit/s per port with {hosts} hosts; \
         {wanted_packets_per_s} packets/s are more than this machine carries"
    )]
    #[non_exhaustive]
    TooMuch {
        /// Frames per second, all ports together.
        packets_per_s: u64,
        /// The same as a rate of each port, Mbit/s.
        mbps_per_port: u64,
        /// Number of hosts.
        hosts: u32,
        /// Frames per second that are to be expected, all ports together.
        wanted_packets_per_s: u64,
    },
    /// A file or descriptor of the system failed.
    #[error("{action} {}: {reason}", path.display())]
    #[non_exhaustive]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A program could not be started or waited for.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl LabError {
    /// A failed step of the setup.
    pub(crate) fn setup(action: impl Into<String>, reason: impl ToString) -> Self {
        LabError::Setup { action: action.into(), reason: reason.to_string() }
    }
}
