#!/bin/bash
set -euo pipefail

cargo-bundle-licenses --format yaml --output THIRDPARTY.yml
cargo install --locked --features hub --no-track --path . --root "$PREFIX" --profile dist

# The build machine runs what it builds, but for osx-arm64 on x86_64.
if [ "${CONDA_BUILD_CROSS_COMPILATION:-0}" != 1 ]; then
    mkdir -p "$PREFIX/share/man/man1" "$PREFIX/share/bash-completion/completions" \
        "$PREFIX/share/zsh/site-functions" "$PREFIX/share/fish/vendor_completions.d"
    crocuta="$PREFIX/bin/crocuta"
    "$crocuta" completions --man "$PREFIX/share/man/man1"
    "$crocuta" completions bash > "$PREFIX/share/bash-completion/completions/crocuta"
    "$crocuta" completions zsh > "$PREFIX/share/zsh/site-functions/_crocuta"
    "$crocuta" completions fish > "$PREFIX/share/fish/vendor_completions.d/crocuta.fish"
fi
