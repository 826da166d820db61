//! Endpoints that somebody else drives.

use std::fmt;
use std::sync::Arc;

use crate::drive::seat::NEVER_NS;
use crate::drive::wait::Host;
use crate::shared::core::Core;

/// Drives an endpoint that is on a driver of one's own.
pub struct Drive {
    core: Arc<Core>,
}

impl Drive {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Executes what was asked for, receives, sends, and wakes those whom it concerns. To be called
    /// when packets have come, and at the time, by the endpoint's clock in ns, that the last turn
    /// gave; `None`: only packets make something happen. What users of the endpoint ask for is
    /// executed at once and may make a turn due earlier, so it is called after that too.
    pub fn turn(&self) -> Option<u64> {
        self.core.attend();
        loop {
            let turned = self.core.turn();
            if !turned.more && self.core.try_leave() {
                break;
            }
        }
        let deadline_ns = self.core.seat.deadline_ns();
        (deadline_ns != NEVER_NS).then_some(deadline_ns)
    }
}

impl fmt::Debug for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drive").field("endpoint", &self.core.local_addr()).finish()
    }
}
