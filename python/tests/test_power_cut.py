"""P4 under power cuts: a trainer in a virtual machine, on a disk that loses what was not flushed.

What was reported as sealed or durable before the cut must be there, bit for bit, after the next boot, and the run must
open. `make test` makes a few cuts, the marker `long` many.
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING

import pytest
from blockdevice import LosingDevice
from judge import Journal
from machine import Machine, MachineError, MachineUnavailableError, make_disk, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SEED = int(os.environ.get("RAYSTORAGE_TEST_SEED", "1"))
BOOT_S = 120
CUTS, CUTS_LONG = 3, 24


@pytest.fixture(scope="module")
def _machine() -> None:
    try:
        prepare()
    except MachineUnavailableError as error:
        pytest.skip(f"no virtual machine here: {error}")


@pytest.fixture
def device(_machine: None, tmp_path: Path) -> Iterator[LosingDevice]:
    disk = tmp_path / "disk.img"
    make_disk(disk, 512)
    made = LosingDevice(disk, tmp_path / "nbd.socket", seed=SEED)
    yield made
    made.close()


def write_and_cut(device: LosingDevice, how: str, cuts: int) -> tuple[set[int], set[int]]:
    """Cuts a program that writes file after file: (said to be durable, not there after the next boot)."""
    choice = random.Random(SEED)
    promised: set[int] = set()
    missing: set[int] = set()
    for cut in range(cuts + 1):
        first = cut * 100_000
        command = f"mkdir -p /mnt/d; diskwriter check /mnt/d; echo checked; diskwriter write /mnt/d {how} {first}"
        machine = Machine(device, command)
        if machine.read_until(lambda line: line == "checked", BOOT_S) is None:
            raise MachineError("the machine ended at its start:\n" + "\n".join(machine.lines[-20:]))
        missing |= promised - {int(line.split()[1]) for line in machine.lines if line.startswith("have ")}
        # However slow the machine is, something is to be lost.
        machine.read_until(lambda line: line.startswith("durable "), BOOT_S)
        machine.cut_between(0.2, 1.5, choice)
        promised |= {int(line.split()[1]) for line in machine.lines if line.startswith("durable ")}
    return promised, missing


def test_the_machine_finds_a_program_that_does_not_fsync(device: LosingDevice) -> None:
    promised, missing = write_and_cut(device, "careless", 1)
    assert promised
    assert missing, "the power cut lost nothing: this test bench proves nothing"


def test_the_machine_keeps_what_was_fsynced(device: LosingDevice) -> None:
    promised, missing = write_and_cut(device, "careful", 1)
    assert promised
    assert not missing


# One boot: judge what the last cut left, open the run, judge again, train until the plug is pulled.
_SESSION = (
    "echo launch {launch}; "
    "test -d /mnt/s/run && trainer content /mnt/s/run/[!.]*/ | sed s/^/before./; "
    "trainer open {where} --journal /dev/null && trainer content /mnt/s/run/[!.]*/ | sed s/^/after./; "
    "trainer result /mnt/s/run | sed s/^/result./; "
    "trainer metrics /mnt/s/run | sed s/^/metrics./; "
    "find /mnt/s/run/.raystorage/attempts /mnt/s/run/.raystorage/tmp -mindepth 1 | sed s/^/left./; "
    "echo judged; "
    "trainer train {where} --journal - --launch {launch} --mode {mode} --work /mnt/w "
    "--bytes {size} --steps 100000 --lag 6 --durability-none {careless}"
)
# Retention at work, too: a cut must not keep an eviction and lose the commit that caused it.
KEEP = 12
_WHERE = f"--storage /mnt/s --name run --staging /mnt/staging --heartbeat-ms 500 --keep {KEEP}"


def judge_boot(lines: list[str], journal: Journal) -> tuple[list[str], int, int]:
    """Compares what a boot found with what was promised before: (problems, promised checkpoints, lost rows)."""
    # A slow machine may be cut before its first checkpoint: the shell then leaves the pattern as it is. What was
    # promised is looked for below.
    nothing_yet = "/mnt/s/run/[!.]*/"
    problems = [
        line for line in lines if line.startswith(("before.bad", "after.bad", "left.")) and nothing_yet not in line
    ]
    good = {}
    for line in lines:
        if line.startswith("after.good "):
            _, step, path = line.split(" ", 2)
            good[path.rstrip("/").rsplit("/", 1)[1]] = int(step)
    result = [line.removeprefix("result.") for line in lines if line.startswith("result.")]
    rows = [line.removeprefix("metrics.") for line in lines if line.startswith("metrics.")]
    if not result or not rows:
        return [*problems, "the run does not open: " + " | ".join(lines[-5:])], 0, 0
    listed = {
        (entry["epoch"], entry["index"]): entry["physical_name"] for entry in json.loads(result[-1])["checkpoints"]
    }
    reported = {(row["raystorage_epoch"], row["raystorage_index"]) for row in json.loads(rows[-1])}
    promised, lost_rows = 0, 0
    for sequence, report in journal.reports.items():
        if (report.sealed or report.durable) and report.has_checkpoint and not report.failed:
            promised += 1
            if sequence in listed and good.get(listed[sequence]) == report.step:
                continue
            if sequence in listed or sum(other > sequence for other in listed) < KEEP:
                problems.append(f"{report.default_name} ({'durable' if report.durable else 'sealed'}) is gone")
        if sequence not in reported:
            lost_rows += report.returned
            if report.durable:
                problems.append(f"the metrics of durable report {sequence} are gone")
    return problems, promised, lost_rows


def train_and_cut(device: LosingDevice, cuts: int, *, careless: bool = False) -> tuple[list[str], int, str]:
    """Cuts a trainer that often: (broken promises, promised checkpoints, the line that a person reads)."""
    choice = random.Random(SEED + 1)
    journal = Journal()
    started = time.monotonic()
    problems: list[str] = []
    promised = lost_rows = 0
    for cut in range(cuts + 1):
        mode = choice.choice(("async", "mixed", "sync", "moved"))
        size = choice.choice((20_000, 400_000, 2_000_000))
        command = _SESSION.format(launch=cut, where=_WHERE, mode=mode, size=size, careless=int(careless))
        machine = Machine(device, command)
        machine.read_until(lambda line: line == "judged" or line.startswith("machine: done"), BOOT_S)
        if cut > 0:
            found, promised, lost_rows = judge_boot(list(machine.lines), journal)
            problems += [f"cut {cut}: {text}" for text in found]
        before = len(machine.lines)
        if cut < cuts:
            machine.read_until(lambda line: line.startswith(("open ", "machine: done")), BOOT_S)
            machine.cut_between(0.1, 4.0, choice)
        else:
            machine.kill()
        journal.read(machine.lines[before:])
    statistics = device.statistics
    text = (
        f"power cut: {cuts} cuts in {time.monotonic() - started:.0f} s, {promised} checkpoints promised, "
        f"{len(problems)} broken promises; the disk lost {statistics.lost} of {statistics.lost + statistics.kept} "
        f"unflushed writes ({statistics.writes} writes, {statistics.flushes} flushes), {lost_rows} rows of metrics lost"
    )
    return problems, promised, text


def assert_sealed_survives(device: LosingDevice, cuts: int, say: Callable[[str], None]) -> None:
    problems, promised, text = train_and_cut(device, cuts)
    say(text)
    assert not problems, f"seed {SEED}:\n" + "\n".join(problems)
    assert promised > 0


def test_the_machine_finds_a_library_that_does_not_fsync(device: LosingDevice) -> None:
    problems, promised, _ = train_and_cut(device, 1, careless=True)
    assert promised
    assert any("is gone" in text for text in problems), f"nothing was lost: this bench proves nothing: {problems}"


def test_what_was_sealed_survives_a_sample_of_cuts(device: LosingDevice, say: Callable[[str], None]) -> None:
    assert_sealed_survives(device, CUTS, say)


@pytest.mark.long
def test_what_was_sealed_survives_many_cuts(device: LosingDevice, say: Callable[[str], None]) -> None:
    assert_sealed_survives(device, CUTS_LONG, say)
