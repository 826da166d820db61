//! What tests drive engines with.

pub(crate) mod host;
pub(crate) mod net;
pub(crate) mod replay;
