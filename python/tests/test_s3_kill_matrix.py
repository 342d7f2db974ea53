"""P1, P2, P4, P8, P9, P14 on object stores under SIGKILL: at random instants, and during every kind of request.

After each kill a fresh process finds only whole, bit-exact checkpoints, among them all returned as durable. After the
next open everything captured is committed, the metrics are there, and no upload in parts is open.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from killing import Scenario, random_kills
from s3killing import duration_of, enumerate_requests, kill_at_random, kill_at_request, request_kills
from test_kill_matrix import SEED, assert_struck, assert_unbroken, have_struck, report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from killing import Outcome
    from servers import Endpoint

# Parts are 8 MiB at least: one size below, one above what goes in a single request.
_SMALL = ("--steps", "8", "--bytes", "65536")
_LARGE = ("--steps", "3", "--bytes", str(40 << 20))
_WARM_UP = (("--steps", "3", "--bytes", "65536"), "")

SCENARIOS = (
    Scenario("fresh run", ("--mode", "mixed", *_SMALL)),
    Scenario("retention", ("--mode", "mixed", *_SMALL), keep=2, before=(_WARM_UP,)),
    Scenario("handed over, named", ("--mode", "moved", "--names", "1", *_SMALL)),
    Scenario("in parts", ("--mode", "async", *_LARGE)),
)


def remove_good(directory: Path, outcome: Outcome) -> Outcome:
    if not outcome.problems:
        shutil.rmtree(directory)
    return outcome


@pytest.mark.parametrize("count", [4, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_random_instants(
    tmp_path: Path, scenario: Scenario, count: int, seaweedfs: Endpoint, say: Callable[[str], None]
) -> None:
    started = time.monotonic()
    longest_s = duration_of(tmp_path / "unkilled", seaweedfs, scenario)

    def one(numbered: tuple[int, object]) -> Outcome:
        directory = tmp_path / f"kill-{numbered[0]}"
        return remove_good(directory, kill_at_random(directory, seaweedfs, numbered[1], longest_s))

    outcomes: list[Outcome] = []
    # A machine that was busy when the duration was measured, and is not now, may end before many a kill.
    for turn in range(4):
        kills = enumerate(random_kills(scenario, count, SEED + turn), len(outcomes))
        with ThreadPoolExecutor(2) as pool:
            latest = list(pool.map(one, kills))
        outcomes += latest
        if have_struck(latest):
            break
        longest_s /= 2
    say(report(f"SeaweedFS, {scenario.name}", outcomes, started))
    assert_unbroken(outcomes)
    assert_struck(latest)


@pytest.mark.parametrize("most", [12, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_kind_of_request(
    tmp_path: Path, scenario: Scenario, most: int, say: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.monotonic()
    requests = enumerate_requests(tmp_path / "requests", scenario)
    kills = list(request_kills(scenario, requests, SEED))
    # Every third, or so: each kind of request at one of its moments.
    step = max(1, len(kills) // most)
    outcomes = []
    for number, (kill, request, occurrence) in enumerate(kills[SEED % step :: step]):
        directory = tmp_path / f"kill-{number}"
        outcomes.append(remove_good(directory, kill_at_request(directory, kill, request, occurrence)))
    say(report(f"requests, {scenario.name}", outcomes, started))
    assert_unbroken(outcomes)
    assert_struck(outcomes)
