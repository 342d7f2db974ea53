"""P1, P2, P4, P8, P9, P14 under SIGKILL: a trainer is killed at every kind of file system call and at random instants.

After each kill a reader, a restarted trainer and a check of all bytes of every visible checkpoint say whether a promise
was broken. `make test` takes a sample of every phase; the whole matrix carries the marker `long`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from killing import (
    REQUIRED_PHASES,
    Kill,
    Outcome,
    Scenario,
    enumerate_points,
    kill_once,
    named_kills,
    random_kills,
    sample,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SEED = int(os.environ.get("RAYSTORAGE_TEST_SEED", "1"))

_TRAIN = ("--steps", "16", "--bytes", "65536")
_WARM_UP = (("--steps", "6", "--bytes", "65536"), "")
# Killed at its third commit: captured, sealed and half-written reports are there for the next launch.
_DIES = (("--steps", "12", "--bytes", "65536"), "call=rename_noreplace|rename path=*/attempts/*->* hit=3 do=kill")

# EIO at a write, at fsync and at close, and a full disk for a while.
_FAILING = (
    "call=write path=*/attempts/*/model.bin hit=2 do=error:EIO;"
    "call=fsync path=*/attempts/*/step.txt hit=4 do=lose:EIO;"
    "call=close path=*/attempts/*/sparse.bin hit=5 do=error:EIO;"
    "call=create path=*/attempts/*/zero hit=6 do=error:ENOSPC;"
    "call=create path=*/attempts/*/zero hit=7 do=error:ENOSPC"
)

SCENARIOS = (
    Scenario("fresh run", ("--mode", "mixed", *_TRAIN)),
    Scenario("retention", ("--mode", "mixed", *_TRAIN), keep=2, before=(_WARM_UP,)),
    Scenario("handed over, named", ("--mode", "moved", "--names", "1", *_TRAIN)),
    Scenario("full, waits", ("--mode", "mixed", "--pending", "1", "--when-full", "0", *_TRAIN)),
    Scenario("full, skips", ("--mode", "async", "--pending", "1", "--when-full", "1", *_TRAIN), keep=3),
    Scenario("failing storage", ("--mode", "mixed", *_TRAIN), faults=_FAILING),
    Scenario("recovery", ("--mode", "async", *_TRAIN), keep=3, before=(_WARM_UP, _DIES)),
)


def carry_out(base: Path, kills: Sequence[Kill], longest_s: float) -> list[Outcome]:
    """Two at a time; directories of good outcomes are removed, those of bad ones stay to be looked at."""

    def one(numbered: tuple[int, Kill]) -> Outcome:
        directory = base / f"kill-{numbered[0]}"
        outcome = kill_once(directory, numbered[1], longest_s)
        if not outcome.problems:
            shutil.rmtree(directory)
        return outcome

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, enumerate(kills)))


def report(title: str, outcomes: Sequence[Outcome], started: float) -> str:
    """The line that a person reads."""
    killed = [outcome for outcome in outcomes if outcome.killed]
    phases = Counter(outcome.kill.phase for outcome in killed)
    broken = sum(bool(outcome.problems) for outcome in outcomes)
    seconds = time.monotonic() - started
    where = ", ".join(f"{phase} {count}" for phase, count in sorted(phases.items()))
    return f"kill matrix, {title}: {len(killed)} kills in {seconds:.0f} s, {broken} with a broken promise; {where}"


def plan(tmp_path: Path, scenario: Scenario) -> tuple[list[Kill], float]:
    points, duration = enumerate_points(tmp_path / "points", scenario)
    return list(named_kills(scenario, points, SEED)), duration


def assert_unbroken(outcomes: Sequence[Outcome]) -> None:
    broken = [str(outcome) for outcome in outcomes if outcome.problems]
    assert not broken, f"{len(broken)} kills broke a promise (seed {SEED}):\n" + "\n".join(broken)


def have_struck(outcomes: Sequence[Outcome]) -> bool:
    """Whether most trainers were killed, and had not ended before: kills that come too late show nothing."""
    return sum(outcome.killed for outcome in outcomes) >= 0.75 * len(outcomes)


def assert_struck(outcomes: Sequence[Outcome]) -> None:
    missed = [str(outcome) for outcome in outcomes if not outcome.killed]
    assert have_struck(outcomes), f"{len(missed)} of {len(outcomes)} trainers had ended before:\n" + "\n".join(missed)


def test_a_sample_of_every_phase(tmp_path: Path, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    outcomes: list[Outcome] = []
    for scenario in SCENARIOS:
        named, duration = plan(tmp_path / scenario.name.replace(" ", "-"), scenario)
        kills = sample(named, 10, SEED) + list(random_kills(scenario, 3, SEED))
        outcomes += carry_out(tmp_path / f"{scenario.name.replace(' ', '-')}-kills", kills, duration)
    say(report("sample", outcomes, started))
    assert_unbroken(outcomes)
    assert_struck(outcomes)
    killed = {outcome.kill.phase for outcome in outcomes if outcome.killed}
    assert killed >= set(REQUIRED_PHASES), f"no kill in: {set(REQUIRED_PHASES) - killed}"


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_named_point_and_many_instants(tmp_path: Path, scenario: Scenario, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    named, duration = plan(tmp_path, scenario)
    outcomes = carry_out(tmp_path / "kills", named + list(random_kills(scenario, 140, SEED + 1)), duration)
    say(report(scenario.name, outcomes, started))
    assert_unbroken(outcomes)
    assert_struck(outcomes)
