//! Writing pcapng, with times in nanoseconds.

use std::io::{self, Write};

use super::Recorded;
use super::pcapng::{
    BYTE_ORDER_MAGIC, ENHANCED_PACKET, INTERFACE_DESCRIPTION, OPTION_TIME_RESOLUTION,
    SECTION_HEADER,
};
use crate::decode::LinkType;

/// A recording could not be written: check the rights and the space on the device.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct WriteError(#[from] io::Error);

/// Writes the frames of one interface.
pub struct CaptureWriter<W: Write> {
    writer: W,
    block: Vec<u8>,
}

const OPTION_INTERFACE_NAME: u16 = 2;
/// 10^-9 seconds.
const NANOSECONDS: u8 = 9;
/// Longest name of an interface that is written, in bytes; Linux has 15.
const NAME_BYTES_MAX: usize = 255;

impl<W: Write> CaptureWriter<W> {
    /// Begins a recording of the interface `name`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(writer: W, link: LinkType, name: &str) -> Result<Self, WriteError> {
        let mut writer = Self { writer, block: Vec::new() };
        writer.section()?;
        writer.interface(link, name)?;
        Ok(writer)
    }

    /// Version 1.0, of unknown length, in little endian.
    fn section(&mut self) -> io::Result<()> {
        self.put(&BYTE_ORDER_MAGIC.to_le_bytes());
        self.put(&[1, 0, 0, 0]);
        self.put(&u64::MAX.to_le_bytes());
        self.end_block(SECTION_HEADER)
    }

    fn interface(&mut self, link: LinkType, name: &str) -> io::Result<()> {
        // Link type (2 bytes), 2 reserved bytes, no limit of length.
        self.put(&link.number().to_le_bytes());
        self.put(&[0; 4]);
        let name = name.as_bytes();
        self.option(OPTION_INTERFACE_NAME, name.get(..NAME_BYTES_MAX).unwrap_or(name));
        self.option(OPTION_TIME_RESOLUTION, &[NANOSECONDS]);
        self.option(0, &[]);
        self.end_block(INTERFACE_DESCRIPTION)
    }

    /// Writes a frame. Its link type must be that of the interface.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, frame: &Recorded<'_>) -> Result<(), WriteError> {
        let recorded_bytes = u32::try_from(frame.data.len()).map_err(io::Error::other)?;
        let [high, low] = [frame.time_ns >> 32, frame.time_ns & 0xFFFF_FFFF];
        for number in [0, high as u32, low as u32, recorded_bytes, frame.original_bytes] {
            self.put(&number.to_le_bytes());
        }
        self.put(frame.data);
        self.pad();
        Ok(self.end_block(ENHANCED_PACKET)?)
    }

    /// Ends the recording: hands what is buffered to the system.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<(), WriteError> {
        Ok(self.writer.flush()?)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.put(&code.to_le_bytes());
        // Values are at most `NAME_BYTES_MAX` long.
        self.put(&(value.len() as u16).to_le_bytes());
        self.put(value);
        self.pad();
    }

    /// Writes what was put as the content of a block of this kind.
    fn end_block(&mut self, kind: u32) -> io::Result<()> {
        let total = u32::try_from(self.block.len() + 12).map_err(io::Error::other)?.to_le_bytes();
        self.writer.write_all(&kind.to_le_bytes())?;
        self.writer.write_all(&total)?;
        self.writer.write_all(&self.block)?;
        self.writer.write_all(&total)?;
        self.block.clear();
        Ok(())
    }
}
