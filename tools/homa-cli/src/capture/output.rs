//! Explained packets on standard output, as text or as one JSON document, written as they come.

use std::io::{self, BufWriter, Stdout, Write};

use homa_capture::{
    Analysis, Observation, PacketRecord, Recorded, Rpc, RpcId, RpcRecord, TotalsRecord,
    packet_line, rpc_text, totals_text,
};
use serde::Serialize;

use crate::error::CliError;

/// What is shown, and how.
pub(super) struct Output {
    writer: BufWriter<Stdout>,
    json: bool,
    /// Only packets of RPCs with this id, in the client's form.
    id: Option<u64>,
    start_ns: Option<u64>,
    packets: u64,
    /// The first failure to write; nothing is written after it.
    failed: Option<io::Error>,
}

impl Output {
    pub(super) fn new(json: bool, id: Option<u64>) -> Self {
        let writer = BufWriter::with_capacity(1 << 16, io::stdout());
        let mut output = Self {
            writer,
            json,
            id: id.map(|id| RpcId(id).of_client().0),
            start_ns: None,
            packets: 0,
            failed: None,
        };
        if json {
            output.write("{\"packets\":[");
        }
        output
    }

    /// Explains a frame and shows the packets in it that are wanted. Says how many Homa packets it
    /// held.
    pub(super) fn frame(&mut self, analysis: &mut Analysis, recorded: &Recorded<'_>) -> u64 {
        self.start_ns.get_or_insert(recorded.time_ns);
        let mut found = 0;
        analysis.frame(recorded, |observation| {
            found += 1;
            self.observation(observation);
        });
        found
    }

    fn observation(&mut self, observation: &Observation<'_>) {
        if let Some(id) = self.id {
            if observation.key().is_none_or(|key| key.id != id) {
                return;
            }
        }
        if self.json {
            self.element(&PacketRecord::new(observation), self.packets == 0);
        } else {
            let line = packet_line(observation, self.start_ns.unwrap_or_default());
            self.write(&line);
        }
        self.packets += 1;
    }

    /// Shows the summary of the RPCs and the totals.
    pub(super) fn finish(&mut self, analysis: &Analysis) -> Result<(), CliError> {
        let id = self.id;
        let wanted = |rpc: &&Rpc| id.is_none_or(|id| rpc.key.id == id);
        let rpcs = analysis.follow().rpcs().filter(wanted);
        if self.json {
            self.write("\n],\"rpcs\":[");
            for (index, rpc) in rpcs.enumerate() {
                self.element(&RpcRecord::new(rpc), index == 0);
            }
            self.write("\n],\"totals\":");
            let totals = TotalsRecord::new(analysis.totals(), analysis.follow());
            self.element(&totals, true);
            self.write("}\n");
        } else {
            self.write("\n");
            for rpc in rpcs {
                let text = rpc_text(rpc, self.start_ns.unwrap_or_default());
                self.write(&text);
            }
            let text = totals_text(analysis.totals(), analysis.follow());
            self.write("\n");
            self.write(&text);
        }
        self.flush();
        match self.failed.take() {
            // The reader has seen enough.
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Some(error) => Err(CliError::io("standard output", &error)),
            None => Ok(()),
        }
    }

    /// Whether nobody reads the output any more, or it cannot be written.
    pub(super) fn is_over(&self) -> bool {
        self.failed.is_some()
    }

    /// Hands what was written to its reader.
    pub(super) fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.writer.flush().err();
        }
    }

    fn element(&mut self, value: &impl Serialize, is_first: bool) {
        let separator = if is_first { "\n" } else { ",\n" };
        self.write(separator);
        if self.failed.is_none() {
            self.failed = serde_json::to_writer(&mut self.writer, value).err().map(io::Error::from);
        }
    }

    fn write(&mut self, text: &str) {
        if self.failed.is_none() {
            self.failed = self.writer.write_all(text.as_bytes()).err();
        }
    }
}
