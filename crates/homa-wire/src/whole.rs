//! Headers of DATA packets field by field: what most packets, those that are whole short messages,
//! need of it, without the rest.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::body::RawData;
use crate::common::RawCommon;
use crate::layout::{U24, Wire};
use crate::{
    AckEntry, Body, Common, DATA_HEADER_BYTES, Data, Header, OFFSET_IN_SEQUENCE, PacketType, RpcId,
    VERSION, VERSION_MAGIC,
};

/// The layout of the header of a DATA packet.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    common: RawCommon,
    data: RawData,
}
const _: () = assert!(size_of::<RawHeader>() == DATA_HEADER_BYTES);

/// A look at the header of a DATA packet of the native profile in this version. See [`Data`] and
/// [`Common`] for the fields.
///
/// ```
/// use homa_wire::{Body, Common, DATA_HEADER_BYTES, Data, DataView, Header};
///
/// let data = Data { message_length: 100, echo: 7, ..Data::default() };
/// let common = Common::data(1, 2, 6, 0).with_native_profile(3);
/// let header = Header { common, body: Body::Data(data), extension: None };
/// let mut packet = [0; 160];
/// assert_eq!(header.encode(&mut packet), Some(DATA_HEADER_BYTES));
///
/// let view = DataView::of(&packet, 160).expect("DATA of this version");
/// assert_eq!((view.local_id(), view.incarnation()), (7, 3));
/// assert_eq!((view.message_length(), view.echo()), (100, 7));
/// assert_eq!(view.header(), header);
/// assert!(view.begins() && DataView::of(&packet, 20).is_none());
/// ```
#[derive(Clone, Copy)]
pub struct DataView<'a>(&'a RawHeader);

impl<'a> DataView<'a> {
    /// Looks at a packet of `transport_len` bytes, of which `header` holds at least the first.
    /// `None`: it is another packet, or shorter than its header.
    #[inline]
    pub fn of(header: &'a [u8], transport_len: u32) -> Option<Self> {
        let (raw, _) = RawHeader::ref_from_prefix(header).ok()?;
        let is_data = raw.common.packet_type() == PacketType::Data.code();
        let is_ours = raw.common.window.get() == VERSION_MAGIC | VERSION;
        (is_data && is_ours && transport_len >= DATA_HEADER_BYTES as u32).then_some(Self(raw))
    }

    /// All of it, as [`Header::parse`] reads it.
    #[inline]
    pub fn header(&self) -> Header {
        let (common, data) = (self.0.common.get(), Data::from_raw(&self.0.data));
        Header { common, body: Body::Data(data), extension: None }
    }

    /// The RPC's id as the receiver knows it.
    #[inline]
    pub fn local_id(&self) -> u64 {
        RpcId(self.0.common.sender_id.get()).of_peer().0
    }

    /// [`Common::incarnation`].
    #[inline]
    pub fn incarnation(&self) -> u32 {
        self.0.common.incarnation.get()
    }

    /// [`Data::message_length`].
    #[inline]
    pub fn message_length(&self) -> u32 {
        self.0.data.message_length.get()
    }

    /// [`Data::incoming`].
    #[inline]
    pub fn incoming(&self) -> u32 {
        self.0.data.incoming.get()
    }

    /// [`Data::acknowledged`].
    #[inline]
    pub fn acknowledged(&self) -> Option<AckEntry> {
        let ack = AckEntry::from_raw(&self.0.data.ack);
        if ack.client_id == 0 { None } else { Some(ack) }
    }

    /// [`Data::cutoff_version`].
    #[inline]
    pub fn cutoff_version(&self) -> u16 {
        self.0.data.cutoff_version.get()
    }

    /// [`Data::flags`].
    #[inline]
    pub fn flags(&self) -> u8 {
        self.0.data.flags
    }

    /// [`Data::echo`].
    #[inline]
    pub fn echo(&self) -> u32 {
        self.0.data.echo.get()
    }

    /// [`Data::begins`].
    #[inline]
    pub fn begins(&self) -> bool {
        match self.0.data.seg_offset.get() {
            OFFSET_IN_SEQUENCE => self.0.common.sequence.get() == 0,
            offset => offset == 0,
        }
    }
}

/// The headers of packets to one peer that are whole messages: they differ in little.
///
/// ```
/// use homa_wire::{AckEntry, Body, Common, Data, Header, WholeMessages};
///
/// let common = Common::data(1, 2, 0, 0).with_native_profile(3);
/// let headers = WholeMessages::new(&common, 4);
/// let mut whole = [0; 128];
/// let bytes = headers.put(6, 100, Data::FRAMED, AckEntry::NONE, 7, &mut whole).unwrap();
///
/// let data = Data {
///     message_length: 100,
///     incoming: 100,
///     cutoff_version: 4,
///     flags: Data::FRAMED,
///     echo: 7,
///     ..Data::default()
/// };
/// let common = Common { sender_id: 6, ..common };
/// let header = Header { common, body: Body::Data(data), extension: None };
/// let mut same = [0; 128];
/// assert_eq!(header.encode(&mut same), Some(bytes));
/// assert_eq!(whole, same);
/// ```
#[derive(Clone, Copy)]
pub struct WholeMessages(RawHeader);

impl WholeMessages {
    /// Headers that begin with `common` but for the id, and name this version of the cutoffs.
    #[inline]
    pub fn new(common: &Common, cutoff_version: u16) -> Self {
        let data = Data { cutoff_version, ..Data::default() };
        let common = RawCommon::new(common, PacketType::Data);
        Self(RawHeader { common, data: data.to_raw() })
    }

    /// Writes the header of the message of `length` bytes of the RPC that the sender knows as `id`.
    /// Returns its length; `None`, with `out` untouched, if it does not fit.
    #[inline]
    #[must_use]
    pub fn put(
        &self,
        id: u64,
        length: u32,
        flags: u8,
        ack: AckEntry,
        echo: u32,
        out: &mut [u8],
    ) -> Option<usize> {
        let mut raw = self.0;
        raw.common.sender_id.set(id);
        raw.data.message_length.set(length);
        raw.data.incoming.set(length);
        raw.data.ack = ack.to_raw();
        raw.data.flags = flags;
        raw.data.echo = U24::new(echo);
        out.get_mut(..DATA_HEADER_BYTES)?.copy_from_slice(raw.as_bytes());
        Some(DATA_HEADER_BYTES)
    }
}
