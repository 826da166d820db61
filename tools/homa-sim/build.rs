//! Tells the crate which sources it and the engine are built from: results of other sources are
//! other results.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// What a run depends on. In a package only the first is there; versions tell the others.
const SOURCES: [&str; 3] = ["src", "../../crates/homa-core/src", "../../crates/homa-wire/src"];

/// Bytes of the digest that are told.
const SHOWN: usize = 8;

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let mut digest = Sha256::new();
    for root in SOURCES.iter().map(Path::new).filter(|root| root.exists()) {
        println!("cargo:rerun-if-changed={}", root.display());
        let mut files = Vec::new();
        list(root, &mut files)?;
        files.sort();
        for file in files {
            digest.update(file.to_string_lossy().as_bytes());
            digest.update(fs::read(&file)?);
        }
    }
    let digest: String =
        digest.finalize().iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    println!("cargo:rustc-env=HOMA_SIM_SOURCES={digest}");
    Ok(())
}

/// The files below a directory.
fn list(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => list(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
