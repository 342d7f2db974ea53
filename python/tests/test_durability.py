"""Returned means durable, whole or invisible, same bytes back: kill -9 and flipped bits (P1, P2, P4, P5)."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import pytest
from processes import Process, python

from raystorage import Checkpoint, ChecksumError, ReportState, Result, StorageError

ROUNDS = 50 if os.environ.get("RAYSTORAGE_TEST_LONG") == "1" else 3


@pytest.mark.parametrize("durability", ["fsync", "none"])
@pytest.mark.parametrize("how", ["sync", "wait", "await", "flush", "handed over", "no_upload"])
def test_killed_the_instant_after_it_returned_the_checkpoint_is_there(storage: Path, how: str, durability: str) -> None:
    """P2: Ray loses it."""
    code = """
        import asyncio
        how = sys.argv[2]
        run = Run(RunConfig("r", sys.argv[1], durability=sys.argv[3], heartbeat_s=1))
        checkpoint = source(sys.argv[1] + ("/r/mine" if how == "no_upload" else "-src"), 7)
        mode = {"sync": CheckpointUploadMode.SYNC, "no_upload": CheckpointUploadMode.NO_UPLOAD}.get(
            how, CheckpointUploadMode.ASYNC)
        report = run.report({"n": 1}, checkpoint, checkpoint_upload_mode=mode,
                            delete_local_checkpoint_after_upload=how == "handed over")
        if how in ("wait", "handed over", "no_upload"):
            report.wait()
        elif how == "flush":
            run.flush()
        elif how == "await":
            async def wait():
                await report
            asyncio.run(wait())
        os.kill(os.getpid(), signal.SIGKILL)
        """
    for number in range(ROUNDS):
        path = storage / str(number)
        assert python(code, path, how, durability, code_expected=None).code == -9
        result = Result.from_path(path / "r")
        assert result.checkpoint.verify()["verified"]
        assert Path(result.checkpoint.path, "model.bin").read_bytes() == bytes([7]) * 1000
        assert result.metrics["n"] == 1
        assert [row["n"] for row in result.metrics_history] == [1]


def test_what_was_captured_before_a_kill_is_committed_by_the_next_open(storage: Path, open_run) -> None:
    """P4: the trainer is killed when it is about to commit; its directory was given back and has changed since."""
    code = """
        run = Run(RunConfig("run", sys.argv[1]))
        for step in range(3):
            run.report({"step": step}, source(sys.argv[2], step))
        say("captured")
        time.sleep(60)
        """
    faults = "call=rename|rename_noreplace path=*/attempts/*->*/checkpoint_* do=stop"
    with Process(code, storage, storage.parent / "src", faults=faults) as process:
        process.wait_stopped()
        assert not list((storage / "run").glob("checkpoint_0*"))
        assert Result.from_path(storage / "run").checkpoint is None
        process.kill()
    captured = len(list((storage / "run/.raystorage/attempts").glob("*.captured.json")))
    assert captured >= 1
    run = open_run()
    assert len(run.info["recovered"]) == captured
    assert run.info["lost"] == []
    result = run.close()
    assert [one.metrics["step"] for one in result.checkpoints] == list(range(captured))
    for step, one in enumerate(result.checkpoints):
        assert Path(one.checkpoint.path, "model.bin").read_bytes() == bytes([step]) * 1000
        assert one.checkpoint.verify()["verified"]


@pytest.mark.parametrize("call", ["copy_file_range|write", "fsync", "rename|rename_noreplace"])
def test_a_trainer_that_dies_in_a_report_leaves_nothing_that_a_reader_sees(storage: Path, open_run, call: str) -> None:
    """P1, P9."""
    code = """
        run = Run(RunConfig("run", sys.argv[1]))
        run.report({"step": 0}, source(sys.argv[2], 0), checkpoint_upload_mode=CheckpointUploadMode.SYNC)
        run.report({"step": 1}, source(sys.argv[2], 1), checkpoint_upload_mode=CheckpointUploadMode.SYNC)
        """
    faults = f"call={call} path=*/attempts/1-1-* do=kill"
    assert python(code, storage, storage.parent / "src", faults=faults, code_expected=None).code == -9
    result = Result.from_path(storage / "run")
    assert [one.metrics["step"] for one in result.checkpoints] == [0]
    assert [path.name for path in (storage / "run").glob("checkpoint_0*")] == ["checkpoint_000001_000000000"]
    result = open_run().close()
    assert [one.metrics["step"] for one in result.checkpoints] in ([0], [0, 1])
    assert not list((storage / "run/.raystorage/attempts").iterdir())


def flip(path: Path, position: int = 500) -> None:
    """One bit, with size and times as they were."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_one_flipped_bit_is_a_checksum_error_everywhere(open_run, directory, tmp_path: Path) -> None:
    """P5."""
    run = open_run()
    checkpoint = run.report({}, Checkpoint(directory(1))).wait()
    run.close()
    flip(Path(checkpoint.path, "model.bin"))
    with pytest.raises(ChecksumError, match=r"model\.bin"):
        checkpoint.to_directory(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ChecksumError, match=r"model\.bin") as caught:
        checkpoint.verify()
    assert [problem["file"] for problem in caught.value.details["problems"]] == ["model.bin"]
    with pytest.raises(ChecksumError), checkpoint.as_directory():
        pass
    assert Path(checkpoint.to_directory(tmp_path / "raw", verify=False), "model.bin").exists()


DAMAGES = {
    "flipped": lambda path: flip(path / "model.bin"),
    "truncated": lambda path: os.truncate(path / "model.bin", 999),
    "grown": lambda path: os.truncate(path / "model.bin", 1001),
    "removed": lambda path: (path / "model.bin").unlink(),
    "a directory instead": lambda path: ((path / "model.bin").unlink(), (path / "model.bin").mkdir()),
    "manifest flipped": lambda path: flip(
        path / ".raystorage/manifest.json", (path / ".raystorage/manifest.json").read_text().index('"crc32c":"') + 10
    ),
    "manifest truncated": lambda path: os.truncate(path / ".raystorage/manifest.json", 60),
    "manifest empty": lambda path: os.truncate(path / ".raystorage/manifest.json", 0),
    "manifest removed": lambda path: (path / ".raystorage/manifest.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_resuming_falls_back_to_the_good_one_before_with_a_warning_that_names_both(
    open_run, directory, damage: str, caplog, tmp_path: Path
) -> None:
    """P5, P8: loud, never a silently different model."""
    run = open_run()
    good = run.report({"step": 0}, Checkpoint(directory(0))).wait()
    newest = run.report({"step": 1}, Checkpoint(directory(1))).wait()
    run.close()
    DAMAGES[damage](Path(newest.path))
    run = open_run()
    assert run.get_checkpoint() == good
    assert run.get_checkpoint() == good
    text = caplog.text
    assert "checkpoint_000001_000000001" in text or damage.startswith("manifest")
    assert "checkpoint_000001_000000000" in text or damage.startswith("manifest")
    third = run.report({"step": 2}, Checkpoint(directory(2))).wait()
    run.close()
    run = open_run()
    assert run.get_checkpoint() == third
    damaged = Checkpoint(newest.path)
    if damage != "manifest removed":
        with pytest.raises(StorageError):
            damaged.verify()


def test_when_no_good_one_is_left_the_job_begins_anew_and_says_so(open_run, directory, caplog) -> None:
    """P5."""
    run = open_run()
    for step in range(2):
        flip(Path(run.report({"step": step}, Checkpoint(directory(step))).wait().path, "model.bin"))
    run.close()
    run = open_run()
    assert run.get_checkpoint() is None
    assert caplog.text.count("damaged") >= 2


def test_an_older_one_that_was_asked_for_is_never_replaced_in_silence(open_run, directory, caplog) -> None:
    """P5."""
    run = open_run()
    for step in range(3):
        run.report({"step": step}, Checkpoint(directory(step)), checkpoint_dir_name=f"s{step}").wait()
    run.close()
    flip(Path(run.path, "s1/model.bin"))
    run = open_run(resume_from="s1")
    try:
        checkpoint = run.get_checkpoint()
    except ChecksumError as error:
        assert "s1" in str(error)
    else:
        assert checkpoint.path.endswith("s0")
        assert "s1" in caplog.text
        assert "s0" in caplog.text


def test_a_file_that_was_added_does_not_make_a_checkpoint_bad_and_is_told(open_run, directory) -> None:
    run = open_run()
    checkpoint = run.report({}, Checkpoint(directory(1))).wait()
    Path(checkpoint.path, "extra").write_text("x")
    try:
        document = checkpoint.verify()
    except ChecksumError as error:
        document = error.details
    assert [problem["file"] for problem in document["problems"]] == ["extra"]


def test_a_copy_of_a_checkpoint_elsewhere_is_checked_and_says_so(open_run, directory, tmp_path: Path) -> None:
    import shutil

    run = open_run()
    checkpoint = run.report({}, Checkpoint(directory(1))).wait()
    shutil.copytree(checkpoint.path, tmp_path / "export")
    copy = Checkpoint(tmp_path / "export")
    assert copy.verify()["ok"]
    flip(tmp_path / "export/model.bin")
    with pytest.raises(ChecksumError):
        copy.verify()


def test_the_snapshot_is_only_an_index_that_is_rebuilt(open_run, directory) -> None:
    """Commits are the truth."""
    run = open_run()
    for step in range(3):
        run.report({"step": step}, Checkpoint(directory(step))).wait()
    run.close()
    snapshot = Path(run.path, "checkpoint_manager_snapshot.json")
    for text in ("", "{", '{"checkpoint_results": 3}'):
        snapshot.write_text(text)
        assert [one.metrics["step"] for one in Result.from_path(run.path).checkpoints] == [0, 1, 2]
    snapshot.unlink()
    run = open_run()
    assert Path(run.get_checkpoint().path, "step").read_text() == "2"
    assert len(json.loads(snapshot.read_text())["checkpoint_results"]) == 3


def test_an_evicted_checkpoint_is_not_found_and_one_being_read_waits(open_run, directory) -> None:
    """P8."""
    from raystorage import CheckpointConfig, NotFoundError

    run = open_run(checkpoint_config=CheckpointConfig(1))
    first = run.report({"step": 0}, Checkpoint(directory(0))).wait()
    with first.as_directory() as opened:
        second = run.report({"step": 1}, Checkpoint(directory(1))).wait()
        run.report({"step": 2}, Checkpoint(directory(2))).wait()
        run.flush()
        assert Path(opened, "step").read_text() == "0"
    run.report({"step": 3}, Checkpoint(directory(3))).wait()
    run.close()
    for gone in (first, second):
        with pytest.raises(NotFoundError):
            gone.to_directory()


def test_cancelling_drops_the_report_or_comes_too_late(open_run, directory) -> None:
    """P9."""
    run = open_run(durability="fsync")
    report = run.report({"n": 1}, Checkpoint(directory({f"{n}": "x" for n in range(500)})))
    report.cancel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            report.wait()
        except Exception as error:
            assert type(error).__name__ == "CancelledError"
            assert report.state is ReportState.DROPPED
            assert not list(Path(run.path, ".raystorage/attempts").iterdir())
    assert run.report({"n": 2}, Checkpoint(directory())).wait() is not None
