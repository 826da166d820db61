//! What tests drive engines with, in virtual time: [`Host`] and [`Solo`] are one engine that is
//! driven by hand, [`Net`] is several on a wire, [`replay`] puts one in the place of a recorded
//! host.

mod host;
mod net;
mod packet;
pub(crate) mod replay;
mod solo;

pub(crate) use host::*;
pub(crate) use net::*;
pub(crate) use packet::*;
pub(crate) use solo::*;

use homa_core::{Config, Engine, HostBudget};

/// Whether short RPCs take their short form. `HOMA_SHORT_FORM=0` keeps them in their general form,
/// so that tests with short messages try that as well.
pub(crate) fn short_form_is_tested() -> bool {
    std::env::var("HOMA_SHORT_FORM").map_or(true, |value| value != "0")
}

/// An engine for a test.
pub(crate) fn engine(mut config: Config, budget: HostBudget, seed: u64) -> Engine {
    config.fixed.short_form &= short_form_is_tested();
    Engine::new(config, budget, seed).expect("the settings are valid")
}
