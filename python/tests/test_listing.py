"""`raystorage ls`: one damaged run hides no other, and names can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raystorage import Run, RunConfig, cli
from raystorage.cli import output

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_damaged_run_is_listed_beside_good_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = tmp_path / "storage"
    with Run(RunConfig("good", storage, staging_dir=tmp_path / "staging")) as run:
        run.report({"loss": 1})
    record = storage / "damaged" / ".raystorage" / "run.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    assert cli.main(["ls", str(storage)]) == 0
    printed = capsys.readouterr().out
    assert "good" in printed
    assert f"{storage}/damaged: " in printed


def test_names_are_the_last_to_be_cut_on_a_narrow_terminal() -> None:
    headings = ("CHECKPOINT", "METRICS", "CREATED")
    widths = [27, 90, 19]
    assert output._fit(widths, headings, 66) == []
    assert widths == [27, 16, 19]
    widths = [27, 90, 19]
    assert output._fit(widths, headings, 48) == [1]
    assert [widths[0], widths[2]] == [27, 11]
    widths = [27, 90, 19]
    assert output._fit(widths, headings, 20) == [1, 2]
    assert widths[0] == 20


def test_of_more_metrics_than_a_terminal_has_columns_the_first_are_shown() -> None:
    headings = ("#", *(f"metric {number}" for number in range(30)), "checkpoint")
    widths = [3, *([9] * 30), 27]
    hidden = output._fit(widths, headings, 80)
    shown = [column for column in range(32) if column not in hidden]
    assert shown[0] == 0
    assert shown[-1] == 31
    assert shown[:-1] == list(range(len(shown) - 1))
    assert sum(widths[column] for column in shown) + 2 * (len(shown) - 1) <= 80
