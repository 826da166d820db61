//! `ip` and `tc`, run in a namespace with many commands at a time.

use std::{
    io::{self, Write},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{LabError, namespace::NetNs, tool};

/// The package that both programs belong to.
const PACKAGE: &str = "iproute2";

/// Runs `program -batch` with one command per line in `net`.
pub(crate) fn batch(net: &NetNs, program: &'static str, lines: &[String]) -> Result<(), LabError> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut text = lines.join("\n");
    text.push('\n');
    let output = net
        .run(|| {
            let mut child = tool::command(program)?
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // A program that ends early says why on its error output.
                let _ = stdin.write_all(text.as_bytes());
            }
            child.wait_with_output()
        })
        .map_err(|error| start_error(program, &error))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(explain(program, &String::from_utf8_lossy(&output.stderr), lines)),
    }
}

/// Runs a program in `net` and returns what it printed.
pub(crate) fn query(
    net: &NetNs,
    program: &'static str,
    arguments: &[&str],
) -> Result<Vec<u8>, LabError> {
    let output = net
        .run(|| tool::command(program)?.args(arguments).stdin(Stdio::null()).output())
        .map_err(|error| start_error(program, &error))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(LabError::setup(
            format!("{program} {}", arguments.join(" ")),
            String::from_utf8_lossy(&output.stderr).trim(),
        )),
    }
}

/// A device as `ip -j link` describes it; other members are ignored.
#[derive(Debug, Deserialize)]
struct Link {
    ifname: String,
    operstate: String,
}

/// How long the kernel may take to let a link carry packets: it looks once per second at the
/// latest.
const LINK_PATIENCE: Duration = Duration::from_secs(5);

/// Waits until devices carry packets. What is sent before goes nowhere, without an error.
pub(crate) fn wait_for_links(net: &NetNs, devices: &[String]) -> Result<(), LabError> {
    let start = Instant::now();
    loop {
        let text = query(net, "ip", &["-j", "link", "show"])?;
        let links: Vec<Link> = serde_json::from_slice(&text)
            .map_err(|error| LabError::setup("read the links of `ip`", error))?;
        let ready =
            |device: &&String| links.iter().any(|l| l.ifname == **device && l.operstate == "UP");
        match devices.iter().find(|device| !ready(device)) {
            None => return Ok(()),
            Some(device) if start.elapsed() > LINK_PATIENCE => {
                return Err(LabError::setup(
                    format!("wait for the link {device}"),
                    "it stays down",
                ));
            }
            Some(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn start_error(program: &'static str, error: &io::Error) -> LabError {
    match error.kind() {
        io::ErrorKind::NotFound => LabError::MissingProgram { program, package: PACKAGE },
        _ => LabError::setup(format!("start `{program}`"), error),
    }
}

/// Batches report "Command failed -:LINE"; the line tells what it was about.
fn explain(program: &str, errors: &str, lines: &[String]) -> LabError {
    let number = errors
        .lines()
        .filter_map(|line| line.strip_prefix("Command failed -:"))
        .find_map(|number| number.trim().parse::<usize>().ok());
    let reason: Vec<&str> =
        errors.lines().filter(|line| !line.starts_with("Command failed")).collect();
    let command = number.and_then(|number| lines.get(number.checked_sub(1)?));
    let action = match command {
        Some(command) => format!("{program} {command}"),
        None => format!("{program} -batch"),
    };
    LabError::setup(action, reason.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_batch_names_the_command_that_failed() {
        let lines = ["link add a".to_owned(), "link add b".to_owned()];
        let error = explain("ip", "Error: Unknown device type.\nCommand failed -:2\n", &lines);
        assert_eq!(error.to_string(), "ip link add b: Error: Unknown device type.");
        let error = explain("ip", "Cannot open\n", &lines);
        assert_eq!(error.to_string(), "ip -batch: Cannot open");
    }
}
