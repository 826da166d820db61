//! Published evaluations: their set-up, their figures, ours beside them.

pub mod buffers;
pub mod mixed;
pub mod published;
pub mod sigcomm18;
