//! How values lie on the wire: packed, big-endian, without alignment.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Reason;

/// A value and its bytes.
pub(crate) trait Wire: Sized {
    /// The value as it lies in memory.
    type Raw: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + 'static;

    /// The parts of the value, in the order of the wire.
    const FIELDS: &'static [Field];

    fn from_raw(raw: &Self::Raw) -> Self;

    fn to_raw(&self) -> Self::Raw;

    /// Reads the value, and returns the bytes behind it; `None` if it is cut.
    #[inline]
    fn take(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (raw, rest) = Self::Raw::ref_from_prefix(bytes).ok()?;
        Some((Self::from_raw(raw), rest))
    }

    /// Writes the value to the beginning of `out`, and returns what is left of it; `None` if it
    /// does not fit.
    #[inline]
    fn put<'out>(&self, out: &'out mut [u8]) -> Option<&'out mut [u8]> {
        put_raw(out, &self.to_raw())
    }
}

/// Writes bytes to the beginning of `out`, and returns what is left of it.
#[inline]
pub(crate) fn put_raw<'out, T>(out: &'out mut [u8], raw: &T) -> Option<&'out mut [u8]>
where
    T: IntoBytes + Immutable,
{
    let (place, rest) = out.split_at_mut_checked(size_of::<T>())?;
    place.copy_from_slice(raw.as_bytes());
    Some(rest)
}

/// A field of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name, as in the Rust type that holds it.
    pub name: &'static str,
    /// Where it begins, in bytes from the beginning of its part of the header.
    pub at: usize,
    /// Its length in bytes.
    pub bytes: usize,
}

/// The form of a field on the wire.
pub(crate) trait Form<Value> {
    fn of(value: Value) -> Self;

    fn value(self) -> Value;
}

macro_rules! forms {
    ($($form:ty: $value:ty, $of:expr, $get:expr;)*) => {
        $(impl Form<$value> for $form {
            #[inline]
            fn of(value: $value) -> Self {
                $of(value)
            }

            #[inline]
            fn value(self) -> $value {
                $get(self)
            }
        })*
    };
}

forms! {
    u8: u8, core::convert::identity, core::convert::identity;
    u8: Reason, Reason::code, Reason::from;
    U16: u16, U16::new, U16::get;
    U24: u32, U24::new, U24::get;
    U32: u32, U32::new, U32::get;
    U64: u64, U64::new, U64::get;
}

impl<Value, F: Form<Value>, const N: usize> Form<[Value; N]> for [F; N] {
    #[inline]
    fn of(value: [Value; N]) -> Self {
        value.map(F::of)
    }

    #[inline]
    fn value(self) -> [Value; N] {
        self.map(F::value)
    }
}

/// An integer of 24 bits.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct U24([u8; 3]);

impl U24 {
    #[inline]
    pub(crate) const fn get(self) -> u32 {
        let [high, middle, low] = self.0;
        u32::from_be_bytes([0, high, middle, low])
    }

    /// Keeps the lower 24 bits.
    #[inline]
    pub(crate) const fn new(value: u32) -> Self {
        let [_, high, middle, low] = value.to_be_bytes();
        Self([high, middle, low])
    }
}

/// Declares a value and its layout, each field once: `name: type as form on the wire`.
macro_rules! layout {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident as $raw:ident {
            $($(#[$field_attribute:meta])* pub $field:ident: $value:ty as $form:ty,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name {
            $($(#[$field_attribute])* pub $field: $value,)*
        }

        #[derive(
            Clone,
            Copy,
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::KnownLayout,
            zerocopy::Immutable,
            zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub(crate) struct $raw {
            $(pub(crate) $field: $form,)*
        }

        impl $crate::layout::Wire for $name {
            type Raw = $raw;

            const FIELDS: &'static [$crate::layout::Field] = &[$($crate::layout::Field {
                name: stringify!($field),
                at: core::mem::offset_of!($raw, $field),
                bytes: size_of::<$form>(),
            }),*];

            #[inline]
            fn from_raw(raw: &$raw) -> Self {
                Self { $($field: $crate::layout::Form::value(raw.$field),)* }
            }

            #[inline]
            fn to_raw(&self) -> $raw {
                $raw { $($field: $crate::layout::Form::of(self.$field),)* }
            }
        }

        impl $crate::layout::Form<$name> for $raw {
            #[inline]
            fn of(value: $name) -> Self {
                $crate::layout::Wire::to_raw(&value)
            }

            #[inline]
            fn value(self) -> $name {
                $crate::layout::Wire::from_raw(&self)
            }
        }
    };
}
pub(crate) use layout;
