"""Uploads to and downloads from an S3 sink on the loopback, beside the field's clients: seconds, CPU, memory."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from harness import MIB, Case, Goal, Group, Scratch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Tests"))

from servers.endpoint import Endpoint
from servers.nginx import sink

OURS = "raystorage, CRC-32C of every block"
FLOOR = "curl"
CLIENTS = {
    "raystorage": OURS,
    "ray": "Ray Train's `pyarrow.fs.copy_files`",
    "awscrt": "awscrt's S3Client",
    "obstore": "obstore",
    "opendal": "opendal",
    "minio": "minio-py",
    "s5cmd": "s5cmd",
    "boto3": "boto3",
    FLOOR: "eight `curl`, no S3, nothing checked",
}
WORKLOADS = {"w1": (1, 1024 * MIB), "w2": (8, 128 * MIB), "w3": (2000, 16 * 1024)}
TITLES = {"w1": "one file of 1 GiB", "w2": "8 files of 128 MiB", "w3": "2,000 files of 16 KiB"}
NOTE = (
    "each measurement is a process of its own, against nginx on the same cores, which keeps nothing; "
    "awscrt, opendal send no checksum, boto3 CRC-32, Ray Train CRC-64, obstore and minio-py hash SHA-256. "
    "Over http ours is told `payload_signing=never`, which is what awscrt does: the default there hashes the body "
    "as well, half a second of CPU per GiB. Eight `curl`, each with its share of the files, tell how fast the machine "
    "is at the time: up they took 0.46 s of CPU per GiB where the goals were set"
)


def groups(scratch: Scratch, scale: float, *, tls: bool = False) -> list[Group]:
    """Every workload up and down, over http or https."""
    files = {}
    for name, (count, size) in WORKLOADS.items():
        small = name == "w3"
        files[name] = scratch.files(
            f"s3/{name}", int(count * scale) if small else count, size if small else int(size * scale)
        )
    bench = Bench(scratch, tls=tls)
    found = []
    for name in WORKLOADS if not tls else ("w2",):
        found += [bench.group(name, way, files[name], scale) for way in ("up", "down")]
    return found


class Bench:
    """One sink for all groups; it starts with the first measurement and ends with the process."""

    def __init__(self, scratch: Scratch, *, tls: bool) -> None:
        self._scratch = scratch
        self._tls = tls
        self._endpoint: Endpoint | None = None
        self._kind = "tls" if tls else "plain"
        self._turn = 0
        # Prefixes of what has been put there to be downloaded, by workload and client.
        self._there: dict[str, str] = {}
        self._discarded = 0

    @property
    def endpoint(self) -> Endpoint:
        if self._endpoint is None:
            place, files = self._scratch.path / f"sink-{self._kind}", self._scratch.path / "s3"
            self._endpoint = self._scratch.enter(sink(place, files, tls=self._tls))
        return self._endpoint

    def group(self, workload: str, way: str, source: Path, scale: float) -> Group:
        """One workload, one way."""
        gib = 1 if workload != "w3" else WORKLOADS["w3"][0] * 16 / 1024 / 1024
        per_gib = {"up": 0.45, "down": 0.6}[way]
        if workload == "w3":
            count = len(list(source.iterdir()))
            goal = Goal("at most 0.1 ms per file", lambda value, _: value <= 0.0001 * count)
            goal = goal if way == "up" else Goal("no more than the best", lambda _, ratio: (ratio or 0) <= 1)
        else:
            goal = Goal(f"at most {per_gib} s per GiB", lambda value, _: value <= per_gib * gib * scale)
        wall = Goal("at most 0.9 of the best", lambda _, ratio: (ratio or 0) <= (1 if workload == "w3" else 0.9))
        title = f"S3{' over TLS' if self._tls else ''}, {way}, {TITLES[workload]}"
        title += "" if scale == 1 else f" (x {scale:g})"
        cases = [self._case(client, name, workload, way, source) for client, name in CLIENTS.items()]
        memory = Group(f"{title}: peak memory above idle", cases, unit="MiB", reference=Group.BEST)
        memory.goal = Goal("at most 64 MiB", lambda value, _: value <= 64)
        return Group(
            f"{title}: wall",
            cases,
            reference=Group.BEST,
            goal=wall,
            also={
                "CPU": Group(f"{title}: CPU of the client", cases, reference=Group.BEST, goal=goal),
                "memory": memory,
            },
            note=NOTE if (workload, way) == ("w1", "up") else "",
        )

    def _case(self, client: str, name: str, workload: str, way: str, source: Path) -> Case:
        target = self._scratch.path / f"s3-{client}"
        if way == "up" and client == "raystorage":
            # Handed over: the directory is gone afterwards. Copies, for files with several names are copied by us.
            prepare: Callable[[], object] = partial(shutil.copytree, source, target)
        elif way == "up":
            target, prepare = source, _nothing
        else:
            prepare = partial(self._put_there, client, workload, source)
        cleanup = _nothing if target == source else partial(self._discard, target)
        run = partial(self._run, client, workload, way, source, target)
        return Case(name, run, prepare, cleanup, is_floor=client == FLOOR)

    def _run(self, client: str, workload: str, way: str, source: Path, target: Path) -> dict[str, float]:
        if way == "up":
            self._turn += 1
            prefix = f"{workload}-{client}-{self._turn}"
        else:
            prefix = self._there[f"{workload}-{client}"]
        return self._process(client, way, target, prefix, source)

    def _process(self, client: str, way: str, target: Path, prefix: str, source: Path) -> dict[str, float]:
        listed = self._scratch.path / "names"
        listed.write_text(json.dumps(sorted(file.name for file in source.iterdir())))
        command = [sys.executable, str(Path(__file__).parent / "s3_process.py"), client, way, str(target), prefix]
        command.append(json.dumps(dataclasses.asdict(self.endpoint)))
        done = subprocess.run(
            command, env={**os.environ, "BENCH_NAMES": str(listed)}, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{client} {way} {prefix}: {done.stderr[-2000:]}")
        measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        if way == "up":
            stored = sum(size for key, size in self.endpoint.objects(f"{prefix}/").items() if key.endswith(".bin"))
        else:
            stored = sum(file.stat().st_size for file in target.rglob("*.bin"))
        if stored != (expected := sum(file.stat().st_size for file in source.iterdir())):
            raise RuntimeError(f"{client} {way}: {stored} bytes arrived, not {expected}")
        return measured

    def _discard(self, target: Path) -> None:
        """Large files go at once. Small ones go with the scratch directory: for minutes ext4 passes by every inode that
        was freed, which made whoever creates files next three times slower."""
        if not target.exists():
            return
        if sum(file.stat().st_size for file in target.rglob("*.bin")) > 256 * MIB:
            shutil.rmtree(target)
            return
        self._discarded += 1
        target.rename(self._scratch.path / f"discarded-{self._kind}-{self._discarded}")

    def _put_there(self, client: str, workload: str, source: Path) -> None:
        """What is downloaded: objects by name, ours with a manifest; once."""
        name = f"{workload}-{client}"
        if name in self._there:
            return
        if client != "raystorage":
            for file in source.iterdir():
                self._register(f"{name}/{file.name}", file.stat().st_size)
            self._there[name] = name
            return
        target = self._scratch.path / "s3-uploaded"
        shutil.copytree(source, target)
        prefix = f"{workload}-restored"
        self._process(client, "up", target, prefix, source)
        shutil.rmtree(target, ignore_errors=True)
        (manifest,) = [key for key in self.endpoint.objects(f"{prefix}/") if key.endswith("/.raystorage/manifest.json")]
        self._there[name] = manifest.removesuffix("/.raystorage/manifest.json")

    def _register(self, key: str, size: int) -> None:
        """Makes the sink believe that it has an object."""
        import ssl

        headers = {"x-amz-decoded-content-length": str(size)}
        url = f"{self.endpoint.endpoint}/{self.endpoint.bucket}/{key}"
        context = ssl.create_default_context(cafile=self.endpoint.ca_file) if self.endpoint.ca_file else None
        with urllib.request.urlopen(urllib.request.Request(url, b"", headers, method="PUT"), context=context):
            pass


def _nothing() -> None:
    """No preparation."""


def versions() -> str:
    """Of the clients."""
    names = ("pyarrow", "awscrt", "obstore", "opendal", "minio", "s5cmd", "boto3")
    return ", ".join(f"{name} {version(name)}" for name in names)
