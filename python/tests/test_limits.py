"""What happens at the limits: max_pending_reports, staging_max_bytes, retry_timeout_s (P6, P7)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from processes import Process

from raystorage import Checkpoint, ReportState, Result, StagingFullError

_SLOW = "call=fsync|fdatasync path=*/attempts/*model.bin do=stop"


@pytest.mark.parametrize("when_full", ["wait", "skip", "error"])
def test_reports_beyond_the_pending_limit_wait_or_are_skipped_or_refused(
    open_run, directory, storage: Path, when_full: str
) -> None:
    """P6. A large first checkpoint keeps the only place while the others come."""
    run = open_run(max_pending_reports=1, when_full=when_full, durability="fsync")
    big = directory({f"{number}": b"x" * 100 for number in range(2000)})
    sources = [directory(step) for step in range(1, 4)]
    reports = [run.report({"step": 0}, Checkpoint(big))]
    refused = 0
    for step, source in enumerate(sources, start=1):
        try:
            reports.append(run.report({"step": step}, Checkpoint(source)))
        except Exception as error:
            assert type(error).__name__ == "QueueFullError"
            assert "max_pending_reports is 1" in str(error)
            refused += 1
    run.flush()
    states = [report.state for report in reports]
    history = [row["step"] for row in run.close().metrics_history]
    if when_full == "wait":
        assert states == [ReportState.COMMITTED] * 4
        assert history == [0, 1, 2, 3]
    elif when_full == "skip":
        assert states == [ReportState.COMMITTED, *[ReportState.DROPPED] * 3]
        assert [report.wait() for report in reports[1:]] == [None] * 3
        assert history == [0, 1, 2, 3], "P14: the metrics of a skipped checkpoint are kept"
    else:
        assert refused == 3
        assert history == [0]


def slow(directory) -> Path:
    """A checkpoint of 5,000 bytes that takes a while to be sealed."""
    return directory({f"{number}": b"x" * 5 for number in range(1000)})


@pytest.mark.parametrize("when_full", ["skip", "error"])
def test_a_checkpoint_that_does_not_fit_beside_others_is_skipped_or_refused(
    open_run, directory, when_full: str
) -> None:
    """P6, P7, P9, P14."""
    run = open_run(staging_max_bytes=10_000, when_full=when_full, durability="fsync")
    big = directory({"big": b"x" * 6000})
    first = run.report({"step": 0}, Checkpoint(slow(directory)))
    if when_full == "skip":
        report = run.report({"step": 1}, Checkpoint(big))
        assert report.wait() is None
        assert report.state is ReportState.DROPPED
    else:
        with pytest.raises(StagingFullError, match="staging_max_bytes is 10000") as caught:
            run.report({"step": 1}, Checkpoint(big))
        assert caught.value.details["staging_max_bytes"] == 10_000
    first.wait()
    assert not list(Path(run.path, ".raystorage/attempts").iterdir())
    assert run.report({"step": 2}, Checkpoint(big)).wait() is not None
    assert [row["step"] for row in run.close().metrics_history] == [0, 1, 2]


def test_a_checkpoint_larger_than_the_limit_is_taken_when_it_is_alone(open_run, directory) -> None:
    """P6: waiting would not make it smaller; the file system itself says when it is full."""
    run = open_run(staging_max_bytes=10, when_full="error")
    assert run.report({}, Checkpoint(directory())).wait() is not None


def test_waiting_for_room_that_does_not_come_ends_with_an_error(storage: Path) -> None:
    """P6, P7: retry_timeout_s bounds it. The first checkpoint is held at its fsync until the second has given up."""
    code = """
        run = Run(RunConfig("r", sys.argv[1], staging_max_bytes=1500, retry_timeout_s=0.05))
        first = run.report({"step": 0}, source(sys.argv[2]))
        try:
            run.report({"step": 1}, source(sys.argv[2]))
        except StagingFullError as error:
            say(error)
        open(os.environ["RAYSTORAGE_FAULT_GATE"], "w").close()
        say(first.wait(timeout_s=30) is not None)
        """
    env = {"RAYSTORAGE_FAULT_GATE": str(storage.parent / "gate")}
    faults = "call=fsync path=*/attempts/*model.bin hit=1 do=hold"
    with Process(code, storage, storage.parent / "src", env=env, faults=faults) as process:
        assert "staging_max_bytes is 1500" in process.line()
        assert process.line() == "True"
        assert process.end().code == 0


@pytest.mark.parametrize("durability", ["fsync", "none"])
def test_when_wait_returns_the_place_in_the_queue_is_free(open_run, directory, durability: str) -> None:
    """P6, P7."""
    run = open_run(max_pending_reports=1, when_full="error", durability=durability)
    for step in range(30):
        assert run.report({"step": step}, Checkpoint(directory(step))).wait() is not None
        assert run.stats["pending"] == 0


def test_waiting_for_room_that_comes_goes_on(open_run, directory) -> None:
    """P6."""
    run = open_run(staging_max_bytes=10_000, durability="fsync")
    reports = [run.report({"step": step}, Checkpoint(directory({"f": b"x" * 9000}))) for step in range(5)]
    assert all(report.wait() is not None for report in reports)
    assert run.stats["staged_bytes"] == 0


def test_a_run_on_a_disk_asks_no_store(open_run, directory) -> None:
    run = open_run()
    assert run.report({"step": 0}, Checkpoint(directory())).wait() is not None
    counters = ("requests", "retries", "throttled", "bytes_sent", "bytes_received")
    assert [run.stats[name] for name in counters] == [0] * 5


def test_a_moved_directory_needs_no_room(open_run, directory) -> None:
    run = open_run(staging_max_bytes=10, when_full="error")
    assert run.report({}, Checkpoint(directory()), delete_local_checkpoint_after_upload=True).wait() is not None


def test_a_storage_that_fails_for_good_ends_the_report_after_the_limit_and_the_next_one_works(storage: Path) -> None:
    """P7: the error names what was waited for; nothing hangs."""
    code = """
        run = Run(RunConfig("r", sys.argv[1], retry_timeout_s=0.3))
        try:
            run.report({"step": 0}, source(sys.argv[2]), checkpoint_dir_name="first").wait(timeout_s=30)
        except StorageError as error:
            say(error.code, error)
        checkpoint = run.report({"step": 1}, source(sys.argv[2])).wait(timeout_s=30)
        say(os.path.basename(checkpoint.path))
        """
    faults = "call=rename|rename_noreplace path=*/attempts/*->*/first hit=1+ do=error:ESTALE"
    with Process(code, storage, storage.parent / "src", faults=faults) as process:
        assert "ESTALE" in process.line()
        assert process.line() == "checkpoint_000001_000000001"
        assert process.end().code == 0
    assert [row["step"] for row in Result.from_path(storage / "r").metrics_history] == [0, 1]


def test_an_error_that_passes_goes_unnoticed(storage: Path) -> None:
    """P7: outages are tried through."""
    code = """
        run = Run(RunConfig("r", sys.argv[1]))
        say(run.report({}, source(sys.argv[2])).wait(timeout_s=30) is not None)
        """
    faults = "call=rename|rename_noreplace path=*/attempts/*->*/checkpoint_* hit=1 do=error:ESTALE"
    with Process(code, storage, storage.parent / "src", faults=faults) as process:
        assert process.line() == "True"
        assert process.end().code == 0


def test_a_wait_may_give_up_earlier_and_the_upload_goes_on(storage: Path) -> None:
    """P7: stopped in the middle of sealing; the wait ends when the process goes on, by its own time."""
    code = """
        run = Run(RunConfig("r", sys.argv[1]))
        report = run.report({}, source(sys.argv[2]))
        say("captured")
        try:
            report.wait(timeout_s=0)
            say("committed")
        except TimedOutError as error:
            say("not yet", error.retryable, "goes on" in str(error))
        say(report.wait(timeout_s=30) is not None)
        """
    faults = "call=rename|rename_noreplace path=*/attempts/*->*/checkpoint_* hit=1+ do=error:ESTALE"
    with Process(code, storage, storage.parent / "src", faults=faults.replace("hit=1+", "hit=1")) as process:
        assert process.line() == "captured"
        assert process.line() == "not yet True True"
        assert process.line() == "True"
        assert process.end().code == 0


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
def test_a_timeout_is_a_number_of_seconds(open_run, directory, timeout: object) -> None:
    report = open_run().report({}, Checkpoint(directory()))
    with pytest.raises(ValueError, match="timeout_s"):
        report.wait(timeout)
    assert report.wait(float("inf")) is not None


def test_a_failed_report_that_nobody_waits_for_is_told_by_the_next_one(storage: Path) -> None:
    """P7."""
    code = """
        run = Run(RunConfig("r", sys.argv[1], retry_timeout_s=0.2))
        report = run.report({"step": 0}, source(sys.argv[2]), checkpoint_dir_name="first")
        while not report.done:
            time.sleep(0.01)
        del report
        try:
            run.report({"step": 1})
            run.report({"step": 1}, source(sys.argv[2]))
        except StorageError as error:
            say(error.details.get("earlier"), "an earlier report (0) failed" in str(error))
        run.report({"step": 2}, source(sys.argv[2])).wait()
        say([row["step"] for row in run.close().metrics_history])
        """
    faults = "call=rename|rename_noreplace path=*/attempts/*->*/first hit=1+ do=error:EIO"
    with Process(code, storage, storage.parent / "src", faults=faults) as process:
        assert process.line() == "True True"
        rows = process.line()
        assert process.end().code == 0
    assert rows in ("[0, 2]", "[0, 1, 2]")


def test_a_stopped_trainer_goes_on_where_it_was(storage: Path) -> None:
    """A laptop that sleeps: everything waits, nothing fails."""
    code = """
        run = Run(RunConfig("r", sys.argv[1]))
        report = run.report({}, source(sys.argv[2]))
        say(report.wait(timeout_s=30) is not None)
        """
    with Process(code, storage, storage.parent / "src", faults=_SLOW) as process:
        process.wait_stopped()
        process.send(signal.SIGCONT)
        assert process.line() == "True"
        assert process.end().code == 0
