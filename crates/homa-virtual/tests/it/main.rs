//! Behaviours of hosts on the virtual network.

mod attached;
mod idle_cost;
mod incast;
mod no_loss;
mod open;
mod raw_ip;
mod scenarios;
mod slow_receivers;
