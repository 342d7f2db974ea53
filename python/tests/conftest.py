"""What all tests share: the fixtures of the fault harness in Tests/faults, and surroundings of their own for each."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest_plugins = ("bench", "servers.fixtures")

# What a launcher, a user's shell or another test may have set.
_VARIABLES = (
    "RAYSTORAGE_STORAGE_PATH",
    "RAY_STORAGE",
    "RAYSTORAGE_NAME",
    "RAY_AIR_LOCAL_CACHE_DIR",
    "RAYSTORAGE_LOG",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS",
    "NO_COLOR",
    "LD_PRELOAD",
)
# A shell starts what it puts in the background with SIGINT ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = os.environ.get("RAYSTORAGE_TEST_LONG") == "1"


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is a host of its own: its staging directory and home lie in its temporary directory."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAYSTORAGE_STAGING_DIR", str(tmp_path / "staging"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage path."""
    return tmp_path / "storage"


@pytest.fixture
def directory(tmp_path: Path) -> Callable[..., Path]:
    """Makes a directory to report: ``directory(step)``, or with files by name."""
    count = iter(range(1000))

    def make(files: dict[str, bytes | str] | int = 0) -> Path:
        path = tmp_path / f"source-{next(count)}"
        contents = {"model.bin": bytes([files]) * 1000, "step": str(files)} if isinstance(files, int) else files
        for name, content in contents.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        path.mkdir(exist_ok=True)
        return path

    return make


@pytest.fixture
def open_run(storage: Path) -> Iterator[Callable[..., object]]:
    """Opens runs that are closed at the end; without fsync unless told otherwise."""
    import raystorage

    opened: list[raystorage.Run] = []

    def open_one(name: str = "run", **options: object) -> raystorage.Run:
        settings: dict[str, object] = {"storage_path": storage, "durability": "none", **options}
        run = raystorage.Run(raystorage.RunConfig(name, **settings))  # type: ignore[arg-type]
        opened.append(run)
        return run

    yield open_one
    for run in opened:
        if not run._closed:
            try:
                run.close(30)
            except raystorage.StorageError as error:
                print(f"closing {run.path}: {error}")


@pytest.fixture(params=range(50 if LONG else 3), ids=lambda number: f"round-{number}")
def round_number(request: pytest.FixtureRequest) -> int:
    """Repeats a test that looks for races: 3 times, 50 in the long runs."""
    number: int = request.param
    return number
