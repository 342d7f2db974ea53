"""Servers for the tests: real S3 stores, one of our own that is stricter than S3 and fails on command, and a sink.

    PYTHONPATH=Tests python -m servers run seaweedfs,ceph -- swift test --filter S3

starts servers on ports that the kernel chooses, waits until they answer, runs the command with `RAYSTORAGE_TEST_S3` set
(a JSON list of endpoints: see `servers.endpoint`) and stops them. In Python: `with servers.start("ceph") as endpoint:`;
for pytest the fixtures of `servers.fixtures`.
"""

from __future__ import annotations

from servers.catalogue import NAMES, start
from servers.endpoint import Endpoint

__all__ = ["NAMES", "Endpoint", "start"]
