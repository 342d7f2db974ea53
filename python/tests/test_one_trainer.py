"""Two trainers on one run: the second is refused by name, takes over a dead one, and who was taken over is told."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import Process, python, until

from raystorage import Checkpoint, Result, Run, RunConfig, RunInUseError

HOLDER = """
    run = Run(RunConfig("run", sys.argv[1], staging_dir=sys.argv[2], heartbeat_s=float(sys.argv[3])))
    run.report({"holder": 1}, source(sys.argv[2] + "-src", 1)).wait()
    say("holding")
    sys.stdin.readline()
    """
NEWCOMER = """
    try:
        start = time.monotonic()
        run = Run(RunConfig("run", sys.argv[1], staging_dir=sys.argv[2], heartbeat_s=float(sys.argv[3])))
        say("opened", run.info["epoch"], run.get_checkpoint() is not None, time.monotonic() - start)
    except RunInUseError as error:
        say("refused", error.details.get("holder_pid"), error.retryable, time.monotonic() - start, error)
    """


def test_in_the_same_process_a_second_one_is_refused(open_run, storage: Path) -> None:
    run = open_run()
    with pytest.raises(RunInUseError, match="in use by this process") as caught:
        Run(RunConfig("run", storage))
    assert caught.value.details["path"] == run.path
    link = storage.parent / "link"
    link.symlink_to(storage)
    with pytest.raises(RunInUseError):
        Run(RunConfig("run", link))
    run.close()
    open_run()


def test_in_another_process_of_the_host_it_is_refused_at_once_with_pid_and_host(storage: Path, tmp_path: Path) -> None:
    with Process(HOLDER, storage, tmp_path / "st", 10) as holder:
        assert holder.line() == "holding"
        words = python(NEWCOMER, storage, tmp_path / "st", 10).out.split(maxsplit=4)
        assert words[0] == "refused"
        assert words[1] == str(holder.pid)
        assert words[2] == "True"
        assert float(words[3]) < 1
        assert str(holder.pid) in words[4]
        assert os.uname().nodename in words[4]
        holder.tell()
        assert holder.end().code == 0
    assert python(NEWCOMER, storage, tmp_path / "st", 10).out.startswith("opened 2 True")


def test_gc_asks_the_lock_of_this_host_and_does_not_watch(storage: Path, tmp_path: Path) -> None:
    """P9. With a heartbeat of 100 seconds watching would take 300."""
    environment = {**os.environ, "RAYSTORAGE_STAGING_DIR": str(tmp_path / "st")}

    def collect() -> dict[str, list[dict[str, str]]]:
        command = [sys.executable, "-m", "raystorage", "gc", str(storage / "run"), "--now", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        answer: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
        return answer

    with Process(HOLDER, storage, tmp_path / "st", 100) as holder:
        assert holder.line() == "holding"
        nonce = json.loads((storage / "run/.raystorage/epochs/1/epoch.json").read_text())["nonce"]
        (storage / f"run/.raystorage/attempts/1-7-{nonce}").mkdir()
        assert [entry["reason"] for entry in collect()["kept"]] == ["its trainer is alive"]
        holder.send(signal.SIGKILL)
        holder.end()
    assert [entry["reason"] for entry in collect()["removed"]] == ["unfinished, --now"]


def test_on_another_host_it_is_refused_when_it_has_seen_a_heartbeat(storage: Path, tmp_path: Path) -> None:
    with Process(HOLDER, storage, tmp_path / "here", 0.2) as holder:
        assert holder.line() == "holding"
        words = python(NEWCOMER, storage, tmp_path / "elsewhere", 0.2).out.split(maxsplit=4)
        assert words[:2] == ["refused", str(holder.pid)]
        assert os.uname().nodename in words[4]
        holder.tell()
        assert holder.end().code == 0


def test_on_another_host_it_takes_over_from_a_dead_one_after_three_heartbeats(storage: Path, tmp_path: Path) -> None:
    with Process(HOLDER, storage, tmp_path / "here", 0.3) as holder:
        assert holder.line() == "holding"
        holder.kill()
    words = python(NEWCOMER, storage, tmp_path / "elsewhere", 0.3).out.split()
    assert words[:3] == ["opened", "2", "True"]
    assert 0.9 <= float(words[3]) < 5


def test_on_the_same_host_it_takes_over_from_a_dead_one_at_once(storage: Path, tmp_path: Path) -> None:
    with Process(HOLDER, storage, tmp_path / "st", 10) as holder:
        assert holder.line() == "holding"
        holder.kill()
    words = python(NEWCOMER, storage, tmp_path / "st", 10).out.split()
    assert words[:3] == ["opened", "2", "True"]
    assert float(words[3]) < 2


def test_after_an_orderly_end_another_host_does_not_wait(storage: Path, tmp_path: Path) -> None:
    with Process(HOLDER, storage, tmp_path / "here", 30) as holder:
        assert holder.line() == "holding"
        holder.tell()
        assert holder.end().code == 0
    words = python(NEWCOMER, storage, tmp_path / "elsewhere", 30).out.split()
    assert words[:3] == ["opened", "2", "True"]
    assert float(words[3]) < 2


def test_of_two_that_start_at_once_one_works_and_one_is_refused(
    storage: Path, tmp_path: Path, round_number: int
) -> None:
    code = """
        say("ready")
        sys.stdin.readline()
        try:
            run = Run(RunConfig("run", sys.argv[1], heartbeat_s=0.2))
            run.report({"me": os.getpid()}, source(sys.argv[2] + str(os.getpid()), 1)).wait()
            say("works")
        except RunInUseError:
            say("refused")
        sys.stdin.readline()
        """
    with Process(code, storage, tmp_path / "src") as one, Process(code, storage, tmp_path / "src") as other:
        for process in (one, other):
            assert process.line() == "ready"
        for process in (one, other):
            process.tell()
        assert sorted((one.line(), other.line())) == ["refused", "works"]
        for process in (one, other):
            process.tell()
            assert process.end().code == 0
    assert len(Result.from_path(storage / "run").checkpoints) == 1


def test_a_holder_that_was_stopped_while_another_took_over_is_told_by_whom(storage: Path, tmp_path: Path) -> None:
    """commit.md, One live trainer: nothing of the old one is committed, evicted or written any more."""
    code = """
        run = Run(RunConfig("run", sys.argv[1], staging_dir=sys.argv[2], heartbeat_s=0.3,
                            checkpoint_config=CheckpointConfig(1)))
        run.report({"n": 1}, source(sys.argv[2] + "-src", 1), checkpoint_dir_name="mine").wait()
        say("holding")
        sys.stdin.readline()
        for number in range(2, 4):
            try:
                run.report({"n": number}, source(sys.argv[2] + "-src", number)).wait()
                say("committed")
            except SupersededError as error:
                say("superseded", error.details.get("holder_pid"), error)
        """
    with Process(code, storage, tmp_path / "here") as old:
        assert old.line() == "holding"
        old.send(signal.SIGSTOP)
        old.wait_stopped()
        with Run(RunConfig("run", storage, staging_dir=tmp_path / "there", heartbeat_s=0.3, durability="none")) as new:
            assert new.get_checkpoint().path.endswith("mine")
            newer = new.report({"n": 10}, Checkpoint(source(tmp_path / "s", 10))).wait()
            snapshot = Path(new.path, "checkpoint_manager_snapshot.json").read_bytes()
            old.send(signal.SIGCONT)
            old.tell()
            for _ in range(2):
                line = old.line()
                assert line.startswith(f"superseded {os.getpid()}"), line
                assert os.uname().nodename in line
            assert old.end().code == 0
            assert Path(new.path, "checkpoint_manager_snapshot.json").read_bytes() == snapshot
    result = Result.from_path(storage / "run")
    assert [one.metrics["n"] for one in result.checkpoints] == [1, 10]
    assert result.checkpoint == newer


def test_a_holder_stopped_between_its_commit_and_its_look_at_the_fence_does_not_say_committed(
    storage: Path, tmp_path: Path
) -> None:
    """Either the newcomer's list has the commit, or the holder sees the fence."""
    code = """
        run = Run(RunConfig("run", sys.argv[1], staging_dir=sys.argv[2], heartbeat_s=0.3))
        try:
            run.report({"n": 1}, source(sys.argv[2] + "-src", 1)).wait()
            say("committed")
        except SupersededError:
            say("superseded")
        """
    rename = "call=rename|rename_noreplace path=*/attempts/*->*/checkpoint_* do=stop"
    for action in ("stop", "stop-after"):
        place = storage / action
        with Process(code, place, tmp_path / f"h-{action}", faults=rename.replace("do=stop", f"do={action}")) as old:
            old.wait_stopped()
            with Run(RunConfig("run", place, staging_dir=tmp_path / "there", heartbeat_s=0.3)) as new:
                found = new.get_checkpoint()
                assert (found is not None) is (action == "stop-after")
                old.send(signal.SIGCONT)
                assert old.line() == "superseded"
                assert old.end().code == 0
                latest = new.get_checkpoint()
                assert latest == found, "what was not there at the takeover never becomes the latest"


def source(path: Path, step: int) -> Path:
    path.mkdir()
    (path / "model.bin").write_bytes(bytes([step]))
    return path


def test_waiting_for_the_heartbeat_of_another_host_can_be_interrupted(storage: Path, tmp_path: Path) -> None:
    """P12: Ctrl-C is answered at once."""
    with Process(HOLDER, storage, tmp_path / "here", 20) as holder:
        assert holder.line() == "holding"
        holder.kill()
    code = """
        say("opening")
        try:
            Run(RunConfig("run", sys.argv[1], staging_dir=sys.argv[2]))
        except KeyboardInterrupt:
            say("interrupted", time.time())
        """
    with Process(code, storage, tmp_path / "elsewhere") as newcomer:
        assert newcomer.line() == "opening"
        time.sleep(0.5)
        sent = time.time()
        newcomer.send(signal.SIGINT)
        words = newcomer.line().split()
        assert words[0] == "interrupted"
        assert float(words[1]) - sent < 0.3
        assert newcomer.end().seconds < 5


def test_an_interrupted_opening_leaves_the_run_free(open_run, storage: Path, tmp_path: Path) -> None:
    """P7."""
    test_waiting_for_the_heartbeat_of_another_host_can_be_interrupted(storage, tmp_path)
    assert python(NEWCOMER, storage, tmp_path / "here", 1).out.startswith("opened 2 True")


def test_the_record_of_a_launch_names_it(open_run) -> None:
    run = open_run()
    import json

    record = json.loads(Path(run.path, ".raystorage/epochs/1/epoch.json").read_text())
    assert record["pid"] == os.getpid()
    assert record["hostname"] == os.uname().nodename
    assert re.fullmatch("[0-9a-f]{16}", record["nonce"])
    until(lambda: Path(run.path, ".raystorage/epochs/1/heartbeat").read_text().strip().isdigit())
