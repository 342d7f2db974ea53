#!/usr/bin/env bash
# Builds the C and C++ examples the way a user does, with pkg-config against an installed copy, and runs every example
# into a scratch directory: each must exit 0 twice (the second time it resumes).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

scripts/install-dependencies.sh build python demo
[ -f build/libraystorage.so ] || scripts/build-library.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts/install.sh "$work/prefix"
export PKG_CONFIG_PATH=$work/prefix/lib/pkgconfig LD_LIBRARY_PATH=$work/prefix/lib
read -ra flags <<<"$(pkg-config --cflags --libs raystorage)"
warnings=(-O2 -Wall -Wextra -pedantic -Werror)
export RAYSTORAGE_STAGING_DIR=$work/staging RAYSTORAGE_STORAGE_PATH=$work/storage HOME=$work

passed=0
failed=0
# Runs a command twice, in an empty directory of its own.
try() {
    local name=$1
    shift
    mkdir -p "$work/run/$name"
    if (cd "$work/run/$name" && "$@" >log 2>&1 && "$@" >>log 2>&1); then
        passed=$((passed + 1))
        say "ok: $name"
    else
        failed=$((failed + 1))
        say "FAILED: $name"
        tail -n 30 "$work/run/$name/log" >&2
    fi
}

shopt -s nullglob
for source in examples/c/*.c; do
    name=$(basename "$source" .c)
    gcc -std=c99 "${warnings[@]}" "$source" -o "$work/$name-c" "${flags[@]}" -lm
    try "c-$name" "$work/$name-c" "$work/storage"
done
for source in examples/cpp/*.cpp; do
    name=$(basename "$source" .cpp)
    g++ -std=c++17 "${warnings[@]}" "$source" -o "$work/$name-cpp" "${flags[@]}"
    try "cpp-$name" "$work/$name-cpp" "$work/storage"
done
for source in examples/*.py examples/python/*.py; do
    try "py-$(basename "$source" .py)" env PYTHONPATH="$ROOT/python" RAYSTORAGE_LIBRARY="$ROOT/build/libraystorage.so" \
        "$ROOT/.venv/bin/python" "$ROOT/$source" "$work/storage"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
