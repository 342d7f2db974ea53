#!/usr/bin/env bash
# Builds the C and C++ examples the way a user does, with their Makefiles and pkg-config against an installed copy, and
# runs every example in a scratch directory. Each must exit 0 twice. Those in C and C++ are killed with SIGKILL in
# between, and must end with the same weights, to the bit, as a run that nobody killed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

scripts/install-dependencies.sh build python demo
[ -f build/libraystorage.so ] || scripts/build-library.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts/install.sh "$work/prefix"
export RAYSTORAGE_STAGING_DIR=$work/staging RAYSTORAGE_STORAGE_PATH=$work/storage HOME=$work
# `-k` in somebody's MAKEFLAGS is not ours.
unset MAKEFLAGS MFLAGS MAKELEVEL

passed=0
failed=0
# Runs a command in an empty directory of its own and counts what became of it.
try() {
    local name=$1 log=$work/$1.log
    shift
    mkdir -p "$work/run/$name"
    if (cd "$work/run/$name" && "$@") >"$log" 2>&1; then
        passed=$((passed + 1))
        say "ok: $name"
    else
        failed=$((failed + 1))
        say "FAILED: $name"
        tail -n 30 "$log" >&2
    fi
}

twice() { "$@" && "$@"; }

# A trainer that is killed goes on where it was, and ends where one that nobody killed does.
killed() {
    local binary=$1 pid tries status=0
    "$binary" "$work/reference" 12 | tee reference.txt
    "$binary" "$work/storage" 12 100 >first.txt &
    pid=$!
    for ((tries = 0; tries < 600; tries++)); do
        if grep -q '^epoch  *5 ' first.txt; then break; fi
        sleep 0.05
    done
    kill -KILL "$pid"
    wait "$pid" || status=$?
    cat first.txt
    [ "$status" = 137 ] || { echo "it had ended with status $status before it was killed"; return 1; }
    "$binary" "$work/storage" 12 | tee second.txt
    grep '^resumed from .* at epoch [5-9]$' second.txt || { echo "it did not resume"; return 1; }
    diff <(grep '^weights' reference.txt) <(grep '^weights' second.txt) || { echo "other weights"; return 1; }
    "$binary" "$work/storage" 12 # there is nothing left to do, and that is no error
    local left=(*)
    [ "${left[*]}" = "first.txt reference.txt second.txt" ] || { echo "left behind: ${left[*]}"; return 1; }
}

for language in c cpp; do
    build=$work/build-$language
    cp -r "examples/$language" "$build"
    make -s -C "$build" clean train PREFIX="$work/prefix"
    try "example-$language" killed "$build/train"
done
# In this order: one reads what another has written.
for name in minimal read_results wait_for_commit; do
    try "python-$name" twice env PYTHONPATH="$ROOT/python" RAYSTORAGE_LIBRARY="$ROOT/build/libraystorage.so" \
        "$ROOT/.venv/bin/python" "$ROOT/examples/python/$name.py" "$work/storage"
done
try "python-digits" twice env PYTHONPATH="$ROOT/python" RAYSTORAGE_LIBRARY="$ROOT/build/libraystorage.so" \
    "$ROOT/.venv/bin/python" "$ROOT/examples/digits/train.py" --storage "$work/storage" --epochs 2 --work .
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" = 6 ]
