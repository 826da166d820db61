//! From `HOST:PORT` to a socket address.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::CliError;

/// Resolves whom to call; the first address the resolver gives is used. `:PORT` is on this host.
pub(crate) fn resolve(address: &str) -> Result<SocketAddr, CliError> {
    match find(address, "127.0.0.1")? {
        found if found.port() == 0 => {
            Err(CliError::Usage(format!("`{address}`: nobody can be called at port 0")))
        }
        found => Ok(found),
    }
}

/// Resolves where to listen. `:PORT` is every IPv4 address of this host.
pub(crate) fn resolve_local(address: &str) -> Result<SocketAddr, CliError> {
    find(address, "0.0.0.0")
}

/// Resolves `HOST:PORT`, where no host means `default`.
fn find(address: &str, default: &str) -> Result<SocketAddr, CliError> {
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err(CliError::Usage(format!(
            "`{address}` lacks a port; the form is HOST:PORT, such as 127.0.0.1:4000"
        )));
    };
    if port.parse::<u16>().is_err() {
        return Err(CliError::Usage(format!(
            "`{address}`: `{port}` is no port number; the form is HOST:PORT with a port up to 65535"
        )));
    }
    let whole = if host.is_empty() { format!("{default}:{port}") } else { address.to_owned() };
    let failed = |reason: String| CliError::Resolve { address: address.to_owned(), reason };
    let mut found = whole.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
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
    fn without_a_host_every_address_is_served_and_this_host_called() {
        assert_eq!(resolve(":4000").ok(), Some(SocketAddr::from(([127, 0, 0, 1], 4000))));
        assert_eq!(resolve_local(":4000").ok(), Some(SocketAddr::from(([0, 0, 0, 0], 4000))));
    }

    #[test]
    fn a_missing_or_impossible_port_is_a_usage_error() {
        for address in
            ["localhost", "localhost:http9", "localhost:", "localhost:99999", "[::1]", ":-1"]
        {
            assert!(matches!(resolve(address), Err(CliError::Usage(_))), "{address}");
            assert!(matches!(resolve_local(address), Err(CliError::Usage(_))), "{address}");
        }
        assert!(matches!(resolve("127.0.0.1:0"), Err(CliError::Usage(_))));
        assert!(resolve_local("127.0.0.1:0").is_ok());
    }
}
