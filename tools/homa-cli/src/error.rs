//! Why a command failed.

use std::{io, net::SocketAddr, path::PathBuf};

use homa_bench::workload::WorkloadError;

/// Why a command did not do all it was asked for; each variant ends in an exit status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CliError {
    /// The options contradict each other or name something impossible: correct the command line.
    #[error("{0}")]
    Usage(String),
    /// The host name could not be resolved: check its spelling and the name service.
    #[error("cannot resolve `{address}`: {reason}")]
    Resolve {
        /// What was given as ADDR:PORT.
        address: String,
        /// What the resolver said.
        reason: String,
    },
    /// The local address could not be taken: choose another port, or end the program that has it.
    #[error("cannot listen on {address} ({protocol}): {source}{}", advice(*address, source))]
    Bind {
        /// The local address asked for.
        address: SocketAddr,
        /// Name of the transport.
        protocol: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// No server answers at this address: start one with `homa serve`.
    #[error("cannot reach {address} over {protocol}: {source}")]
    Connect {
        /// The server's address.
        address: SocketAddr,
        /// Name of the transport.
        protocol: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// This host cannot send what a call needs: the text says what it lacks.
    #[error("cannot call {address} over {protocol}: {source}")]
    Client {
        /// The server's address.
        address: SocketAddr,
        /// Name of the transport.
        protocol: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be read or written: check its name and rights.
    #[error("cannot {action} {}: {reason}", path.display())]
    File {
        /// "read", "write", ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system or the reader of its content said.
        reason: String,
    },
    /// The transport failed during the work; the text says how and with which peer.
    #[error("{0}")]
    Transport(String),
    /// Some calls failed or some replies were wrong; the text says how many and why.
    #[error("{0}")]
    Incomplete(String),
    /// A process of the benchmark failed.
    #[error("benchmark process failed: {0}")]
    Process(String),
    /// The user pressed Ctrl-C before everything was done; what was measured has been printed.
    #[error("interrupted")]
    Interrupted,
}

/// What to do about a local address that could not be taken; empty where the reason says it.
fn advice(address: SocketAddr, reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => "; end the program that has this port, or choose another",
        io::ErrorKind::AddrNotAvailable => "; it is no address of this host",
        io::ErrorKind::PermissionDenied
            if address.port() < 1_024 && reason.raw_os_error().is_some() =>
        {
            "; so low a port is for root; choose a higher one"
        }
        _ => "",
    }
}

impl CliError {
    /// The exit status of the command: 2 for wrong usage, 1 for everything else.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            CliError::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Wraps an I/O failure in the middle of the work.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        CliError::Transport(format!("{what}: {error}"))
    }
}

impl From<WorkloadError> for CliError {
    fn from(error: WorkloadError) -> Self {
        match error {
            WorkloadError::File { path, reason, .. } => {
                CliError::File { action: "read workload", path, reason }
            }
            name => CliError::Usage(name.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use homa_bench::workload::Workload;

    use super::*;

    #[test]
    fn a_wrong_name_of_a_workload_is_wrong_usage_and_an_unreadable_file_is_not() {
        let failed = |name| CliError::from(Workload::load(name).unwrap_err());
        let name = failed("fixed:0");
        assert_eq!(name.to_string(), "workload fixed:0: a message has at least 1 byte");
        assert_eq!(name.exit_status(), 2);
        let file = failed("/no/such/file");
        let text = file.to_string();
        assert!(text.starts_with("cannot read workload /no/such/file: No such file"), "{text}");
        assert_eq!(file.exit_status(), 1);
    }
}
