"""`raystorage ls`: one damaged run hides no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raystorage import Run, RunConfig, cli

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
