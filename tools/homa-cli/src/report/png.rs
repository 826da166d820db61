//! PNG, which only a `homa` built with the feature of that name can write.

use crate::error::CliError;

/// Draws an SVG as PNG.
#[cfg(feature = "png")]
pub(crate) fn render(svg: &str) -> Result<Vec<u8>, CliError> {
    homa_report::png::render(svg).map_err(super::failed)
}

/// Whether PNGs can be written, to be asked before anything is measured.
#[cfg(feature = "png")]
pub(crate) fn check() -> Result<(), CliError> {
    homa_report::png::check().map_err(super::failed)
}

/// Says how to get a `homa` that can.
#[cfg(not(feature = "png"))]
pub(crate) fn render(_svg: &str) -> Result<Vec<u8>, CliError> {
    Err(without())
}

/// Says how to get a `homa` that can.
#[cfg(not(feature = "png"))]
pub(crate) fn check() -> Result<(), CliError> {
    Err(without())
}

#[cfg(not(feature = "png"))]
fn without() -> CliError {
    CliError::Usage(
        "this `homa` was built without PNG; build it with: cargo run --release --features png -p homa-cli -- … \
         (SVG needs nothing more)"
            .to_owned(),
    )
}
