#!/usr/bin/env bash
# `make demo`: trains a real model on real data, kills it, resumes it, and shows that nothing was lost.
#
#   [SEED=n] scripts/demo.sh [STORAGE]      STORAGE: where runs lie, default ~/ray_results; s3://… too
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

export PYTHONPATH=$ROOT/python RAYSTORAGE_LIBRARY=$BUILD/libraystorage.so
[ -f "$RAYSTORAGE_LIBRARY" ] || fail "build/libraystorage.so is missing: make lib"
exec "$ROOT/.venv/bin/python" examples/digits/demo.py "${1:-$HOME/ray_results}" ${SEED:+--seed "$SEED"}
