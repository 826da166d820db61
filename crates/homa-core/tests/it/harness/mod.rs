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

/// An engine for a test. `HOMA_SHORT_FORM=0` keeps its RPCs in their general form, so that tests
/// with short messages try that as well.
pub(crate) fn engine(mut config: Config, budget: HostBudget, seed: u64) -> Engine {
    config.fixed.short_form &= std::env::var("HOMA_SHORT_FORM").map_or(true, |value| value != "0");
    Engine::new(config, budget, seed).expect("the settings are valid")
}
