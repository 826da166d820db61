//! Behaviours of hosts on the virtual network; `wrapped_drivers` uses the sockets of this machine.

mod attached;
mod idle_cost;
mod incast;
mod no_loss;
mod raw_ip;
mod scenarios;
mod slow_receivers;
mod wrapped_drivers;
