"""All servers by name."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from servers.ceph import ceph
from servers.daemon import ServerError
from servers.endpoint import Endpoint
from servers.faulty import FaultyS3
from servers.faulty.control import Control
from servers.lenient import moto, rclone
from servers.seaweedfs import seaweedfs


@contextmanager
def faulty(_: Path, *, tls: bool = False) -> Iterator[Endpoint]:
    """Our own in this process, with its control endpoint."""
    with FaultyS3(tls=tls) as server, closing(Control(server)) as control:
        yield replace(server.endpoint, name="faulty-tls" if tls else "faulty", control=control.url)


_SERVERS: dict[str, Callable[[Path], AbstractContextManager[Endpoint]]] = {
    "seaweedfs": seaweedfs,
    "seaweedfs-tls": partial(seaweedfs, tls=True),
    "ceph": ceph,
    "rclone": rclone,
    "moto": moto,
    "faulty": faulty,
    "faulty-tls": partial(faulty, tls=True),
}
NAMES = tuple(_SERVERS)

_ATTEMPTS = 3


@contextmanager
def start(name: str) -> Iterator[Endpoint]:
    """Starts a server, yields its endpoint with an empty bucket, and stops it. What it kept is removed."""
    if name not in _SERVERS:
        raise ServerError(f"no such server: {name} (there are {', '.join(NAMES)})")
    # A short path: Ceph's sockets must fit into 108 bytes.
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            server = _SERVERS[name](directory / str(attempt))
            try:
                endpoint = server.__enter__()
            except ServerError:
                # Somebody else may have taken a port in between.
                if attempt == _ATTEMPTS:
                    raise
                continue
            try:
                yield endpoint
            finally:
                server.__exit__(None, None, None)
            return
    finally:
        shutil.rmtree(directory, ignore_errors=True)
