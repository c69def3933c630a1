#!/bin/bash
# Adds rustfmt and clippy to the Rust toolchain where they are missing.
set -euo pipefail
for component in fmt clippy; do
  cargo $component --version >/dev/null 2>&1 && continue
  name=${component/#fmt/rustfmt}
  command -v rustup >/dev/null || { echo "this toolchain has no $name and there is no rustup to add it" >&2; exit 1; }
  rustup component add "$name"
done
