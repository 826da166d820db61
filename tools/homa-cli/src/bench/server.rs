//! The server process: serves one transport until its parent ends it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    job::{Listening, ServerSpec},
    pin,
};
use crate::{
    error::CliError,
    output,
    transport::{Behaviour, Responder, connect::bind},
};

/// Runs the process.
pub(crate) fn run(spec: &str) -> Result<(), CliError> {
    let spec: ServerSpec =
        serde_json::from_str(spec).map_err(|error| CliError::Usage(format!("server: {error}")))?;
    pin::current_process(spec.cpu)?;
    pin::end_with_parent();
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bound = bind(spec.protocol, spec.api, anywhere, &spec.settings)?;
    output::line(&Listening { address: bound.address })?;
    bound.serve(&Responder::new(Behaviour::Echo), Duration::ZERO)
}
