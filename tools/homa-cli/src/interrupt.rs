//! Ctrl-C: the first press asks for an orderly end, the second ends at once.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::consts::SIGUSR1;

use crate::error::CliError;

static PRESSED: AtomicBool = AtomicBool::new(false);

/// Exit status of a program that SIGINT ended, by the convention of shells.
const INTERRUPTED_STATUS: i32 = 130;

/// Starts to watch for Ctrl-C and SIGTERM and calls `notify` at the first; for the start of a
/// command that may run for long. A second call in one process changes nothing.
pub(crate) fn watch(notify: impl Fn() + Send + 'static) {
    let watched = ctrlc::set_handler(move || {
        if PRESSED.swap(true, Ordering::SeqCst) {
            process::exit(INTERRUPTED_STATUS);
        }
        notify();
    });
    match watched {
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => {}
        // Ctrl-C then ends the command without a summary.
        Err(error) => eprintln!("homa: cannot watch for Ctrl-C: {error}"),
    }
}

/// A flag that SIGUSR1 sets from now on, instead of ending the process.
pub(crate) fn watch_usr1() -> Result<Arc<AtomicBool>, CliError> {
    let asked = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR1, Arc::clone(&asked))
        .map_err(|error| CliError::io("SIGUSR1", &error))?;
    Ok(asked)
}

/// Whether Ctrl-C was pressed since [`watch`].
pub(crate) fn pressed() -> bool {
    PRESSED.load(Ordering::Relaxed)
}
