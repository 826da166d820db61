//! `homa sim explain`: where the time of the slowest messages of a result went.

use std::{
    fs,
    path::{Path, PathBuf},
};

use homa_sim::plan::{self, Inputs, InputsError};
use serde::Serialize;
use serde_json::Value;

use super::{
    args::ExplainArgs,
    folder::Folder,
    point::{Done, Point, Slow, Worst, simulate, unfinished},
    table,
};
use crate::{error::CliError, interrupt, output};

/// What is printed.
#[derive(Debug, Serialize)]
struct Document<'a> {
    runs: Vec<RunDocument<'a>>,
}

/// A result that was explained.
#[derive(Debug, Serialize)]
struct RunDocument<'a> {
    hash: String,
    inputs: &'a Inputs,
    slowest: Vec<Slow>,
}

/// Runs the command.
pub(crate) fn run(args: &ExplainArgs, json: bool) -> Result<(), CliError> {
    let mut points = Vec::new();
    for file in files(&args.result)? {
        points.extend(points_of(&file, args)?);
    }
    interrupt::watch(|| {});
    let done = simulate(&points, super::threads(args.threads))?;
    if !done.is_empty() {
        match json {
            true => output::document(&Document { runs: done.iter().map(document).collect() })?,
            false => output::bytes(table::explain(&done).as_bytes())?,
        }
    }
    if done.len() < points.len() {
        return Err(CliError::Interrupted);
    }
    unfinished(&done)
}

fn document<'a>(done: &Done<'a>) -> RunDocument<'a> {
    let inputs = &done.point.inputs;
    RunDocument { hash: inputs.hash(), inputs, slowest: done.slowest() }
}

/// The name of the file of an evaluation.
const EVALUATION: &str = "results.json";

/// The files that are meant: one, or those of a directory.
fn files(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let evaluation = path.join(EVALUATION);
    let files = match evaluation.exists() {
        true => vec![evaluation],
        false => Folder::at(path.to_owned()).files()?,
    };
    match files.is_empty() {
        true => Err(CliError::Incomplete(format!("no results in {}: {MADE_BY}", path.display()))),
        false => Ok(files),
    }
}

/// What writes results.
const MADE_BY: &str = "`homa sim run`, `homa sim point` and `homa sim reproduce sigcomm18` write \
                       them with --out";

/// What the runs of a file were.
fn points_of(file: &Path, args: &ExplainArgs) -> Result<Vec<Point>, CliError> {
    let failed =
        |reason: String| CliError::File { action: "explain", path: file.to_owned(), reason };
    let text = fs::read(file).map_err(|error| failed(error.to_string()))?;
    let mut document: Value =
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    let runs = match document.get_mut("runs").map(Value::take) {
        Some(Value::Array(runs)) => runs,
        _ => vec![document],
    };
    let inputs = runs.into_iter().filter_map(|mut run| run.get_mut("inputs").map(Value::take));
    let inputs: Vec<_> = inputs.collect();
    if inputs.is_empty() {
        return Err(failed(format!("it has no inputs of a simulation; {MADE_BY}")));
    }
    let point = |inputs: Value| {
        let advice = |error: InputsError| match error {
            InputsError::Plan(_) | InputsError::Files => {
                failed(format!("{error}; --files names their directory"))
            }
            other => failed(other.to_string()),
        };
        let plan::Point { run, inputs, hash, .. } =
            plan::Point::again(inputs, &args.files).map_err(advice)?;
        let traffic = &inputs.traffic;
        let name = traffic.trace.as_ref().or(traffic.sizes.as_ref()).map_or("", String::as_str);
        let name = format!("{name} ({hash})");
        let worst = Worst::new(args.worst, args.max);
        Ok(Point { name, run, inputs, classes: Vec::new(), worst })
    };
    inputs.into_iter().map(point).collect()
}
