//! A data center on one machine: hosts in network namespaces, joined by an emulated switch whose
//! ports have a rate and eight strict priorities.
//!
//! ```no_run
//! use homa_lab::{Lab, LabSpec};
//!
//! homa_lab::acquire_privileges()?; // first thing in `main`, before any thread is started
//! let lab = Lab::up(&LabSpec { hosts: 4, port_mbps: 100, ..LabSpec::default() })?;
//! let address = lab.hosts()[1].ipv4;
//! let status = lab.command(0, "ping")?.args(["-c", "1", &address.to_string()]).status()?;
//! assert!(status.success());
//! # Ok::<(), homa_lab::LabError>(())
//! ```
//!
//! Nothing outlives the process that holds the [`Lab`]: the namespaces have no names, descriptors
//! of this process keep them alive, and the programs inside belong to a process namespace whose
//! first process ends with ours, also after SIGKILL.
//!
//! | module | what |
//! | --- | --- |
//! | [`spec`] | [`LabSpec`]: what is wanted, and which numbers make sense |
//! | [`lab`] | [`Lab`]: up, hosts, programs inside, counters, down |
//! | [`switch`] | the switch of this crate |
//! | [`fidelity`] | what the emulation adds and how exact it is |
//! | [`privilege`] | root, or root of a user namespace of our own |
//! | [`calibrate`] | what the machine can carry |
//! | [`attach`] | programs inside a lab that another process holds |
//! | [`tool`] | programs that are run by name, `ip` and `tc` among them |
//! | [`disk`] | a file system that is soon full |
//! | [`counters`] | what every port and level has carried, dropped and holds |
#![forbid(unsafe_code)]

pub mod attach;
pub mod calibrate;
pub mod command;
pub mod counters;
pub mod disk;
pub mod error;
mod ethtool;
pub mod fidelity;
pub mod host;
mod kernel;
pub mod lab;
mod namespace;
mod plumbing;
pub mod privilege;
mod qdiscs;
pub mod spec;
pub mod switch;
pub mod tool;
mod traffic;

pub use attach::HostHandle;
pub use calibrate::Saturation;
pub use command::HostCommand;
pub use counters::{LevelCounters, PortCounters, QueueSample, QueueTrace, Reading};
pub use disk::SmallDisk;
pub use error::LabError;
pub use fidelity::Fidelity;
pub use host::LabHost;
pub use lab::{Choice, Lab};
pub use privilege::acquire_privileges;
pub use spec::{Backend, BufferPolicy, LabSpec};
pub use switch::LinkConditions;

/// Number of priority levels of a port; level 7 goes first. A packet's level is the class selector
/// of its DSCP, the upper three bits.
pub const LEVELS: usize = 8;
