"""What the groups of benchmarks share: cases measured in turn, their statistics, and scratch files."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import pyarrow.fs  # type: ignore[import-untyped]
from raystorage import Run, RunConfig

MIB = 1 << 20
T = TypeVar("T")


@dataclass
class Case:
    """One way to do a thing. Only `run` is timed, unless it returns a number of its own, or several by name."""

    name: str
    run: Callable[[], float | dict[str, float] | None]
    prepare: Callable[[], object] = lambda: None
    cleanup: Callable[[], object] = lambda: None
    #: By something that gives less: it tells what the machine itself takes, and is no peer.
    is_floor: bool = False


@dataclass
class Goal:
    """What the project wants to reach: the first case against the reference (`ratio`), or in units (`value`)."""

    text: str
    holds: Callable[[float, float | None], bool]


@dataclass
class Group:
    """Ways to do one thing, measured side by side. The first case is ours."""

    #: As a reference: whichever of the others is best.
    BEST: ClassVar[str] = "the best of the others"

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
    #: Other figures of the same measurements, by the names that `run` gives them; its own has the name "".
    also: dict[str, Group] = field(default_factory=dict)


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
        reference = self.reference
        return None if reference is None else self.median(name) / self.median(reference)

    @property
    def reference(self) -> str | None:
        """The case that ratios are to."""
        if self.group.reference != Group.BEST:
            return self.group.reference
        best = max if self.group.larger_is_better else min
        return best((case.name for case in self.group.cases[1:] if not case.is_floor), key=self.median)


def measure(group: Group, rounds: int) -> list[Measured]:
    """Each round measures every case once, beginning with another one each time. The group, and those in `also`."""
    all_measured = {
        name: Measured(one, {case.name: [] for case in group.cases}) for name, one in {"": group, **group.also}.items()
    }
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
            figures = own if isinstance(own, dict) else {"": taken if own is None else own}
            for name, measured in all_measured.items():
                measured.values[case.name].append(figures[name])
        print(f"  {group.title}: round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    return list(all_measured.values())


# ------------------------------------------------------------------------------- files


class Scratch:
    """A directory for everything that the benchmarks write, on the file system that is measured."""

    def __init__(self, parent: str) -> None:
        """Makes it below `parent`."""
        self.path = Path(parent, f"raystorage-bench-{os.getpid()}")
        self.path.mkdir(parents=True)
        self._contexts = ExitStack()
        os.environ["RAYSTORAGE_STAGING_DIR"] = str(self.path / "staging")

    def remove(self) -> None:
        """Removes it, after what was to be closed."""
        self._contexts.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enters a context that ends when the directory is removed."""
        return self._contexts.enter_context(context)

    def files(self, name: str, count: int, size: int) -> Path:
        """A directory of files with random bytes, in the page cache; made once."""
        directory = self.path / name
        if directory.exists():
            return directory
        directory.mkdir(parents=True)
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
