//! Which congestion controls TCP sockets may use here.
//!
//! Linux lets an unprivileged program choose among `net.ipv4.tcp_allowed_congestion_control` only.
//! Who owns a network namespace may choose all that are loaded, and root has them loaded.

use std::io;

use homa_sys::set_tcp_congestion;
use socket2::{Domain, Socket, Type};

use crate::{
    machine::line,
    plan::{NetworkKind, Plan},
    transport::Transport,
};

/// Why a congestion control cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CongestionError {
    /// The kernel has none of this name: choose another, or load its module.
    #[error("this kernel has no TCP congestion control `{name}`; it has: {available}")]
    #[non_exhaustive]
    Unknown {
        /// The name asked for.
        name: String,
        /// What there is.
        available: String,
    },
    /// This user may not use it: root adds it to net.ipv4.tcp_allowed_congestion_control.
    #[error(
        "the TCP congestion control `{name}` is not permitted to this user; permitted are: {allowed} \
         (net.ipv4.tcp_allowed_congestion_control)"
    )]
    #[non_exhaustive]
    NotPermitted {
        /// The name asked for.
        name: String,
        /// What is permitted.
        allowed: String,
    },
    /// No TCP socket can be made.
    #[error("TCP congestion control `{name}`: {reason}")]
    #[non_exhaustive]
    System {
        /// The name asked for.
        name: String,
        /// What the system said.
        reason: io::Error,
    },
}

/// Tries a congestion control on a socket of this process.
///
/// # Errors
/// See [`CongestionError`].
pub fn check(name: &str) -> Result<(), CongestionError> {
    let name = || name.to_owned();
    let listed = |file: &str| line(&format!("/proc/sys/net/ipv4/{file}")).unwrap_or_default();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)
        .map_err(|reason| CongestionError::System { name: name(), reason })?;
    set_tcp_congestion(&socket, &name()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CongestionError::Unknown {
            name: name(),
            available: listed("tcp_available_congestion_control"),
        },
        io::ErrorKind::PermissionDenied => CongestionError::NotPermitted {
            name: name(),
            allowed: listed("tcp_allowed_congestion_control"),
        },
        _ => CongestionError::System { name: name(), reason: error },
    })
}

/// The congestion control of sockets that ask for none.
pub fn system_default() -> String {
    line("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_else(|| "reno".to_owned())
}

/// Checks every TCP transport of a plan that runs on this machine's kernel; what other machines
/// have shows there.
///
/// # Errors
/// The first that cannot be used.
pub fn check_plan(plan: &Plan) -> Result<(), CongestionError> {
    let here = plan.network.kind != NetworkKind::Ssh;
    plan.transports.iter().filter(|_| here).try_for_each(|transport| usable(transport, plan))
}

/// Replaces TCP transports that cannot be used here by the system's default congestion control; for
/// comparisons that nobody asked for by name. Returns a sentence for each.
pub fn replace_unusable(plan: &mut Plan) -> Vec<String> {
    let mut said = Vec::new();
    let mut kept: Vec<Transport> = Vec::new();
    for transport in std::mem::take(&mut plan.transports) {
        let wanted = transport.to_string();
        let chosen = match (usable(&transport, plan), transport) {
            (Err(error), Transport::Tcp { connections, .. }) => {
                let other = Transport::Tcp { congestion: system_default(), connections };
                said.push(format!("{error}: {other} instead of {wanted}"));
                other
            }
            (_, transport) => transport,
        };
        if !kept.contains(&chosen) {
            kept.push(chosen);
        }
    }
    plan.transports = kept;
    said
}

fn usable(transport: &Transport, plan: &Plan) -> Result<(), CongestionError> {
    let Transport::Tcp { congestion, .. } = transport else { return Ok(()) };
    match check(congestion) {
        // The hosts of a lab own their network namespaces.
        Err(CongestionError::NotPermitted { .. }) if plan.network.kind == NetworkKind::Lab => {
            Ok(())
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_default_can_be_used_and_an_unknown_one_is_refused_with_those_there_are() {
        let default = system_default();
        check(&default).unwrap();
        let error = check("nope").unwrap_err().to_string();
        assert!(error.contains("`nope`") && error.contains(&default), "{error}");
    }

    #[test]
    fn what_cannot_be_used_is_replaced_once_by_the_systems_default() {
        let names = ["homa-udp", "tcp-nope", "tcp-nope2", "tcp-nope-x8"];
        let transports = names.iter().map(|name| name.parse().unwrap()).collect();
        let mut plan = Plan { transports, ..Plan::default() };
        assert!(check_plan(&plan).unwrap_err().to_string().contains("nope"));
        let said = replace_unusable(&mut plan);
        let found: Vec<String> = plan.transports.iter().map(ToString::to_string).collect();
        let default = system_default();
        assert_eq!(
            found,
            ["homa-udp".to_owned(), format!("tcp-{default}"), format!("tcp-{default}-x8")]
        );
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(check_plan(&plan).is_ok());
    }
}
