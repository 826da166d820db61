#!/usr/bin/env bash
# Runs every test of the project. Installs nothing; needs only cargo and a C linker.
#
#   ./test.sh            everything: about 17 minutes on 2 cores, 5 of them the first build
#   ./test.sh --quick    unit, scenario and process tests, with 3,000 seeds instead of 100,000 and without loom: about 9 minutes
#   ./test.sh --real     the tests that a busy machine can disturb: those of sockets, threads and processes
#
# All steps run even if one fails; the summary at the end names what failed. Tests that need what this machine lacks
# say SKIPPED and why. The whole output is kept in target/test.log.
set -uo pipefail
[ "${1:-}" = --if-real ] || cd "$(dirname "$0")"

seeds=${HOMA_SEEDS:-100000}
quick= real= runner=()
case "${1:-}" in
    "") ;;
    --quick) quick=yes seeds=${HOMA_SEEDS:-3000} ;;
    --real) real=yes runner=(--config "target.'cfg(unix)'.runner = ['$PWD/test.sh', '--if-real']") ;;
    # Runs a test program, in the directory of its crate. Tests on virtual time, or on none, do the same whenever they run.
    --if-real)
        case $(basename "$PWD") in homa-wire | homa-core | homa-virtual | homa-sim | homa-model | homa-docs) exit 0 ;; esac
        exec "${@:2}"
        ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

log=${CARGO_TARGET_DIR:-target}/test.log
mkdir -p "$(dirname "$log")" && : > "$log" || exit 1
failed=()

# Shows a line per test program, every failure and what was skipped; counts what is compiled.
digest() {
    local line compiled=0 crate= program= skipped=
    while IFS= read -r line; do
        case $line in
            *" Compiling "*) [ $((++compiled % 20)) -ne 0 ] || echo "   compiled $compiled crates ..." ;;
            " "*" Running unittests "*) program=${line##*/deps/} program=${program%-*} crate=$program ;;
            " "*" Running "*"("*/deps/*) program=${line##*/deps/} program="${crate:+$crate }${program%-*}" ;;
            " "*" Doc-tests "*) program="${line##* } (documentation)" ;;
            "test result: "*" 0 passed; 0 failed; 0 ignored;"*) ;;
            "test result: "*) line=${line#test result: } && echo "   $program: ${line%; 0 measured*}, ${line##*finished in }" ;;
            "WHY: "* | "FLAKY "*) echo "   $line" ;;
            SKIPPED*) [ "$line" = "$skipped" ] || echo "   $line" && skipped=$line ;;
            "test "*" FAILED" | error* | *" worlds: {"*) echo "   $line" ;;
        esac
    done
}

# Runs a step, keeps all it prints in the log and shows its digest.
step() {
    local name=$1 began=$SECONDS
    shift
    printf '\n== %s (%s)\n' "$name" "$(date +%T)"
    if "$@" 2>&1 | tee -a "$log" | digest; then
        echo "   done in $((SECONDS - began)) s"
    else
        echo "   FAILED after $((SECONDS - began)) s"
        failed+=("$name")
    fi
}

# The tests before have built them.
examples() {
    local example
    for example in hello_blocking hello_async many_calls kv worker_pool transfer proxy overload; do
        "${CARGO_TARGET_DIR:-target}/debug/examples/$example" > /dev/null || { echo "error: example $example" && return 1; }
    done
}
loom() {
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/loom \
        cargo test --release -p homa-transport --no-default-features --lib
}

# Runs the tests. A program of which one fails runs once more, one test at a time: a machine that stalls can spoil what
# real processes do, while virtual time fails twice. What passes only then is shown as flaky.
tests() {
    local again=()
    cargo ${runner[@]+"${runner[@]}"} test --workspace --no-fail-fast -- --show-output && return
    sleep 1 # The log may be a moment behind.
    mapfile -t again < <(sed -n 's/^    `\(-p [^ ]* --.*\)`$/\1/p' "$log" | sort -u)
    [ ${#again[@]} -gt 0 ] && [ ${#again[@]} -le 3 ] || return 1
    why
    echo "FLAKY unless it fails again: ${again[*]}"
    # Each of them is an option and a name; without the package nothing is built again.
    cargo ${runner[@]+"${runner[@]}"} test --workspace --no-fail-fast $(printf '%s\n' "${again[@]#-p * }" | sort -u) -- --test-threads 1
}

# Why tests failed: the first lines of each panic.
why() {
    awk '/^failures:$/ { on = !on } on && /panicked at/ { left = 4 } left-- > 0 { print "WHY: " substr($0, 1, 1000) }' "$log"
}

step "Unit, property, scenario and process tests, examples in the documentation" tests
step "The examples" examples
[ -n "$real" ] || step "The engine's scenarios with all RPCs in their general form" \
    env HOMA_SHORT_FORM=0 cargo test -p homa-core --test it
[ -n "$real" ] || step "The virtual network: $seeds seeds" \
    env HOMA_SEEDS="$seeds" cargo test --release -p homa-virtual --test seeds -- --nocapture
[ -n "$real" ] || step "Users of endpoints in virtual time: $((seeds / 10)) seeds" \
    env HOMA_SEEDS="$((seeds / 10))" cargo test --release -p homa-transport --features check --test seeds -- --nocapture
[ -n "$real" ] || step "The simulated data center: short messages of three workloads beside the published figures" \
    cargo test --release -p homa-sim --test sigcomm18 --test transports -- --include-ignored
[ -n "$quick$real" ] || step "Who drives: interleavings of the seat protocol (loom)" loom

count() { awk -v field="$1" '/^test result:/ { sum += $field } END { print sum + 0 }' "$log"; }
printf '\n%d passed, %d failed, %d skipped\n' "$(count 4)" "$(count 6)" "$(grep -c 'SKIPPED' "$log")"
printf 'It took %d min %02d s; the whole output is in %s.\n' $((SECONDS / 60)) $((SECONDS % 60)) "$log"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    grep -E '^test .* FAILED$' "$log" | sort -u
    why
    exit 1
fi
echo "All tests passed."
