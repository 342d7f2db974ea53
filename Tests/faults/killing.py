"""Kills a trainer at chosen file system calls or random instants and judges what it left: cells of the kill matrix."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from judge import KILLPOINT, TRAINER, Journal, TrainerError, Verdict, judge, leftovers, run_trainer

HEARTBEAT_MS = 300


@dataclass(frozen=True)
class Scenario:
    """What the trainer does, and what was done to the run before: a launch per entry of `before`."""

    name: str
    arguments: tuple[str, ...]
    keep: int = 0
    # Arguments of earlier launches, and a fault to end one with ("" for none).
    before: tuple[tuple[tuple[str, ...], str], ...] = ()
    # Rules for calls that fail during the launch under test.
    faults: str = ""


@dataclass(frozen=True, order=True)
class Point:
    """A kind of call that a scenario makes: the call and its path with everything that varies left out."""

    call: str
    path: str

    @property
    def phase(self) -> str:
        """The part of a report's life that the call belongs to."""
        for phase, call, path in _PHASES:
            if re.fullmatch(call, self.call) and re.search(path, self.path):
                return phase
        return "other"

    def rule(self, hit: int, action: str) -> str:
        """A rule for killpoint.so; Workshop.launch puts in the directory."""
        pattern = re.sub(r"<(?!directory>)[a-z]+>", "*", self.path.replace("<run>", "<directory>/storage/run"))
        pattern = pattern.replace("<staging>", "<directory>/staging").replace(" ", "?")
        return f"call={self.call} exact={pattern} hit={hit} do={action}"

    def __str__(self) -> str:
        return f"{self.call} {self.path}"


# First match wins. The names are those of docs and issue: capture, seal, journal, copy, fsync, manifest, rename, ...
_PHASES = (
    ("rename", "rename.*", r"attempts/<attempt> -> <run>/[^.]"),
    ("trash", "rename.*", r"-> <run>/\.raystorage/trash/"),
    ("trash", "mkdir|fsync|unlink", r"<run>/\.raystorage/trash$"),
    ("delete", "unlink|rmdir|chmod", r"trash/<attempt>"),
    ("restore", "rename.*", r"trash/<attempt> -> "),
    ("manifest", ".*", r"attempts/<attempt>/\.raystorage(/|$)"),
    ("journal", ".*", r"attempts/<attempt>\.captured|captured\.json"),
    ("capture", "mkdir|symlink|rename.*|reflink|link", r"attempts/<attempt>"),
    ("copy", "copy_file_range|write|create|truncate|fallocate", r"attempts/<attempt>/"),
    ("seal", "fsync|fdatasync|syncfs|sync_file_range", r"attempts/<attempt>"),
    ("capture", ".*", r"attempts/<attempt>"),
    ("snapshot", ".*", r"checkpoint_manager_snapshot\.json"),
    ("index", ".*", r"\.raystorage/index\.json"),
    ("results", ".*", r"result\.json|progress\.csv"),
    ("metrics log", ".*", r"\.raystorage/metrics"),
    ("epoch", ".*", r"\.raystorage/epochs"),
    ("name", ".*", r"\.raystorage/names"),
    ("run record", ".*", r"run\.json"),
    ("run record", "mkdir", r"^<run>|^<directory>"),
    ("fsync", "fsync|fdatasync|syncfs", r""),
    ("staging", ".*", r"<staging>"),
    ("records", ".*", r"\.raystorage/tmp/"),
)
REQUIRED_PHASES = (
    "capture",
    "seal",
    "journal",
    "copy",
    "manifest",
    "rename",
    "snapshot",
    "metrics log",
    "trash",
    "delete",
)


def normalise(path: str, run: Path, staging: Path) -> str:
    """A path with run, numbers and random parts replaced by names in angle brackets."""
    text = (
        path.replace(str(run), "<run>").replace(str(staging), "<staging>").replace(str(staging.parent), "<directory>")
    )
    text = re.sub(r"\d+-\d+-[0-9a-f]{16}", "<attempt>", text)
    text = re.sub(r"checkpoint_\d+_\d+|step=\d+", "<name>", text)
    text = re.sub(r"(?<![a-z])[0-9a-f]{8,}", "<hex>", text)
    return re.sub(r"(?<![\w<])\d+|(?<=[-_.])\d+", "<number>", text)


@dataclass
class Workshop:
    """A directory with one run in it, and the commands to work on it."""

    directory: Path
    scenario: Scenario

    def __post_init__(self) -> None:
        self.storage = str(self.directory / "storage")
        self.run = self.directory / "storage" / "run"
        self.staging = self.directory / "staging"
        self.journal_file = self.directory / "journal"
        self.log_file = self.directory / "calls"
        self.launches = 0

    def command(self, *arguments: str) -> list[str | Path]:
        self.launches += 1
        return [
            TRAINER, arguments[0], "--storage", self.storage, "--name", "run", "--staging", self.staging,
            "--work", self.directory / "work", "--journal", self.journal_file, "--launch", str(self.launches),
            "--heartbeat-ms", str(HEARTBEAT_MS), "--keep", str(self.scenario.keep), *arguments[1:],
        ]  # fmt: skip

    def environment(self, faults: str = "", *, log: bool = False) -> dict[str, str]:
        environment = dict(os.environ)
        if faults or log:
            environment |= {"LD_PRELOAD": str(KILLPOINT), "RAYSTORAGE_FAULT_ROOT": str(self.directory)}
            # The trainer's own files are not what is tested.
            environment["RAYSTORAGE_FAULTS"] = faults.replace("<directory>", str(self.directory))
            if log:
                environment["RAYSTORAGE_FAULT_LOG"] = str(self.log_file)
        return environment

    def launch(self, faults: str = "", *arguments: str, log: bool = False) -> subprocess.Popen[str]:
        with (self.directory / "stderr").open("a") as stderr:
            return subprocess.Popen(
                self.command(*arguments),
                env=self.environment(faults, log=log),
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
            )

    def prepare(self) -> None:
        """Carries out the launches that come before the one under test."""
        for arguments, faults in self.scenario.before:
            status = self.launch(faults, "train", *arguments).wait(120)
            if status not in ((-signal.SIGKILL,) if faults else (0,)):
                raise TrainerError(f"{self.scenario.name}: the launch before ended with {status}: {self.errors()}")

    def errors(self) -> str:
        path = self.directory / "stderr"
        return path.read_text(errors="replace").strip() if path.exists() else ""

    def journal(self) -> Journal:
        return Journal.of_file(self.journal_file)

    def judge(self, *, after_open: bool) -> Verdict:
        """What a look at the run says now."""
        scenario = self.scenario
        failing = after_open and bool(scenario.faults)
        return judge(self.run, self.journal(), keep=scenario.keep, after_open=after_open, failing=failing)

    def leftovers(self) -> list[str]:
        """What should not be there while no report is under way."""
        return leftovers(self.run, self.staging)

    def fired(self) -> bool:
        return self.log_file.exists() and any(line.startswith("! ") for line in self.log_file.read_text().splitlines())


def enumerate_points(directory: Path, scenario: Scenario) -> tuple[Counter[Point], float]:
    """All kinds of calls that the scenario's last launch makes, with how often it makes them, and how long it takes."""
    directory.mkdir(parents=True)
    shop = Workshop(directory, scenario)
    shop.prepare()
    started = time.monotonic()
    status = shop.launch(scenario.faults, "train", *scenario.arguments, log=True).wait(120)
    duration = time.monotonic() - started
    if status != 0:
        raise TrainerError(f"{scenario.name}: ended with {status} without any fault: {shop.errors()}")
    points: Counter[Point] = Counter()
    for line in shop.log_file.read_text(errors="replace").splitlines():
        if line.startswith("!"):
            continue
        _, call, path = line.split(" ", 2)
        if str(shop.run) in path or str(shop.staging) in path:
            points[Point(call, normalise(path, shop.run, shop.staging))] += 1
    return points, duration


@dataclass(frozen=True)
class Kill:
    """One cell of the matrix: a fault rule, or a random instant when `rule` is empty."""

    scenario: Scenario
    rule: str
    phase: str
    seed: int


@dataclass
class Outcome:
    """What one kill showed."""

    kill: Kill
    killed: bool = False
    problems: list[str] = field(default_factory=list)
    committed: int = 0
    rows: int = 0

    def __str__(self) -> str:
        where = self.kill.rule or f"random instant, seed {self.kill.seed}"
        return f"[{self.kill.scenario.name}: {where}] " + "; ".join(self.problems)


def kill_once(directory: Path, kill: Kill, longest_s: float) -> Outcome:
    """Kills, judges with a reader, opens, judges again, trains on, judges for the last time."""
    directory.mkdir(parents=True)
    return kill_in(Workshop(directory, kill.scenario), kill, partial(_kill, longest_s=longest_s))


def kill_in(shop: Workshop, kill: Kill, carry_out: Callable[[Workshop, Kill, random.Random], bool]) -> Outcome:
    """The same in a workshop of one's own, and with another way to kill; that says whether the trainer was killed."""
    outcome = Outcome(kill)
    choice = random.Random(kill.seed)
    try:
        shop.prepare()
        outcome.killed = carry_out(shop, kill, choice)
        found = shop.judge(after_open=False)
        outcome.problems += [f"after the kill: {text}" for text in found.problems]
        if choice.random() < 0.25:
            # Killed again while it recovers; whatever it does, nothing may get worse.
            process = shop.launch("", "open")
            time.sleep(choice.uniform(0, 0.1))
            process.kill()
            process.wait()
        _open(shop, outcome)
        found = shop.judge(after_open=True)
        outcome.problems += [f"after opening: {text}" for text in found.problems]
        outcome.problems += [f"left over after opening: {path}" for path in shop.leftovers()]
        if choice.random() < 0.25:
            _train_on(shop, outcome)
        outcome.committed, outcome.rows = found.committed, found.rows
    except (TrainerError, subprocess.TimeoutExpired) as error:
        outcome.problems.append(f"{error} {shop.errors()}")
    return outcome


def _kill(shop: Workshop, kill: Kill, choice: random.Random, longest_s: float) -> bool:
    # The rule of the kill first: one call is hit by one rule.
    rules = ";".join(rule for rule in (kill.rule, kill.scenario.faults) if rule)
    process = shop.launch(rules, "train", *kill.scenario.arguments)
    if not kill.rule:
        time.sleep(choice.uniform(0, longest_s))
        process.kill()
    status = process.wait(120)
    if status not in (0, -signal.SIGKILL):
        raise TrainerError(f"the trainer ended with {status} instead of being killed")
    return status == -signal.SIGKILL


def _open(shop: Workshop, outcome: Outcome) -> None:
    # Long enough that what lies in the trash may go: it is kept for three heartbeats.
    pause = str(4 * HEARTBEAT_MS) if shop.scenario.keep else "0"
    status = shop.launch("", "open", "--pause-ms", pause).wait(120)
    if status != 0:
        outcome.problems.append(f"does not open: exit {status}: {shop.errors()}")


def _train_on(shop: Workshop, outcome: Outcome) -> None:
    steps = max((report.step for report in shop.journal().reports.values()), default=0) + 5
    status = shop.launch("", "train", "--mode", "mixed", "--steps", str(steps)).wait(120)
    if status != 0:
        outcome.problems.append(f"does not train on: exit {status}: {shop.errors()}")
        return
    found = shop.judge(after_open=True)
    outcome.problems += [f"after training on: {text}" for text in found.problems]


def named_kills(scenario: Scenario, points: Counter[Point], seed: int) -> Iterator[Kill]:
    """Two kills at every kind of call: before and after it, at a random one of its occurrences."""
    choice = random.Random(seed)
    for point, count in sorted(points.items()):
        for action in ("kill", "kill-after"):
            # Threads make the number of occurrences differ from launch to launch: rather an earlier one.
            rule = point.rule(choice.randint(1, max(1, count * 2 // 3)), action)
            yield Kill(scenario, rule, point.phase, choice.randrange(1 << 30))


def random_kills(scenario: Scenario, count: int, seed: int) -> Iterator[Kill]:
    choice = random.Random(seed)
    for _ in range(count):
        yield Kill(scenario, "", "random", choice.randrange(1 << 30))


def sample(kills: Sequence[Kill], count: int, seed: int) -> list[Kill]:
    """A sample that takes every phase once before any twice, the required ones first."""
    choice = random.Random(seed)
    by_phase: dict[str, list[Kill]] = {phase: [] for phase in REQUIRED_PHASES}
    for kill in kills:
        by_phase.setdefault(kill.phase, []).append(kill)
    for group in by_phase.values():
        choice.shuffle(group)
    taken: list[Kill] = []
    while len(taken) < count and any(by_phase.values()):
        for group in by_phase.values():
            if group and len(taken) < count:
                taken.append(group.pop())
    return taken


def verify_restore(run: Path, directory: Path) -> None:
    """Restores the latest checkpoint through the library, verified, for a reader that does not look inside runs."""
    run_trainer("restore", str(run), directory)
