//! `homa sim watch`: links, queues and the worst messages of a simulation, while it runs.

mod draw;
mod look;
mod screen;

use std::{
    io::{self, IsTerminal},
    ops::ControlFlow,
    panic::resume_unwind,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use homa_sim::{Outcome, Run};
use ratatui_crossterm::crossterm::event::{self, Event, KeyCode, KeyModifiers};

use self::{
    look::{View, Watcher},
    screen::Screen,
};
use super::{args::WatchArgs, plan, point::complete, reproduce};
use crate::{error::CliError, interrupt, output};

/// Time between two pictures.
const INTERVAL: Duration = Duration::from_millis(100);

/// Runs the command.
pub(crate) fn run(args: &WatchArgs, json: bool) -> Result<(), CliError> {
    let (name, run) = what(args)?;
    interrupt::watch(|| {});
    let outcome = match json {
        true => print(&run)?,
        false if io::stdout().is_terminal() => show(&name, &run)?,
        false => return Err(CliError::Usage(NO_TERMINAL.to_owned())),
    };
    outcome.map_or(Ok(()), |outcome| complete(&name, &outcome))
}

/// Without a terminal.
const NO_TERMINAL: &str = "standard output is no terminal to draw on: --json prints a line per step, and `homa sim run`, \
     `point` and `reproduce` show what comes out";

/// What is to be simulated, and its name.
fn what(args: &WatchArgs) -> Result<(String, Run), CliError> {
    let (name, run) = match &args.plan {
        None => {
            let point = reproduce::point(&args.workload, args.transport, &args.options)?;
            (point.name, point.run)
        }
        Some(path) => {
            let plan = plan::read(path)?;
            let point = plan::point_of(&plan, args.index)?;
            (format!("{} {}", path.display(), point.label), point.run.clone())
        }
    };
    let (transport, hosts) = (run.transport.name(), run.topology.hosts());
    let name = format!("{name}, {transport}: {hosts} hosts, load {}", run.load);
    Ok((name, run))
}

/// Simulates for as long as `follow`, which sees every step, wants it: without an outcome it did
/// not want it to the end.
fn simulate(run: &Run, mut follow: impl FnMut(View) -> bool) -> Result<Option<Outcome>, CliError> {
    let mut watcher = Watcher::new();
    let outcome = run.run(|moment| match follow(watcher.look(moment)) {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    });
    outcome.map_err(|error| CliError::Usage(error.to_string()))
}

/// Prints a line per step.
fn print(run: &Run) -> Result<Option<Outcome>, CliError> {
    let mut printed = Ok(());
    let outcome = simulate(run, |view| {
        printed = output::line(&view);
        printed.is_ok() && !interrupt::pressed()
    })?;
    printed?;
    outcome.map(Some).ok_or(CliError::Interrupted)
}

/// Draws on the terminal until the user leaves it.
fn show(name: &str, run: &Run) -> Result<Option<Outcome>, CliError> {
    let latest = Mutex::new(View::default());
    let is_wanted = AtomicBool::new(true);
    let view = || latest.lock().unwrap_or_else(PoisonError::into_inner);
    let follow = |seen: View| {
        *view() = seen;
        is_wanted.load(Ordering::Relaxed)
    };
    let mut screen = Screen::take().map_err(failed)?;
    let (left, outcome) = thread::scope(|scope| {
        let simulation = scope.spawn(|| simulate(run, follow));
        let is_over = || simulation.is_finished();
        let left = draw_until_left(&mut screen, name, || view().clone(), is_over);
        is_wanted.store(false, Ordering::Relaxed);
        (left, simulation.join())
    });
    drop(screen);
    left?;
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Draws what there is until the user leaves. Ctrl-C fails.
fn draw_until_left(
    screen: &mut Screen,
    name: &str,
    view: impl Fn() -> View,
    is_over: impl Fn() -> bool,
) -> Result<(), CliError> {
    loop {
        let (is_over, view) = (is_over(), view());
        screen.draw(|frame| draw::draw(frame, name, &view, is_over)).map_err(failed)?;
        if interrupt::pressed() {
            return Err(CliError::Interrupted);
        }
        if !event::poll(INTERVAL).map_err(failed)? {
            continue;
        }
        let Event::Key(key) = event::read().map_err(failed)? else { continue };
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Err(CliError::Interrupted);
            }
            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
            _ => {}
        }
    }
}

fn failed(error: io::Error) -> CliError {
    CliError::io("terminal", &error)
}
