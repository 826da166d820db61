//! The server process: serves one transport until its parent ends it.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    job::{Listening, ServerSpec},
    pin,
};
use crate::{
    error::CliError,
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
    announce(bound.address).map_err(|error| CliError::io("standard output", &error))?;
    bound.serve(&Responder::new(Behaviour::Echo), Duration::ZERO)
}

fn announce(address: SocketAddr) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let line = serde_json::to_string(&Listening { address }).map_err(io::Error::from)?;
    writeln!(output, "{line}")?;
    output.flush()
}
