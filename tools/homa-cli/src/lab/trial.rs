//! Whether a lab can be built here: tried, by building the smallest one.

use std::process::{Command, Stdio};

use homa_lab::{Backend, Lab, LabError, LabSpec};
use serde::{Deserialize, Serialize};

use crate::{error::CliError, output};

/// What building a lab came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Trial {
    /// It works, with these switches; the others failed, and why.
    Works { switches: Vec<Backend>, failed: Vec<String> },
    /// This user may not make namespaces, and what the system said.
    Refused(String),
    /// Something else is missing.
    Fails(String),
}

/// The hidden command: a process of its own, since it moves into a user namespace for good.
pub(crate) fn run() -> Result<(), CliError> {
    output::line(&attempt())
}

/// Tries it in a process of its own.
pub(crate) fn in_process() -> Trial {
    let run = || {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("lab-trial").stdin(Stdio::null()).stderr(Stdio::null()).output()
    };
    match run() {
        Ok(output) => serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| Trial::Fails("the process that tries it ended early".into())),
        Err(error) => Trial::Fails(error.to_string()),
    }
}

fn attempt() -> Trial {
    match homa_lab::acquire_privileges() {
        Err(LabError::NoPermission { reason, .. }) => return Trial::Refused(reason),
        Err(error) => return Trial::Fails(error.to_string()),
        Ok(_) => {}
    }
    let (mut switches, mut failed) = (Vec::new(), Vec::new());
    for backend in [Backend::Kernel, Backend::Switch] {
        let spec = LabSpec { hosts: 2, backend, name: "trial".into(), ..LabSpec::default() };
        match Lab::up(&spec) {
            Ok(_) => switches.push(backend),
            Err(LabError::NoPermission { reason, .. }) => return Trial::Refused(reason),
            Err(error) => failed.push(format!("{backend}: {error}")),
        }
    }
    match switches.is_empty() {
        true => Trial::Fails(failed.join("; ")),
        false => Trial::Works { switches, failed },
    }
}
