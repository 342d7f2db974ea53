"""The judge of the fault tests finds what it must: every kind of broken promise, made by hand."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from judge import judge, leftovers, visible_checkpoints
from killing import Scenario, Workshop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCENARIO = Scenario("short", ("--mode", "mixed", "--steps", "8", "--bytes", "20000"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("harness") / "run"
    directory.mkdir()
    shop = Workshop(directory, SCENARIO)
    assert shop.launch("", "train", *SCENARIO.arguments).wait(60) == 0, shop.errors()
    return directory


@pytest.fixture
def shop(trained: Path, tmp_path: Path) -> Workshop:
    shutil.copytree(trained, tmp_path / "copy", symlinks=True)
    return Workshop(tmp_path / "copy", SCENARIO)


def problems(shop: Workshop) -> list[str]:
    return judge(shop.run, shop.journal(), after_open=True).problems + leftovers(shop.run, shop.staging)


def test_nothing_is_found_where_nothing_is_wrong(shop: Workshop) -> None:
    assert problems(shop) == []


def flip_a_byte(shop: Workshop) -> None:
    file = visible_checkpoints(shop.run)[0] / "model.bin"
    content = bytearray(file.read_bytes())
    content[9999] ^= 1
    file.write_bytes(content)


def cut_a_file(shop: Workshop) -> None:
    file = visible_checkpoints(shop.run)[1] / "optimizer" / "state.bin"
    file.write_bytes(file.read_bytes()[:-1])


def lose_a_file(shop: Workshop) -> None:
    (visible_checkpoints(shop.run)[1] / "zero").unlink()


def mix_in_a_file(shop: Workshop) -> None:
    (visible_checkpoints(shop.run)[0] / "optimizer" / "stale.bin").write_bytes(b"from another attempt")


def lose_a_checkpoint(shop: Workshop) -> None:
    shutil.rmtree(visible_checkpoints(shop.run)[0])


def lose_the_latest(shop: Workshop) -> None:
    shutil.rmtree(visible_checkpoints(shop.run)[-1])


def show_half_a_checkpoint(shop: Workshop) -> None:
    (shop.run / "checkpoint_000001_000000099").mkdir()


def lose_a_row(shop: Workshop) -> None:
    (segment,) = (shop.run / ".raystorage" / "metrics").iterdir()
    lines = segment.read_text().splitlines(keepends=True)
    segment.write_text("".join(lines[:2] + lines[3:]))


def leave_an_attempt(shop: Workshop) -> None:
    (shop.run / ".raystorage" / "attempts" / "1-5-0123456789abcdef").mkdir(parents=True)


def leave_a_temporary_file(shop: Workshop) -> None:
    (shop.run / ".result.json.tmp").touch()


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        cut_a_file,
        lose_a_file,
        mix_in_a_file,
        lose_a_checkpoint,
        lose_the_latest,
        show_half_a_checkpoint,
        lose_a_row,
        leave_an_attempt,
        leave_a_temporary_file,
    ],
)
def test_damage_is_found(shop: Workshop, damage: Callable[[Workshop], None]) -> None:
    damage(shop)
    assert problems(shop)


def test_a_planned_kill_happens_where_it_was_planned(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, SCENARIO)
    run = "<directory>/storage/run"
    rule = f"call=rename_noreplace|rename exact={run}/.raystorage/attempts/*?->?{run}/* hit=2 do=kill"
    assert shop.launch(rule, "train", "--mode", "sync", "--steps", "8", log=True).wait(60) == -9
    assert shop.fired()
    calls = [line for line in shop.log_file.read_text().splitlines() if "rename" in line and "attempts" in line]
    assert len(visible_checkpoints(shop.run)) == 1, calls
