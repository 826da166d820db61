#!/usr/bin/env bash
# Runs every test of the project. Installs nothing; needs only cargo.
#
#   ./test.sh            everything (several minutes)
#   ./test.sh --quick    unit, scenario and process tests, with 3,000 seeds instead of 100,000
#
# Tests that need what this machine lacks say SKIPPED and why.
set -euo pipefail
cd "$(dirname "$0")"

seeds=${HOMA_SEEDS:-100000}
if [ "${1:-}" = "--quick" ]; then seeds=3000; fi

step() { printf '\n== %s\n' "$*"; }

step "Unit, property, scenario and process tests, examples and doctests"
cargo test --workspace --quiet

step "The examples"
for example in hello_blocking hello_async many_calls streaming; do
    cargo run --quiet -p homa-transport --example "$example" > /dev/null
done

step "The virtual network: $seeds seeds"
HOMA_SEEDS=$seeds cargo test --release --quiet -p homa-io --test seeds -- --nocapture

step "Who drives: every interleaving of the seat protocol (loom)"
RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
    cargo test --release --quiet -p homa-transport --no-default-features --lib

printf '\nAll tests passed.\n'
