//! Tests of drivers, store and shards. Most run in virtual time; `icmp` and `wrapped_drivers`
//! use the sockets of this machine.
#![cfg(feature = "virtual")]

mod icmp;
mod idle_cost;
mod incast;
mod no_loss;
mod raw_ip;
mod scenarios;
mod slow_receivers;
mod store;
mod turns;
mod wrapped_drivers;
