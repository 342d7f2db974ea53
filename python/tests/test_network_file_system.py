"""The same promises on a file system like NFS: no RENAME_NOREPLACE, late errors, cached names, silly renames."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from judge import Journal, judge, leftovers
from killing import Scenario, Workshop
from nfslike import MountUnavailableError, mounted

if TYPE_CHECKING:
    from pathlib import Path

MIXED = Scenario("mixed", ("--mode", "mixed", "--steps", "12", "--bytes", "65536"))


@pytest.fixture(autouse=True)
def _available(tmp_path: Path) -> None:
    try:
        with mounted(tmp_path / "probe", tmp_path / "probe-mount"):
            pass
    except MountUnavailableError as error:
        pytest.skip(f"no FUSE here: {error}")


def shop_on(mountpoint: Path, tmp_path: Path, scenario: Scenario = MIXED) -> Workshop:
    """Storage on the mount; staging, journal and the trainer's own directories beside it, as on a real node."""
    shop = Workshop(tmp_path / "node", scenario)
    (tmp_path / "node").mkdir(exist_ok=True)
    (tmp_path / "node" / "storage").symlink_to(mountpoint)
    return shop


def train_and_judge(shop: Workshop, *, keep: int = 0, expect_failures: bool = False) -> Journal:
    status = shop.launch("", "train", *shop.scenario.arguments).wait(120)
    assert status == 0, shop.errors()
    journal = shop.journal()
    failed = journal.failures
    assert bool(failed) == expect_failures, failed
    found = judge(shop.run, journal, keep=keep, after_open=not expect_failures)
    assert not found.problems, found.problems
    return journal


def test_trains_resumes_and_evicts(tmp_path: Path) -> None:
    scenario = Scenario("retention", ("--mode", "mixed", "--steps", "12", "--bytes", "65536"), keep=2)
    with mounted(tmp_path / "server", tmp_path / "mount"):
        shop = shop_on(tmp_path / "mount", tmp_path, scenario)
        train_and_judge(shop, keep=2)
        assert shop.launch("", "train", "--mode", "mixed", "--steps", "20").wait(120) == 0, shop.errors()
        assert shop.launch("", "open", "--pause-ms", "1300").wait(120) == 0, shop.errors()
        found = judge(shop.run, shop.journal(), keep=2, after_open=True)
        assert not found.problems, found.problems
        assert not leftovers(shop.run, shop.staging)


def test_survives_a_kill(tmp_path: Path) -> None:
    with mounted(tmp_path / "server", tmp_path / "mount"):
        shop = shop_on(tmp_path / "mount", tmp_path)
        rule = "call=rename|rename_noreplace path=*/attempts/*->* hit=3 do=kill-after"
        assert shop.launch(rule, "train", *MIXED.arguments).wait(120) == -signal.SIGKILL
        found = judge(shop.run, shop.journal(), after_open=False)
        assert not found.problems, found.problems
        assert shop.launch("", "open").wait(120) == 0, shop.errors()
        found = judge(shop.run, shop.journal(), after_open=True)
        assert not found.problems, found.problems
        assert not leftovers(shop.run, shop.staging)


@pytest.mark.parametrize(
    ("faults", "status"),
    [
        pytest.param("call=close path=*/attempts/*/model.bin hit=1 do=error:EDQUOT", "NO_SPACE", id="EDQUOT at close"),
        pytest.param("call=fsync|fdatasync path=*/attempts/* hit=1 do=error:EIO", "IO", id="EIO at fsync"),
        pytest.param("call=write path=*/attempts/* hit=1 do=error:ENOSPC", "NO_SPACE", id="ENOSPC at write"),
        pytest.param("call=create path=*/attempts/* hit=1 do=error:ESTALE", "IO", id="ESTALE at create"),
    ],
)
def test_an_error_of_the_server_fails_at_most_one_report(tmp_path: Path, faults: str, status: str) -> None:
    with mounted(tmp_path / "server", tmp_path / "mount", faults):
        shop = shop_on(tmp_path / "mount", tmp_path)
        assert shop.launch("", "train", *MIXED.arguments).wait(120) == 0, shop.errors()
        journal = shop.journal()
        failed = journal.failures
        assert len(failed) <= 1
        assert all(text.startswith(status + " ") for text in failed), failed
        found = judge(shop.run, journal, after_open=False)
        assert not found.problems, found.problems


def test_a_lost_reply_of_the_commit_is_a_commit(tmp_path: Path) -> None:
    faults = "call=rename path=*/attempts/*->*/checkpoint_* hit=2 do=error-after:EIO"
    with mounted(tmp_path / "server", tmp_path / "mount", faults):
        train_and_judge(shop_on(tmp_path / "mount", tmp_path))


def test_a_dead_server_ends_every_wait_with_a_typed_error(tmp_path: Path) -> None:
    with mounted(tmp_path / "server", tmp_path / "mount") as server:
        shop = shop_on(tmp_path / "mount", tmp_path)
        process = shop.launch("", "train", "--mode", "async", "--steps", "100000", "--max-failures", "3")
        while not any(report.durable for report in shop.journal().reports.values()):
            assert process.poll() is None, shop.errors()
        server.kill()
        status = process.wait(120)
        assert status == 3, shop.errors()
        failed = shop.journal().failures
        assert failed
        assert all(text.split(" ")[0] in ("IO", "NOT_FOUND", "NETWORK") for text in failed), failed


def test_a_second_client_sees_a_live_holder_and_takes_over_a_dead_one(tmp_path: Path) -> None:
    """Two mounts are two hosts: no lock is shared, only the heartbeat tells."""
    with (
        mounted(tmp_path / "server", tmp_path / "mount"),
        mounted(tmp_path / "server", tmp_path / "other-mount"),
    ):
        shop = shop_on(tmp_path / "mount", tmp_path)
        (tmp_path / "other").mkdir()
        other = shop_on(tmp_path / "other-mount", tmp_path / "other")
        holder = shop.launch("", "train", "--mode", "sync", "--steps", "100000", "--pause-ms", "50")
        while not any(report.durable for report in shop.journal().reports.values()):
            assert holder.poll() is None, shop.errors()
        assert other.launch("", "open").wait(120) == 3
        assert "RUN_IN_USE" in other.errors()
        assert str(holder.pid) in other.errors()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert other.launch("", "open").wait(120) == 0, other.errors()
        found = judge(other.run, shop.journal(), after_open=False)
        assert not found.problems, found.problems
