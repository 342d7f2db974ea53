"""The command line as people use it: on a terminal, in a pipe, interrupted, and by its exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import KILLPOINT, ROOT
from terminal import Terminal

from raystorage import Checkpoint, CheckpointConfig

_SIZE = 40 << 20


def piped(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python"), **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "raystorage", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


def written(open_run, directory, size: int) -> Path:
    """A run of two checkpoints, its path."""
    opened = open_run("digits", checkpoint_config=CheckpointConfig(checkpoint_score_attribute="val/accuracy"))
    for step in range(2):
        source = directory({"model.bin": os.urandom(size >> 3) * 8, "optimizer/state": "x"})
        opened.report({"epoch": step, "loss": 1 / (step + 3), "val": {"accuracy": 0.5 + step / 10}}, Checkpoint(source))
    opened.close()
    return Path(opened.path)


@pytest.fixture
def run(open_run, directory) -> Path:
    """Two checkpoints of 40 MiB."""
    return written(open_run, directory, _SIZE)


@pytest.fixture
def small(open_run, directory) -> Path:
    """Two small checkpoints."""
    return written(open_run, directory, 4096)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A call under the fault `hold` waits until this file exists."""
    path = tmp_path / "gate"
    monkeypatch.setenv("RAYSTORAGE_FAULT_GATE", str(path))
    return path


# A read in the middle of a file's bytes waits: some are done, some are not.
_HELD = "call=read path=*/model.bin hit=60+ do=hold"


@pytest.mark.parametrize("columns", [80, 30])
def test_progress_is_shown_in_one_line_and_is_gone_at_the_end(run: Path, gate: Path, columns: int) -> None:
    with Terminal("verify", run, columns=columns, faults=_HELD) as terminal:
        # The last figures stand there when all that is not held is read.
        terminal.read_until(lambda _: re.search(r": [1-9]", "".join(terminal.screen()[-1:])))
        line = terminal.screen()[-1]
        assert line.startswith("verifying")
        if columns == 80:
            assert re.match(r"verifying checkpoint_0.*: [\d.]+ MiB of 40\.0 MiB \(\d+%\), \d/2 files", line), line
        # Never as wide as the terminal: the cursor would go to the next line.
        drawn = [shown for shown in re.split("[\r\n]+|\x1b\\[K", terminal.text) if shown.startswith("verif")]
        assert drawn
        assert all(len(shown) <= columns - 3 for shown in drawn)
        gate.touch()
        code, lines = terminal.end()
        assert code == 0
        assert [" good" in line for line in lines if line.startswith("checkpoint")] == [True, True]
        assert not any("verifying" in line for line in lines)


def test_in_a_pipe_there_is_no_progress_and_no_colour(small: Path, gate: Path) -> None:
    gate.touch()
    done = piped("verify", small)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    rows = done.stdout.splitlines()
    assert rows[0].split() == ["CHECKPOINT", "BYTES", "ARE", "FILES", "SIZE"]
    assert len(rows) == 3


def test_ctrl_c_gives_130_at_once_and_leaves_nothing(run: Path, gate: Path, tmp_path: Path) -> None:
    """P9, P12: half of the bytes are restored when it is pressed."""
    target = tmp_path / "restored"
    faults = "call=write|copy_file_range|reflink path=*model.bin* hit=10+ do=hold"
    with Terminal("get", run, target, faults=faults) as terminal:
        terminal.read_until(lambda text: "restoring" in text)
        pressed = time.monotonic()
        terminal.press("\x03")
        terminal.read_until(lambda text: "interrupted" in text)
        # Now the disk answers, and what is half there can be removed.
        gate.touch()
        code, lines = terminal.end()
        assert code == 130, lines
        assert time.monotonic() - pressed < 5
        assert lines[-1] == "interrupted"
        assert not any("Traceback" in line for line in lines)
    assert not target.exists(), sorted(map(str, target.rglob("*")))
    assert not list(tmp_path.rglob("*restor*"))


def test_ctrl_c_while_the_disk_does_not_answer_gives_130_too(run: Path, gate: Path) -> None:
    """P12: nothing is waited for that may never come."""
    with Terminal("verify", run, faults=_HELD) as terminal:
        terminal.read_until(lambda text: "verifying" in text)
        pressed = time.monotonic()
        terminal.press("\x03")
        terminal.read_until(lambda text: "interrupted" in text)
        assert time.monotonic() - pressed < 2
        code, lines = terminal.end()
        assert (code, lines[-1]) == (130, "interrupted")
        assert time.monotonic() - pressed < 10
    assert not gate.exists()


@pytest.mark.parametrize("columns", [200, 100, 80, 60, 45, 30, 20])
@pytest.mark.parametrize("command", ["ls", "show", "metrics"])
def test_tables_fit_the_terminal_and_names_are_whole_where_they_can_be(small: Path, command: str, columns: int) -> None:
    path = small.parent if command == "ls" else small
    with Terminal(command, path, columns=columns, env={"NO_COLOR": "1"}) as terminal:
        code, lines = terminal.end()
    assert code == 0, lines
    table = [line for line in lines if command != "show" or not re.match("(run|path|format|latest|metrics) ", line)]
    # The words of `show` above the table and the last line wrap as text does.
    table = [line for line in table if not line.startswith("too narrow")]
    first = next(index for index, line in enumerate(table) if line.startswith(("RUN", "CHECKPO", "#")))
    rows = table[first:]
    assert all(len(line) <= columns for line in rows), rows
    if columns >= 30 and command != "metrics":
        name = "digits" if command == "ls" else "checkpoint_000001_000000000"
        assert any(name in line for line in rows), rows
    if columns >= 80 and command == "show":
        assert any(line.endswith(("best latest", "latest best")) for line in rows), rows


def test_colours_only_on_a_terminal_that_wants_them(small: Path) -> None:
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        with Terminal("show", small, env=env) as terminal:
            assert terminal.end()[0] == 0
            assert ("\x1b[" in terminal.text) == coloured


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "{storage}"], ["ls", "{run}"], ["show", "{run}"], ["metrics", "{run}"],
        ["metrics", "{run}", "--last", "1"],
        ["verify", "{run}"], ["get", "{run}", "{out}"], ["get", "{run}", "{out}", "--best", "loss:min"],
        ["get", "{run}", "{out}", "--include", "optimizer/", "--include", "*.bin"], ["drain"],
        ["gc", "{run}"], ["gc", "{run}", "--dry-run"], ["doctor", "{storage}"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_each_command_answers_in_one_json_document(small: Path, tmp_path: Path, arguments: list[str]) -> None:
    places = {"storage": small.parent, "run": small, "out": tmp_path / "out"}
    done = piped(*(argument.format(**places) for argument in arguments), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert isinstance(json.loads(done.stdout), (dict, list))
    # The same for people: something is said, and it is no JSON.
    done = piped(*(argument.format(**places) for argument in arguments))
    assert done.returncode == 0
    assert done.stdout.strip()
    assert not done.stdout.startswith(("{", "["))


def test_exit_codes(run: Path, tmp_path: Path) -> None:
    """0 done, 1 the answer is bad, 2 wrong usage, 3 storage error; each error on standard error, in a line."""
    (tmp_path / "empty").mkdir()
    checkpoint = run / "checkpoint_000001_000000000"
    cases: list[tuple[int, list[object]]] = [
        (0, ["verify", checkpoint]),
        (0, ["ls", tmp_path / "empty"]),
        (1, ["ls", tmp_path / "missing"]),
        (1, ["show", tmp_path / "missing"]),
        (1, ["verify", run / "checkpoint_000001_000000099"]),
        (1, ["get", tmp_path / "missing", tmp_path / "out"]),
        (2, ["get", run.parent, tmp_path / "out"]),
        (2, ["get", run, tmp_path / "out", "--best", "nothing:min"]),
        (2, ["get", checkpoint, tmp_path / "out", "--best", "loss:min"]),
        (1, ["get", checkpoint, tmp_path / "out", "--include", "*.json"]),
        (2, ["get", checkpoint, tmp_path / "out", "--include", "../model.bin"]),
        (2, ["metrics", run, "--last", "0"]),
        (2, ["frobnicate"]),
        (2, []),
    ]
    for expected, arguments in cases:
        done = piped(*arguments)
        assert done.returncode == expected, (arguments, done)
        assert bool(done.stderr) == (expected != 0), (arguments, done)
        assert "Traceback" not in done.stderr
        if expected:
            assert done.stdout == ""
    broken = {"LD_PRELOAD": str(KILLPOINT), "RAYSTORAGE_FAULTS": "call=create path=*model.bin hit=1+ do=error:EIO"}
    done = piped("get", run, tmp_path / "out", env=broken)
    assert (done.returncode, "EIO" in done.stderr, done.stdout) == (3, True, "")
    assert not (tmp_path / "out").exists()
    with (checkpoint / "model.bin").open("r+b") as file:
        file.seek(_SIZE // 2)
        file.write(b"?????")
    for arguments in (["verify", checkpoint], ["verify", run], ["get", checkpoint, tmp_path / "out"]):
        done = piped(*arguments)
        assert done.returncode == 1
        assert "model.bin" in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()


def test_a_reader_that_has_enough_ends_it_in_silence(small: Path) -> None:
    """`raystorage metrics RUN | head -1`."""
    command = f"{sys.executable} -m raystorage metrics {small} --json | head -c 1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout in "[{"
    assert done.stderr == ""


def test_a_terminal_does_not_obey_names(open_run, directory, tmp_path: Path) -> None:
    run = open_run("names")
    run.report({"a\x1b[31m": "\x1b]0;title\x07"}, Checkpoint(directory({"x\x1b[2J": "x"})))
    path = run.close().path
    for command in ("ls", "show", "metrics", "verify"):
        with Terminal(command, path, env={"NO_COLOR": "1"}) as terminal:
            assert terminal.end()[0] == 0
            assert "\x1b" not in terminal.text.replace("\x1b[K", "")
