//! The switch of this crate: exact buffers, ECN, delay, faults, queue lengths over time.
//!
//! [`core`] decides everything in virtual time and does no I/O; `run` gives it frames and the real
//! time.

pub mod conditions;
pub mod core;
pub mod frame;
pub(crate) mod run;
mod socket;
mod trace;

pub use self::{
    conditions::LinkConditions,
    core::{SwitchConfig, SwitchCore},
    frame::Frame,
};
