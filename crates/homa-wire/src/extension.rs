//! Extension of control packets in the native profile, beyond the Linux format.

use zerocopy::byteorder::big_endian::U32;

use crate::Reason;
use crate::layout::{U24, layout};

layout! {
    /// Eight bytes directly behind the header of a control packet, never of DATA. Present if the
    /// packet announces the current [`VERSION`](crate::VERSION) and is long enough. What `value`
    /// means depends on packet type and reason; the protocol engine defines it.
    ///
    /// Layout: `echo` (3 bytes), `reason` (1), `value` (4).
    pub struct Extension as RawExtension {
        /// The receiver's incarnation as the sender knows it, 24 bits, 0 = not known. Encoding
        /// drops the upper 8 bits.
        pub echo: u32 as U24,
        /// Why the packet was sent.
        pub reason: Reason as u8,
        /// A number that goes with the packet type; 0 = none.
        pub value: u32 as U32,
    }
}
