//! Dispatch of received packets: the peer and the RPC are looked up once, then a room processes the
//! packet.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `data` | the checks of all packets, and DATA |
//! | `control` | packets without payload |

pub(super) mod control;
pub(super) mod data;
