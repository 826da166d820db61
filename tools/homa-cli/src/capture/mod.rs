//! `homa capture`: records and explains Homa packets.

pub(crate) mod args;
mod live;
mod output;
mod read;

use homa_capture::Decoder;

use self::args::CaptureArgs;
use crate::error::CliError;

/// Runs the command.
pub(crate) fn run(args: &CaptureArgs, json: bool) -> Result<(), CliError> {
    let decoder = Decoder::new(&args.udp_port);
    match (&args.read, &args.iface) {
        (Some(path), _) => read::run(args, path, decoder, json),
        (None, Some(interface)) => live::run(args, interface, decoder, json),
        // The command line demands one of them.
        (None, None) => Err(CliError::Usage("give --read FILE or --iface IF".to_owned())),
    }
}
