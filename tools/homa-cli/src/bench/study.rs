//! Runs the variants of a comparison one after the other, prints and writes what each found.

use std::{fs, io, path::PathBuf};

use homa_bench::{
    congestion, estimate, files,
    metrics::summarise_all,
    network::{AgentCommand, Network},
    plan::{NetworkKind, NetworkPlan, Plan},
    results, run,
    settings::LinkFacts,
    table,
    transport::Transport,
    watch::Watch,
};
use homa_report::summary::{NotMeasured, Summary};
use serde_json::{Value, json};

use super::overall::{Overall, about};
use crate::{error::CliError, interrupt, output, report};

/// Opens the network of a plan, and may change the plan by what it finds.
pub(crate) type Open<'a> =
    dyn FnMut(&mut Plan, &AgentCommand, &dyn Watch) -> io::Result<Box<dyn Network>> + 'a;

/// A comparison: its variants, and what to do with the results.
pub(crate) struct Study {
    /// Name and plan of each variant.
    pub variants: Vec<(String, Plan)>,
    /// The program of the hosts.
    pub agent: AgentCommand,
    /// Directory of the results.
    pub out: PathBuf,
    /// Whether to write a page.
    pub page: bool,
    /// Whether to print a document instead of tables.
    pub json: bool,
    /// What its steps do not say.
    pub note: Option<&'static str>,
}

/// What variants have left so far.
#[derive(Default)]
struct Done {
    documents: Vec<Value>,
    directories: Vec<PathBuf>,
    known: Vec<(NetworkPlan, LinkFacts)>,
    errors: Vec<CliError>,
}

impl Study {
    /// Checks what can be checked before anything is built.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        let usage = |error: String| CliError::Usage(error);
        for (_, plan) in &self.variants {
            plan.check().map_err(|error| usage(error.to_string()))?;
            congestion::check_plan(plan).map_err(|error| usage(error.to_string()))?;
            self.agent.check(plan).map_err(|error| usage(error.to_string()))?;
        }
        Ok(())
    }

    /// Says what [`run`](Self::run) would do.
    pub(crate) fn describe(&self) -> Result<(), CliError> {
        let names = self.variants.iter().map(|(name, _)| name.as_str());
        let directories = results::directories(&self.out, names);
        let all = self.steps(0)?;
        let total_s = estimate::total(&all.concat()).as_secs();
        let variants = self.variants.iter().zip(&directories).zip(&all);
        if self.json {
            let variants = variants.map(|(((name, plan), directory), steps)| {
                let steps = steps
                    .iter()
                    .map(|step| json!({ "what": step.what, "secs": step.time.as_secs_f64() }));
                let steps: Vec<Value> = steps.collect();
                json!({ "name": name, "plan": plan, "directory": directory, "steps": steps })
            });
            let variants: Vec<Value> = variants.collect();
            return output::document(
                &json!({ "schema": files::SCHEMA, "secs": total_s, "variants": variants }),
            );
        }
        let mut text = String::new();
        for (((name, plan), directory), steps) in variants {
            text += &format!("{} ({})\n", title(name, plan), directory.display());
            for step in steps {
                text += &format!("{:>7.0} s  {}\n", step.time.as_secs_f64(), step.what);
            }
        }
        text += &format!("{:>7} s  in all, {}\n", total_s, about(estimate::total(&all.concat())));
        text += &self.note.map_or_else(String::new, |note| format!("{note}\n"));
        output::bytes(text.as_bytes())
    }

    /// Runs all variants. Those that fail are said and do not keep the others from being measured.
    pub(crate) fn run(mut self, open: &mut Open<'_>) -> Result<(), CliError> {
        // Before any thread exists: only then can the process move into a user namespace.
        if self.variants.iter().any(|(_, plan)| plan.network.kind == NetworkKind::Lab) {
            let privileges = homa_lab::acquire_privileges();
            privileges.map_err(|error| CliError::Transport(error.to_string()))?;
        }
        let directories = self.prepare()?;
        interrupt::watch(|| {
            eprintln!("homa: interrupted; writing what was measured (once more: end at once)");
        });
        let steps = self.steps(0)?.concat();
        let count = match self.variants.len() {
            1 => String::new(),
            count => format!("{count} variants, "),
        };
        eprintln!(
            "homa: {count}{}; results go to {}",
            about(estimate::total(&steps)),
            self.out.display()
        );
        let overall = Overall::new(steps);
        let mut done = Done::default();
        for (index, directory) in directories.into_iter().enumerate() {
            if interrupt::pressed() {
                break;
            }
            if let Err(error) = self.one(index, directory, open, &overall, &mut done) {
                overall.says(&format!(
                    "{}: {error}",
                    title(&self.variants[index].0, &self.variants[index].1)
                ));
                done.errors.push(error);
            }
        }
        drop(overall);
        self.finish(done)
    }

    /// Makes the directories of the results, before anything is measured that they could lose.
    fn prepare(&self) -> Result<Vec<PathBuf>, CliError> {
        let names = self.variants.iter().map(|(name, _)| name.as_str());
        let directories = results::directories(&self.out, names);
        let kept = results::prepare(&self.out, &directories).map_err(|error| CliError::File {
            action: "write results to",
            path: self.out.clone(),
            reason: error.to_string(),
        })?;
        if let Some(kept) = kept {
            eprintln!(
                "homa: the earlier results in {} are now in {}",
                self.out.display(),
                kept.display()
            );
        }
        Ok(directories)
    }

    /// The steps of the variants from `first` on.
    fn steps(&self, first: usize) -> Result<Vec<Vec<estimate::Step>>, CliError> {
        let mut known: Vec<&NetworkPlan> = Vec::new();
        let mut all = Vec::new();
        for (_, plan) in self.variants.iter().skip(first) {
            let sizes = plan.sizes().map_err(|error| CliError::Usage(error.to_string()))?;
            let like = known.iter().any(|other| other.has_links_of(&plan.network));
            all.push(estimate::steps(plan, &sizes, like));
            known.push(&plan.network);
        }
        Ok(all)
    }

    /// Runs one variant.
    fn one(
        &mut self,
        index: usize,
        directory: PathBuf,
        open: &mut Open<'_>,
        overall: &Overall,
        done: &mut Done,
    ) -> Result<(), CliError> {
        let failed = |error: io::Error| match interrupt::pressed() {
            true => CliError::Interrupted,
            false => CliError::Process(error.to_string()),
        };
        let before = self.variants[index].1.clone();
        overall.says(&title(&self.variants[index].0, &before));
        overall.begins(estimate::OPEN);
        let network = open(&mut self.variants[index].1, &self.agent, overall).map_err(failed)?;
        if self.variants[index].1 != before {
            let rest = self.steps(index)?.concat();
            overall.plan_rest(rest.into_iter().skip(1).collect());
        }
        let (name, plan) = &self.variants[index];
        let like = done.known.iter().find(|(other, _)| other.has_links_of(&plan.network));
        let outcome =
            run::run(plan, &*network, like.map(|found| found.1), overall).map_err(failed)?;
        done.known.push((plan.network.clone(), outcome.link));
        let (summaries, missing) = summarise_all(plan, &outcome);
        if summaries.is_empty() {
            // Of a directory in which there is nothing, nothing is lost.
            let _ = fs::remove_dir(&directory);
            return Err(match outcome.interrupted {
                true => CliError::Interrupted,
                false => CliError::Incomplete(missing_text(&missing).join("; ")),
            });
        }
        let document = files::document(plan, name, network.facts(), &outcome, &summaries, &missing);
        // The table is printed whatever happens to the files, and they are written whoever reads
        // the table.
        let written = files::write(&directory, &document, &outcome);
        if !self.json {
            let text = format!(
                "{}\n{}{}\n",
                title(name, plan),
                table::render(&document, &outcome),
                missing_text(&missing).iter().map(|line| format!("{line}\n")).collect::<String>()
            );
            overall.suspend(|| output::bytes(text.as_bytes()))?;
        }
        done.documents.push(
            serde_json::to_value(&document)
                .map_err(|error| CliError::Process(error.to_string()))?,
        );
        written.map_err(|error| CliError::File {
            action: "write",
            path: directory.clone(),
            reason: error.to_string(),
        })?;
        done.directories.push(directory);
        complete(outcome.interrupted, &summaries, &missing)
    }

    /// Writes the page and the documents; says what went wrong.
    fn finish(&self, mut done: Done) -> Result<(), CliError> {
        if self.page && !done.directories.is_empty() {
            match report::of_runs(&done.directories, &self.out) {
                Ok(page) => eprintln!("homa: {}", page.display()),
                Err(error) => done.errors.push(error),
            }
        }
        if self.json {
            match &done.documents[..] {
                [] => {}
                [document] => output::document(document)?,
                documents => output::document(&documents)?,
            }
        }
        if interrupt::pressed() {
            return Err(CliError::Interrupted);
        }
        let all = self.variants.len();
        match (done.errors.len(), done.errors.pop()) {
            (_, None) => Ok(()),
            (1, Some(error)) => Err(error),
            (count, _) => Err(CliError::Incomplete(format!("{count} of {all} variants failed"))),
        }
    }
}

/// Whether all of a variant is there.
fn complete(
    interrupted: bool,
    summaries: &[(Transport, Summary)],
    missing: &[NotMeasured],
) -> Result<(), CliError> {
    let failures: usize = summaries.iter().map(|(_, summary)| summary.failures.len()).sum();
    match (interrupted, failures + missing.len()) {
        (true, _) => Err(CliError::Interrupted),
        (_, 0) => Ok(()),
        (_, count) => Err(CliError::Incomplete(format!("{count} measurements failed"))),
    }
}

fn missing_text(missing: &[NotMeasured]) -> Vec<String> {
    let line =
        |one: &NotMeasured| format!("{}: not measured ({})", one.name, one.reasons.join("; "));
    missing.iter().map(line).collect()
}

fn title(name: &str, plan: &Plan) -> String {
    format!("{}{}{name}", plan.title, if name.is_empty() { "" } else { ": " })
}
