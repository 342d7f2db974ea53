#!/usr/bin/env bash
# Runs the Swift tests; the contract of object stores runs against real servers too, which this starts and stops.
#
#   [SERVERS=a,b] scripts/test-swift.sh [swift test arguments]
#
# SERVERS: names of Tests/servers; all that hold S3's contract, and those for a smoke test, if left out.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

servers=${SERVERS:-seaweedfs,seaweedfs-tls,ceph,rclone,moto,faulty,faulty-tls}
swift build --build-tests
PYTHONPATH=$ROOT/Tests exec "$ROOT/.venv/bin/python" -m servers run "$servers" -- swift test --skip-build \
    --experimental-maximum-parallelization-width 8 "$@"
