"""P8, P13: what is kept beside Ray's own manager on the same reports; and a run that goes back and forth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import raystorage
from raystorage import Checkpoint, CheckpointConfig, CheckpointUploadMode, Result, RunConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Scores = list[Any]
_INFINITY = float("inf")
_NAN = float("nan")
_SNAPSHOT = "checkpoint_manager_snapshot.json"


class RaysManager:
    """Ray's manager in a process of its own, which takes one job after another."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("rays_manager.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def work(
        self, storage: Path, name: str, config: dict[str, Any], reports: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        job = {"storage": str(storage), "name": name, "config": config, "reports": reports}
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        answer: list[dict[str, Any]] = json.loads(stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def ray() -> Iterator[RaysManager]:
    manager = RaysManager()
    yield manager
    manager.close()


@pytest.fixture(scope="module")
def module_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("beside-ray")
    (place / "source").mkdir()
    (place / "source" / "model.bin").write_bytes(b"ours")
    return place


def written(path: Path) -> dict[str, Any]:
    """What our snapshot says, in the words of `rays_manager.py`."""
    document = json.loads((path / _SNAPSHOT).read_text())
    latest = document.get("latest_checkpoint_result")
    return {
        "kept": [entry["checkpoint_dir_name"] for entry in document["checkpoint_results"]],
        "latest": latest["checkpoint_dir_name"] if latest else None,
    }


def directories(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def report_here(place: Path, name: str, config: dict[str, Any], reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same reports here; the state after each, from what Ray would read."""
    states = []
    run = raystorage.Run(
        RunConfig(
            name,
            storage_path=place / "ours",
            checkpoint_config=CheckpointConfig(**config),
            durability="none",
        )
    )
    with run:
        for report in reports:
            run.report(
                report["metrics"],
                Checkpoint(place / "source"),
                checkpoint_dir_name=report["name"],
                checkpoint_upload_mode=CheckpointUploadMode.SYNC,
            )
            states.append(written(Path(run.path)))
    return states


def compare(ray: RaysManager, place: Path, config: dict[str, Any], scores: Scores, wrap: Callable[[Any], Any]) -> None:
    name = f"run-{len(list(place.glob('ours/*')))}"
    reports = [{"name": f"c{step}", "metrics": wrap(score)} for step, score in enumerate(scores)]
    theirs = ray.work(place / "theirs", name, config, reports)[1:]
    assert report_here(place, name, config, reports) == theirs
    # Not only in the index: what was evicted is gone from the disk on both sides.
    assert directories(place / "ours" / name) == sorted(theirs[-1]["kept"])
    assert directories(place / "theirs" / name) == sorted(theirs[-1]["kept"])


_HAND_PICKED: list[tuple[str, Scores]] = [
    ("ties", [1.0, 1.0, 1.0, 1.0]),
    ("growing", [1, 2, 3, 4, 5]),
    ("falling", [5, 4, 3, 2, 1]),
    ("the latest is the worst", [3, 2, 1, 0, 3]),
    ("NaN in between", [1.0, _NAN, 2.0, _NAN, 0.5]),
    ("only NaN", [_NAN, _NAN, _NAN]),
    ("infinities", [_INFINITY, -_INFINITY, 0.0, _NAN, -_INFINITY, _INFINITY]),
    ("booleans are numbers", [True, False, 1, 0, 0.5]),
    ("integers and floats", [1, 1.0, 2, 2.0, 1]),
]


@pytest.mark.parametrize("keep", [1, 2, 3, None])
@pytest.mark.parametrize("order", ["max", "min"])
@pytest.mark.parametrize("scores", [scores for _, scores in _HAND_PICKED], ids=[name for name, _ in _HAND_PICKED])
def test_p8_keeps_what_ray_keeps(
    ray: RaysManager, module_place: Path, keep: int | None, order: str, scores: Scores
) -> None:
    """P8, P13."""
    config = {"num_to_keep": keep, "checkpoint_score_attribute": "eval/loss", "checkpoint_score_order": order}
    compare(ray, module_place, config, scores, lambda score: {"eval": {"loss": score}})


@pytest.mark.parametrize("keep", [1, 2, None])
def test_p8_without_a_score_the_newest_are_kept(ray: RaysManager, module_place: Path, keep: int | None) -> None:
    """P8, P13."""
    compare(ray, module_place, {"num_to_keep": keep}, [3, 1, 2, 5, 4], lambda score: {"loss": score})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scores=st.lists(
        st.sampled_from([0, 1, 1.0, 2, -1.5, True, _NAN, _INFINITY, -_INFINITY, 1e-300]), min_size=1, max_size=8
    ),
    keep=st.sampled_from([1, 2, 3, None]),
    order=st.sampled_from(["max", "min"]),
)
def test_p8_keeps_what_ray_keeps_for_any_reports(
    ray: RaysManager, module_place: Path, scores: Scores, keep: int | None, order: str
) -> None:
    """P8, P13: a sequence that nobody thought of."""
    config = {"num_to_keep": keep, "checkpoint_score_attribute": "score", "checkpoint_score_order": order}
    compare(ray, module_place, config, scores, lambda score: {"score": score, "other": {"score": 7}})


def test_p8_a_missing_score_is_the_worst_for_both_orders(ray: RaysManager, module_place: Path) -> None:
    """P8, on purpose not as Ray does: for "min" Ray takes a checkpoint without the metric for the best."""
    config = {"num_to_keep": 1, "checkpoint_score_attribute": "loss", "checkpoint_score_order": "min"}
    reports: list[dict[str, Any]] = [
        {"name": "with", "metrics": {"loss": 0.1}},
        {"name": "without", "metrics": {"other": 1}},
        {"name": "last", "metrics": {"loss": 0.5}},
    ]
    assert ray.work(module_place / "theirs", "missing", config, reports)[-1]["kept"] == ["last", "without"]
    assert report_here(module_place, "missing", config, reports)[-1]["kept"] == ["last", "with"]


# Back and forth


@pytest.mark.parametrize("keep", [None, 1])
def test_p13_ray_goes_on_with_our_run_and_we_with_rays(ray: RaysManager, module_place: Path, keep: int | None) -> None:
    """P13: ours, Ray, ours, Ray: each goes on from the other's latest, also when it evicted all of the other's."""
    storage, name = module_place / "chain", f"keep-{keep}"
    path = storage / name
    config: dict[str, Any] = {"num_to_keep": keep}

    def ours(report: str, expected: str | None) -> None:
        run = raystorage.Run(
            RunConfig(name, storage_path=storage, checkpoint_config=CheckpointConfig(**config), durability="none")
        )
        with run:
            checkpoint = run.get_checkpoint()
            assert (os.path.basename(checkpoint.path) if checkpoint else None) == expected
            run.report({"step": 1}, Checkpoint(module_place / "source"), checkpoint_dir_name=report).wait()
        result = Result.from_path(path)
        assert result.checkpoint is not None
        assert os.path.basename(result.checkpoint.path) == report

    def rays(report: str, expected: str) -> None:
        before, after = ray.work(storage, name, config, [{"name": report, "metrics": {"step": 2}}])
        assert before["latest"] == expected
        assert after["latest"] == report
        assert len(after["kept"]) == (1 if keep else len(before["kept"]) + 1)
        result = Result.from_path(path)
        assert result.checkpoint is not None
        assert os.path.basename(result.checkpoint.path) == report

    ours("o1", None)
    rays("r1", "o1")
    ours("o2", "r1")
    rays("r2", "o2")
    rays("r3", "r2")
    ours("o3", "r3")
    names = ["o1", "o2", "o3", "r1", "r2", "r3"]
    # Directories of Ray are never removed by us.
    assert directories(path) == (names if keep is None else ["o3", "r3"])
