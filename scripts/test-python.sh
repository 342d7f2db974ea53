#!/usr/bin/env bash
# Runs the Python tests against build/libraystorage.so, with the fault harness built first.
#
#   scripts/test-python.sh [--long] [pytest arguments]
#
# Without --long the tests marked `long` are left out and the fault matrices run as samples, in several processes: most tests
# wait for servers, disks and machines. The matrices in full run one after the other and print what they found.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

workers=$(nproc)
workers=$((workers < 2 ? 2 : workers > 4 ? 4 : workers))
selection=(-m "not long" -n "$workers" --dist loadfile)
if [ "${1:-}" = --long ]; then
    shift
    selection=()
    export RAYSTORAGE_TEST_LONG=1
fi
if [ -f Tests/faults/Makefile ]; then make -s -C Tests/faults; fi
export RAYSTORAGE_LIBRARY=$BUILD/libraystorage.so
export PYTHONPATH=$ROOT/python${PYTHONPATH:+:$PYTHONPATH}
cd python
exec "$ROOT/.venv/bin/python" -m pytest -q "${selection[@]}" "$@"
