//! What a received packet changes: who it is from and about which RPC it speaks is found once, then
//! a room is told.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `data` | the checks of all packets, and DATA |
//! | `control` | packets without payload |

pub(super) mod control;
pub(super) mod data;
