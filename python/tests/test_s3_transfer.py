"""P4, P5, P6: how bytes go to a store and back, request by request, as the server has seen it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers.faulty import Action, FaultyS3
from stores import MIB, files_of, open_run, report, restored, signed_for, write

from raystorage import Checkpoint, ChecksumError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.faulty.log import Entry

# Six parts.
PART = 8 * MIB
LARGE = 5 * PART + 1000

_TRAINER = """
import json
import sys
from raystorage import Checkpoint, CheckpointUploadMode, Run, RunConfig
uri, staging, source, options = sys.argv[1:]
run = Run(
    RunConfig(
        "run", uri, staging_dir=staging, heartbeat_s=1, retry_timeout_s=60, storage_options=json.loads(options)
    )
)
run.report({"loss": 1.0}, Checkpoint(source), checkpoint_upload_mode=CheckpointUploadMode.SYNC)
"""


@pytest.fixture
def server(faulty: FaultyS3) -> Iterator[FaultyS3]:
    with signed_for(faulty.endpoint):
        yield faulty


def until(condition: Any, process: subprocess.Popen[bytes]) -> None:
    """Waits for the server to have seen something."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the trainer ended"
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def stored(server: FaultyS3, operation: str, key: str = "*") -> list[Entry]:
    """Requests that were carried out."""
    return [entry for entry in server.entries(operation) if entry.status == 200 and Path(entry.key).match(key)]


def killed(server: FaultyS3, tmp_path: Path, operation: str, skip: int, done: int, **options: str) -> dict[str, bytes]:
    """Kills a trainer when one request waits and so many parts are stored; what it had reported."""
    files = {"large": os.urandom(LARGE), "small": b"x", "empty": b""}
    source = write(tmp_path / "source", files)
    server.fail(operation, Action.HOLD, key="*/large", skip=skip)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    uri = server.endpoint.url("runs", part_size_bytes=PART)
    command = [sys.executable, "-c", _TRAINER, uri, str(tmp_path / "staging"), str(source), json.dumps(options)]
    with subprocess.Popen(command, env=environment) as process:
        until(server.gate.wait_until_held, process)
        until(
            lambda: len(stored(server, "UploadPart")) == done and len(stored(server, "PutObject", "*/small")) == 1,
            process,
        )
        process.send_signal(signal.SIGKILL)
    server.gate.release(refuse=True)
    server.settle()
    server.script.clear()
    server.log.clear()
    return files


def goes_on(server: FaultyS3, tmp_path: Path, files: dict[str, bytes], **options: str) -> None:
    with open_run(
        server.endpoint,
        query={"part_size_bytes": PART},
        staging_dir=str(tmp_path / "staging"),
        storage_options=options,
    ) as run:
        checkpoint = run.get_checkpoint()
        assert checkpoint is not None
        assert restored(checkpoint, tmp_path / "restored") == files
    assert server.open_multiparts() == []
    assert server.refusals == []


def test_after_a_kill_only_missing_parts_are_sent(server: FaultyS3, tmp_path: Path) -> None:
    files = killed(server, tmp_path, "UploadPart", skip=3, done=5)
    goes_on(server, tmp_path, files)
    assert len(server.entries("UploadPart")) == 1
    assert len(server.entries("CreateMultipartUpload")) == 0
    assert [entry.key for entry in server.entries("PutObject") if Path(entry.key).name in files] == []


def test_after_a_kill_in_complete_nothing_is_sent_again(server: FaultyS3, tmp_path: Path) -> None:
    files = killed(server, tmp_path, "CompleteMultipartUpload", skip=0, done=6)
    goes_on(server, tmp_path, files)
    assert len(server.entries("UploadPart")) == 0
    assert len(server.entries("CompleteMultipartUpload")) == 1


def test_an_upload_that_the_store_dropped_meanwhile_is_begun_anew(server: FaultyS3, tmp_path: Path) -> None:
    files = killed(server, tmp_path, "UploadPart", skip=3, done=5)
    with server.state.lock:
        server.state.buckets[server.bucket].uploads.clear()
    goes_on(server, tmp_path, files)
    assert len(server.entries("UploadPart")) == 6
    assert len(server.entries("CreateMultipartUpload")) == 1


def test_a_machine_whose_clock_is_ahead_takes_nothing_for_old(server: FaultyS3, tmp_path: Path) -> None:
    # By 30 days: what the store stamps now is older than 7 for us.
    server.settings.clock_offset_s = -30 * 24 * 3600
    files = killed(server, tmp_path, "UploadPart", skip=3, done=5)
    begun = server.open_multiparts()
    with open_run(server.endpoint, staging_dir=str(tmp_path / "other")) as run:
        assert run.get_checkpoint() is None
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    for more in (["--dry-run"], []):
        command = [sys.executable, "-m", "raystorage", "gc", server.endpoint.url("runs/run"), "--json", *more]
        done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120)
        document = json.loads(done.stdout)
        assert document["removed"] == []
        assert len(document["kept"]) == 1
    assert server.open_multiparts() == begun
    # Its own machine finishes it, beside the line that the other one has gone on with.
    with open_run(server.endpoint, query={"part_size_bytes": PART}, staging_dir=str(tmp_path / "staging")):
        pass
    name = begun[0][0].split("/")[-2]
    assert restored(Checkpoint(server.endpoint.url(f"runs/run/{name}")), tmp_path / "restored") == files
    assert server.open_multiparts() == []
    assert len(server.entries("CreateMultipartUpload")) == 0


@pytest.mark.parametrize("first", ["when_required", "when_supported"])
def test_an_upload_with_another_setting_of_checksums_is_begun_anew(
    server: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    server.settings.require_checksums = False
    setting = "AWS_REQUEST_CHECKSUM_CALCULATION"
    monkeypatch.setenv(setting, first)
    files = killed(server, tmp_path, "UploadPart", skip=3, done=5)
    monkeypatch.setenv(setting, "when_supported" if first == "when_required" else "when_required")
    goes_on(server, tmp_path, files)
    assert len(server.entries("UploadPart")) == 6
    assert len(server.entries("CreateMultipartUpload")) == 1
    assert len(server.entries("AbortMultipartUpload")) == 1


_KEYS = [base64.b64encode(bytes([number]) * 32).decode() for number in (7, 8)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"sse_customer_key": _KEYS[0]}, {"sse_customer_key": _KEYS[1]}),
        ({"sse_customer_key": _KEYS[0]}, {}),
        ({}, {"server_side_encryption": "AES256"}),
        ({"server_side_encryption": "aws:kms", "sse_kms_key_id": "k"}, {"server_side_encryption": "aws:kms"}),
    ],
)
def test_an_upload_with_another_encryption_is_begun_anew(
    server: FaultyS3, tmp_path: Path, first: dict[str, str], second: dict[str, str]
) -> None:
    files = killed(server, tmp_path, "UploadPart", skip=3, done=5, **first)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "staging").rglob("*") if path.is_file())
    assert not any(key.encode() in kept for key in _KEYS)
    goes_on(server, tmp_path, files, **second)
    assert len(server.entries("UploadPart")) == 6
    assert len(server.entries("CreateMultipartUpload")) == 1
    assert len(server.entries("AbortMultipartUpload")) == 1
    assert sorted(Path(entry.key).name for entry in server.entries("PutObject") if Path(entry.key).name in files) == [
        "empty",
        "small",
    ]


def test_without_permission_to_list_parts_a_file_is_sent_anew(server: FaultyS3, tmp_path: Path) -> None:
    files = killed(server, tmp_path, "UploadPart", skip=3, done=5)
    server.fail("ListParts", status=403, code="AccessDenied", times=0)
    goes_on(server, tmp_path, files)
    assert len(server.entries("UploadPart")) == 6


@pytest.mark.parametrize("action", [Action.TRUNCATE, Action.RESET_RESPONSE])
def test_of_a_broken_range_only_the_rest_is_fetched(server: FaultyS3, tmp_path: Path, action: Action) -> None:
    content = os.urandom(20 * MIB)
    with open_run(server.endpoint) as run:
        done = report(run, write(tmp_path / "source", {"shard": content}))
        server.log.clear()
        server.fail("GetObject", action, key="*/shard", at=19 * MIB)
        assert restored(done.checkpoint, tmp_path / "restored") == {"shard": content}
    ranges = [entry.headers["range"] for entry in server.entries("GetObject") if entry.key.endswith("/shard")]
    assert len(ranges) == 2
    begun = int(ranges[1].removeprefix("bytes=").partition("-")[0])
    # A reset may lose what was on its way.
    assert begun == 19 * MIB if action is Action.TRUNCATE else begun > 8 * MIB


def test_of_another_range_that_breaks_off_nothing_is_kept(server: FaultyS3, tmp_path: Path) -> None:
    """P5: without verification, too, which would find it."""
    content = os.urandom(40 * MIB)
    with open_run(server.endpoint) as run:
        done = report(run, write(tmp_path / "source", {"shard": content}))
        fault = server.fail("GetObject", Action.OTHER_RANGE, key="*/shard", at=3 * MIB)
        directory = done.checkpoint.to_directory(tmp_path / "restored", verify=False)
    assert fault.hits == 1
    assert files_of(directory) == {"shard": content}


def test_an_object_that_has_grown_is_not_its_beginning(server: FaultyS3, tmp_path: Path) -> None:
    """P5: a prefix is a part; a directory on a disk would be refused by its size, too."""
    with open_run(server.endpoint) as run:
        done = report(run, write(tmp_path / "source", {"shard": b"reported", "other": b"x"}))
        key = next(key for key in server.objects() if key.endswith("/shard"))
        server.place(key, b"reported and more")
        for verify in (True, False):
            with pytest.raises(ChecksumError, match="has 17 bytes where 8 should be"):
                done.checkpoint.to_directory(tmp_path / "restored", verify=verify)
        assert not (tmp_path / "restored").exists()


# ------------------------------------------------------------------ options


def test_part_size_bytes(server: FaultyS3, tmp_path: Path) -> None:
    with open_run(server.endpoint, query={"part_size_bytes": 9 * MIB}) as run:
        report(run, write(tmp_path / "source", {"shard": bytes(40 * MIB)}))
    assert sorted(entry.bytes_in for entry in server.entries("UploadPart")) == [8 * MIB, 16 * MIB, 16 * MIB]


def at_once(entries: list[Entry]) -> int:
    """The most requests that were under way at a time."""
    changes = sorted([(e.started, 1) for e in entries] + [(e.started + e.seconds, -1) for e in entries])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("limit", [1, 3, 24])
def test_max_concurrency(server: FaultyS3, tmp_path: Path, limit: int) -> None:
    """P6"""
    server.fail("PutObject", Action.DELAY, key="*/shard-*", seconds=0.05, times=0)
    with open_run(server.endpoint, query={"max_concurrency": limit}) as run:
        report(run, write(tmp_path / "source", {f"shard-{number}": b"x" for number in range(60)}))
    most = at_once([entry for entry in server.entries("PutObject") if "/shard-" in entry.key])
    # The server notes the end of a request when its client may have begun the next one.
    assert most <= limit + 2
    assert most >= min(limit, 8)


@pytest.mark.parametrize("sizes", [[150_000] * 20, [3_000_000], [300_000] * 10])
def test_bandwidth_limit(server: FaultyS3, tmp_path: Path, sizes: list[int]) -> None:
    """P6: over many small files, and within a single large one."""
    files = {f"shard-{number}": bytes(size) for number, size in enumerate(sizes)}
    with open_run(server.endpoint, query={"bandwidth_limit_bytes_per_s": 1_000_000}) as run:
        begun = time.monotonic()
        done = report(run, write(tmp_path / "source", files))
        took = time.monotonic() - begun
        assert 2.2 < took < 8
        # Not of downloads.
        begun = time.monotonic()
        assert restored(done.checkpoint, tmp_path / "restored") == files
        assert time.monotonic() - begun < 1.5
