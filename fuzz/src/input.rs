//! Bytes taken for decisions.

use arbitrary::Unstructured;

/// The rest of an input. When it is used up every decision is the first one, every number the
/// least.
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub(crate) fn u16(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// A number below `count`, which is at most 256.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// True once in `times`.
    pub(crate) fn rarely(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    pub(crate) fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A number of at most `bits_max` bits (1 to 48), each magnitude as likely as any other.
    pub(crate) fn magnitude(&mut self, bits_max: u32) -> u64 {
        let power = 1_u64 << (u32::from(self.byte()) % bits_max);
        power + ((power * u64::from(self.byte())) >> 8) - 1
    }

    /// A number like those of `near`, of any magnitude, or any.
    pub(crate) fn number(&mut self, near: &[u32]) -> u32 {
        match self.below(8) {
            0..=4 if !near.is_empty() => {
                let offset = self.choose(&[0, 0, 0, 1, -1, 2, 100, -100]);
                self.choose(near).wrapping_add_signed(offset)
            }
            5 => self.u32(),
            6 => self.choose(&[0, 1, u32::MAX, u32::MAX - 1, 1 << 31, 1 << 30]),
            _ => self.magnitude(32) as u32,
        }
    }

    /// Up to `most` bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let count = most.min(self.0.len());
        self.0.bytes(count).unwrap_or_default()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}
