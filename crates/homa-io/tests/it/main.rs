//! Tests of drivers, store and shards. Most run in virtual time; `scenario_icmp` and `wrapped_drivers`
//! use the sockets of this machine.
#![cfg(feature = "virtual")]

mod idle_cost;
mod incast;
mod no_loss;
mod raw_ip;
mod scenario_icmp;
mod scenario_store;
mod scenarios;
mod slow_receivers;
mod turns;
mod wrapped_drivers;
