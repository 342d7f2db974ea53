"""Mounts fusefs, a stand-in for NFS, and takes it away again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from judge import FAULTS, KILLPOINT

FUSEFS = FAULTS / "fusefs"


class MountUnavailableError(Exception):
    """No FUSE here; the text says why."""


@contextlib.contextmanager
def mounted(backing: Path, mountpoint: Path, faults: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Serves `backing` at `mountpoint`; `faults` are killpoint rules that hit the server's calls on `backing`."""
    if not FUSEFS.exists():
        raise MountUnavailableError("fusefs is not built: libfuse3-dev is missing")
    if not Path("/dev/fuse").exists():
        raise MountUnavailableError("/dev/fuse is missing")
    backing.mkdir(parents=True, exist_ok=True)
    mountpoint.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if faults:
        environment |= {
            "LD_PRELOAD": str(KILLPOINT),
            "RAYSTORAGE_FAULTS": faults,
            "RAYSTORAGE_FAULT_ROOT": str(backing),
        }
    server = subprocess.Popen([FUSEFS, backing, mountpoint], env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 20
        while not os.path.ismount(mountpoint):
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                assert server.stderr is not None
                raise MountUnavailableError(server.stderr.read().decode(errors="replace").strip() or "cannot mount")
            time.sleep(0.01)
        yield server
    finally:
        subprocess.run(["fusermount3", "-u", "-z", mountpoint], capture_output=True, check=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        server.wait()
