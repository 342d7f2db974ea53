"""P5, P7 on a server that fails as it is told: what a retry mends ends in success, all else in a typed error.

Never in silence: what a report returned as committed is there to the bit, the next report works, and the server, which
is stricter than S3, has nothing to complain of.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers.faulty import Action, FaultyS3
from stores import MIB, open_run, report, restored, signed_for, write

from raystorage import (
    AuthenticationError,
    Checkpoint,
    ChecksumError,
    NetworkError,
    PermissionDeniedError,
    Result,
    StorageError,
    ThrottledError,
    TimedOutError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parent.parent

# Sent in one request, and in parts: more than one request takes.
ONE = 300_000
PARTS = 70 * MIB
UPLOADS = ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")


@pytest.fixture
def server(faulty: FaultyS3) -> Iterator[FaultyS3]:
    with signed_for(faulty.endpoint):
        yield faulty


def data_key(operation: str) -> str:
    """Faults hit a checkpoint's data: records of the run have tests of their own."""
    return "*/shard" if operation in ("PutObject", *UPLOADS, "GetObject") else "*"


def size_for(operation: str) -> int:
    return ONE if operation in ("PutObject", "GetObject") else PARTS


def succeeds(server: FaultyS3, tmp_path: Path, size: int = ONE, **options: Any) -> None:
    """A report and a restore, to the bit, with nothing left behind."""
    content = os.urandom(size)
    with open_run(server.endpoint, **options) as run:
        done = report(run, write(tmp_path / "source", {"shard": content, "small": b"x"}), {"loss": 1.0})
        assert restored(done.checkpoint, tmp_path / "restored") == {"shard": content, "small": b"x"}
    if server.open_multiparts():
        # Of a CreateMultipartUpload whose answer was lost: nobody knows its id before the next open lists it.
        with open_run(server.endpoint):
            pass
    assert server.open_multiparts() == []
    assert server.refusals == []


def fails(server: FaultyS3, tmp_path: Path, *errors: type[StorageError], size: int = ONE) -> StorageError:
    """A report that ends in one of these errors, after which the next one works; no half of the first is left."""
    with open_run(server.endpoint, retry_timeout_s=3) as run:
        with pytest.raises(StorageError) as raised:
            report(run, write(tmp_path / "source", {"shard": bytes(size)}), {"loss": 1.0})
        assert isinstance(raised.value, errors), raised.value
        server.heal()
        good = report(run, write(tmp_path / "next", {"shard": b"next"}), {"loss": 2.0})
        assert restored(good.checkpoint, tmp_path / "restored") == {"shard": b"next"}
    result = Result.from_path(server.endpoint.url("runs/run"))
    assert [metrics["loss"] for _, metrics in result.best_checkpoints] == [2.0]
    assert [row["loss"] for row in result.metrics_history] == [1.0, 2.0]
    # What had been captured becomes a checkpoint after all, once the store takes it.
    with open_run(server.endpoint) as run:
        recovered = run.info["recovered"]
    assert server.open_multiparts() == []
    assert [key for key in server.objects() if key.endswith("/shard")] != []
    assert sum(key.endswith("/shard") for key in server.objects()) == 1 + len(recovered)
    return raised.value


# ------------------------------------------------------------------ statuses


@pytest.mark.parametrize("operation", UPLOADS)
@pytest.mark.parametrize(
    ("status", "code", "body"),
    [
        (408, "RequestTimeout", True),
        (400, "RequestTimeout", True),
        (429, "TooManyRequests", False),
        (500, "InternalError", True),
        (503, "SlowDown", True),
        (503, "", False),
        (502, "", False),
        (409, "OperationAborted", True),
    ],
)
def test_a_status_that_passes(
    server: FaultyS3, tmp_path: Path, operation: str, status: int, code: str, body: bool
) -> None:
    fault = server.fail(operation, status=status, code=code, body=body, key=data_key(operation), times=2)
    succeeds(server, tmp_path, size_for(operation))
    assert fault.hits >= 1


@pytest.mark.parametrize("operation", UPLOADS)
@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", (PermissionDeniedError,)),
        (403, "InvalidAccessKeyId", (AuthenticationError, PermissionDeniedError)),
        (400, "InvalidRequest", (StorageError,)),
        (411, "MissingContentLength", (StorageError,)),
    ],
)
def test_a_status_that_no_retry_mends(
    server: FaultyS3, tmp_path: Path, operation: str, status: int, code: str, error: tuple[type[StorageError], ...]
) -> None:
    """One of pyarrow's silent losses: every UploadPart is answered 403, and all seems well."""
    server.fail(operation, status=status, code=code, key=data_key(operation), times=0)
    begun = time.monotonic()
    raised = fails(server, tmp_path, *error, size=size_for(operation))
    assert time.monotonic() - begun < 20, "not at once"
    text = str(raised) + str(raised.details)
    assert code in text or str(status) in text
    assert "shard" in text


@pytest.mark.parametrize(("status", "code", "error"), [
    (503, "SlowDown", (ThrottledError, TimedOutError)), (500, "InternalError", (StorageError,)),
])  # fmt: skip
def test_a_status_that_never_passes(
    server: FaultyS3, tmp_path: Path, status: int, code: str, error: tuple[type[StorageError], ...]
) -> None:
    server.fail("PutObject", status=status, code=code, key="*/shard", times=0)
    fails(server, tmp_path, *error)


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart", "CompleteMultipartUpload"])
def test_an_error_in_200_once(server: FaultyS3, tmp_path: Path, operation: str) -> None:
    fault = server.fail(operation, Action.ERROR_IN_200, key="*/shard")
    succeeds(server, tmp_path, size_for(operation))
    assert fault.hits == 1


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize("code", ["InternalError", "AccessDenied"])
def test_an_error_in_200_for_good(server: FaultyS3, tmp_path: Path, operation: str, code: str) -> None:
    """Another of pyarrow's silent losses: CompleteMultipartUpload comes back as 200 with an <Error>."""
    server.fail(operation, Action.ERROR_IN_200, code=code, key="*/shard", times=0)
    fails(server, tmp_path, StorageError, size=size_for(operation))


# ------------------------------------------------------------------ connections


@pytest.mark.parametrize("operation", UPLOADS)
@pytest.mark.parametrize(
    ("action", "at"), [(Action.RESET_REQUEST, 0), (Action.RESET_REQUEST, 70_000), (Action.LOSE_REPLY, 0)]
)
def test_a_reset_while_sending(server: FaultyS3, tmp_path: Path, operation: str, action: Action, at: int) -> None:
    fault = server.fail(operation, action, at=at, key="*/shard", times=2)
    succeeds(server, tmp_path, size_for(operation))
    assert fault.hits >= 1


@pytest.mark.parametrize("at", [0, 1, 65_536, ONE - 1])
@pytest.mark.parametrize("action", [Action.RESET_RESPONSE, Action.TRUNCATE])
def test_a_break_while_receiving(server: FaultyS3, tmp_path: Path, action: Action, at: int) -> None:
    fault = server.fail("GetObject", action, at=at, key="*/shard", times=2)
    succeeds(server, tmp_path)
    assert fault.hits == 2


@pytest.mark.parametrize("action", [Action.DUPLICATE, Action.EXTEND, Action.SHORTEN, Action.CORRUPT_RESPONSE])
def test_other_bytes_than_were_stored_once(server: FaultyS3, tmp_path: Path, action: Action) -> None:
    fault = server.fail("GetObject", action, at=1000, key="*/shard")
    succeeds(server, tmp_path)
    assert fault.hits == 1


def test_other_bytes_than_were_stored_for_good(server: FaultyS3, tmp_path: Path) -> None:
    with open_run(server.endpoint) as run:
        done = report(run, write(tmp_path / "source", {"shard": bytes(ONE)}))
        server.fail("GetObject", Action.CORRUPT_RESPONSE, at=1000, key="*/shard", times=0)
        with pytest.raises(ChecksumError, match="shard"):
            done.checkpoint.to_directory(tmp_path / "restored")
        server.heal()
        assert restored(done.checkpoint, tmp_path / "again") == {"shard": bytes(ONE)}


def test_damage_on_the_way_is_found_by_the_store(server: FaultyS3, tmp_path: Path) -> None:
    """The store keeps other bytes than came; what it attests is another checksum, or a restore tells."""
    server.fail("PutObject", Action.CORRUPT_STORED, at=1000, key="*/shard")
    with open_run(server.endpoint) as run:
        done = report(run, write(tmp_path / "source", {"shard": bytes(ONE)}))
        with pytest.raises(ChecksumError):
            done.checkpoint.to_directory(tmp_path / "restored")


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart", "CompleteMultipartUpload"])
def test_an_answer_with_another_checksum_once(server: FaultyS3, tmp_path: Path, operation: str) -> None:
    server.fail(operation, Action.WRONG_CHECKSUM, key="*/shard")
    succeeds(server, tmp_path, size_for(operation))


def test_a_part_with_another_etag(server: FaultyS3, tmp_path: Path) -> None:
    """Complete then says InvalidPart: sent again, or an error; never a success without an object."""
    server.fail("UploadPart", Action.WRONG_ETAG, key="*/shard")
    try:
        succeeds(server, tmp_path, PARTS)
    except StorageError as error:
        assert "InvalidPart" in str(error) + str(error.details)


@pytest.mark.parametrize(("operation", "action"), [
    ("PutObject", Action.STALL_REQUEST), ("UploadPart", Action.STALL_REQUEST), ("GetObject", Action.STALL_RESPONSE),
])  # fmt: skip
def test_a_stall_ends(server: FaultyS3, tmp_path: Path, operation: str, action: Action) -> None:
    """P7: a while without a byte (30 s, unless told otherwise) ends a try."""
    server.fail(operation, action, at=70_000, key="*/shard")
    begun = time.monotonic()
    succeeds(server, tmp_path, size_for(operation), query={"stall_timeout_s": 1})
    assert 0.9 < time.monotonic() - begun < 20


def test_a_server_that_is_gone(server: FaultyS3, tmp_path: Path) -> None:
    run = open_run(server.endpoint, retry_timeout_s=2)
    server.close()
    with pytest.raises((NetworkError, TimedOutError)) as raised:
        report(run, write(tmp_path / "source", {"shard": b"x"}))
    assert str(server.port) in str(raised.value) + str(raised.value.details)
    # Its last metrics are not there, and neither is its goodbye.
    with pytest.raises((NetworkError, TimedOutError)):
        run.close()


def test_the_doctor_does_not_wait_for_a_store_that_is_gone(server: FaultyS3) -> None:
    """Nor does a listing for an hour."""
    server.close()
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "raystorage", "doctor", server.endpoint.url("runs")],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot connect" in done.stdout
    assert time.monotonic() - begun < 60


# ------------------------------------------------------------------ close


def test_close_ends_in_time_though_collecting_leftovers_hangs(server: FaultyS3, tmp_path: Path) -> None:
    """P7: by its limit, and without one soon after: what dead trainers left is no reason to stay."""
    # Only those who collect ask for them.
    server.fail("ListMultipartUploads", Action.HOLD, times=0)
    run = open_run(server.endpoint, retry_timeout_s=3600, query={"stall_timeout_s": 600})
    report(run, write(tmp_path / "source", {"shard": b"x"}))
    assert server.gate.wait_until_held()
    begun = time.monotonic()
    with pytest.raises(TimedOutError) as raised:
        run.close(timeout_s=0.5)
    assert raised.value.details["pending"] is True
    assert time.monotonic() - begun < 8
    # 10 s of grace for the collection.
    assert len(run.close().best_checkpoints) == 1
    assert time.monotonic() - begun < 40
    assert [key for key in server.objects() if key.endswith("/closed.json")]
    server.gate.release()


def test_close_ends_in_time_though_reading_the_result_hangs(server: FaultyS3, tmp_path: Path) -> None:
    run = open_run(server.endpoint, retry_timeout_s=3600, query={"stall_timeout_s": 600})
    report(run, write(tmp_path / "source", {"shard": b"x"}))
    # Nobody who closes reads that.
    server.fail("GetObject", Action.HOLD, key="*/run.json", times=0)
    begun = time.monotonic()
    with pytest.raises(TimedOutError) as raised:
        run.close(timeout_s=3)
    assert raised.value.details["pending"] is True
    assert time.monotonic() - begun < 15
    assert server.gate.wait_until_held()
    # The run itself is closed: nobody waits for its heartbeat.
    assert [key for key in server.objects() if key.endswith("/closed.json")]
    server.heal()
    server.gate.release()
    assert len(run.close().best_checkpoints) == 1


# ------------------------------------------------------------------ decisions


def test_a_decision_that_arrives_after_its_connection_was_given_up(server: FaultyS3, tmp_path: Path) -> None:
    server.fail("PutObject", Action.DELIVER_LATER, key="*/decisions/*", seconds=0.2)
    succeeds(server, tmp_path)
    assert server.undelivered() == 1
    assert [entry.status for entry in server.deliver()] == [412]
    with open_run(server.endpoint) as run:
        assert run.get_checkpoint() is not None


def test_a_decision_that_arrives_after_the_checkpoint_was_evicted(server: FaultyS3, tmp_path: Path) -> None:
    """It would bring back a checkpoint whose files are gone."""
    from raystorage import CheckpointConfig

    with open_run(server.endpoint, checkpoint_config=CheckpointConfig(num_to_keep=1)) as run:
        server.fail("PutObject", Action.DELIVER_LATER, key="*/decisions/*", seconds=0.2)
        report(run, write(tmp_path / "a", {"shard": b"old"}))
        report(run, write(tmp_path / "b", {"shard": b"new"}))
    assert [entry.status for entry in server.deliver()] == [412]
    result = Result.from_path(server.endpoint.url("runs/run"))
    assert len(result.best_checkpoints) == 1
    assert restored(result.checkpoint, tmp_path / "restored") == {"shard": b"new"}


def test_a_decision_whose_outcome_nobody_learns(server: FaultyS3, tmp_path: Path) -> None:
    """UNKNOWN deletes nothing: the decision may stand, and the next open finds out."""
    with open_run(server.endpoint, retry_timeout_s=2) as run:
        server.fail("PutObject", Action.LOSE_REPLY, key="*/decisions/*", times=1)
        server.fail("*", status=500, key="*/decisions/*", times=0)
        with pytest.raises(StorageError):
            report(run, write(tmp_path / "a", {"shard": b"decided"}))
        server.heal()
    with open_run(server.endpoint) as run:
        assert restored(run.get_checkpoint(), tmp_path / "restored") == {"shard": b"decided"}


@pytest.mark.parametrize("operation", ["PutObject", "CompleteMultipartUpload"])
def test_a_conflict(server: FaultyS3, tmp_path: Path, operation: str) -> None:
    key = "*/decisions/*" if operation == "PutObject" else "*/shard"
    fault = server.fail(operation, status=409, code="ConditionalRequestConflict", key=key)
    succeeds(server, tmp_path, size_for(operation) if operation != "PutObject" else ONE)
    assert fault.hits == 1


# ------------------------------------------------------------------ clocks, regions, odd stores


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_clock_that_is_wrong(server: FaultyS3, tmp_path: Path, hours: int) -> None:
    """Ours or the store's: the difference is learnt from its Date header."""
    server.settings.clock_offset_s = hours * 3600
    succeeds(server, tmp_path)


def test_a_region_that_is_another(server: FaultyS3, tmp_path: Path) -> None:
    endpoint = server.endpoint
    server.settings.region = "eu-central-1"
    content = {"shard": b"x"}
    with signed_for(endpoint), open_run(endpoint) as run:
        done = report(run, write(tmp_path / "source", content))
        assert restored(done.checkpoint, tmp_path / "restored") == content


def test_a_store_that_knows_no_checksums(server: FaultyS3, tmp_path: Path) -> None:
    server.settings.ignore_checksums = True
    succeeds(server, tmp_path, PARTS)


def test_small_pages_and_connections_that_end(server: FaultyS3, tmp_path: Path) -> None:
    server.settings.page_size = 1
    server.settings.requests_per_connection = 2
    server.settings.complete_whitespace = 5
    succeeds(server, tmp_path, PARTS)
    with open_run(server.endpoint) as run:
        assert run.get_checkpoint() is not None


def test_a_checkpoint_takes_few_requests(server: FaultyS3, tmp_path: Path) -> None:
    """Four small files and one of 30 MiB, decision and snapshot included: 8 (Ray: 33)."""
    files = {f"small-{number}": b"x" * 1000 for number in range(4)} | {"shard": bytes(30 * MIB)}
    with open_run(server.endpoint, heartbeat_s=600) as run:
        report(run, write(tmp_path / "first", files))
        before = server.count()
        report(run, write(tmp_path / "second", files))
        made = server.entries()[before:]
    listed = [f"{entry.operation} {entry.key}" for entry in made if "/metrics/" not in entry.key]
    counted = [one for one in listed if not one.endswith(("result.json", "progress.csv", "index.json", "heartbeat"))]
    assert len(counted) <= 8, "\n".join(listed)


def test_reports_in_quick_succession_share_requests(server: FaultyS3, tmp_path: Path) -> None:
    """P6: a checkpoint costs its own requests; metrics and index go up by the clock, however many reports there are."""
    checkpoints = 20
    with open_run(server.endpoint, heartbeat_s=600) as run:
        report(run, write(tmp_path / "first", {"shard": b"x"}))
        before, begun = server.count(), time.monotonic()
        for step in range(checkpoints):
            report(run, write(tmp_path / f"source-{step}", {"shard": b"x"}), {"step": step})
        for step in range(500):
            run.report({"step": step})
        made = [entry.key for entry in server.entries()[before:] if entry.operation == "PutObject"]
        took_s = time.monotonic() - begun
    shared = dict.fromkeys(("metrics", "result.json", "progress.csv", "index.json"), 0)
    for key in made:
        name = "metrics" if "/metrics/" in key else key.rpartition("/")[2]
        if name in shared:
            shared[name] += 1
    # Its file, its manifest, the decision, and the snapshot, which is the fence.
    assert len(made) - sum(shared.values()) == 4 * checkpoints, made
    # Every 5 s at most, and once a minute: docs/decisions/0003-object-store-runs.md.
    assert shared.pop("index.json") <= 1 + took_s / 60
    assert max(shared.values()) <= 1 + took_s / 5, shared


def test_report_blocks_no_longer_on_a_slow_network(server: FaultyS3, tmp_path: Path) -> None:
    """P7, and the reason for all of this: ASYNC report() costs what capture costs."""
    taken = {}
    for name, rate in (("fast", 0), ("slow", 200_000)):
        with open_run(server.endpoint, name=name, retry_timeout_s=60) as run:
            server.settings.bandwidth_bytes_s = rate
            times = []
            for step in range(5):
                source = write(tmp_path / f"{name}-{step}", {"shard": bytes(100_000)})
                begun = time.monotonic()
                run.report({"step": step}, Checkpoint(source))
                times.append(time.monotonic() - begun)
            taken[name] = sorted(times)[2]
            server.settings.bandwidth_bytes_s = 0
    assert taken["slow"] < 10 * taken["fast"] + 0.02, taken


@pytest.mark.parametrize("call", ["get_metadata", "set_metadata"])
def test_ctrl_c_ends_a_wait_for_the_store(server: FaultyS3, tmp_path: Path, call: str) -> None:
    """P12: calls that answer at once on a disk are waits on a store that does not answer."""
    with open_run(server.endpoint) as run:
        checkpoint = report(run, write(tmp_path / "source", {"shard": b"x"}), {"loss": 1.0}).wait()
        assert checkpoint is not None
        operation = "GetObject" if call == "get_metadata" else "PutObject"
        server.fail(operation, Action.HOLD, key="*/.metadata.json")
        sent: list[float] = []

        def interrupt() -> None:
            if server.gate.wait_until_held():
                sent.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            checkpoint.get_metadata() if call == "get_metadata" else checkpoint.set_metadata({"a": 1})
        took_s = time.monotonic() - sent[0]
        server.gate.release()
        server.script.clear()
        thread.join()
        assert took_s < 0.3
        checkpoint.set_metadata({"a": 2})
        assert checkpoint.get_metadata() == {"a": 2}
