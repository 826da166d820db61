//! Recovery from silence: RESENDs, probes, giving up.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `timers` | whom to ask or to give up when a timer comes up |
//! | `timer_queue` | nothing: when which RPC and which peer is looked at |
//! | `reactions` | what the resend timeout learns from |
//! | `black_hole` | when losses speak against the path MTU |
//! | `unacknowledged` | when a server asks for an acknowledgement |
//! | `pauses` | how a pause of this process shifts all of it |

pub(super) mod black_hole;
pub(super) mod pauses;
pub(super) mod reactions;
pub(super) mod timer_queue;
pub(super) mod timers;
pub(super) mod unacknowledged;
