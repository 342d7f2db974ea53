"""What the groups of benchmarks share: cases measured in turn, their statistics, and scratch files."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.fs  # type: ignore[import-untyped]
from raystorage import Run, RunConfig

MIB = 1 << 20


@dataclass
class Case:
    """One way to do a thing. Only `run` is timed, unless it returns a number of its own."""

    name: str
    run: Callable[[], float | None]
    prepare: Callable[[], object] = lambda: None
    cleanup: Callable[[], object] = lambda: None


@dataclass
class Goal:
    """What the project wants to reach: the first case against the reference (`ratio`), or in units (`value`)."""

    text: str
    holds: Callable[[float, float | None], bool]


@dataclass
class Group:
    """Ways to do one thing, measured side by side. The first case is ours."""

    title: str
    cases: Sequence[Case]
    unit: str = "s"
    #: Ratios are to this case.
    reference: str | None = None
    goal: Goal | None = None
    #: Whether the larger number is better, as for rates.
    larger_is_better: bool = False
    #: Fewer rounds where one takes long and hardly varies.
    rounds: int | None = None
    #: Writes out dirty pages before each measurement, so that no case pays for the one before.
    settle: bool = False
    note: str = ""


@dataclass
class Measured:
    """A group with what was measured, by case."""

    group: Group
    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Of one case."""
        return statistics.median(self.values[name])

    def ratio(self, name: str) -> float | None:
        """To the reference."""
        reference = self.group.reference
        return None if reference is None else self.median(name) / self.median(reference)


def measure(group: Group, rounds: int) -> Measured:
    """Each round measures every case once, beginning with another one each time."""
    measured = Measured(group, {case.name: [] for case in group.cases})
    rounds = min(rounds, group.rounds or rounds)
    for turn in range(rounds):
        first = turn % len(group.cases)
        for case in [*group.cases[first:], *group.cases[:first]]:
            case.prepare()
            try:
                if group.settle:
                    os.sync()
                begin = time.perf_counter()
                own = case.run()
                taken = time.perf_counter() - begin
            finally:
                case.cleanup()
            measured.values[case.name].append(taken if own is None else own)
        print(f"  {group.title}: round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    return measured


# ------------------------------------------------------------------------------- files


class Scratch:
    """A directory for everything that the benchmarks write, on the file system that is measured."""

    def __init__(self, parent: str) -> None:
        """Makes it below `parent`."""
        self.path = Path(parent, f"raystorage-bench-{os.getpid()}")
        self.path.mkdir(parents=True)
        os.environ["RAYSTORAGE_STAGING_DIR"] = str(self.path / "staging")

    def remove(self) -> None:
        """Removes it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def files(self, name: str, count: int, size: int) -> Path:
        """A directory of files with random bytes, in the page cache; made once."""
        directory = self.path / name
        if directory.exists():
            return directory
        directory.mkdir()
        for number in range(count):
            with (directory / f"shard-{number:05}.bin").open("wb") as file:
                left = size
                while left > 0:
                    left -= file.write(os.urandom(min(left, 16 * MIB)))
        os.sync()
        return directory

    @contextmanager
    def run(self, name: str, **options: object) -> Iterator[Run]:
        """A run of its own that is removed afterwards."""
        run = self.open(name, **options)
        try:
            yield run
        finally:
            self.close(run)

    def open(self, name: str, **options: object) -> Run:
        """A fresh run."""
        return Run(RunConfig(name, self.path / "runs", resume="never", **options))  # type: ignore[arg-type]

    @staticmethod
    def close(run: Run) -> None:
        """Closes a run and removes its files."""
        run.close()
        shutil.rmtree(run.path)


class Copies:
    """The peers: other ways to bring a directory to another place, each to a target that is removed afterwards."""

    def __init__(self, scratch: Scratch, source: Callable[[], Path]) -> None:
        """Copies `source` within the scratch directory."""
        self.source = source
        self.target = scratch.path / "copy"

    def prepare(self) -> None:
        """Makes the source, which is not to be timed, and removes what an earlier copy has left."""
        self.source()
        self.remove()

    def remove(self) -> None:
        """Removes the copy."""
        shutil.rmtree(self.target, ignore_errors=True)

    def case(self, name: str, run: Callable[[], None]) -> Case:
        """A case that removes its copy."""
        return Case(name, run, prepare=self.prepare, cleanup=self.remove)

    def cp(self) -> Case:
        """coreutils, without reflinks."""
        return self.case("`cp -r --reflink=never`", self._cp)

    def _cp(self) -> None:
        subprocess.run(["cp", "-r", "--reflink=never", self.source(), self.target], check=True)

    def cp_synced(self) -> Case:
        """The same, and each file and directory fsynced."""
        return self.case("`cp -r --reflink=never` + fsync of each file", self._cp_synced)

    def _cp_synced(self) -> None:
        self._cp()
        names = [self.target, *self.target.rglob("*"), self.target.parent]
        for name in names:
            descriptor = os.open(name, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def cp_sync_f(self) -> Case:
        """The same, and the file system synced as a whole."""
        return self.case("`cp -r --reflink=never` + `sync -f`", self._cp_sync_f)

    def _cp_sync_f(self) -> None:
        self._cp()
        subprocess.run(["sync", "-f", self.target], check=True)

    def copytree(self) -> Case:
        """Python's own."""
        return self.case("`shutil.copytree`", self._copytree)

    def _copytree(self) -> None:
        shutil.copytree(self.source(), self.target)

    def ray(self) -> Case:
        """What Ray Train calls, with its arguments."""
        return self.case("Ray Train's `pyarrow.fs.copy_files`, 64 MiB chunks", self._ray)

    def _ray(self) -> None:
        local = pyarrow.fs.LocalFileSystem()
        local.create_dir(str(self.target))
        pyarrow.fs.copy_files(
            str(self.source()), str(self.target), destination_filesystem=local, chunk_size=64 * 1024 * 1024
        )
