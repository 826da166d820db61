//! Writing pcapng, with times in nanoseconds.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use pcap_file::pcapng::PcapNgBlock;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};

use super::Recorded;
use crate::decode::LinkType;

/// A recording could not be written: check the rights and the space on the device.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WriteError(String);

impl From<PcapError> for WriteError {
    fn from(error: PcapError) -> Self {
        Self(match error {
            PcapError::IoError(error) => error.to_string(),
            error => error.to_string(),
        })
    }
}

/// Writes the frames of one interface.
pub struct CaptureWriter<W: Write> {
    writer: PcapNgWriter<W>,
}

/// 10^-9 seconds.
const NANOSECONDS: u8 = 9;

impl<W: Write> CaptureWriter<W> {
    /// Begins a recording of the interface `name`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(writer: W, link: LinkType, name: &str) -> Result<Self, WriteError> {
        let mut writer = PcapNgWriter::new(writer)?;
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::from(link.number()),
            // No frame is cut.
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(name.to_owned())),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        writer.write_block(&interface.into_block())?;
        Ok(Self { writer })
    }

    /// Writes a frame. Its link type must be that of the interface.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, frame: &Recorded<'_>) -> Result<(), WriteError> {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(frame.time_ns),
            original_len: frame.original_bytes,
            data: Cow::Borrowed(frame.data),
            options: Vec::new(),
        };
        self.writer.write_block(&block.into_block())?;
        Ok(())
    }

    /// Ends the recording: hands what is buffered to the system.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<(), WriteError> {
        let mut writer = self.writer.into_inner();
        writer.flush().map_err(|error| WriteError(error.to_string()))
    }
}
