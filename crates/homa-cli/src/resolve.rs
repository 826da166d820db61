//! From `HOST:PORT` to a socket address.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::CliError;

/// Resolves `HOST:PORT`; the first address the resolver gives is used.
pub(crate) fn resolve(address: &str) -> Result<SocketAddr, CliError> {
    let failed = |reason: String| CliError::Resolve { address: address.to_owned(), reason };
    if !address.contains(':') {
        return Err(CliError::Usage(format!(
            "`{address}` lacks a port; the form is HOST:PORT, such as 127.0.0.1:4000"
        )));
    }
    let mut found = address.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    found.next().ok_or_else(|| failed("no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_addresses_resolve_without_a_name_service() {
        assert_eq!(resolve("127.0.0.1:4000").ok(), Some(SocketAddr::from(([127, 0, 0, 1], 4000))));
        assert!(resolve("[::1]:4000").is_ok());
    }

    #[test]
    fn a_missing_port_is_a_usage_error() {
        assert!(matches!(resolve("localhost"), Err(CliError::Usage(_))));
        assert!(matches!(resolve("localhost:http9"), Err(CliError::Resolve { .. })));
    }
}
