"""Ceph RGW 16, an S3-compatible store of the older kind: one monitor, one OSD in memory and the gateway."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from servers.daemon import Daemon, free_ports, program, responds, run
from servers.endpoint import Endpoint

ACCESS_KEY = "CEPHTESTACCESSKEY"
SECRET_KEY = "ceph/test+secret"
QUIRKS = ("no-crc32c", "no-if-none-match-on-complete", "no-multipart-etag")

_CONFIGURATION = """\
[global]
fsid = {fsid}
keyring = {directory}/keyring
mon host = v2:127.0.0.1:{monitor}/0
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
run dir = {directory}
admin socket = {directory}/$cluster-$name.asok
log file = {directory}/$name.ceph.log
pid file =
crash dir = {directory}
osd objectstore = memstore
memstore device bytes = 8589934592
osd data = {directory}/osd
mon data = {directory}/mon
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd max object size = 1073741824
mon allow pool size one = true
mon allow pool delete = true
mon max pg per osd = 1000
mon warn on pool no redundancy = false
osd heartbeat grace = 600
rgw data = {directory}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw thread pool size = 64
rgw enable usage log = false
rgw enable ops log = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw run sync thread = false
rgw dynamic resharding = false
rgw crypt require ssl = false
"""


@contextmanager
def ceph(directory: Path) -> Iterator[Endpoint]:
    """A cluster of its own below `directory`."""
    package = "apt ceph-mon ceph-osd radosgw"
    monitor, gateway = free_ports(2)
    fsid = str(uuid.uuid4())
    for name in ("mon", "osd", "rgw"):
        (directory / name).mkdir(parents=True)
    configuration = directory / "ceph.conf"
    configuration.write_text(
        _CONFIGURATION.format(fsid=fsid, monitor=monitor, gateway=gateway, directory=directory), encoding="utf-8"
    )

    def command(tool: str, *arguments: str) -> list[str]:
        return [program(tool, package), "-c", str(configuration), *arguments]

    with ExitStack() as stack:

        def start(tool: str, *arguments: str) -> Daemon:
            daemon = Daemon(tool, command(tool, "-f", *arguments), directory)
            stack.callback(daemon.stop)
            return daemon

        keyring = str(directory / "keyring")
        everything = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"]
        for number, name in enumerate(("mon.", "client.admin", "osd.0")):
            create = () if number else ("--create-keyring",)
            run([program("ceph-authtool", package), *create, keyring, "--gen-key", "-n", name, *everything], directory)
        monitors = str(directory / "monmap")
        run(
            [
                program("monmaptool", package), "--create", "--fsid", fsid,
                "--addv", "a", f"v2:127.0.0.1:{monitor}/0", monitors,
            ],
            directory,
        )  # fmt: skip
        run(command("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--keyring", keyring), directory)
        start("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        # Waits until the monitor is its own quorum.
        run(command("ceph", "--connect-timeout", "30", "osd", "new", osd), directory)
        run(command("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd), directory)
        start("ceph-osd", "-i", "0")
        rgw = start("radosgw", "-n", "client.admin")
        run(
            command(
                "radosgw-admin", "-n", "client.admin", "user", "create", "--uid", "tests", "--display-name", "tests",
                "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY,
            ),
            directory,
        )  # fmt: skip
        rgw.wait_for(lambda: responds(f"http://127.0.0.1:{gateway}/"))
        endpoint = Endpoint("ceph", f"http://127.0.0.1:{gateway}", ACCESS_KEY, SECRET_KEY, "none", quirks=QUIRKS)
        yield endpoint.with_bucket()
