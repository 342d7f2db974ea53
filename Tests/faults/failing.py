"""Makes one call of a trainer fail, or all from one on, and judges what the trainer was told and what it left."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from judge import Journal, TrainerError, judge, leftovers
from killing import Point, Scenario, Workshop

# What a failing storage may be called. INTERNAL would be a hole in the library, UNKNOWN_ERROR one in the header.
TYPED = {
    "IO",
    "NO_SPACE",
    "STAGING_FULL",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PRECONDITION",
    "TIMEOUT",
}
NO_SPACE_ERRORS = {"ENOSPC", "EDQUOT"}

# Which errors a call can give in earnest.
_EVERY = ("EIO", "ESTALE")
_WRITING = ("EIO", "ENOSPC", "EDQUOT", "ESTALE")
ERRORS: dict[str, tuple[str, ...]] = {
    "create": _WRITING,
    "write": _WRITING,
    "close": ("EIO", "ENOSPC", "EDQUOT"),
    "fsync": ("EIO", "ENOSPC"),
    "fdatasync": ("EIO", "ENOSPC"),
    "syncfs": ("EIO",),
    "rename": _WRITING,
    "rename_noreplace": (*_WRITING, "EINVAL"),
    "link": (*_WRITING, "EPERM"),
    "mkdir": _WRITING,
    "copy_file_range": (*_WRITING, "EXDEV", "EOPNOTSUPP"),
    "reflink": ("EOPNOTSUPP", "EXDEV", "ENOSPC"),
    "truncate": _WRITING,
    "symlink": _WRITING,
}


@dataclass(frozen=True)
class Fault:
    """One failing call: a rule for killpoint.so, and whether it goes on failing."""

    scenario: Scenario
    rule: str
    error: str
    for_good: bool = False


@dataclass
class Outcome:
    """What one fault showed."""

    fault: Fault
    fired: bool = False
    failed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"[{self.fault.scenario.name}: {self.fault.rule}] " + "; ".join(self.problems)


def fault_at(scenario: Scenario, point: Point, hit: int, action: str, error: str) -> Fault:
    return Fault(scenario, point.rule(hit, f"{action}:{error}"), error)


def fail_once(directory: Path, fault: Fault) -> Outcome:
    """Trains under the fault; a typed error may come, nothing half committed may stay, and the run works on."""
    directory.mkdir(parents=True)
    outcome = Outcome(fault)
    shop = Workshop(directory, fault.scenario)
    keep = fault.scenario.keep
    try:
        shop.prepare()
        status = shop.launch(fault.rule, "train", *fault.scenario.arguments, log=True).wait(120)
        outcome.fired = shop.fired()
        journal = shop.journal()
        outcome.problems += told_properly(status, shop.errors(), journal, fault)
        outcome.failed = journal.failures
        found = judge(shop.run, journal, keep=keep, after_open=False)
        outcome.problems += [f"after the fault: {text}" for text in found.problems]
        if shop.launch("", "open", "--pause-ms", "1300" if keep else "0").wait(120) != 0:
            outcome.problems.append(f"does not open: {shop.errors()}")
        found = judge(shop.run, shop.journal(), keep=keep, after_open=True)
        outcome.problems += [f"after opening: {text}" for text in found.problems]
        outcome.problems += [f"left over after opening: {path}" for path in leftovers(shop.run, shop.staging)]
    except TrainerError as error:
        outcome.problems.append(f"{error} {shop.errors()}")
    except subprocess.TimeoutExpired:
        outcome.problems.append("hangs")
    return outcome


def told_properly(status: int, errors: str, journal: Journal, fault: Fault) -> list[str]:
    """Whether the trainer was told of the failure by its proper name, and only of this one."""
    problems = []
    if status not in (0, 3):
        problems.append(f"the trainer ended with {status}: {errors}")
    if status == 3:
        names = {line.split(": ")[2] for line in errors.splitlines() if line.startswith("trainer: ")}
        problems += [f"untyped error: {errors}" for name in names if name not in TYPED]
    checkpoints = [report for report in journal.reports.values() if report.has_checkpoint]
    for text in journal.failures:
        name = text.split(" ")[0]
        if name not in TYPED:
            problems.append(f"untyped failure: {text}")
        if fault.error in NO_SPACE_ERRORS and name not in ("NO_SPACE", "STAGING_FULL"):
            problems.append(f"{fault.error} is called {text}")
    if not fault.for_good and status == 0:
        if len(journal.failures) > 1:
            problems.append(f"one failing call made several reports fail: {journal.failures}")
        after = [report for report in checkpoints if not report.failed]
        problems += [f"report {report.sequence} neither durable nor failed" for report in after if not report.durable]
    return problems


def summary(title: str, outcomes: Sequence[Outcome], seconds: float) -> str:
    fired = [outcome for outcome in outcomes if outcome.fired]
    told = sum(bool(outcome.failed) for outcome in fired)
    broken = sum(bool(outcome.problems) for outcome in outcomes)
    return (
        f"{title}: {len(fired)} failing calls in {seconds:.0f} s, {told} made a report fail, "
        f"{len(fired) - told} were mended; {broken} with a broken promise"
    )
