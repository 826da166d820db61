//! Ctrl-C: the first press asks for an orderly end, the second ends at once.

use std::{
    process,
    sync::atomic::{AtomicBool, Ordering},
};

static PRESSED: AtomicBool = AtomicBool::new(false);

/// Exit status of a program that SIGINT ended, by the convention of shells.
const INTERRUPTED_STATUS: i32 = 130;

/// Starts to watch for Ctrl-C and SIGTERM and calls `notify` at the first; for the start of a command that
/// may run for long. A second call in one process changes nothing.
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

/// Whether Ctrl-C was pressed since [`watch`].
pub(crate) fn pressed() -> bool {
    PRESSED.load(Ordering::Relaxed)
}
