#!/bin/sh
# Makes docs/side-by-side: what the terminal says and what the page shows of a run that resolves its differences and of one
# that does not. Needs a machine with nothing else to do, chromium, and pngquant for small files.
#
#   rm -rf target/side-by-side; tools/side-by-side.sh          some four minutes; results that are there are drawn again
set -eu
cd "$(dirname "$0")/.."

docs=docs/side-by-side
results=${RESULTS:-target/side-by-side}

if [ -z "${HOMA:-}" ]; then
    cargo build --release --quiet -p homa-cli
    HOMA=target/release/homa
fi

# The first part of the README's command.
resolved() {
    "$HOMA" bench --workload w4 --out "$results/resolved"
}

# Long messages of one size, all to one host: there both are a queue, first in, first out.
unresolved() {
    "$HOMA" bench plan plans/incast.toml --out "$results/incast"
    mv "$results/incast/500-kB" "$results/unresolved"
}

# The top of the page, as wide as people have it.
picture() {
    profile=$(mktemp -d)
    chromium --headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync \
        --hide-scrollbars --virtual-time-budget=3000 --user-data-dir="$profile" --window-size=1000,1250 \
        --screenshot="$PWD/$docs/$1.png" "file://$PWD/$results/$1/report.html" 2>/dev/null
    rm -rf "$profile"
    if command -v pngquant >/dev/null; then
        pngquant --force --ext .png "$docs/$1.png"
    fi
}

mkdir -p "$docs"
for run in resolved unresolved; do
    # A run that is not wholly measured says so itself.
    [ -e "$results/$run/run.json" ] || "$run" >/dev/null || true
    "$HOMA" report "$results/$run" --text >"$docs/$run.txt"
    "$HOMA" report "$results/$run" >/dev/null
    picture "$run"
done
ls -l "$docs"
