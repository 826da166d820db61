//! Everything the checker can find, with its explanation.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; correct peers do this too, or the recording alone cannot tell.
    Note,
    /// A peer that follows the specification does not send this.
    Violation,
}

/// Declares the kinds of findings: severity, name, place in the specification, explanation.
macro_rules! checks {
    ($($(#[$doc:meta])* $variant:ident: $severity:ident, $name:literal, $spec:literal, $text:literal;)*) => {
        /// What the checker can find in a packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Check {
            $($(#[$doc])* $variant,)*
        }

        impl Check {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in output.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// Where the specification says what is right.
            pub const fn spec(self) -> &'static str {
                match self { $(Self::$variant => $spec,)* }
            }

            /// What is wrong, and what comes of it.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

checks! {
    /// Shorter than its type demands.
    TooShort: Violation, "too-short", "docs/spec/wire-format.md §9 step 1",
        "the packet is shorter than the header of its type; receivers drop it";
    /// A type that does not exist.
    UnknownType: Violation, "unknown-type", "docs/spec/wire-format.md §4",
        "there is no packet type with this code; receivers drop the packet";
    /// Headers announce more than there was.
    LengthLies: Violation, "length-lies", "docs/spec/wire-format.md §9 step 1",
        "the IP or UDP header announces more bytes than the frame had";
    /// A fragmented IP packet.
    Fragment: Violation, "fragment", "docs/spec/wire-format.md §1",
        "Homa never relies on IP fragmentation: a packet must fit the path's MTU";
    /// Header length field.
    WrongDoff: Violation, "wrong-doff", "docs/spec/wire-format.md §2",
        "the header length must be 14 or 13 words in DATA and 5 in control packets; some network cards drop others";
    /// Flags byte.
    WrongFlags: Violation, "wrong-flags", "docs/spec/wire-format.md §2",
        "the flags byte must be 0x06 (SYN and RST) in every packet";
    /// Urgent field.
    WrongUrgent: Violation, "wrong-urgent", "docs/spec/wire-format.md §2",
        "the urgent field must be 0xb97d in every packet";
    /// TCP checksum.
    BadTcpChecksum: Violation, "bad-tcp-checksum", "docs/spec/wire-format.md §8",
        "the TCP checksum is wrong; network cards and receivers drop the packet";
    /// Source address.
    MartianSource: Violation, "martian-source", "docs/spec/wire-format.md §3",
        "no host can have this source address, so nobody can answer";
    /// Even or odd id.
    WrongParity: Violation, "wrong-parity", "docs/spec/wire-format.md §3",
        "ids are even from the client and odd from the server; only servers send NEED_ACK, only clients ACK, and acknowledged ids are in the client's form";
    /// Ack count.
    TooManyAcks: Violation, "too-many-acks", "docs/spec/wire-format.md §7",
        "an ACK has room for 5 entries; larger counts are taken as 5";
    /// Priority above 7.
    PriorityRange: Violation, "priority-range", "docs/spec/wire-format.md §1",
        "there are 8 priority levels, 0 to 7";
    /// Message length.
    MessageLength: Violation, "message-length", "docs/spec/wire-format.md §5",
        "a message has 1 to 1,000,000 bytes; receivers reject others";
    /// Offset behind the end.
    OffsetBeyondMessage: Violation, "offset-beyond-message", "docs/spec/wire-format.md §9 step 5",
        "the data begins behind the end of its message; receivers drop the packet";
    /// Payload behind the end.
    PayloadBeyondMessage: Violation, "payload-beyond-message", "docs/spec/wire-format.md §9 step 5",
        "the data goes on behind the end of its message; receivers drop the packet";
    /// DATA without data.
    EmptyData: Violation, "empty-data", "docs/spec/wire-format.md §5",
        "a DATA packet without data says nothing";
    /// Bytes behind a control header.
    TrailingBytes: Note, "trailing-bytes", "docs/spec/wire-format.md §4",
        "there are bytes behind the header of a control packet, which receivers ignore";
    /// Incoming beyond the length.
    IncomingBeyondMessage: Violation, "incoming-beyond-message", "docs/spec/wire-format.md §5",
        "`incoming` lies behind the end of the message; receivers must clamp it";
    /// Own version differs.
    OtherVersion: Note, "other-version", "docs/spec/wire-format.md §12",
        "the sender speaks a version of this implementation's profile that this program does not know";
    /// The length of a message changed.
    LengthChanged: Violation, "length-changed", "docs/spec/wire-format.md §5",
        "message_length must be the same in all packets of a message that is not open; receivers go by the first";
    /// Segments do not fit.
    PartialOverlap: Violation, "partial-overlap", "docs/spec/wire-format.md §11 rule 3",
        "the data partly repeats bytes sent before: segment boundaries must stay, since receivers drop such packets";
    /// The same in this implementation's profile.
    Resegmented: Note, "resegmented", "docs/spec/wire-format.md §9 step 6",
        "the data partly repeats bytes sent before; receivers of this implementation keep the new part";
    /// Data nobody granted.
    BeyondGrant: Violation, "beyond-grant", "docs/spec/protocol.md §4",
        "the data begins more than one super-packet (64 KiB) behind what is unscheduled or granted";
    /// Grant beyond the end.
    GrantBeyondLength: Violation, "grant-beyond-length", "docs/spec/protocol.md §6",
        "the grant lies behind the end of the message";
    /// RESEND of what was delivered.
    ResendOfDelivered: Violation, "resend-of-delivered", "docs/spec/protocol.md §8",
        "bytes are asked for again although their receiver has shown that it has them";
    /// RESEND of bytes the recording shows.
    ResendOfRecorded: Note, "resend-of-recorded", "docs/spec/protocol.md §8",
        "bytes are asked for again that were recorded before: they were lost behind the place of recording, or it was asked too early";
    /// ACK too early.
    AckBeforeCompletion: Violation, "ack-before-completion", "docs/spec/protocol.md §11",
        "the RPC is acknowledged although its response is not complete in the recording; the server forgets it";
    /// ACK for an RPC the client gave up.
    AckOfUnknown: Note, "ack-of-unknown", "docs/spec/protocol.md §11",
        "asked for an acknowledgement, the client gives it without having the whole response: it has forgotten the RPC";
    /// NEED_ACK too early.
    NeedAckTooEarly: Violation, "need-ack-too-early", "docs/spec/protocol.md §8 rule 2",
        "an acknowledgement is asked for although the response cannot have been sent as a whole";
    /// NEED_ACK while the recording misses data.
    NeedAckIncomplete: Note, "need-ack-incomplete", "docs/spec/protocol.md §8 rule 2",
        "an acknowledgement is asked for while parts of the response are not in the recording: they were lost before it";
    /// Priority level.
    WrongLevel: Violation, "wrong-level", "docs/spec/protocol.md §5",
        "unscheduled data does not use the priority level that the receiver's cutoffs order for its message length";
}

/// One finding about one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub check: Check,
    /// The values concerned.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(check: Check, detail: String) -> Self {
        Self { check, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_in_lower_case() {
        let names: HashSet<_> = Check::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(names.len(), Check::ALL.len());
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    }
}
