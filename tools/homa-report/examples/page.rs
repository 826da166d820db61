//! Writes a report and its main picture:
//! `cargo run -p homa-report --example page -- OUT.html DIR...`

use std::{env, error::Error, fs, path::PathBuf};

use homa_report::Report;

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = env::args_os().skip(1).map(PathBuf::from);
    let out = paths.next().ok_or("name the file to write and the directories of runs")?;
    let report = Report::read(&paths.collect::<Vec<_>>())?;
    fs::write(&out, report.html(&out))?;
    fs::write(out.with_extension("svg"), report.picture_svg()?)?;
    Ok(())
}
