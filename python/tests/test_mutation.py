"""P3 at scale: several threads report, and spoil their directories the moment that report() returns."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Callable

import pytest
from conftest import LONG

from raystorage import Checkpoint, Report

_THREADS = 4
_STEPS = 400 if LONG else 60
_SIZES = {"model.bin": 300_000, "optimizer/state": 70_000, "small": 10, "empty": 0}


def content(thread: int, step: int, name: str) -> bytes:
    return random.Random(f"{thread} {step} {name}").randbytes(_SIZES[name])


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


def overwrite_through_memory(path: Path) -> None:
    if path.stat().st_size:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[:] = b"\xee" * len(memory)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    other = path.with_name(path.name + ".new")
    other.write_bytes(b"other")
    other.replace(path)


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


_SPOIL: list[Callable[[Path], None]] = [
    overwrite, overwrite_through_memory, truncate, append, replace, become_a_link, Path.unlink,
]  # fmt: skip


def prepare(source: Path, thread: int, step: int) -> None:
    for name in _SIZES:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content(thread, step, name))


def spoil(source: Path, choice: random.Random) -> None:
    if choice.random() < 0.1:
        shutil.rmtree(source)
        return
    for name in _SIZES:
        choice.choice(_SPOIL)(source / name)


@pytest.mark.timeout(1200)
def test_hundreds_of_checkpoints_are_what_was_there_at_the_call(open_run, tmp_path: Path, say) -> None:
    run = open_run(durability="fsync", max_pending_reports=32)
    reports: list[tuple[int, int, Report]] = []
    failures: list[BaseException] = []

    def train(thread: int) -> None:
        choice = random.Random(thread)
        source = tmp_path / f"source-{thread}"
        try:
            for step in range(_STEPS):
                prepare(source, thread, step)
                report = run.report({"thread": thread, "step": step}, Checkpoint(source))
                spoil(source, choice)
                reports.append((thread, step, report))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=train, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(reports) == _THREADS * _STEPS
    for thread, step, report in reports:
        checkpoint = report.wait()
        assert checkpoint is not None
        for name in _SIZES:
            assert Path(checkpoint.path, name).read_bytes() == content(thread, step, name), (thread, step, name)
    # What was sealed is what is there: the CRCs were not taken of something else.
    for _, _, report in reports[:: max(1, len(reports) // 50)]:
        assert report.checkpoint.verify()["ok"]
    say(f"P3: {len(reports)} checkpoints of {_THREADS} threads, spoiled when report() had returned: all bit-exact")
