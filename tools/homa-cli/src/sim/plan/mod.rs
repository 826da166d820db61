//! `homa sim run`, `point`, `list`, `collect`: plans of simulations, and what came of them.

mod collected;

use std::path::{Path, PathBuf};

use homa_sim::{
    figures::PointResult,
    plan::{Plan, Point},
};
use serde::Serialize;

use self::collected::Collected;
use super::{
    args::{CollectArgs, ListArgs, PointArgs, RunArgs},
    folder::Folder,
    simulate::{self, Job, Results},
};
use crate::{error::CliError, interrupt, output};

/// `homa sim run`: all points that are not done, then the table of all.
pub(crate) fn run(args: &RunArgs, json: bool) -> Result<(), CliError> {
    interrupt::watch(|| {
        eprintln!("homa: interrupted; finished points are kept (once more: end at once)");
    });
    let plan = read(&args.plan)?;
    let folder = Folder::open(args.out.clone().unwrap_or_else(|| usual(&args.plan)))?;
    let done = folder.done(&plan)?;
    let open: Vec<_> = plan.points.iter().filter(|point| !done.contains(&point.hash)).collect();
    let all = plan.points.len();
    eprintln!(
        "homa: {all} points, {} of them done; results go to {}",
        all - open.len(),
        folder.path().display()
    );
    let ended = simulate(&open, super::threads(args.threads), &folder);
    let results = folder.results_of(&plan)?;
    let left = all - results.len();
    if !results.is_empty() {
        show(&Collected::new(results), json, false)?;
    }
    match ended.failure {
        Some(error) => {
            let keeps = format!(
                "{} of {all} points are done and kept; the same command goes on with the rest",
                all - left
            );
            Err(CliError::Incomplete(format!("{error}; {keeps}")))
        }
        None if left > 0 => {
            eprintln!("homa: {left} points are left; the same command goes on with them");
            Err(CliError::Interrupted)
        }
        None => Ok(()),
    }
}

/// Simulates points; each result is kept as soon as it is there.
fn simulate<'a>(points: &[&'a Point], threads: usize, folder: &Folder) -> Results<()> {
    let job = |point: &&'a Point| Job { name: point.label.clone(), run: &point.run };
    let jobs: Vec<_> = points.iter().map(job).collect();
    simulate::simulate(&jobs, threads, |index, show| {
        let point = points[index];
        let wrong = |error| CliError::Usage(format!("{}: {error}", point.label));
        let outcome = point.run.run(|moment| show(moment.part)).map_err(wrong)?;
        let Some(outcome) = outcome else { return Ok(None) };
        folder.write(&PointResult::of(point, &outcome)).map(Some)
    })
}

/// `homa sim point`: one point, unless it is done.
pub(crate) fn point(args: &PointArgs, json: bool) -> Result<(), CliError> {
    let plan = read(&args.plan)?;
    let point = point_of(&plan, args.index)?;
    let folder = Folder::open(args.out.clone())?;
    let was_done = folder.done(&plan)?.contains(&point.hash);
    if !was_done {
        interrupt::watch(|| {});
        if simulate(&[point], 1, &folder).waited_for()?.is_empty() {
            return Err(CliError::Interrupted);
        }
    }
    let file = folder.file(&point.hash);
    match json {
        true => output::document(&PointDocument { index: args.index, was_done, file: &file }),
        false => {
            let what = if was_done { "was done" } else { "done" };
            output::bytes(format!("{} {what}: {}\n", args.index, file.display()).as_bytes())
        }
    }
}

/// A point of a plan.
pub(super) fn point_of(plan: &Plan, index: usize) -> Result<&Point, CliError> {
    plan.points.get(index).ok_or_else(|| {
        let last = plan.points.len() - 1;
        CliError::Usage(format!("--index {index}: the points of the plan are 0 to {last}"))
    })
}

/// What `homa sim point` prints.
#[derive(Debug, Serialize)]
struct PointDocument<'a> {
    index: usize,
    was_done: bool,
    file: &'a Path,
}

/// `homa sim list`: the points of a plan.
pub(crate) fn list(args: &ListArgs, json: bool) -> Result<(), CliError> {
    let plan = read(&args.plan)?;
    let out = args.out.clone().unwrap_or_else(|| usual(&args.plan));
    let done = Folder::at(out).done(&plan)?;
    let listed = |(index, point): (usize, &Point)| Listed {
        index,
        hash: point.hash.clone(),
        done: done.contains(&point.hash),
        label: point.label.clone(),
        load: point.run.load,
        messages: point.run.messages,
        hosts: point.run.topology.hosts(),
    };
    let points: Vec<Listed> = plan.points.iter().enumerate().map(listed).collect();
    if json {
        return output::document(&ListDocument { title: &plan.title, points });
    }
    let header = ["index", "name", "done", "hosts", "load", "messages", "point"];
    let cells = |point: &Listed| {
        let done = if point.done { "yes" } else { "" };
        vec![
            point.index.to_string(),
            point.hash.clone(),
            done.to_owned(),
            point.hosts.to_string(),
            format!("{:.3}", point.load),
            point.messages.to_string(),
            point.label.clone(),
        ]
    };
    let rows = points.iter().map(cells).collect();
    let table = homa_report::table::table(header.map(str::to_owned).to_vec(), rows, &[6]);
    output::bytes(format!("{}\n\n{table}", plan.title).as_bytes())
}

/// What `homa sim list` prints.
#[derive(Debug, Serialize)]
struct ListDocument<'a> {
    title: &'a str,
    points: Vec<Listed>,
}

/// A point of a plan.
#[derive(Debug, Serialize)]
struct Listed {
    index: usize,
    hash: String,
    done: bool,
    label: String,
    load: f64,
    messages: u32,
    hosts: u32,
}

/// `homa sim collect`: the results of folders as one.
pub(crate) fn collect(args: &CollectArgs, json: bool) -> Result<(), CliError> {
    let mut results: Vec<PointResult> = Vec::new();
    for directory in &args.directories {
        for result in Folder::at(directory.clone()).results()? {
            if results.iter().all(|other| other.inputs != result.inputs) {
                results.push(result);
            }
        }
    }
    if results.is_empty() {
        let places: Vec<_> =
            args.directories.iter().map(|place| place.display().to_string()).collect();
        return Err(CliError::Incomplete(format!(
            "no results in {}: `homa sim run` or `homa sim point` with --out writes them",
            places.join(", ")
        )));
    }
    show(&Collected::new(results), json, args.csv)
}

fn show(collected: &Collected, json: bool, csv: bool) -> Result<(), CliError> {
    match (json, csv) {
        (true, _) => output::document(&collected.document()),
        (false, true) => output::bytes(collected.csv().as_bytes()),
        (false, false) => output::bytes(collected.table().as_bytes()),
    }
}

/// Reads a plan.
pub(super) fn read(path: &Path) -> Result<Plan, CliError> {
    Plan::read(path).map_err(|error| CliError::Usage(error.to_string()))
}

/// Where results of a plan go unless that is said.
fn usual(plan: &Path) -> PathBuf {
    Path::new("sim-results").join(plan.file_stem().unwrap_or_default())
}
