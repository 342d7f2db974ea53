"""P1, P2, P7 on a server whose faults never pass, at every kind of request that a launch makes.

Every call ends: with success where the request does not matter, else in an error that says which request, how often it
was sent and what came back. When the fault is lifted, what was said to be committed is there to the bit, what was said
to have failed is not, the next report works, and nothing is left behind.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from servers.faulty import Action, FaultyS3
from stores import MIB, open_run, restored, signed_for, write

from raystorage import Checkpoint, CheckpointConfig, Result, Run, StorageError
from raystorage import ReportState as State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

# By name: what happens to a request, again and again.
FAULTS: dict[str, dict[str, Any]] = {
    "403": {"status": 403, "code": "AccessDenied"},
    "500": {"status": 500, "code": "InternalError"},
    "503": {"status": 503, "code": "SlowDown"},
    "error in 200": {"action": Action.ERROR_IN_200},
    "reset": {"action": Action.RESET_REQUEST},
}

# The requests of an opening, and of reports, restores, evictions and a goodbye: operation and key.
OPENING = (
    ("GetObject", "*/run/.raystorage/run.json"),
    ("GetObject", "*/epoch.json"),
    ("GetObject", "*/resume-*.json"),
    ("GetObject", "*/decisions/*"),
    ("GetObject", "*/checkpoint_manager_snapshot.json"),
    ("GetObject", "*/index.json"),
    ("GetObject", "*/manifest.json"),
    ("GetObject", "*/fence"),
    ("HeadObject", "*"),
    ("ListObjectsV2", "*"),
    ("ListMultipartUploads", "*"),
    ("ListParts", "*"),
    ("PutObject", "*/epoch.json"),
    ("PutObject", "*/heartbeat"),
    ("PutObject", "*/resume-*.json"),
    ("PutObject", "*/index.json"),
    ("PutObject", "*/checkpoint_manager_snapshot.json"),
)
TRAINING = (
    ("GetObject", "*/names/*"),
    ("GetObject", "*/decisions/*"),
    ("GetObject", "*/manifest.json"),
    ("GetObject", "*/.metadata.json"),
    ("GetObject", "*/shard"),
    ("ListObjectsV2", "*"),
    ("PutObject", "*/names/*"),
    ("PutObject", "*/small"),
    ("PutObject", "*/manifest.json"),
    ("PutObject", "*/decisions/*"),
    ("PutObject", "*/checkpoint_manager_snapshot.json"),
    ("PutObject", "*/metrics/*"),
    ("PutObject", "*/result.json"),
    ("PutObject", "*/progress.csv"),
    ("PutObject", "*/index.json"),
    ("PutObject", "*/closed.json"),
    ("CreateMultipartUpload", "*"),
    ("UploadPart", "*"),
    ("CompleteMultipartUpload", "*"),
    ("AbortMultipartUpload", "*"),
    ("DeleteObjects", "*"),
)


@dataclass(frozen=True)
class Case:
    """One kind of request, from when on it fails, and how."""

    stage: str
    operation: str
    key: str
    fault: str

    def __str__(self) -> str:
        return f"{self.stage}, {self.operation} {self.key}, {self.fault}"


def cases() -> list[Any]:
    """All of them; the samples of `make test` meet each kind of request once."""
    found = []
    for stage, kinds in (("opening", OPENING), ("training", TRAINING)):
        for number, (operation, key) in enumerate(kinds):
            for turn, fault in enumerate(FAULTS):
                marks = [] if turn == number % len(FAULTS) else [pytest.mark.long]
                case = Case(stage, operation, key, fault)
                found.append(pytest.param(case, id=str(case), marks=marks))
    return found


@pytest.fixture
def server(faulty: FaultyS3) -> Iterator[FaultyS3]:
    with signed_for(faulty.endpoint):
        yield faulty


@dataclass
class Job:
    """Launches of a job, with what it reported and what it was told. Reports are known by their loss."""

    server: FaultyS3
    directory: Path
    contents: dict[float, dict[str, bytes]] = field(default_factory=dict)
    told: dict[float, State] = field(default_factory=dict)
    errors: list[StorageError] = field(default_factory=list)

    def open(self, retry_timeout_s: float = 30) -> Run:
        keep = CheckpointConfig(num_to_keep=1)
        # In the address as well, for those who restore.
        query = {"retry_timeout_s": retry_timeout_s}
        return open_run(
            self.server.endpoint, checkpoint_config=keep, heartbeat_s=600, retry_timeout_s=retry_timeout_s, query=query
        )  # fmt: skip

    def trying(self, call: Callable[[], T]) -> T | None:
        """What a call returns; None when it ends in an error, which is kept."""
        try:
            return call()
        except StorageError as error:
            self.errors.append(error)
            return None

    def report(self, run: Run, loss: float, files: dict[str, bytes], name: str | None = None) -> None:
        """A report, and a restore of what it stored."""
        self.contents[loss] = files
        source = write(self.directory / f"source-{loss}", files)
        one = self.trying(lambda: run.report({"loss": loss}, Checkpoint(source), checkpoint_dir_name=name))
        if one is None:
            return
        checkpoint = self.trying(one.wait)
        self.told[loss] = one.state
        assert one.done
        if checkpoint is not None:
            self.trying(lambda: self.check(checkpoint, loss))

    def check(self, checkpoint: Checkpoint, loss: float) -> None:
        target = self.directory / f"restored-{loss}-{time.monotonic_ns()}"
        assert restored(checkpoint, target) == self.contents[loss]

    def explain(self, error: StorageError, case: Case) -> None:
        """What an error must tell: of the request that failed, not of what came of it."""
        assert type(error) is not StorageError, error
        assert error.details["operation"] == case.operation or case.operation == "AbortMultipartUpload", error
        assert error.details["path"] in str(error)
        assert error.details["attempts"] >= 1
        if "status" in FAULTS[case.fault] and case.operation != "AbortMultipartUpload":
            assert error.details["http_status"] == FAULTS[case.fault]["status"], error

    def cut_off(self) -> None:
        """A launch that ends while an upload in parts is under way; nobody knows how that ended."""
        run = self.open(retry_timeout_s=1)
        self.server.fail("CompleteMultipartUpload", Action.RESET_REQUEST, times=0)
        self.report(run, 1.5, {"shard": bytes(40 * MIB)})
        assert self.told[1.5] is State.UNKNOWN
        self.errors.clear()
        self.server.heal()
        run.close()

    def told_committed(self) -> float:
        return max(loss for loss, state in self.told.items() if state is State.COMMITTED)

    def found(self) -> dict[float, Checkpoint]:
        """The checkpoints that a reader finds, verified."""
        result = Result.from_path(self.server.endpoint.url("runs/run"))
        found = {metrics["loss"]: checkpoint for checkpoint, metrics in result.best_checkpoints}
        for loss, checkpoint in found.items():
            self.check(checkpoint, loss)
        return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", cases())
def test_a_fault_that_never_passes(server: FaultyS3, tmp_path: Path, case: Case) -> None:
    job = Job(server, tmp_path)
    with job.open() as run:
        job.report(run, 1.0, {"shard": b"first"})
    if case.operation == "ListParts":
        job.cut_off()
    begun = time.monotonic()
    run_or_none = None
    if case.stage == "training":
        run_or_none = job.open(retry_timeout_s=1)
    if case.operation == "AbortMultipartUpload":
        server.fail("CompleteMultipartUpload", status=403, code="AccessDenied", times=0)
    fault = server.fail(case.operation, key=case.key, times=0, **FAULTS[case.fault])
    if run_or_none is None:
        run_or_none = job.trying(lambda: job.open(retry_timeout_s=1))
    if (run := run_or_none) is not None:
        in_parts = "Multipart" in case.operation or case.operation == "UploadPart"
        job.trying(run.get_checkpoint)
        job.report(run, 2.0, {"shard": bytes(40 * MIB if in_parts else 1000), "small": b"2"}, name="named")
        job.report(run, 3.0, {"shard": b"third", "small": b"3"})
        job.trying(run.close)
    took_s = time.monotonic() - begun
    assert fault.hits > 0, "there was no such request"
    assert took_s < 60
    server.heal()
    for error in job.errors:
        job.explain(error, case)
    # A reader finds what was said, before anybody opens the run.
    found = job.found()
    assert job.told_committed() in found
    failed = [loss for loss, state in job.told.items() if state is State.FAILED]
    assert not set(failed) & set(found)
    with job.open() as run:
        latest = run.get_checkpoint()
        assert latest is not None
        job.report(run, 4.0, {"shard": b"fourth"})
        assert job.told[4.0] is State.COMMITTED
    assert list(job.found()) == [4.0]
    assert server.open_multiparts() == []
    assert server.refusals == []
