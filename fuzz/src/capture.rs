//! Recordings: read to their end or an error in bounded memory, explained, written and read again.

use homa_capture::{
    Analysis, CaptureReader, CaptureWriter, Decoder, FileError, LinkType, PacketRecord, Recorded,
    RpcRecord, TotalsRecord, packet_line, rpc_text, totals_text,
};

use crate::input::Input;

const LINKS: [LinkType; 5] = [
    LinkType::Ethernet,
    LinkType::LinuxCooked,
    LinkType::LinuxCookedV2,
    LinkType::RawIp,
    LinkType::Loopback,
];
/// RPCs followed at a time: few, so that some are pushed out.
const RPCS_MAX: usize = 16;

/// Reads the input as a file; one that is no recording is taken for frames.
pub fn run(bytes: &[u8]) {
    let mut analysis = Analysis::new(Decoder::new(&[4000]), RPCS_MAX);
    match read(bytes, &mut analysis) {
        Err(FileError::NotARecording(_)) => frames(&mut Input::new(bytes), &mut analysis),
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(()) => {}
    }
    finish(&analysis);
}

fn read(bytes: &[u8], analysis: &mut Analysis) -> Result<(), FileError> {
    let mut reader = CaptureReader::new(bytes)?;
    let mut first = None;
    while let Some(recorded) = reader.next_frame() {
        let recorded = recorded?;
        assert!(recorded.data.len() <= bytes.len());
        explain(analysis, &recorded);
        first.get_or_insert((recorded.time_ns, recorded.link, recorded.data.to_vec()));
        if analysis.totals().frames > 2_000 {
            break;
        }
    }
    assert!(reader.read_bytes() <= bytes.len() as u64);
    if let Some((time_ns, link, data)) = first {
        write_and_read(&Recorded { time_ns, link, original_bytes: data.len() as u32, data: &data });
    }
    Ok(())
}

fn frames(input: &mut Input<'_>, analysis: &mut Analysis) {
    while !input.is_over() {
        let link = input.choose(&LINKS);
        let cut = input.rarely(4);
        let time_ns = input.magnitude(40);
        let length = usize::from(input.byte());
        let data = input.bytes(length);
        let original_bytes = if cut { input.u32() } else { data.len() as u32 };
        explain(analysis, &Recorded { time_ns, link, original_bytes, data });
    }
}

/// Explains a frame in every way there is.
fn explain(analysis: &mut Analysis, recorded: &Recorded<'_>) {
    analysis.frame(recorded, |observation| {
        assert!(packet_line(observation, 0).ends_with('\n'));
        serde_json::to_vec(&PacketRecord::new(observation)).expect("it can be written");
    });
}

fn finish(analysis: &Analysis) {
    let (totals, follow) = (analysis.totals(), analysis.follow());
    assert!(follow.rpcs().count() <= RPCS_MAX);
    for rpc in follow.rpcs() {
        assert!(!rpc_text(rpc, 0).is_empty());
        serde_json::to_vec(&RpcRecord::new(rpc)).expect("it can be written");
    }
    assert!(!totals_text(totals, follow).is_empty());
    serde_json::to_vec(&TotalsRecord::new(totals, follow)).expect("it can be written");
}

fn write_and_read(recorded: &Recorded<'_>) {
    let mut file = Vec::new();
    let mut writer = CaptureWriter::new(&mut file, recorded.link, "fuzz").expect("memory");
    let fits = writer.write(recorded).is_ok();
    writer.finish().expect("memory");
    let mut reader = CaptureReader::new(&*file).expect("it was written as a recording");
    if fits {
        assert_eq!(reader.next_frame().expect("a frame").expect("a whole one"), *recorded);
    }
    assert!(reader.next_frame().is_none());
}
