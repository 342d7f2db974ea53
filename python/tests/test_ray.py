"""P13: Ray 2.60 opens our runs both ways, and its run directories open here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from raystorage import Checkpoint, CheckpointConfig, Result

_V1 = """
import json, sys
from ray.tune import Result
result = Result.from_path(sys.argv[1])
print(json.dumps([result.metrics["step"], result.checkpoint.path, len(result.metrics_dataframe)]))
"""
_V2 = """
import json, sys
from ray.train import Result
result = Result.from_path(sys.argv[1])
print(json.dumps([result.metrics["step"], result.checkpoint.path, len(result.best_checkpoints)]))
"""


@pytest.fixture
def written(open_run, directory) -> Path:
    """A run of ours: three checkpoints, two kept, metrics between and after them."""
    run = open_run(checkpoint_config=CheckpointConfig(num_to_keep=2))
    for step in range(3):
        run.report({"step": step, "loss": 1.0 / (step + 1)}, Checkpoint(directory(step)))
        run.report({"step": step + 0.5, "loss": float("nan")})
    path = Path(run.path)
    run.close()
    return path


def ray_reads(code: str, path: Path, v2: bool) -> list[object]:
    """What Ray says, in a process of its own: the two versions of Ray Train exclude each other."""
    environment = {**os.environ, "RAY_TRAIN_V2_ENABLED": "1" if v2 else "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: list[object] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def test_ray_train_v2_opens_our_run(written: Path) -> None:
    """P13."""
    latest = Result.from_path(written).checkpoint
    assert latest is not None
    assert ray_reads(_V2, written, v2=True) == [2, str(latest.path), 2]


def test_ray_v1_opens_our_run(written: Path) -> None:
    """P13, P14: every row, those without a checkpoint included."""
    latest = Result.from_path(written).checkpoint
    assert latest is not None
    _, path, rows = ray_reads(_V1, written, v2=False)
    assert path == str(latest.path)
    assert rows == 6


@pytest.fixture(scope="module")
def rays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directories that Ray 2.60 wrote."""
    place = tmp_path_factory.mktemp("ray")
    with tarfile.open(Path(__file__).parent / "data" / "ray-run-directories.tar.gz") as archive:
        archive.extractall(place, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(place)
    return place


def test_runs_of_ray_v2_open_here(rays: Path) -> None:
    """P13."""
    opened = 0
    for snapshot in sorted(rays.glob("storage/*/checkpoint_manager_snapshot.json")):
        document = json.loads(snapshot.read_text())
        result = Result.from_path(snapshot.parent)
        latest = document["latest_checkpoint_result"]
        assert result.checkpoint is not None
        assert os.path.basename(result.checkpoint.path) == latest["checkpoint_dir_name"]
        assert result.metrics == latest["metrics"]
        kept = [entry["checkpoint_dir_name"] for entry in document["checkpoint_results"]]
        best = [os.path.basename(checkpoint.path) for checkpoint, _ in result.best_checkpoints]
        assert [name for name in best if name in kept] == kept
        opened += 1
    assert opened >= 3


def test_runs_of_ray_v1_open_here(rays: Path) -> None:
    """P13."""
    trials = [path.parent for path in sorted(rays.glob("v1store/*/*/result.json"))]
    assert trials
    for trial in trials:
        rows = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
        result = Result.from_path(trial)
        assert result.metrics_history == rows
        assert result.checkpoint is not None


def test_a_run_of_ray_is_gone_on_with(rays: Path, open_run, directory, tmp_path: Path) -> None:
    """P13: resumed from Ray's latest, whose directories are never touched."""
    before = sorted(path.name for path in (rays / "storage/run1").glob("checkpoint_2*"))
    run = open_run(storage_path=str(rays / "storage"), name="run1", checkpoint_config=CheckpointConfig(num_to_keep=1))
    latest = json.loads((rays / "storage/run1/checkpoint_manager_snapshot.json").read_text())[
        "latest_checkpoint_result"
    ]
    checkpoint = run.get_checkpoint()
    assert checkpoint is not None
    assert os.path.basename(checkpoint.path) == latest["checkpoint_dir_name"]
    for step in range(3):
        run.report({"step": step, "loss": 0.0}, Checkpoint(directory(step)))
    run.close()
    assert sorted(path.name for path in (rays / "storage/run1").glob("checkpoint_2*")) == before


def ray_trains(storage: Path, keep: int | None) -> dict[str, object]:
    """What a real training job of Ray began with and kept; it reports two checkpoints."""
    program = Path(__file__).with_name("rays_trainer.py")
    done = subprocess.run(
        [sys.executable, str(program), str(storage), "run", str(keep or 0), "2"],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


@pytest.mark.timeout(900)
@pytest.mark.parametrize("keep", [1, pytest.param(None, marks=pytest.mark.long)])
def test_a_training_job_of_ray_goes_on_with_ours_and_ours_with_rays(
    open_run, directory, storage: Path, keep: int | None
) -> None:
    """P13: ours, Ray, ours, Ray, with a real trainer of Ray on a cluster of one."""
    config = CheckpointConfig(num_to_keep=keep)
    run = open_run(checkpoint_config=config)
    run.report({"step": 0}, Checkpoint(directory({"model.bin": "ours 1"})))
    first = os.path.basename(run.close().checkpoint.path)

    of_ray = ray_trains(storage, keep)
    assert of_ray["begun"] == [first, "ours 1"]
    kept = of_ray["kept"]
    assert isinstance(kept, list)
    assert len(kept) == (1 if keep else 3)
    assert (first in kept) == (keep is None)

    run = open_run(checkpoint_config=config)
    checkpoint = run.get_checkpoint()
    assert os.path.basename(checkpoint.path) == kept[-1]
    with checkpoint.as_directory() as begun:
        assert Path(begun, "model.bin").read_text() == "of Ray 1"
    run.report({"step": 2}, Checkpoint(directory({"model.bin": "ours 2"})))
    second = os.path.basename(run.close().checkpoint.path)

    of_ray = ray_trains(storage, keep)
    assert of_ray["begun"] == [second, "ours 2"]
    kept = of_ray["kept"]
    assert isinstance(kept, list)
    result = Result.from_path(storage / "run")
    assert result.checkpoint is not None
    assert os.path.basename(result.checkpoint.path) == kept[-1]
    assert ray_reads(_V2, storage / "run", v2=True) == [1, str(result.checkpoint.path), len(kept)]
