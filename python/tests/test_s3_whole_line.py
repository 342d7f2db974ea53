"""Report, wait, resume, retention, results and every command, on real stores (P1 to P9, P14)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stores import MIB, files_of, open_run, report, restored, signed_for, write

from raystorage import (
    AlreadyExistsError,
    Checkpoint,
    CheckpointConfig,
    ChecksumError,
    NotFoundError,
    Result,
    RunInUseError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers import Endpoint

SMALL = {"model.bin": b"weights" * 1000, "sub/ä b+%&?.txt": b"odd", "empty": b""}


@pytest.fixture(params=["seaweedfs", "ceph"])
def endpoint(request: pytest.FixtureRequest, store: Callable[[str], Endpoint]) -> Iterator[Endpoint]:
    """The stores that promises are kept on."""
    found = store(request.param)
    with signed_for(found):
        yield found


@pytest.fixture(params=["rclone", "moto", "seaweedfs-tls"])
def smoke(request: pytest.FixtureRequest, store: Callable[[str], Endpoint]) -> Iterator[Endpoint]:
    found = store(request.param)
    with signed_for(found):
        yield found


def command(*arguments: str, status: int = 0) -> Any:
    """A command of the command line with --json; its document."""
    done = subprocess.run(
        [sys.executable, "-m", "raystorage", *arguments, "--json"],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
    )  # fmt: skip
    assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def test_what_is_reported_comes_back(endpoint: Endpoint, tmp_path: Path) -> None:
    large = {"shard": os.urandom(40 * MIB + 17), **SMALL}
    with open_run(endpoint) as run:
        first = report(run, write(tmp_path / "a", SMALL), {"loss": 2.0})
        waited = run.report({"loss": 1.0}, Checkpoint(write(tmp_path / "b", large)))
        checkpoint = waited.wait(60)
        assert restored(first.checkpoint, tmp_path / "first") == SMALL
        assert restored(checkpoint, tmp_path / "second") == large
        run.report({"loss": 0.5, "nan": float("nan")})
    assert endpoint.open_multiparts() == []

    result = Result.from_path(endpoint.url("runs/run"))
    assert [row["loss"] for row in result.metrics_history] == [2.0, 1.0, 0.5]
    assert restored(result.checkpoint, tmp_path / "third") == large
    assert restored(result.get_best_checkpoint("loss", "max"), tmp_path / "best") == SMALL
    # Plain files under plain names, for readers without our tools.
    keys = endpoint.objects("runs/run/")
    assert sum(key.endswith("/shard") for key in keys) == 1
    assert any(key.endswith("/sub/ä b+%&?.txt") for key in keys)


def test_a_run_goes_on_where_it_was(endpoint: Endpoint, tmp_path: Path) -> None:
    with open_run(endpoint) as run:
        assert run.get_checkpoint() is None
        report(run, write(tmp_path / "a", {"step": b"1"}), {"step": 1}, checkpoint_dir_name="named")
    with pytest.raises(AlreadyExistsError):
        open_run(endpoint, resume="never")
    with open_run(endpoint, resume="must") as run:
        assert restored(run.get_checkpoint(), tmp_path / "r") == {"step": b"1"}
        with pytest.raises(AlreadyExistsError):
            report(run, write(tmp_path / "b", {"step": b"2"}), checkpoint_dir_name="named")
        report(run, write(tmp_path / "b", {"step": b"2"}), {"step": 2})
    with open_run(endpoint, resume_from="named") as run:
        assert restored(run.get_checkpoint(), tmp_path / "n") == {"step": b"1"}
    with pytest.raises(NotFoundError):
        open_run(endpoint, name="another", resume="must")


def test_retention_keeps_the_best_and_the_latest(endpoint: Endpoint, tmp_path: Path) -> None:
    config = CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="score")
    with open_run(endpoint, checkpoint_config=config) as run:
        for step, score in enumerate([3, 9, 1, 5, 2]):
            report(run, write(tmp_path / str(step), {"step": str(step).encode()}), {"score": score})
    result = Result.from_path(endpoint.url("runs/run"))
    kept = [restored(checkpoint, tmp_path / f"k{n}") for n, (checkpoint, _) in enumerate(result.best_checkpoints)]
    assert sorted(files["step"] for files in kept) == [b"1", b"3", b"4"]


def test_two_trainers_on_one_run(endpoint: Endpoint, tmp_path: Path) -> None:
    with open_run(endpoint), pytest.raises(RunInUseError):
        open_run(endpoint)


def test_one_flipped_bit_is_loud(endpoint: Endpoint, tmp_path: Path) -> None:
    """P5: whatever the store says about the object."""
    with open_run(endpoint) as run:
        report(run, write(tmp_path / "a", {"model.bin": b"old"}), {"step": 1})
        report(run, write(tmp_path / "b", {"model.bin": bytes(5000)}), {"step": 2})
    (key,) = [key for key, size in endpoint.objects().items() if size == 5000]
    endpoint.client.put_object(Bucket=endpoint.bucket, Key=key, Body=bytes(2500) + b"\1" + bytes(2499))
    latest = Result.from_path(endpoint.url("runs/run")).checkpoint
    answer = command("verify", latest.path, status=1)
    assert not answer["ok"]
    assert len(answer["checkpoints"]) == 1
    with pytest.raises(ChecksumError, match=r"model\.bin"):
        latest.to_directory(tmp_path / "restored")
    assert files_of(tmp_path / "restored") == {}


def test_resume_falls_back_from_a_damaged_checkpoint(endpoint: Endpoint, tmp_path: Path) -> None:
    with open_run(endpoint) as run:
        report(run, write(tmp_path / "a", {"model.bin": b"old"}), {"step": 1})
        report(run, write(tmp_path / "b", {"model.bin": bytes(5000)}), {"step": 2})
    (key,) = [key for key, size in endpoint.objects().items() if size == 5000]
    endpoint.client.put_object(Bucket=endpoint.bucket, Key=key, Body=bytes(2500) + b"\1" + bytes(2499))
    with open_run(endpoint) as run:
        assert restored(run.get_checkpoint(), tmp_path / "fallback") == {"model.bin": b"old"}


def test_the_command_line(endpoint: Endpoint, tmp_path: Path) -> None:
    with open_run(endpoint) as run:
        report(run, write(tmp_path / "a", SMALL), {"loss": 1.0}, checkpoint_dir_name="first")
        report(run, write(tmp_path / "b", SMALL), {"loss": 2.0})
    url = endpoint.url("runs/run")
    assert "run" in json.dumps(command("ls", endpoint.url("runs")))
    assert "first" in json.dumps(command("ls", url))
    assert "first" in json.dumps(command("show", url))
    command("metrics", url)
    command("get", url, str(tmp_path / "got"), "--best", "loss:min")
    assert files_of(tmp_path / "got") == SMALL
    assert len(command("verify", url)["checkpoints"]) == 2
    for address in (endpoint.url("runs/run/first"), Result.from_path(url).checkpoint.path):
        answer = command("verify", address)
        assert answer["ok"]
        assert [document["verified"] for document in answer["checkpoints"]] == [True]
        out = tmp_path / f"of-{len(list(tmp_path.iterdir()))}"
        command("get", address, str(out))
        assert files_of(out) == SMALL
    with pytest.raises(NotFoundError):
        Result.from_path(endpoint.url("runs/run/first"))
    command("gc", url)
    command("drain")
    text = json.dumps(command("doctor", endpoint.url("runs")))
    assert endpoint.secret_key not in text


def test_prefixes_of_plain_tools_are_unverified(endpoint: Endpoint, tmp_path: Path) -> None:
    for name, content in SMALL.items():
        endpoint.client.put_object(Bucket=endpoint.bucket, Key=f"plain/x/{name}", Body=content)
    checkpoint = Checkpoint(endpoint.url("plain/x"))
    assert restored(checkpoint, tmp_path / "x") == SMALL


def test_smoke(smoke: Endpoint, tmp_path: Path) -> None:
    # A store that says wrong checksums of objects in parts is not believed: they stay small there.
    repeats = 4096 if "wrong-checksum-of-parts" in smoke.quirks else 40 * 4096
    with open_run(smoke) as run:
        report(run, write(tmp_path / "a", {"shard": bytes(range(256)) * repeats, **SMALL}), {"loss": 1.0})
    with open_run(smoke) as run:
        assert restored(run.get_checkpoint(), tmp_path / "r").keys() == {"shard", *SMALL}
