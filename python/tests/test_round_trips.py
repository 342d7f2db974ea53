"""What is reported is what comes back: modes of report(), resuming, retention, results, files of every kind."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import threading
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from processes import Process, python

import raystorage
from raystorage import (
    Checkpoint,
    CheckpointConfig,
    CheckpointUploadMode,
    InvalidArgumentError,
    NotFoundError,
    ReportState,
    Result,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SYNC, NO_UPLOAD = CheckpointUploadMode.SYNC, CheckpointUploadMode.NO_UPLOAD


def tree(path: str | Path) -> dict[bytes, tuple[object, ...]]:
    """Everything of a directory that a restore must bring back, by path."""
    found: dict[bytes, tuple[object, ...]] = {}
    root = os.fsencode(path)
    for parent, directories, files in os.walk(root):
        for name in directories + files:
            full = os.path.join(parent, name)
            relative = os.path.relpath(full, root)
            if relative.startswith(b".raystorage"):
                continue
            status = os.lstat(full)
            kind = stat.S_IFMT(status.st_mode)
            mode, modified = stat.S_IMODE(status.st_mode), status.st_mtime_ns
            if stat.S_ISLNK(status.st_mode):
                found[relative] = (kind, os.readlink(full))
            elif stat.S_ISDIR(status.st_mode):
                found[relative] = (kind, mode, modified)
            else:
                found[relative] = (kind, mode, modified, Path(os.fsdecode(full)).read_bytes())
    return found


def rich_directory(path: Path) -> Path:
    """Modes, times, links, empty files and directories, odd names, nesting."""
    (path / "sub" / "deeper").mkdir(parents=True)
    (path / "empty directory").mkdir()
    (path / "weights.bin").write_bytes(os.urandom(300_000))
    (path / "empty").write_bytes(b"")
    (path / "sub" / "deeper" / "run.sh").write_text("#!/bin/sh\n")
    (path / "sub" / "deeper" / "run.sh").chmod(0o750)
    (path / "weights.bin").chmod(0o640)
    (path / "latest").symlink_to("weights.bin")
    (path / "sub" / "up").symlink_to("../weights.bin")
    (path / "sub" / "folder").symlink_to("deeper")
    os.utime(path / "weights.bin", ns=(1, 1_234_567_890_123_456_789))
    os.utime(path / "empty directory", ns=(1, 987_654_321_000_000_001))
    os.utime(path / "sub" / "deeper", ns=(1, 987_654_321_000_000_002))
    return path


@pytest.mark.parametrize("mode", [CheckpointUploadMode.ASYNC, SYNC])
@pytest.mark.parametrize("durability", ["fsync", "none"])
@pytest.mark.parametrize("hand_over", [False, True])
def test_every_mode_gives_back_the_same_tree(tmp_path: Path, open_run, mode, durability: str, hand_over: bool) -> None:
    """P3, P5."""
    source = rich_directory(tmp_path / "source")
    expected = tree(source)
    run = open_run(durability=durability)
    report = run.report(
        {"a": 1},
        Checkpoint.from_directory(source),
        checkpoint_upload_mode=mode,
        delete_local_checkpoint_after_upload=hand_over,
    )
    if mode is SYNC:
        assert report.state is ReportState.COMMITTED
    checkpoint = report.wait(timeout_s=30)
    assert source.exists() is not hand_over
    assert tree(checkpoint.to_directory(tmp_path / "restored")) == expected
    assert tree(checkpoint.to_directory(tmp_path / "unverified", verify=False)) == expected
    assert checkpoint.verify()["files"] == 6
    with checkpoint.as_directory() as directory:
        assert tree(directory) == expected


def test_a_restored_checkpoint_can_be_reported_again(tmp_path: Path, open_run) -> None:
    source = rich_directory(tmp_path / "source")
    run = open_run()
    first = run.report({}, Checkpoint(source)).wait()
    second = run.report({}, Checkpoint(first.to_directory())).wait()
    third = run.report({}, second).wait()
    assert second.path != first.path
    assert tree(third.to_directory(tmp_path / "out")) == tree(source)
    assert third.verify()["verified"]


def test_no_upload_registers_what_stands_in_the_run_already(open_run, storage: Path) -> None:
    run = open_run()
    inside = Path(run.path) / "written-here"
    inside.mkdir()
    (inside / "model").write_text("x")
    checkpoint = run.report({"a": 1}, Checkpoint(inside), checkpoint_upload_mode=NO_UPLOAD).wait()
    assert checkpoint.path == str(inside)
    assert checkpoint.verify()["verified"]
    result = run.close()
    assert result.checkpoint == checkpoint
    assert result.checkpoints[0].name == "written-here"


def test_no_upload_of_a_directory_outside_the_run_is_refused(open_run, directory) -> None:
    outside = directory()
    with pytest.raises(InvalidArgumentError, match="directly below the run"):
        open_run().report({}, Checkpoint(outside), checkpoint_upload_mode=NO_UPLOAD)
    assert outside.exists()


def test_a_plain_directory_is_used_as_it_is(directory) -> None:
    path = directory()
    with Checkpoint.from_directory(path).as_directory() as opened:
        assert opened == str(path)


@pytest.mark.parametrize("bad", ["a path", 3])
def test_only_a_checkpoint_is_a_checkpoint(open_run, bad: object) -> None:
    with pytest.raises(InvalidArgumentError, match="Checkpoint"):
        open_run().report({}, bad)


def test_a_remote_checkpoint_must_be_restored_first(open_run) -> None:
    with pytest.raises(InvalidArgumentError, match="local directory"):
        open_run().report({}, Checkpoint("s3://bucket/x"))


def test_resuming_goes_on_from_the_latest(open_run, directory) -> None:
    run = open_run()
    assert run.get_checkpoint() is None
    for step in range(3):
        run.report({"step": step}, Checkpoint(directory(step)))
    run.close()
    run = open_run()
    assert run.info["epoch"] == 2
    assert Path(run.get_checkpoint().to_directory(), "step").read_text() == "2"
    newer = run.report({"step": 3}, Checkpoint(directory(3))).wait()
    assert run.get_checkpoint() == newer
    assert newer.path.endswith("checkpoint_000002_000000000")
    assert [row["step"] for row in run.close().metrics_history] == [0, 1, 2, 3]


def test_resume_must_needs_a_run_and_resume_never_refuses_one(open_run, storage: Path) -> None:
    with pytest.raises(NotFoundError, match="run"):
        open_run(resume="must")
    assert not storage.exists() or not list(storage.iterdir())
    open_run(resume="never").close()
    open_run(resume="must").close()
    with pytest.raises(raystorage.AlreadyExistsError, match='resume="never"'):
        open_run(resume="never")
    assert open_run().info["epoch"] == 3


def test_retention_keeps_the_best_and_always_the_latest(open_run, directory) -> None:
    """P8."""
    run = open_run(checkpoint_config=CheckpointConfig(2, "a/loss", "min"))
    for step, loss in enumerate([3.0, 1.0, 2.0, float("nan"), 5.0]):
        run.report({"a": {"loss": loss}, "step": step}, Checkpoint(directory(step)))
    result = run.close()
    assert [one.metrics["step"] for one in result.checkpoints] == [1, 2, 4]
    assert [metrics["step"] for _, metrics in result.best_checkpoints] == [4, 2, 1]
    assert result.metrics["step"] == 4
    assert Path(result.get_best_checkpoint("a/loss", "min").to_directory(), "step").read_text() == "1"
    assert Path(result.get_best_checkpoint("a/loss", "max").to_directory(), "step").read_text() == "4"
    on_disk = sorted(path.name for path in Path(run.path).glob("checkpoint_0*"))
    assert on_disk == sorted(os.path.basename(one.checkpoint.path) for one in result.checkpoints)


def test_a_metric_that_no_checkpoint_has_is_an_error_that_lists_those_that_there_are(open_run, directory) -> None:
    run = open_run()
    run.report({"loss": 1, "n": {"x": 2}}, Checkpoint(directory()))
    result = run.close()
    with pytest.raises(InvalidArgumentError, match="loss, n/x"):
        result.get_best_checkpoint("lost", "min")
    with pytest.raises(InvalidArgumentError, match="mode"):
        result.get_best_checkpoint("loss", "best")


def test_a_run_without_a_checkpoint_opens_and_shows_its_metrics(open_run) -> None:
    run = open_run()
    run.report({"a": 1})
    result = run.close()
    assert (result.checkpoint, result.metrics["a"], result.best_checkpoints) == (None, 1, [])


def test_reading_needs_no_run_and_writes_nothing(open_run, directory, storage: Path) -> None:
    run = open_run()
    run.report({"a": 1}, Checkpoint(directory()))
    run.close()
    before = {path: path.lstat().st_mtime_ns for path in storage.rglob("*")}
    result = Result.from_path(run.path)
    result.checkpoint.verify()
    assert result.metrics_history
    with result.checkpoint.as_directory():
        pass
    assert {path: path.lstat().st_mtime_ns for path in storage.rglob("*")} == before


def test_what_is_no_run_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotFoundError, match=str(path)):
            Result.from_path(path)
    with pytest.raises(NotFoundError):
        Checkpoint(tmp_path / "missing").to_directory(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_reported_checkpoints_are_listed_after_waiting_for_them(open_run, directory) -> None:
    run = open_run()
    for step in range(4):
        run.report({"step": step}, Checkpoint(directory(step)))
    listed = run.get_all_reported_checkpoints()
    assert [one.metrics["step"] for one in listed] == [0, 1, 2, 3]
    assert [one.latest for one in listed] == [False, False, False, True]
    assert [one.index for one in listed] == [0, 1, 2, 3]
    assert {one.status for one in listed} == {"committed"}


def test_metadata_is_set_read_and_updated_and_the_checkpoint_still_verifies(open_run, directory) -> None:
    run = open_run()
    checkpoint = run.report({}, Checkpoint(directory())).wait()
    assert checkpoint.get_metadata() == {}
    checkpoint.set_metadata({"a": 1, "b": [1, 2]})
    checkpoint.update_metadata({"a": 2, "é": None})
    assert checkpoint.get_metadata() == {"a": 2, "b": [1, 2], "é": None}
    assert checkpoint.verify()["ok"]
    local = Checkpoint.from_directory(directory())
    local.set_metadata({"kept": True})
    assert run.report({}, local).wait().get_metadata() == {"kept": True}


def test_progress_is_told_while_restoring(open_run, directory, tmp_path: Path) -> None:
    run = open_run()
    checkpoint = run.report({}, Checkpoint(directory())).wait()
    told: list[dict[str, object]] = []
    checkpoint.to_directory(tmp_path / "out", progress=told.append)
    assert set(told[-1]) >= {"bytes_done", "bytes_total", "files_done", "files_total", "phase"}
    assert told[-1]["bytes_done"] == told[-1]["bytes_total"] == 1001


def test_a_restore_merges_into_a_directory_and_keeps_what_is_there(open_run, directory, tmp_path: Path) -> None:
    run = open_run()
    checkpoint = run.report({}, Checkpoint(directory(1))).wait()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    (tmp_path / "out" / "step").write_text("old")
    checkpoint.to_directory(tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "kept"
    assert (tmp_path / "out" / "step").read_text() == "1"


def test_a_report_can_be_awaited(open_run, directory) -> None:
    run = open_run()

    async def train() -> list[Checkpoint | None]:
        reports = [run.report({"step": step}, Checkpoint(directory(step))) for step in range(5)]
        assert await run.report({"only": "metrics"}) is None
        return list(await asyncio.gather(*(wrap(report) for report in reports)))

    async def wrap(report: raystorage.Report) -> Checkpoint | None:
        return await report

    checkpoints = asyncio.run(train())
    assert [os.path.basename(one.path)[-1] for one in checkpoints] == list("01234")


def test_awaiting_lets_the_loop_go_on_and_raises_what_went_wrong(open_run, directory) -> None:
    """The capture happens inside report(); what is awaited is the rest, here hundreds of fsyncs."""
    run = open_run(durability="fsync")
    ticks = 0

    async def train() -> None:
        nonlocal ticks

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticker = asyncio.create_task(tick())
        report = run.report({}, Checkpoint(directory({f"{n}": b"x" * 1000 for n in range(500)})))
        await report
        ticker.cancel()
        cancelled = run.report({}, Checkpoint(directory()))
        cancelled.cancel()
        if cancelled.state is not ReportState.COMMITTED:
            with pytest.raises(raystorage.CancelledError):
                await cancelled

    asyncio.run(train())
    assert ticks > 5


def test_threads_may_report_at_the_same_time(open_run, directory) -> None:
    run = open_run(max_pending_reports=100)
    sources = [[directory(number) for _ in range(5)] for number in range(4)]
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for source in sources[number]:
                run.report({"thread": number}, Checkpoint(source))
                run.report({"thread": number})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    result = run.close()
    assert len(result.metrics_history) == 40
    assert len(result.checkpoints) == 20
    for one in result.checkpoints:
        assert (Path(one.checkpoint.path) / "step").read_text() == str(one.metrics["thread"])


# ---------------------------------------------------------------- handing over


def test_a_handed_over_directory_is_moved_not_copied(open_run, directory) -> None:
    source = directory()
    inode = (source / "model.bin").stat().st_ino
    run = open_run()
    checkpoint = run.report({}, Checkpoint(source), delete_local_checkpoint_after_upload=True).wait()
    assert not source.exists()
    assert Path(checkpoint.path, "model.bin").stat().st_ino == inode


@pytest.fixture
def other_file_system() -> Iterator[Path]:
    """A directory of another file system than tmp_path's."""
    import shutil
    import tempfile

    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("/dev/shm is not writable")
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_from_another_file_system_it_is_copied_and_removed_only_after_the_commit(
    open_run, other_file_system: Path, tmp_path: Path
) -> None:
    """P8: the only copy is not given up before there is another."""
    source = rich_directory(other_file_system / "source")
    expected = tree(source)
    assert source.stat().st_dev != tmp_path.stat().st_dev
    run = open_run()
    checkpoint = run.report({}, Checkpoint(source), delete_local_checkpoint_after_upload=True).wait()
    assert tree(checkpoint.path) == expected
    run.flush()
    assert not source.exists()


def test_from_another_file_system_it_stays_when_the_commit_fails(storage: Path, other_file_system: Path) -> None:
    """P8."""
    done = python(
        """
        run = Run(RunConfig("r", sys.argv[1], retry_timeout_s=0.2))
        checkpoint = source(sys.argv[2])
        try:
            run.report({}, checkpoint, delete_local_checkpoint_after_upload=True).wait()
        except StorageError as error:
            say(error.code)
        """,
        storage,
        other_file_system / "source",
        faults="call=rename_noreplace|rename path=*/attempts/* hit=1+ do=error:EIO",
    )
    assert done.out.strip() != ""
    assert (other_file_system / "source" / "model.bin").read_bytes() == bytes(1000)


def test_a_handed_over_report_that_fails_gives_the_directory_back(storage: Path, tmp_path: Path) -> None:
    """P8, P9."""
    done = python(
        """
        run = Run(RunConfig("r", sys.argv[1], retry_timeout_s=0.2))
        checkpoint = source(sys.argv[2])
        try:
            run.report({}, checkpoint, delete_local_checkpoint_after_upload=True).wait()
        except StorageError as error:
            say(error.code)
        say(sorted(os.listdir(sys.argv[2])))
        """,
        storage,
        tmp_path / "mine",
        faults="call=fsync|fdatasync path=*model.bin hit=1+ do=error:EIO",
    )
    assert done.out.split("\n")[:2] == ["IO", "['model.bin']"]


def test_files_with_other_names_are_copied_even_when_handed_over(open_run, tmp_path: Path) -> None:
    """P3: through the other name the bytes could still change."""
    source = tmp_path / "source"
    source.mkdir()
    outside = tmp_path / "outside"
    outside.write_text("original")
    os.link(outside, source / "linked")
    (source / "alone").write_text("x")
    run = open_run()
    report = run.report({}, Checkpoint(source), delete_local_checkpoint_after_upload=True)
    outside.write_text("CHANGED!")
    checkpoint = report.wait()
    assert Path(checkpoint.path, "linked").read_text() == "original"
    assert checkpoint.verify()["ok"]


def test_a_committed_checkpoint_cannot_be_handed_over(open_run, directory) -> None:
    """P8."""
    run = open_run()
    first = run.report({}, Checkpoint(directory())).wait()
    with pytest.raises(InvalidArgumentError, match="committed checkpoint"):
        run.report({}, first, delete_local_checkpoint_after_upload=True).wait()
    assert first.verify()["ok"]


def test_a_directory_that_holds_the_run_is_refused(tmp_path: Path) -> None:
    with raystorage.Run(raystorage.RunConfig("run", tmp_path, durability="none")) as run:
        for hand_over in (False, True):
            with pytest.raises(InvalidArgumentError, match="run directory"):
                run.report({}, Checkpoint(tmp_path), delete_local_checkpoint_after_upload=hand_over)
    assert (tmp_path / "run").exists()


# ---------------------------------------------------------------- files


def test_hard_links_inside_become_files_with_the_same_bytes(open_run, directory, tmp_path: Path) -> None:
    source = directory({"a": "content"})
    os.link(source / "a", source / "b")
    checkpoint = open_run().report({}, Checkpoint(source)).wait()
    restored = tree(checkpoint.to_directory(tmp_path / "out"))
    assert restored[b"a"][3] == restored[b"b"][3] == b"content"


def test_sparse_files_stay_sparse_all_the_way(open_run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.seek(256 << 20)
        file.write(b"end")
    before = (source / "sparse").stat().st_blocks
    checkpoint = open_run().report({}, Checkpoint(source)).wait()
    out = Path(checkpoint.to_directory(tmp_path / "out"))
    for path in (Path(checkpoint.path), out):
        assert (path / "sparse").stat().st_size == (256 << 20) + 3
        assert (path / "sparse").stat().st_blocks <= before + 64
    with (out / "sparse").open("rb") as file:
        file.seek(256 << 20)
        assert file.read() == b"end"


ODD_NAMES = [
    "with space",
    " leading and trailing ",
    "per%20cent%",
    "new\nline",
    "tab\tand\x01control",
    "back\\slash",
    'quote"s',
    "-dash",
    "~tilde",
    ".hidden",
    "é" * 100,
    unicodedata.normalize("NFC", "café"),
    unicodedata.normalize("NFD", "café"),
    "\U0001f600",
    "x" * 255,
    "\u202eright-to-left",
    "CON",
    "a:b?c*d<e>|f",
]


def test_files_may_be_named_anything(open_run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ODD_NAMES:
        (source / ("d" + name)[:254]).mkdir(parents=True)
        (source / ("d" + name)[:254] / name).write_text(name)
        (source / name).write_text(name)
    expected = tree(source)
    assert len(expected) == 3 * len(ODD_NAMES)
    run = open_run()
    checkpoint = run.report({}, Checkpoint(source)).wait()
    assert tree(checkpoint.to_directory(tmp_path / "out")) == expected
    assert checkpoint.verify()["ok"]


def test_a_name_that_is_no_text_works_or_is_refused_with_its_path(open_run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    name = os.fsencode(source) + b"/bad\xff\xfename"
    with open(name, "wb") as file:
        file.write(b"x")
    try:
        checkpoint = open_run().report({}, Checkpoint(source)).wait()
    except InvalidArgumentError as error:
        assert "bad" in str(error)
    else:
        assert tree(checkpoint.to_directory(tmp_path / "out")) == tree(source)


@pytest.mark.parametrize("name", ["run with space", "100%", "%41", "café", "x" * 200, "a:b", "-rf", "\U0001f600"])
def test_runs_and_storage_paths_may_have_odd_names(storage: Path, directory, name: str) -> None:
    path = storage / name / "store"
    with raystorage.Run(raystorage.RunConfig(name, path, durability="none")) as run:
        run.report({}, Checkpoint(directory()), checkpoint_dir_name=name).wait()
        assert Path(run.path) == path / name
    result = Result.from_path(path / name)
    assert Path(result.checkpoint.path) == path / name / name
    assert result.checkpoint.verify()["ok"]


def test_a_file_uri_is_the_path_that_it_names(storage: Path, directory) -> None:
    uri = storage.as_uri() + "%20x"
    with raystorage.Run(raystorage.RunConfig("r", uri, durability="none")) as run:
        run.report({}, Checkpoint(directory())).wait()
    assert Result.from_path(f"{storage} x/r").checkpoint is not None
    assert Result.from_path(uri + "/r").checkpoint is not None


def memory(key: str) -> float:
    """A line of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def test_a_hundred_thousand_files_go_through(open_run, tmp_path: Path, say) -> None:
    count = 100_000
    source = tmp_path / "source"
    for folder in range(100):
        (source / str(folder)).mkdir(parents=True)
        for number in range(count // 100):
            descriptor = os.open(source / str(folder) / str(number), os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, b"%d" % number)
            os.close(descriptor)
    run = open_run()
    Path("/proc/self/clear_refs").write_text("5")
    idle = memory("VmRSS")
    start = time.monotonic()
    checkpoint = run.report({}, Checkpoint(source), delete_local_checkpoint_after_upload=True).wait()
    stored = time.monotonic()
    document = checkpoint.verify()
    assert (document["ok"], document["files"]) == (True, count)
    verified = time.monotonic()
    peak = memory("VmHWM") - idle
    say(
        f"100,000 files: stored in {stored - start:.1f} s, verified in {verified - stored:.1f} s, "
        f"{peak:.0f} MiB above idle at most"
    )
    assert peak < 300


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_directory_is_a_checkpoint_too(open_run, directory, tmp_path: Path, count: int) -> None:
    source = directory({"empty": ""} if count else {})
    checkpoint = open_run().report({}, Checkpoint(source)).wait()
    assert len(os.listdir(checkpoint.to_directory(tmp_path / "out"))) == count


# ---------------------------------------------------------------- what no checkpoint holds


def refused_entries(kind: str, source: Path) -> Path:
    path = source / "sub" / "odd"
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listening:
            here = os.getcwd()
            os.chdir(path.parent)
            try:
                listening.bind(path.name)
            finally:
                os.chdir(here)
    elif kind == "link that leaves":
        path.symlink_to("../../outside")
    elif kind == "absolute link":
        path.symlink_to("/etc/passwd")
    elif kind == "link through a link":
        (source / "sub" / "up").symlink_to("..")
        path.symlink_to("up/../outside")
    return path


@pytest.mark.parametrize("hand_over", [False, True])
@pytest.mark.parametrize("kind", ["fifo", "socket", "link that leaves", "absolute link", "link through a link"])
def test_what_no_checkpoint_holds_is_refused_with_its_path(open_run, directory, kind: str, hand_over: bool) -> None:
    """P1, P7, P9: before anything is committed, the source stays, nothing is left over, and the next report works."""
    source = directory(1)
    path = refused_entries(kind, source)
    before = sorted(source.rglob("*"))
    run = open_run()
    with pytest.raises(InvalidArgumentError) as caught:
        run.report({}, Checkpoint(source), delete_local_checkpoint_after_upload=hand_over)
    assert str(path) in str(caught.value)
    assert sorted(source.rglob("*")) == before
    assert not list(Path(run.path, ".raystorage/attempts").iterdir())
    path.unlink()
    assert run.report({}, Checkpoint(source)).wait() is not None


def test_a_loop_of_links_is_kept_as_links(open_run, directory, tmp_path: Path) -> None:
    """Ray follows a link to `..` until it is killed."""
    source = directory(1)
    (source / "loop").symlink_to(".")
    (source / "a").symlink_to("b")
    (source / "b").symlink_to("a")
    (source / "dangling").symlink_to("nothing")
    checkpoint = open_run().report({}, Checkpoint(source)).wait()
    assert tree(checkpoint.to_directory(tmp_path / "out")) == tree(source)


@pytest.mark.parametrize("hand_over", [False, True])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, hand_over: bool) -> None:
    """P1, P7, P9."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user, who cannot read every file")
    work = tmp_path / "work"
    work.mkdir()
    source = work / "source"
    source.mkdir()
    (source / "good").write_text("x")
    (source / "secret").write_text("x")
    for parent in (tmp_path, *tmp_path.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    for path in (work, source):
        os.chown(path, 65534, 65534)
    (source / "secret").chmod(0o600)
    done = python(
        """
        os.setgid(65534); os.setuid(65534)
        run = Run(RunConfig("r", sys.argv[1] + "/storage", staging_dir=sys.argv[1] + "/staging"))
        try:
            run.report({"n": 1}, Checkpoint(sys.argv[1] + "/source"),
                       delete_local_checkpoint_after_upload=sys.argv[2] == "True").wait()
        except PermissionDeniedError as error:
            say(error)
        os.mkdir(sys.argv[1] + "/next")
        say(run.report({"n": 2}, Checkpoint(sys.argv[1] + "/next")).wait() is not None)
        say([row["n"] for row in run.close().metrics_history])
        """,
        work,
        hand_over,
    )
    lines = done.out.splitlines()
    assert str(source / "secret") in lines[0]
    assert lines[1:] == ["True", "[1, 2]"]
    assert sorted(path.name for path in source.iterdir()) == ["good", "secret"]


def test_a_file_that_changes_during_the_capture_is_an_error_that_names_it(storage: Path, tmp_path: Path) -> None:
    """P1, P3: the process is stopped when it has opened the file, and goes on when the file is shorter."""
    (tmp_path / "source").mkdir()
    for name in ("first", "second"):
        (tmp_path / "source" / name).write_bytes(b"x" * 100_000)
    rule = f"call=open exact={tmp_path}/source/second do=stop-after"
    code = """
        run = Run(RunConfig("r", sys.argv[1], durability="none"))
        say("go")
        try:
            run.report({"n": 1}, Checkpoint(sys.argv[2])).wait()
        except StorageError as error:
            say(error.code, error)
        say(run.get_checkpoint(), os.listdir(run.path + "/.raystorage/attempts"))
        """
    with Process(code, storage, tmp_path / "source", faults=rule) as process:
        assert process.line() == "go"
        process.wait_stopped()
        os.truncate(tmp_path / "source" / "second", 50_000)
        process.send(signal.SIGCONT)
        line = process.line()
        assert "second" in line
        assert line.split()[0] in ("PRECONDITION", "IO")
        assert process.line() == "None []"


def test_a_directory_without_a_directory_is_an_error(open_run, tmp_path: Path) -> None:
    run = open_run()
    (tmp_path / "file").write_text("x")
    for options in ({}, {"delete_local_checkpoint_after_upload": True, "checkpoint_dir_name": "best"}):
        with pytest.raises(InvalidArgumentError, match="not a directory") as refused:
            run.report({}, Checkpoint(tmp_path / "file"), **options)
        with pytest.raises(NotFoundError, match="does not exist") as caught:
            run.report({}, Checkpoint(tmp_path / "missing"), **options)
        for error, name in ((refused.value, "file"), (caught.value, "missing")):
            assert error.details["name"] == "checkpoint"
            assert error.details["value"] == str(tmp_path / name)
            assert error.details["allowed"]
    assert not list(Path(run.path).glob(".raystorage/names/*")), "nothing is claimed for what is refused"


# ---------------------------------------------------------------- P3


@pytest.mark.parametrize("change", ["overwritten", "truncated", "deleted", "replaced", "appended"])
def test_after_an_async_report_the_directory_is_the_callers_again(open_run, tmp_path: Path, change: str) -> None:
    """P3: what is committed is what was there at the call."""
    run = open_run(durability="fsync", max_pending_reports=100)
    source = tmp_path / "source"
    source.mkdir()
    reports = []
    for step in range(10):
        (source / "big").write_bytes(bytes([step]) * 3_000_000)
        (source / "small").write_text(f"step {step}")
        reports.append(run.report({"step": step}, Checkpoint(source)))
        for name in ("big", "small"):
            path = source / name
            if change == "overwritten":
                with path.open("r+b") as file:
                    file.write(b"\xff" * path.stat().st_size)
            elif change == "truncated":
                os.truncate(path, 0)
            elif change == "deleted":
                path.unlink()
            elif change == "replaced":
                other = path.with_suffix(".new")
                other.write_text("other")
                other.replace(path)
            else:
                with path.open("ab") as file:
                    file.write(b"more")
    for step, report in enumerate(reports):
        checkpoint = report.wait()
        assert Path(checkpoint.path, "big").read_bytes() == bytes([step]) * 3_000_000
        assert Path(checkpoint.path, "small").read_text() == f"step {step}"
        assert checkpoint.verify()["ok"]
