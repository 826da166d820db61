//! Priority of packets.

/// Level at which a packet leaves, 0 to 7. Switches send higher ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Priority(u8);

impl Priority {
    pub(crate) const LOWEST: Self = Self(0);
    pub(crate) const HIGHEST: Self = Self(7);

    /// The priority of a level, [`Priority::HIGHEST`] if there is no such level.
    #[inline]
    pub(crate) fn new(level: u8) -> Self {
        Self(level).min(Self::HIGHEST)
    }

    /// The next lower one, or the lowest.
    #[inline]
    pub(crate) fn below(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    #[inline]
    pub(crate) const fn level(self) -> u8 {
        self.0
    }
}
