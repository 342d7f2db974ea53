"""Judges a run by what the trainer was promised: reads its journal, looks at the run, lists every broken promise.

Used after a kill and after a power cut alike. The judge knows nothing of raystorage's code: it reads directories with
`trainer content`, which knows every byte that a step's checkpoint must have, and documents through the C interface.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
FAULTS = ROOT / "build" / "faults"
TRAINER = FAULTS / "trainer"
KILLPOINT = FAULTS / "killpoint.so"

# What may lie in a run directory, and in its own folder, when nothing is going on.
RUN_FILES = {"checkpoint_manager_snapshot.json", "result.json", "progress.csv", "params.json", ".raystorage"}
OWN_FILES = {"run.json", "epochs", "names", "metrics", "index.json", "attempts", "trash", "tmp"}


@dataclass
class Report:
    """What one report() call of the trainer came to, as far as the trainer was told. Its index is the library's."""

    epoch: int
    step: int
    kind: str
    index: int = -1
    returned: bool = False
    sealed: bool = False
    durable: bool = False
    dropped: bool = False
    failed: str | None = None
    name: str | None = None

    @property
    def sequence(self) -> tuple[int, int]:
        return self.epoch, self.index

    @property
    def has_checkpoint(self) -> bool:
        return self.kind != "metrics"

    @property
    def default_name(self) -> str:
        return f"checkpoint_{self.epoch:06d}_{self.index:09d}"


@dataclass
class Journal:
    """Everything that the trainers of a run were promised, launch after launch."""

    reports: dict[tuple[int, int], Report] = field(default_factory=dict)
    # Reports whose call did not return, or returned an error: they may be there or not.
    open_ended: list[Report] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    resumed_from: list[int] = field(default_factory=list)
    closed: bool = False
    damaged: list[str] = field(default_factory=list)

    def read(self, lines: Iterable[str]) -> Journal:
        """Adds lines; others than the journal's are passed over."""
        for line in lines:
            fields = line.split(" ")
            match fields:
                case ["open", epoch, step]:
                    self.epochs.append(int(epoch))
                    self.resumed_from.append(int(step))
                    self.closed = False
                case ["begin", step, kind]:
                    self.open_ended.append(Report(self.epochs[-1], int(step), kind))
                case ["captured" | "dropped" as what, index, _]:
                    report = self.open_ended.pop()
                    report.index = int(index)
                    report.returned = True
                    report.dropped = what == "dropped"
                    self.reports[report.sequence] = report
                case ["refused", _, *rest]:
                    self.open_ended[-1].failed = " ".join(rest)
                case ["sealed", index, _]:
                    self._of(index).sealed = True
                case ["durable", index, _, *name]:
                    report = self._of(index)
                    report.returned = report.durable = report.sealed = True
                    report.name = " ".join(name)
                case ["failed", index, _, *rest]:
                    self._of(index).failed = " ".join(rest)
                case ["closed"]:
                    self.closed = True
                case ["damaged", *rest]:
                    self.damaged.append(" ".join(rest))
                case _:
                    pass
        return self

    @property
    def failures(self) -> list[str]:
        """What the trainer was told of failing reports."""
        return [report.failed for report in (*self.reports.values(), *self.open_ended) if report.failed]

    def may_be(self, epoch: int, step: int) -> bool:
        """Whether something of that step may be there although its report() never returned."""
        return any((report.epoch, report.step) == (epoch, step) for report in self.open_ended)

    def _of(self, index: str) -> Report:
        return self.reports[self.epochs[-1], int(index)]

    @staticmethod
    def of_file(path: Path) -> Journal:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        complete = text[: text.rfind("\n") + 1]
        return Journal().read(complete.splitlines())


class TrainerError(Exception):
    """A reader ended with an error where it must not."""


def run_trainer(*arguments: str | Path, env: dict[str, str] | None = None, timeout_s: float = 120) -> str:
    done = subprocess.run(
        [TRAINER, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | (env or {}),
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise TrainerError(f"{' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def document(*arguments: str | Path) -> Any:
    return json.loads(run_trainer(*arguments))


def check_contents(directories: Sequence[Path]) -> tuple[dict[str, int], list[str]]:
    """Checks checkpoint directories byte for byte: (step by name, what is wrong)."""
    if not directories:
        return {}, []
    done = subprocess.run([TRAINER, "content", *directories], capture_output=True, text=True, check=False)
    steps, problems = {}, []
    for line in done.stdout.splitlines():
        match line.split(" ", 2):
            case ["good", step, path]:
                steps[Path(path).name] = int(step)
            case _:
                problems.append(line)
    return steps, problems


def visible_checkpoints(run: Path) -> list[Path]:
    """What `ls` shows: every directory that does not hide."""
    if not run.is_dir():
        return []
    return sorted(entry for entry in run.iterdir() if entry.is_dir() and not entry.name.startswith("."))


@dataclass
class Verdict:
    """What a look at a run found."""

    problems: list[str] = field(default_factory=list)
    committed: int = 0
    rows: int = 0


def judge(
    run: Path,
    journal: Journal,
    *,
    keep: int = 0,
    after_open: bool,
    failing: bool = False,
    power_cut: bool = False,
    address: str | None = None,
) -> Verdict:
    """Compares a run with its promises. `after_open`: a fresh process has opened it since, so captured ones count;
    not where the storage was `failing`: a report may have failed without the trainer having been told. After a
    `power_cut` rows may be gone that were written after the last commit: they were only in that machine's memory.

    With an `address` the run lies there, and `run` is a copy of its objects: what is visible and not listed is then no
    promise of ours before the next open."""
    verdict = Verdict()
    if not (run / ".raystorage" / "run.json").exists():
        if journal.epochs:
            verdict.problems.append("the run's record is gone")
        return verdict
    verdict.problems += journal.damaged
    result = document("result", address or run)
    visible = visible_checkpoints(run)
    if address and not after_open:
        names = {entry["physical_name"] for entry in result["checkpoints"]}
        visible = [path for path in visible if path.name in names]
    steps, wrong = check_contents(visible)
    verdict.problems += [f"visible but not whole: {text}" for text in wrong]

    committed: dict[tuple[int, int], dict[str, Any]] = {}
    for entry in result["checkpoints"]:
        name = entry["physical_name"]
        if entry["epoch"] is None:
            verdict.problems.append(f"listed, and nobody's: {name}")
            continue
        committed[entry["epoch"], entry["index"]] = entry
        if name not in steps and not wrong:
            verdict.problems.append(f"listed but not there: {name}")
        elif entry["metrics"].get("step") != steps.get(name):
            verdict.problems.append(
                f"{name} holds step {steps.get(name)}, its metrics say {entry['metrics'].get('step')}"
            )
    verdict.problems += [
        f"{entry['physical_name']} was never reported"
        for sequence, entry in committed.items()
        if sequence not in journal.reports and not journal.may_be(sequence[0], entry["metrics"].get("step"))
    ]
    listed = {entry["physical_name"] for entry in committed.values()}
    verdict.problems += [f"there but not listed: {name}" for name in steps if name not in listed]
    verdict.committed = len(committed)

    for sequence, report in journal.reports.items():
        promised = report.durable or (after_open and report.returned and not failing)
        if not report.has_checkpoint or not promised or report.failed or report.dropped:
            continue
        if sequence in committed:
            if steps.get(committed[sequence]["physical_name"]) not in (report.step, None):
                verdict.problems.append(f"report {sequence}: another step's content")
        elif not (keep and sum(other > sequence for other in committed) >= keep):
            verdict.problems.append(f"report {sequence}, {'durable' if report.durable else 'captured'}, is gone")
    # Retention may lag after a kill, but not after an orderly opening.
    if keep and after_open and len(committed) > keep:
        verdict.problems.append(f"{len(committed)} checkpoints are kept, not {keep}")
    if committed:
        newest = max(committed)
        latest = result["checkpoint"]
        if latest is None or (latest["epoch"], latest["index"]) != newest:
            verdict.problems.append(f"latest is {latest and latest['physical_name']}, not that of {newest}")
    # On a store the rows of reports that are not committed may lie in the trainer's log until it opens again.
    sent = after_open or not address
    verdict.problems += _judge_metrics(address or run, journal, verdict, sent=sent, power_cut=power_cut)
    return verdict


def _judge_metrics(run: Path | str, journal: Journal, verdict: Verdict, *, sent: bool, power_cut: bool) -> list[str]:
    problems = []
    # A commit makes every row before it durable.
    committed: dict[int, int] = {}
    for (epoch, index), report in journal.reports.items():
        if report.durable:
            committed[epoch] = max(index, committed.get(epoch, index))
    rows = document("metrics", run)
    verdict.rows = len(rows)
    seen: dict[tuple[int, int], dict[str, Any]] = {}
    order = []
    for row in rows:
        sequence = (row["raystorage_epoch"], row["raystorage_index"])
        order.append(sequence)
        if sequence in seen:
            problems.append(f"two rows of metrics for {sequence}")
        seen[sequence] = row
    if order != sorted(order):
        problems.append("rows of metrics out of order")
    for sequence, report in journal.reports.items():
        row = seen.get(sequence)
        if row is None:
            is_safe = not power_cut or sequence[1] <= committed.get(sequence[0], -1)
            # Without a checkpoint there is no decision that has the row: it is safe on that machine.
            is_stored = report.durable and (sent or report.has_checkpoint)
            if is_stored or (sent and report.returned and is_safe):
                problems.append(f"the metrics of report {sequence} are gone")
        elif row["step"] != report.step or not math.isnan(row["nan"]):
            problems.append(f"the metrics of report {sequence} are not those reported: {row}")
    problems += [
        f"metrics of a report {sequence} that was never made"
        for sequence, row in seen.items()
        if sequence not in journal.reports and not journal.may_be(sequence[0], row["step"])
    ]
    return problems


def leftovers(run: Path, staging: Path) -> list[str]:
    """Files that should not be there while no report is under way."""
    found = []
    committed = {path.name for path in visible_checkpoints(run)}
    for entry in run.iterdir():
        if entry.name not in RUN_FILES and entry.name not in committed:
            found.append(str(entry))
    for entry in (run / ".raystorage").iterdir():
        if entry.name not in OWN_FILES:
            found.append(str(entry))
    for folder in ("attempts", "trash", "tmp"):
        directory = run / ".raystorage" / folder
        if directory.is_dir():
            found += [str(entry) for entry in directory.iterdir()]
    for folder in ("attempts", "tmp"):
        directory = staging / folder
        if directory.is_dir():
            found += [str(entry) for entry in directory.iterdir()]
    return found
