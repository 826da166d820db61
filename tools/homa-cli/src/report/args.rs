//! Options of `homa report`.

use std::path::PathBuf;

use clap::Args;

/// `homa report`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa report bench-results                    writes bench-results/report.html
  homa report run1 run2 --out both.html        several runs on one page
  homa report bench-results --text              the tables on the terminal, no page
  homa report bench-results --svg picture.svg  the main plot alone, for a README

A directory is what `homa bench cluster` or `homa bench plan` wrote: a run, or several variants of one. The page \
needs no network; its plots and tables can be read without scripts too.")]
pub(crate) struct ReportArgs {
    /// Directories of runs
    #[arg(value_name = "DIR", required = true)]
    pub directories: Vec<PathBuf>,
    /// File to write; report.html in the directory if there is only one, else here
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the slowdown plot of the first run as PNG too (`homa` built with `--features png`)
    #[arg(long, value_name = "FILE")]
    pub png: Option<PathBuf>,
    /// Write the slowdown plot of the first run as SVG too
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print outcome and tables on the terminal, and write no page
    #[arg(long, conflicts_with_all = ["out", "png", "svg", "open"])]
    pub text: bool,
    /// Show it in the browser
    #[arg(long)]
    pub open: bool,
}
