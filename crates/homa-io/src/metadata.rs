//! Small named values beside the body of a message.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of all names and values of a message, with three for each entry, at most.
pub const METADATA_BYTES_MAX: usize = 4_096;
/// Bytes of a name at most.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of an entry besides its name and its value.
const ENTRY_BYTES: usize = 3;

/// Small named values beside the body of a message, in the order in which they were added: trace
/// contexts, credentials, status. A name has 1 to 255 bytes and may be there more than once; all
/// together has at most [`METADATA_BYTES_MAX`] bytes, which is checked when the message is sent.
///
/// ```
/// use homa_io::{Message, Metadata};
/// let message = Message::from("body").with_metadata(Metadata::new().with("trace", "17"));
/// assert_eq!(message.metadata().get("trace").unwrap(), "17");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    entries: Vec<(Box<str>, Bytes)>,
}

impl Metadata {
    /// No values.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The same with one value more.
    #[must_use]
    pub fn with(mut self, name: impl Into<Box<str>>, value: impl Into<Bytes>) -> Self {
        self.add(name, value);
        self
    }

    /// Adds a value.
    pub fn add(&mut self, name: impl Into<Box<str>>, value: impl Into<Bytes>) {
        self.entries.push((name.into(), value.into()));
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.iter().find_map(|(has, value)| (has == name).then_some(value))
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.entries.iter().map(|(name, value)| (&**name, value))
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that it counts against [`METADATA_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| ENTRY_BYTES + name.len() + value.len()).sum()
    }

    /// Whether it can be sent: not too much, and each name of a length that a name may have.
    #[inline]
    pub fn is_valid(&self) -> bool {
        self.is_empty() || self.are_valid()
    }

    /// The same of entries that are there.
    fn are_valid(&self) -> bool {
        let names = self.iter().all(|(name, _)| (1..=NAME_BYTES_MAX).contains(&name.len()));
        names && self.bytes() <= METADATA_BYTES_MAX
    }

    /// Appends its bytes on the wire: for each entry the lengths of name (1 byte) and value (2),
    /// then both. Needs to be [valid](Self::is_valid).
    pub fn encode(&self, out: &mut BytesMut) {
        for (name, value) in self.iter() {
            out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
            out.put_slice(name.as_bytes());
            out.put_slice(value);
        }
    }

    /// Reads what [`Metadata::encode`] wrote; `None` if it wrote no such bytes.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let mut metadata = Self::new();
        if bytes.len() > METADATA_BYTES_MAX {
            return None;
        }
        while bytes.has_remaining() {
            let name_bytes = usize::from(bytes.try_get_u8().ok()?);
            let value_bytes = usize::from(bytes.try_get_u16().ok()?);
            if name_bytes == 0 || bytes.len() < name_bytes + value_bytes {
                return None;
            }
            let name = bytes.split_to(name_bytes);
            let name = std::str::from_utf8(&name).ok()?;
            metadata.add(name, bytes.split_to(value_bytes));
        }
        Some(metadata)
    }
}

/// Names, and the lengths of values, which may be secrets.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.iter().map(|(name, value)| (name, format!("{} bytes", value.len())));
        f.debug_map().entries(entries).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(metadata: &Metadata) -> Bytes {
        let mut out = BytesMut::new();
        metadata.encode(&mut out);
        out.freeze()
    }

    #[test]
    fn what_is_written_is_read() {
        let metadata =
            Metadata::new().with("trace", "17").with("trace", "").with("é", vec![0; 300]);
        let bytes = encoded(&metadata);
        assert_eq!(bytes.len(), metadata.bytes());
        assert_eq!(Metadata::decode(bytes), Some(metadata.clone()));
        assert_eq!(metadata.get("trace").unwrap(), "17", "the first");
        assert_eq!((metadata.get("none"), metadata.len()), (None, 3));
    }

    #[test]
    fn bytes_that_are_cut_anywhere_but_between_entries_are_refused() {
        let metadata = Metadata::new().with("a", "1").with("bc", "234");
        let bytes = encoded(&metadata);
        for end in 0..bytes.len() {
            let whole = end == 0 || end == 5;
            assert_eq!(Metadata::decode(bytes.slice(..end)).is_some(), whole, "{end}");
        }
    }

    #[test]
    fn names_have_a_length_and_all_together_has_a_limit() {
        assert!(Metadata::new().is_valid());
        assert!(!Metadata::new().with("", "1").is_valid());
        assert!(!Metadata::new().with("n".repeat(256), "1").is_valid());
        let most = METADATA_BYTES_MAX - ENTRY_BYTES - 1;
        assert!(Metadata::new().with("n", vec![0; most]).is_valid());
        assert!(!Metadata::new().with("n", vec![0; most + 1]).is_valid());
        assert_eq!(Metadata::decode(vec![1; METADATA_BYTES_MAX + 1].into()), None);
        assert_eq!(Metadata::decode(Bytes::from_static(&[0, 0, 0])), None);
        assert_eq!(Metadata::decode(Bytes::from_static(&[1, 0, 0, 0xff])), None);
    }

    #[test]
    fn values_are_not_shown() {
        let shown = format!("{:?}", Metadata::new().with("token", "secret"));
        assert_eq!(shown, r#"{"token": "6 bytes"}"#);
    }
}
