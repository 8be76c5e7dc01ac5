#!/bin/bash
set -euo pipefail

cargo-bundle-licenses --format yaml --output THIRDPARTY.yml
cargo install --locked --features hub --no-track --path . --root "$PREFIX" --profile dist

# The build machine runs what it builds, but for osx-arm64 on x86_64.
if [ "${CONDA_BUILD_CROSS_COMPILATION:-0}" != 1 ]; then
    "$PREFIX/bin/crocuta" completions --share "$PREFIX/share"
fi
