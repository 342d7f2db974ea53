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
    output._fit(widths, headings, 60)
    assert widths == [27, 10, 19]
    widths = [27, 90, 19]
    output._fit(widths, headings, 40)
    assert sum(widths) + 4 <= 40
