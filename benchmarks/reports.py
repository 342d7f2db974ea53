"""Reports of checkpoints: how long `report()` takes, beside ways to copy a directory."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from harness import MIB, Case, Copies, Goal, Group, Scratch
from raystorage import Checkpoint, CheckpointUploadMode, Report, Run

SYNC, ASYNC = CheckpointUploadMode.SYNC, CheckpointUploadMode.ASYNC


class Reporter:
    """Opens a run, reports a directory into it, and removes the run: only the report is timed."""

    def __init__(self, scratch: Scratch, source: Callable[[], Path], **options: object) -> None:
        """Reports `source` with the options of a run."""
        self.scratch, self.source, self.options = scratch, source, options
        self.opened: Run | None = None

    def open(self) -> None:
        """A fresh run, and the source, which is not to be timed."""
        self.source()
        self.opened = self.scratch.open("report", **self.options)

    def close(self) -> None:
        """Removes it."""
        assert self.opened is not None
        self.scratch.close(self.opened)

    def report(self, mode: CheckpointUploadMode, source: Path, *, hand_over: bool = False) -> Report:
        """Reports a directory."""
        assert self.opened is not None
        return self.opened.report(
            {"step": 1},
            Checkpoint.from_directory(source),
            checkpoint_upload_mode=mode,
            delete_local_checkpoint_after_upload=hand_over,
        )

    def sync(self) -> None:
        """SYNC."""
        self.report(SYNC, self.source())

    def case(self, name: str, run: Callable[[], float | None] | None = None) -> Case:
        """As a case of a group."""
        return Case(name, run or self.sync, prepare=self.open, cleanup=self.close)


class HandOver(Reporter):
    """Hands a directory over that is a copy made beforehand."""

    def open(self) -> None:
        """A fresh run and a directory to give away."""
        super().open()
        self.given = self.scratch.path / "given"
        shutil.rmtree(self.given, ignore_errors=True)
        shutil.copytree(self.source(), self.given)
        # What training writes is on the disk or in the page cache; half written out it would only blur the figures.
        os.sync()

    def latency(self) -> float:
        """Until `report()` returns; then waits, untimed."""
        begin = time.perf_counter()
        report = self.report(ASYNC, self.given, hand_over=True)
        taken = time.perf_counter() - begin
        report.wait()
        return taken

    def durable(self) -> None:
        """Until the checkpoint is committed."""
        self.report(SYNC, self.given, hand_over=True)


def large(scratch: Scratch, scale: float) -> list[Group]:
    """1 GiB, in one file and in eight."""
    groups = []
    for count, words in ((1, "one file"), (8, "8 files")):
        size = int(1024 * MIB * scale) // count
        text = f"{count * size / MIB:,.0f} MiB in {words}"

        def source(count: int = count, size: int = size) -> Path:
            return scratch.files(f"large-{count}", count, size)

        copies = Copies(scratch, source)
        without = Reporter(scratch, source, durability="none")
        groups.append(
            Group(
                f"SYNC report, {text}, no fsync",
                [without.case("raystorage (with CRC32C)"), copies.cp(), copies.copytree(), copies.ray()],
                reference=copies.cp().name,
                goal=Goal("at most 1.1 times cp", lambda _, ratio: ratio is not None and ratio <= 1.1),
                settle=True,
            )
        )
        with_sync = Reporter(scratch, source)
        groups.append(
            Group(
                f"SYNC report, {text}, with fsync",
                [with_sync.case("raystorage (with CRC32C)"), copies.cp_synced(), copies.cp_sync_f()],
                reference=copies.cp_synced().name,
                settle=True,
                note="Ray Train and `shutil.copytree` never fsync.",
            )
        )
    return groups


def small(scratch: Scratch, scale: float) -> list[Group]:
    """2,000 files of 16 KiB."""
    count = max(10, int(2000 * scale))

    def source() -> Path:
        return scratch.files("small", count, 16 * 1024)

    copies = Copies(scratch, source)
    without = Reporter(scratch, source, durability="none")
    with_sync = Reporter(scratch, source)
    text = f"SYNC report, {count:,} files of 16 KiB"
    return [
        Group(
            f"{text}, no fsync",
            [without.case("raystorage (with CRC32C)"), copies.copytree(), copies.ray(), copies.cp()],
            reference=copies.copytree().name,
            goal=Goal("ahead of shutil.copytree", lambda _, ratio: ratio is not None and ratio < 1),
            settle=True,
        ),
        Group(
            f"{text}, with fsync",
            [with_sync.case("raystorage (with CRC32C)"), copies.cp_synced(), copies.cp_sync_f()],
            reference=copies.cp_synced().name,
            settle=True,
        ),
    ]


def handed_over(scratch: Scratch, scale: float) -> list[Group]:
    """A directory of 100 files that the trainer gives away."""
    size = int(MIB * scale) or 1

    def source() -> Path:
        return scratch.files("hundred", 100, size)

    giver = HandOver(scratch, source)
    copies = Copies(scratch, source)
    text = f"100 files of {size // 1024:,} KiB, handed over"
    return [
        Group(
            f"{text}: until report() returns",
            [giver.case("raystorage, ASYNC", giver.latency), copies.copytree(), copies.ray()],
            reference=copies.copytree().name,
            goal=Goal("less than 5 ms", lambda value, _: value < 0.005),
            settle=True,
        ),
        Group(
            f"{text}: until durable",
            [giver.case("raystorage, SYNC, with fsync and CRC32C", giver.durable), copies.cp_synced()],
            reference=copies.cp_synced().name,
            settle=True,
        ),
    ]


def asynchronous(scratch: Scratch, scale: float) -> list[Group]:
    """How long the loop stands still for 1 GiB."""
    size = int(1024 * MIB * scale)

    def source() -> Path:
        return scratch.files("large-1", 1, size)

    copier = Reporter(scratch, source)
    giver = HandOver(scratch, source)
    copies = Copies(scratch, source)

    def blocked() -> float:
        begin = time.perf_counter()
        report = copier.report(ASYNC, source())
        taken = time.perf_counter() - begin
        report.wait()
        return taken

    return [
        Group(
            f"How long report() blocks for {size / MIB:,.0f} MiB",
            [
                giver.case("raystorage, ASYNC, handed over", giver.latency),
                copier.case("raystorage, ASYNC, captured by copy", blocked),
                copier.case("raystorage, SYNC: until durable"),
                copies.ray(),
            ],
            reference=copies.ray().name,
            settle=True,
        )
    ]
