#!/bin/bash
# Runs every fuzz target of the tree for some minutes each. Usage: fuzz.sh MINUTES
#
# With the instrumentation that the stable compiler has already, so that no other toolchain is needed.
set -euo pipefail
minutes=${1:-1}
top=$(cd "$(dirname "$0")/../.." && pwd)
failed=0
found=0
for manifest in "$top"/*/fuzz/Cargo.toml "$top"/*/*/fuzz/Cargo.toml; do
  [ -e "$manifest" ] || continue
  dir=$(dirname "$manifest")
  for source in "$dir"/fuzz_targets/*.rs; do
    [ -e "$source" ] || continue
    found=1
    target=$(basename "$source" .rs)
    echo "fuzz: ${dir#"$top"/} $target for $minutes min"
    mkdir -p "$dir/corpus/$target"
    host=$(rustc -vV | sed -n 's/^host: //p')
    flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
    flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
    flags="$flags --cfg fuzzing -Cdebug-assertions=yes -Clink-dead-code"
    (cd "$dir" && RUSTFLAGS="$flags" CARGO_TARGET_DIR="$top/target/fuzz" cargo build --release --target "$host" --bin "$target")
    (cd "$dir" && "$top/target/fuzz/$host/release/$target" -max_total_time=$((minutes * 60)) -print_final_stats=1 -artifact_prefix="$dir/" "corpus/$target") || failed=1
  done
done
[ $found = 1 ] || echo "fuzz: there are no targets"
exit $failed
