//! Where a run takes place: the network, the disk of the journals, and the processes of the actors.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
};

use homa_lab::{Lab, LabSpec, SmallDisk};
use homa_sys::monotonic_ns;
use homa_transport::{BindError, Carriage, EndpointBuilder};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;

use super::{
    actor::{self, Identity},
    args::{Network, SoakArgs},
    client,
    clock::WallClock,
    journal::{Event, Line, Way},
    ledger::Ledger,
    plan::{Cast, Kind, Who},
    server,
    tail::Tail,
};
use crate::error::CliError;

/// Room for the journals, in bytes: what the processes note in some minutes.
const DISK_BYTES: u64 = 64 << 20;

/// Links of the lab, Mbit/s: more than the load of a run.
const LINK_MBPS: u32 = 1_000;

/// The stage of a run. Dropping it ends all processes and takes the network down.
#[derive(Debug)]
pub(super) struct Stage {
    pub cast: Cast,
    // Before the network: its processes are waited for here.
    members: Vec<Member>,
    pub lab: Option<Lab>,
    pub disk: Option<SmallDisk>,
    /// While it is, room of the journals is not given back.
    pub disk_is_full: bool,
    clock: Option<WallClock>,
    pub network: String,
    /// Why something is not done here.
    pub skipped: Vec<String>,
    settings: Settings,
    ways: Vec<Way>,
    program: PathBuf,
}

#[derive(Debug, Clone)]
struct Settings {
    seed: u64,
    rate: f64,
    workload: String,
    out: Option<PathBuf>,
}

/// An actor and the process that it is now.
#[derive(Debug)]
pub(super) struct Member {
    pub who: Who,
    pub life: u64,
    process: Option<Process>,
    /// Where its endpoints are, from its first life on.
    addresses: Vec<(Way, SocketAddr)>,
    pub ready: bool,
}

#[derive(Debug)]
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    journal: Tail,
    errors: File,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    /// Builds the network and finds out what is possible. Call it before any thread is started.
    pub(super) fn build(args: &SoakArgs, seed: u64, cast: Cast) -> Result<Self, CliError> {
        let mut skipped = Vec::new();
        let lab = network(args.network, &mut skipped)?;
        let disk = SmallDisk::new(DISK_BYTES);
        let disk = disk.map_err(|error| skipped.push(format!("disk: {error}"))).ok();
        let clock = WallClock::find(args.wants(Kind::Clock));
        let clock = clock.map_err(|reason| skipped.push(format!("clock: {reason}"))).ok();
        let cast = if lab.is_some() { cast } else { Cast { hosts: 1, ..cast } };
        let ways = ways(lab.as_ref(), &mut skipped);
        if let Some(directory) = &args.out {
            std::fs::create_dir_all(directory).map_err(|error| file("make", directory, &error))?;
        }
        let carried: Vec<String> =
            ways.iter().map(|way| format!("{way:?}").to_lowercase()).collect();
        let place = match &lab {
            Some(_) => "hosts h0 and h1 of a lab, MTU 1500",
            None => "loopback",
        };
        let settings = Settings {
            seed,
            // A scenario makes its own calls.
            rate: if args.scenario.is_some() { 0.0 } else { args.rate },
            workload: args.workload.clone(),
            out: args.out.clone(),
        };
        let program = std::env::current_exe()
            .map_err(|error| CliError::Process(format!("cannot find this program: {error}")))?;
        let members = cast.all().map(|who| Member {
            who,
            life: 0,
            process: None,
            addresses: Vec::new(),
            ready: false,
        });
        Ok(Stage {
            cast,
            members: members.collect(),
            lab,
            disk,
            disk_is_full: false,
            clock: clock.flatten(),
            network: format!("{place}, over {}", carried.join(" and ")),
            skipped,
            settings,
            ways,
            program,
        })
    }

    /// The kinds of faults that can be injected here.
    pub(super) fn possible(&self, kinds: &[Kind]) -> Vec<Kind> {
        let possible = |kind: &&Kind| match kind {
            Kind::Disk => self.disk.is_some(),
            Kind::Unplug | Kind::Route => self.lab.is_some(),
            Kind::Clock => self.clock.is_some(),
            _ => true,
        };
        kinds.iter().filter(possible).copied().collect()
    }

    /// Starts the next life of an actor, or its first. It is there when its journal says so.
    pub(super) fn start(&mut self, who: Who) -> Result<(), CliError> {
        let failed = |error: io::Error| CliError::Process(format!("{who}: {error}"));
        let member = self.member(who)?;
        let (life, addresses) = (member.life, member.addresses.clone());
        let job = self.job(who, life, &addresses)?;
        let name = match who {
            Who::Server(_) => "soak-server",
            Who::Client(_) => "soak-client",
        };
        let journal = self.page(&format!("{who}.{life}")).map_err(failed)?;
        // Not on the disk of the journals: what a process says when that is full is to be heard.
        let errors = scratch(&format!("{who}.{life}.err")).map_err(failed)?;
        let mut host_command = match &self.lab {
            Some(lab) => Some(lab.command(self.cast.host(who), &self.program).map_err(lab_failed)?),
            None => None,
        };
        let mut own_command = Command::new(&self.program);
        let command =
            host_command.as_mut().map_or(&mut own_command, |command| command.as_command());
        command
            .arg(name)
            .arg(job)
            .stdin(Stdio::piped())
            .stdout(journal.try_clone().map_err(failed)?)
            .stderr(errors.try_clone().map_err(failed)?)
            // Ctrl-C is for this process, which then ends the others.
            .process_group(0);
        if self.cast.clocked().any(|clocked| clocked == who) {
            if let Some(clock) = &self.clock {
                clock.give_to(command, who).map_err(failed)?;
            }
        }
        let spawned = match &mut host_command {
            Some(command) => command.spawn(),
            None => own_command.spawn(),
        };
        let mut child = spawned.map_err(failed)?;
        let copy = self.copy(who, life)?;
        let input = child.stdin.take();
        let process = Process { child, input, journal: Tail::new(journal, copy), errors };
        let member = self.member(who)?;
        member.process = Some(process);
        member.ready = false;
        Ok(())
    }

    fn job(
        &self,
        who: Who,
        life: u64,
        addresses: &[(Way, SocketAddr)],
    ) -> Result<String, CliError> {
        let ip = match &self.lab {
            Some(lab) => IpAddr::V4(lab.host(self.cast.host(who)).map_err(lab_failed)?.ipv4),
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let identity = Identity {
            number: who.number(),
            life,
            ip,
            tokio: who.is_tokio(),
            // Each actor has either in turn.
            stock_buffer: (who.number() as u64 + life) % 2 == 0,
            ends_with_parent: self.lab.is_none(),
        };
        let seed = self.settings.seed ^ (life << 16) ^ (who.number() as u64) << 8;
        let port = |way: Way| {
            let known = addresses.iter().find(|(known, _)| *known == way);
            known.map_or(0, |(_, address)| address.port())
        };
        match who {
            Who::Server(_) => json(&server::Job {
                who: identity,
                ways: self.ways.iter().map(|way| (*way, port(*way))).collect(),
                seed,
            }),
            Who::Client(number) => {
                let way = self.ways[number / 2 % self.ways.len()];
                json(&client::Job {
                    who: identity,
                    way,
                    port: port(way),
                    servers: self.servers(way),
                    rate: self.settings.rate,
                    workload: self.settings.workload.clone(),
                    seed: seed.wrapping_add(1),
                })
            }
        }
    }

    fn servers(&self, way: Way) -> Vec<SocketAddr> {
        let servers = self.members.iter().filter(|member| matches!(member.who, Who::Server(_)));
        let address = |member: &Member| {
            member.addresses.iter().find(|(served, _)| *served == way).map(|(_, address)| *address)
        };
        servers.filter_map(address).collect()
    }

    /// The file of a journal.
    fn page(&self, name: &str) -> io::Result<File> {
        self.disk.as_ref().map_or_else(|| scratch(name), |disk| disk.file(name))
    }

    fn copy(&self, who: Who, life: u64) -> Result<Option<File>, CliError> {
        let Some(directory) = &self.settings.out else { return Ok(None) };
        let name = format!("{}-{life}.jsonl", who.to_string().replace(' ', "-"));
        let path = directory.join(name);
        File::create(&path).map(Some).map_err(|error| file("write", &path, &error))
    }

    fn member(&mut self, who: Who) -> Result<&mut Member, CliError> {
        let member = self.members.iter_mut().find(|member| member.who == who);
        member.ok_or_else(|| CliError::Process(format!("there is no {who}")))
    }

    /// The process that an actor is now, and its life.
    pub(super) fn process(&mut self, who: Who) -> Result<(Pid, u64), CliError> {
        let member = self.member(who)?;
        let child = member.process.as_ref().map(|process| process.child.id());
        let pid = child.and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| CliError::Process(format!("{who} does not run")))?;
        Ok((Pid::from_raw(pid), member.life))
    }

    /// Sends a signal to an actor.
    pub(super) fn signal(&mut self, who: Who, signal: Signal) -> Result<(), CliError> {
        let (pid, _) = self.process(who)?;
        kill(pid, signal).map_err(|error| CliError::Process(format!("{who}, {signal}: {error}")))
    }

    /// Kills an actor and takes the last of its journal.
    pub(super) fn kill(&mut self, who: Who, ledger: &mut Ledger) -> Result<(), CliError> {
        let member = self.member(who)?;
        let Some(mut process) = member.process.take() else { return Ok(()) };
        let _ = process.child.kill();
        let _ = process.child.wait();
        let life = member.life;
        member.life += 1;
        member.ready = false;
        self.last_words(who, life, &mut process, ledger)
    }

    fn last_words(
        &mut self,
        who: Who,
        life: u64,
        process: &mut Process,
        ledger: &mut Ledger,
    ) -> Result<(), CliError> {
        read(who, &mut process.journal, &mut |line| ledger.note(who, life, line))?;
        ledger.life_ended(who, life, monotonic_ns());
        let errors = text(&mut process.errors);
        if errors.contains("panicked at") {
            ledger.violate(format!("{who} (life {life}) panicked: {errors}"));
        }
        Ok(())
    }

    /// Gives an actor an order. One that is gone is noticed elsewhere.
    pub(super) fn tell(&mut self, who: Who, command: actor::Command) -> Result<(), CliError> {
        let mut line = json(&command)?;
        line.push('\n');
        let process = self.member(who)?.process.as_mut();
        if let Some(input) = process.and_then(|process| process.input.as_mut()) {
            let _ = input.write_all(line.as_bytes());
        }
        Ok(())
    }

    /// Takes what the actors have noted and looks whether they are alive. Returns those that have
    /// become ready.
    pub(super) fn look(&mut self, ledger: &mut Ledger) -> Result<Vec<(Who, u64)>, CliError> {
        let mut ready = Vec::new();
        for index in 0..self.members.len() {
            let full = self.disk_is_full;
            let Some(member) = self.members.get_mut(index) else { continue };
            let (who, life) = (member.who, member.life);
            let Some(process) = &mut member.process else { continue };
            // Asked first: what it wrote before it ended is there then.
            let ended = process.child.try_wait();
            let mut began = None;
            let mut sink = |(at_ns, event): Line| {
                if let Event::Ready(addresses) = &event {
                    began = Some((at_ns, addresses.clone()));
                }
                ledger.note(who, life, (at_ns, event));
            };
            read(who, &mut process.journal, &mut sink)?;
            if !full {
                process.journal.give_back();
            }
            if let Some((at_ns, addresses)) = began {
                member.addresses = addresses;
                member.ready = true;
                ready.push((who, at_ns));
            }
            if let Ok(Some(status)) = ended {
                self.ended_by_itself(who, status, ledger)?;
            }
        }
        Ok(ready)
    }

    fn ended_by_itself(
        &mut self,
        who: Who,
        status: ExitStatus,
        ledger: &mut Ledger,
    ) -> Result<(), CliError> {
        let member = self.member(who)?;
        let Some(mut process) = member.process.take() else { return Ok(()) };
        let life = member.life;
        member.life += 1;
        member.ready = false;
        if !status.success() {
            let errors = text(&mut process.errors);
            let errors = errors.trim();
            ledger.violate(format!("{who} (life {life}) ended with {status}: {errors}"));
        }
        self.last_words(who, life, &mut process, ledger)
    }

    /// Whether an actor is ready for work.
    pub(super) fn is_ready(&self, who: Who) -> bool {
        self.members.iter().any(|member| member.who == who && member.ready)
    }

    /// Whether an actor runs.
    pub(super) fn runs(&self, who: Who) -> bool {
        self.members.iter().any(|member| member.who == who && member.process.is_some())
    }

    /// Moves the wall clock of an actor.
    pub(super) fn move_clock(&self, who: Who) -> io::Result<()> {
        self.clock.as_ref().map_or(Ok(()), |clock| clock.step(who))
    }
}

fn network(wanted: Network, skipped: &mut Vec<String>) -> Result<Option<Lab>, CliError> {
    if wanted == Network::Loopback {
        skipped.push("unplug, route: there is no link to pull (--network loopback)".to_owned());
        return Ok(None);
    }
    let spec =
        LabSpec { name: "soak".into(), hosts: 2, port_mbps: LINK_MBPS, ..LabSpec::default() };
    match homa_lab::acquire_privileges().and_then(|_| Lab::up(&spec)) {
        Ok(lab) => Ok(Some(lab)),
        Err(error) if wanted == Network::Lab => Err(lab_failed(error)),
        Err(error) => {
            skipped.push(format!("unplug, route: {error}"));
            Ok(None)
        }
    }
}

/// A file without a name, for reading and appending.
fn scratch(name: &str) -> io::Result<File> {
    let name = format!("homa-soak-{}-{name}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).append(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// What can carry packets here.
fn ways(lab: Option<&Lab>, skipped: &mut Vec<String>) -> Vec<Way> {
    let attempt = || EndpointBuilder::new().carriage(Carriage::Ip).client().map(drop);
    let tried: Result<(), String> = match lab {
        Some(lab) => lab
            .within(0, || Ok(attempt().map_err(|error: BindError| error.to_string())))
            .unwrap_or_else(|error| Err(error.to_string())),
        None => attempt().map_err(|error| error.to_string()),
    };
    match tried {
        Ok(()) => vec![Way::Udp, Way::Ip],
        Err(reason) => {
            skipped.push(format!("raw IP: {reason}"));
            vec![Way::Udp]
        }
    }
}

fn read(who: Who, journal: &mut Tail, sink: &mut dyn FnMut(Line)) -> Result<(), CliError> {
    journal.read(sink).map_err(|error| CliError::Process(format!("journal of {who}: {error}")))
}

/// All that a process said on its error output.
fn text(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
    match read {
        Ok(_) => text,
        Err(error) => format!("(its error output cannot be read: {error})"),
    }
}

fn json(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string(value).map_err(|error| CliError::Process(error.to_string()))
}

fn file(action: &'static str, path: &Path, error: &io::Error) -> CliError {
    CliError::File { action, path: path.to_owned(), reason: error.to_string() }
}

/// What the network library reports.
pub(super) fn lab_failed(error: homa_lab::LabError) -> CliError {
    CliError::Transport(error.to_string())
}
