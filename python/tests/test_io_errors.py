"""P7: a failing call (EIO, ENOSPC, EDQUOT, ESTALE) is a typed error, nothing is half committed, the next one works."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from failing import ERRORS, Fault, Outcome, fail_once, fault_at, summary
from judge import judge, leftovers
from killing import Scenario, Workshop, enumerate_points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SEED = int(os.environ.get("RAYSTORAGE_TEST_SEED", "1"))
_TRAIN = ("--steps", "14", "--bytes", "65536")
_WARM_UP = (("--steps", "5", "--bytes", "65536"), "")
MIXED = Scenario("mixed", ("--mode", "mixed", *_TRAIN))
RETENTION = Scenario("retention", ("--mode", "mixed", *_TRAIN), keep=2, before=(_WARM_UP,))


def carry_out(base: Path, faults: Sequence[Fault]) -> list[Outcome]:
    def one(numbered: tuple[int, Fault]) -> Outcome:
        directory = base / f"fault-{numbered[0]}"
        outcome = fail_once(directory, numbered[1])
        if not outcome.problems:
            shutil.rmtree(directory)
        return outcome

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, enumerate(faults)))


def all_faults(tmp_path: Path, scenario: Scenario) -> list[Fault]:
    """Every kind of call with every error that it can give, each at a random occurrence; lost replies too."""
    choice = random.Random(SEED)
    faults = []
    points, _ = enumerate_points(tmp_path / f"points-{scenario.name}", scenario)
    for point, count in sorted(points.items()):
        faults += [
            fault_at(scenario, point, choice.randint(1, count), "error", error) for error in ERRORS.get(point.call, ())
        ]
        if point.call in ("rename", "rename_noreplace", "link", "close"):
            # Carried out and reported as failed: a reply that was lost on the way.
            faults.append(fault_at(scenario, point, choice.randint(1, count), "error-after", "EIO"))
        if point.call in ("fsync", "fdatasync"):
            faults.append(fault_at(scenario, point, choice.randint(1, count), "lose", "EIO"))
    choice.shuffle(faults)
    return faults


def assert_unbroken(outcomes: Sequence[Outcome]) -> None:
    broken = [str(outcome) for outcome in outcomes if outcome.problems]
    assert not broken, f"{len(broken)} faults broke a promise (seed {SEED}):\n" + "\n".join(broken)


def test_a_sample_of_failing_calls(tmp_path: Path, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    outcomes = []
    for scenario in (MIXED, RETENTION):
        outcomes += carry_out(tmp_path / scenario.name, all_faults(tmp_path, scenario)[:24])
    say(summary("failing calls, sample", outcomes, time.monotonic() - started))
    assert_unbroken(outcomes)
    assert sum(outcome.fired for outcome in outcomes) >= len(outcomes) // 2


@pytest.mark.long
@pytest.mark.parametrize("scenario", [MIXED, RETENTION], ids=lambda scenario: scenario.name)
def test_every_failing_call(tmp_path: Path, scenario: Scenario, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    outcomes = carry_out(tmp_path / "faults", all_faults(tmp_path, scenario))
    say(summary(f"failing calls, {scenario.name}", outcomes, time.monotonic() - started))
    assert_unbroken(outcomes)


DATA = "*/attempts/*/model.bin"


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param("call=fsync|fdatasync|syncfs path=*/attempts/* hit=1 do=lose:EIO", id="EIO at fsync, data gone"),
        pytest.param("call=close path=*/attempts/* hit=1 do=error:EIO", id="EIO at close"),
        pytest.param("call=close path=*/attempts/* hit=1 do=error:EDQUOT", id="EDQUOT at close"),
        pytest.param(f"call=write|copy_file_range path={DATA} hit=1 do=error:EIO", id="EIO at write"),
        pytest.param(f"call=write|copy_file_range path={DATA} hit=1+ do=short", id="short writes for good"),
        pytest.param(
            "call=rename|rename_noreplace path=*/attempts/*->*/checkpoint_* hit=1 do=error-after:EIO", id="lost reply"
        ),
        pytest.param("call=rename_noreplace hit=1+ do=error:EINVAL", id="no RENAME_NOREPLACE"),
        pytest.param("call=link hit=1+ do=error:EPERM", id="no hard links"),
        pytest.param("call=reflink|copy_file_range hit=1+ do=error:EOPNOTSUPP", id="no reflink, no copy_file_range"),
        pytest.param("call=open path=*/attempts/*/.raystorage/* hit=1 do=error:ESTALE", id="ESTALE at open"),
    ],
)
def test_a_fault_of_a_known_kind(tmp_path: Path, rule: str) -> None:
    error = rule.rpartition(":")[2] if ":" in rule else "EIO"
    outcome = fail_once(tmp_path / "run", Fault(MIXED, rule, error))
    assert not outcome.problems, str(outcome)


@pytest.mark.parametrize("handed_over", [False, True])
def test_killed_between_a_failed_fsync_and_the_withdrawal_of_its_report(tmp_path: Path, handed_over: bool) -> None:
    """P4, P5: the kernel tells of a failed write-back once. The next process must not seal what is left."""
    scenario = Scenario("sync", ("--mode", "moved" if handed_over else "sync", "--steps", "4", "--bytes", "65536"))
    shop = Workshop(tmp_path, scenario)
    shop.prepare()
    # Of what was moved in the journal entry becomes an intent again: the third one.
    withdrawal = (
        "call=rename path=*1-0-*.captured.json hit=3" if handed_over else "call=unlink path=*1-0-*.captured.json"
    )
    rule = f"call=fsync path=*/attempts/1-0-*/model.bin hit=1 do=lose:EIO;{withdrawal} do=kill"
    assert shop.launch(rule, "train", *scenario.arguments, log=True).wait(120) == -signal.SIGKILL
    assert shop.fired()
    assert list(shop.run.glob(".raystorage/attempts/1-0-*.captured.json"))
    assert shop.launch("", "open").wait(120) == 0, shop.errors()
    assert not judge(shop.run, shop.journal(), after_open=True, failing=True).problems
    assert not leftovers(shop.run, shop.staging)


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EIO", "EROFS"])
def test_a_storage_that_stays_broken_fails_each_report_and_no_more(tmp_path: Path, error: str) -> None:
    rule = f"call=create|mkdir|write|copy_file_range|rename path=*/attempts/* hit=1+ do=error:{error}"
    outcome = fail_once(tmp_path / "run", Fault(RETENTION, rule, error, for_good=True))
    expected = {"EIO": {"IO"}, "EROFS": {"IO", "PERMISSION_DENIED"}}.get(error, {"NO_SPACE"})
    assert outcome.failed
    assert {text.split(" ")[0] for text in outcome.failed} <= expected, outcome.failed
    assert not outcome.problems, str(outcome)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "disk"
    directory.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "raystorage-test", directory], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.decode().strip()}")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def test_a_full_disk_fails_reports_until_there_is_room(small_disk: Path) -> None:
    """A real ENOSPC: half way through a checkpoint the disk is full; as soon as there is room, reports work again."""
    shop = Workshop(small_disk, MIXED)
    work = small_disk.parent / "work"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 << 20))
    process = shop.launch(
        "", "train", "--mode", "sync", "--steps", "14", "--bytes", "300000", "--work", str(work), "--pause-ms", "20",
        "--keep", "2", "--lag", "0",
    )  # fmt: skip

    def make_room() -> None:
        while process.poll() is None:
            if shop.journal().failures:
                ballast.unlink()
                return
            time.sleep(0.005)

    watcher = threading.Thread(target=make_room)
    watcher.start()
    status = process.wait(120)
    watcher.join()
    journal = shop.journal()
    failed = journal.failures
    assert status == 0, shop.errors()
    assert failed
    assert {text.split(" ")[0] for text in failed} == {"NO_SPACE"}, failed
    last = max(journal.reports.values(), key=lambda report: report.sequence)
    assert last.durable or not last.has_checkpoint
    assert not judge(shop.run, journal, keep=2, after_open=True).problems
