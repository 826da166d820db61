//! What both faces share.

mod stub;
pub(crate) use stub::*;
