"""The promises on NFS 4.2 itself: Debian's kernel as client in a virtual machine, nfs-ganesha as server on this host.

What the server has is judged from this side; staging lies in the client's memory and ends with it.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from conftest import LONG
from judge import Journal, judge
from machine import Machine, MachineUnavailableError, prepare
from nfsserver import ServerUnavailableError, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED = int(os.environ.get("RAYSTORAGE_TEST_SEED", "1"))
KEEP = 4
BOOT_S = 240
_WHERE = f"--storage /mnt --name run --staging /tmp/staging --heartbeat-ms 1000 --keep {KEEP}"
_TRAIN = f"trainer train {_WHERE} --work /tmp/work --journal - --launch {{launch}} --mode {{mode}} --bytes {{size}}"


@pytest.fixture(scope="module", autouse=True)
def _machine() -> None:
    try:
        prepare()
    except MachineUnavailableError as error:
        pytest.skip(f"no virtual machine here: {error}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The directory that is served, and what a machine mounts it by."""
    directory = tmp_path / "export"
    try:
        with served(directory, tmp_path / "ganesha") as port:
            yield directory, f"{port}/vers=4.2"
    except ServerUnavailableError as error:
        pytest.skip(f"no NFS server here: {error}")


def train(nfs: str, launch: int, mode: str, steps: int, size: int) -> Machine:
    command = _TRAIN.format(launch=launch, mode=mode, size=size) + f" --steps {steps}"
    machine = Machine(None, command, nfs=nfs)
    opened = machine.read_until(lambda line: line.startswith(("open ", "machine: done")), BOOT_S)
    assert opened is not None, machine.lines
    assert opened.startswith("open "), machine.lines
    return machine


@pytest.mark.timeout(900)
def test_trains_evicts_and_goes_on_from_another_client(server: tuple[Path, str]) -> None:
    """P1, P2, P5, P8, P9, P14: two launches on two clients; then nothing is left over."""
    directory, nfs = server
    journal = Journal()
    for launch, steps in ((1, 12), (2, 20)):
        machine = train(nfs, launch, "mixed", steps, 300_000)
        lines = machine.read_to_end(BOOT_S)
        assert "machine: done 0" in lines, lines
        journal.read(lines)
    assert not journal.failures
    found = judge(directory / "run", journal, keep=KEEP, after_open=True)
    assert not found.problems, found.problems
    for left in ("attempts", "tmp"):
        assert not list((directory / "run" / ".raystorage" / left).glob("*"))
    # A file that was removed while it was open is renamed by the client, and must be gone in the end.
    assert not list(directory.rglob(".nfs*"))


@pytest.mark.timeout(3600)
def test_what_was_durable_survives_the_end_of_the_client(server: tuple[Path, str], say) -> None:
    """P1, P2, P14: the client's plug is pulled in the middle; the server has all that was returned as durable."""
    directory, nfs = server
    journal = Journal()
    choice = random.Random(SEED)
    cuts = 20 if LONG else 2
    for cut in range(cuts):
        machine = train(nfs, cut, choice.choice(("async", "mixed", "sync", "moved")), 100_000, 200_000)
        before = choice.randrange(3, 12)
        for _ in range(before):
            machine.read_until(lambda line: line.startswith(("durable ", "machine: done")), BOOT_S)
        machine.kill()
        journal.read(machine.lines)
        # Not after an open: what was captured in that client's memory is gone with it, and so are its last rows.
        found = judge(directory / "run", journal, keep=KEEP, after_open=False, power_cut=True)
        assert not found.problems, (cut, found.problems)
    durable = sum(report.durable for report in journal.reports.values())
    say(f"NFS 4.2: {cuts} clients ended in the middle, {durable} reports durable, 0 broken promises")
    assert durable > 2 * cuts


@pytest.mark.timeout(900)
def test_a_second_client_is_refused_while_the_first_one_lives(server: tuple[Path, str]) -> None:
    """No lock is shared between two staging directories: the heartbeat goes through the server."""
    _, nfs = server
    holder = train(nfs, 1, "sync", 100_000, 20_000)
    try:
        machine = Machine(None, f"trainer open {_WHERE} --journal - --launch 2 2>&1", nfs=nfs)
        lines = machine.read_to_end(BOOT_S)
    finally:
        holder.kill()
    assert "machine: done 3" in lines, lines
    assert any("RUN_IN_USE" in line for line in lines), lines
