//! Every input of the corpus, which holds one for each fault that was found, without libFuzzer.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[test]
fn every_input_of_the_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut failed = Vec::new();
    for (name, target) in homa_fuzz::TARGETS {
        let directory = corpus.join(name);
        let entries = directory.read_dir().expect("every target has a corpus");
        let mut count = 0;
        for entry in entries {
            let path = entry.expect("it can be listed").path();
            let input = fs::read(&path).expect("it can be read");
            if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                failed.push(format!("tools/fuzz --replay {name} {}", path.display()));
            }
            count += 1;
        }
        println!("{name}: {count} inputs");
        assert!(count > 0, "{name} has no corpus");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn no_input_is_an_input() {
    for (_, target) in homa_fuzz::TARGETS {
        target(&[]);
    }
}
