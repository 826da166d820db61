//! `homa capture`: records and explains Homa packets.

pub(crate) mod args;
mod output;
mod read;

use homa_capture::Decoder;

use self::args::CaptureArgs;
use crate::error::CliError;

/// Runs the command.
pub(crate) fn run(args: &CaptureArgs, json: bool) -> Result<(), CliError> {
    let decoder = Decoder::new(&args.udp_port);
    match &args.read {
        Some(path) => read::run(args, path, decoder, json),
        None => Err(CliError::Usage("give --read FILE or --iface IF".to_owned())),
    }
}
