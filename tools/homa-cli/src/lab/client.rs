//! `homa lab up`, `down` and `status`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use homa_lab::{LEVELS, PortCounters};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::{
    args::{NameArgs, StatusArgs, UpArgs},
    failed,
    holder::{Answer, Job, Outcome, Request},
    state::{LabState, StateDirectory},
    waiting::Waiting,
};
use crate::{
    error::CliError,
    output,
    units::{format_number, format_size},
};

/// How long a lab may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer, in bytes: a full trace of the largest lab.
const ANSWER_BYTES_MAX: u64 = 4 << 30;

/// `homa lab up`
pub(crate) fn up(args: &UpArgs, json: bool) -> Result<(), CliError> {
    let spec = args.spec.spec(&args.name);
    spec.validate().map_err(failed)?;
    let directory = StateDirectory::open()?;
    match directory.read(&args.name) {
        Ok(Some(state)) if state.process.lives() => {
            let name = &args.name;
            return Err(CliError::Usage(format!(
                "a lab named `{name}` is up already; take it down with `homa lab down {name}` or choose another --name"
            )));
        }
        // A file that is broken or of a lab that is gone makes way.
        _ => directory.remove(&args.name)?,
    }
    let job = Job { directory, spec, force: args.force };
    let waiting = Waiting::new(format!("building a lab of {} hosts", job.spec.hosts));
    let outcome = start_holder(&job)?;
    drop(waiting);
    let state = match outcome {
        Outcome::Up(state) => state,
        Outcome::Failed { reason, usage: true } => return Err(CliError::Usage(reason)),
        Outcome::Failed { reason, .. } => return Err(CliError::Transport(reason)),
    };
    match json {
        true => output::document(&state),
        false => output::bytes(describe(&state).as_bytes()),
    }
}

fn start_holder(job: &Job) -> Result<Outcome, CliError> {
    let program = std::env::current_exe().map_err(|e| CliError::io("this program's file", &e))?;
    let job = serde_json::to_string(job).map_err(|e| CliError::Process(e.to_string()))?;
    let mut holder = Command::new(program)
        .args(["lab-holder", &job])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| CliError::io("start the process that holds the lab", &error))?;
    let mut line = String::new();
    if let Some(stdout) = holder.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|error| CliError::io("the process that holds the lab", &error))?;
    }
    serde_json::from_str(&line)
        .map_err(|_| CliError::Transport("the process that holds the lab ended at once".into()))
}

fn describe(state: &LabState) -> String {
    let spec = &state.spec;
    let mut text = format!(
        "Lab `{}` is up: {} hosts, {} Mbit/s, switch: {} ({}).\n",
        spec.name,
        state.hosts.len(),
        spec.port_mbps,
        state.choice.backend,
        state.choice.reason,
    );
    for host in &state.hosts {
        text.push_str(&format!("  {:<5} {:<12} {}\n", host.name, host.ipv4, host.ipv6));
    }
    text.push_str(&format!(
        "Inside, hosts are called h0, h1, ...\nNext: homa lab exec h0{} -- CMD\n",
        if spec.name == "lab" { String::new() } else { format!(" --name {}", spec.name) }
    ));
    text
}

/// `homa lab down`
pub(crate) fn down(args: &NameArgs, json: bool) -> Result<(), CliError> {
    let directory = StateDirectory::open()?;
    let name = &args.name;
    let state = directory.read(name);
    if let Ok(None) = state {
        return Err(CliError::Usage(format!(
            "there is no lab named `{name}`; `homa lab status` lists those there are"
        )));
    }
    let was_up = match &state {
        Ok(Some(state)) if state.process.lives() => {
            end(&directory, state)?;
            true
        }
        _ => false,
    };
    directory.remove(name)?;
    let done = if was_up { "is down" } else { "had crashed; its leftovers are removed" };
    match json {
        true => output::document(&serde_json::json!({ "name": name, "was_up": was_up })),
        false => output::bytes(format!("Lab `{name}` {done}.\n").as_bytes()),
    }
}

/// Asks the holder to end, and makes it end if it does not.
fn end(directory: &StateDirectory, state: &LabState) -> Result<(), CliError> {
    let asked = ask(&directory.socket(&state.spec.name), Request::Down).is_ok();
    let start = Instant::now();
    while state.process.lives() {
        if !asked || start.elapsed() > PATIENCE {
            let pid = i32::try_from(state.process.pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // It may end by itself in this moment.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if start.elapsed() > 2 * PATIENCE {
            let pid = state.process.pid;
            return Err(CliError::Transport(format!("process {pid} of the lab does not end")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn ask(socket: &Path, request: Request) -> Result<Answer, CliError> {
    let talk = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut text = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    talk().map_err(|error: std::io::Error| CliError::io("ask the lab", &error))
}

/// One lab in the list.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    /// `up`, `crashed`, `broken` (its file cannot be read), `silent` (it does not answer).
    state: &'static str,
    lab: Option<LabState>,
    ports: Vec<PortCounters>,
    uptime_s: f64,
}

/// `homa lab status`
pub(crate) fn status(args: &StatusArgs, json: bool) -> Result<(), CliError> {
    let directory = StateDirectory::open()?;
    let names = match &args.name {
        Some(name) => vec![name.clone()],
        None => directory.names()?,
    };
    let mut labs = Vec::new();
    for name in names {
        let (state, lab) = match directory.read(&name) {
            Ok(None) => return Err(CliError::Usage(format!("there is no lab named `{name}`"))),
            Ok(Some(lab)) if !lab.process.lives() => ("crashed", Some(lab)),
            Ok(Some(lab)) => ("up", Some(lab)),
            Err(_) => ("broken", None),
        };
        let answer = match state {
            "up" => ask(&directory.socket(&name), Request::Status).ok(),
            _ => None,
        };
        let state = if state == "up" && answer.is_none() { "silent" } else { state };
        let Answer { ports, uptime_ns, .. } = answer.unwrap_or_default();
        labs.push(Listed { name, state, lab, ports, uptime_s: uptime_ns as f64 * 1e-9 });
    }
    if json {
        return output::document(&labs);
    }
    if labs.is_empty() {
        return output::bytes(b"No labs. `homa lab up` builds one.\n");
    }
    let text: String = labs.iter().map(list).collect();
    output::bytes(text.as_bytes())
}

fn list(listed: &Listed) -> String {
    let name = &listed.name;
    let Some(lab) = listed.lab.as_ref().filter(|_| listed.state == "up") else {
        return format!("{name}: {}; `homa lab down {name}` removes it\n", listed.state);
    };
    let mut text = format!(
        "{name}: up for {} s, {} hosts, {} Mbit/s, switch: {}\n  {:<5} {:>12} {:>10} {:>10} {:>10}   level:packets\n",
        format_number(listed.uptime_s),
        lab.hosts.len(),
        lab.spec.port_mbps,
        lab.choice.backend,
        "port",
        "packets",
        "bytes",
        "dropped",
        "queued",
    );
    for port in &listed.ports {
        let sum = |value: fn(&homa_lab::LevelCounters) -> u64| port.levels.iter().map(value).sum();
        let packets: u64 = sum(|level| level.sent_packets);
        let levels: Vec<_> = (0..LEVELS)
            .filter(|level| port.levels[*level].sent_packets > 0)
            .map(|level| format!("{level}:{}", port.levels[level].sent_packets))
            .collect();
        text.push_str(&format!(
            "  h{:<4} {:>12} {:>10} {:>10} {:>10}   {}\n",
            port.host,
            format_number(packets as f64),
            format_size(sum(|level| level.sent_bytes)),
            format_number(sum(|level| level.dropped_packets) as f64),
            format_size(sum(|level| level.queue_bytes)),
            levels.join(" "),
        ));
    }
    text
}
