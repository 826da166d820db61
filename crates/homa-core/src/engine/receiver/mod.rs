//! What senders may send to us.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `grant` | whom to grant, how much, at which priority |
//! | `memory` | for which messages memory is reserved |
//! | `starved` | who is next when memory comes free |
//! | `incoming` | nothing: the state of one message |

pub(super) mod grant;
pub(super) mod incoming;
pub(super) mod memory;
pub(super) mod starved;
