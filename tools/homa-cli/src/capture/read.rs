//! `homa capture --read`: explains a recording in a file.

use std::{fs::File, path::Path};

use homa_capture::{Analysis, CaptureReader, Decoder};

use super::{args::CaptureArgs, output::Output};
use crate::{error::CliError, interrupt, progress::Progress};

/// Frames between two looks at the clock.
const FRAMES_PER_LOOK: u64 = 4_096;

pub(super) fn run(
    args: &CaptureArgs,
    path: &Path,
    decoder: Decoder,
    json: bool,
) -> Result<(), CliError> {
    let failed = |reason: String| CliError::File { action: "read", path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let mut reader = CaptureReader::new(file).map_err(|error| failed(error.to_string()))?;
    interrupt::watch(|| {});
    let mut progress = Progress::new(bytes >> 20);
    let mut analysis = Analysis::new(decoder, args.rpcs_max);
    let mut output = Output::new(json, args.rpc);
    let mut outcome = Ok(());
    let mut packets = 0;
    loop {
        match reader.next_frame() {
            Some(Ok(recorded)) => packets += output.frame(&mut analysis, &recorded),
            Some(Err(error)) => {
                outcome = Err(failed(error.to_string()));
                break;
            }
            None => break,
        }
        if output.is_over() || args.count.is_some_and(|count| packets >= count) {
            break;
        }
        if analysis.totals().frames % FRAMES_PER_LOOK == 0 {
            progress.show(reader.read_bytes() >> 20, "MiB");
            if interrupt::pressed() {
                outcome = Err(CliError::Interrupted);
                break;
            }
        }
    }
    progress.finish();
    if reader.skipped() > 0 {
        eprintln!(
            "homa: {} packets left out: the link type of their interface is not supported",
            reader.skipped()
        );
    }
    output.finish(&analysis).and(outcome)
}
