//! Recordings of two hosts, one of which is replaced by an engine.

pub(crate) mod checks;
pub(crate) mod frames;
pub(crate) mod player;
pub(crate) mod story;

use std::path::{Path, PathBuf};

/// The recordings that come with the project, and those in the directory that `HOMA_CAPTURES`
/// names.
pub(crate) fn recordings() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures");
    let more = std::env::var_os("HOMA_CAPTURES").map(PathBuf::from);
    let mut paths: Vec<PathBuf> = [Some(own), more]
        .into_iter()
        .flatten()
        .flat_map(|directory| {
            let entries =
                directory.read_dir().unwrap_or_else(|error| panic!("{directory:?}: {error}"));
            entries.map(|entry| entry.expect("the directory can be listed").path())
        })
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "pcap" || extension == "pcapng")
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are recordings");
    paths
}
