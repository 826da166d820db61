//! Compares Homa with TCP over emulated and real networks: a load generator that runs on every
//! host, the metrics of the published evaluations, and plans that describe a comparison so that
//! anybody can repeat it.
//!
//! * [`plan`]: a comparison as a file; [`run`](mod@run) executes it on a [`network`], [`metrics`]
//!   summarises it, [`files`] writes it down, [`table`] shows it.
//! * [`agent`]: what runs on each host, client and server in one thread; [`spec`] is what
//!   controller and agents tell each other; [`generator`] is the open-loop load.
//! * [`settings`], [`load`]: Homa's settings and the offered load, derived from the network.
//! * [`tcp`]: RPCs over TCP, what Homa is compared with.
//! * [`pair`]: two processes of one machine, for transports that tasks use.
//! * [`workload`], [`arrivals`], [`transport`]: what is sent, when, and over what.
#![forbid(unsafe_code)]

pub mod agent;
pub mod arrivals;
pub mod congestion;
pub mod estimate;
pub mod files;
pub mod fit;
pub mod generator;
mod handle;
mod idle;
pub mod load;
pub mod machine;
pub mod metrics;
pub mod network;
pub mod pair;
pub mod plan;
pub mod process;
pub mod results;
pub mod rng;
pub mod run;
pub mod settings;
pub mod spec;
pub mod table;
pub mod tcp;
pub mod transport;
pub mod units;
pub mod watch;
pub mod workload;
