//! What leaves next.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `transmit` | the order of control packets, GRANTs, retransmissions and new data |
//! | `pacer` | which message sends, and when |
//! | `admission` | whether data may go to a peer now |
//! | `train` | what goes together |
//! | `control` | which control packets wait |
//! | `replies` | what strangers are answered |
//! | `refusals` | how often the same is refused |
//! | `outgoing` | nothing: the state of one message |

pub(super) mod admission;
pub(super) mod control;
pub(super) mod outgoing;
pub(super) mod pacer;
pub(super) mod refusals;
pub(super) mod replies;
pub(super) mod train;
pub(super) mod transmit;
