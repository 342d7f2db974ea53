"""P13 on a store: real Ray reads our runs there by its own S3 client, and what Ray wrote opens here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stores import open_run, report, restored, signed_for, write

from raystorage import Checkpoint, CheckpointConfig, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers import Endpoint

_READ = """
import json, os, sys
os.environ["RAY_TRAIN_V2_ENABLED"] = sys.argv[1]
from pyarrow.fs import S3FileSystem
place, host, scheme, target = sys.argv[2:]
store = S3FileSystem(
    access_key=os.environ["AWS_ACCESS_KEY_ID"], secret_key=os.environ["AWS_SECRET_ACCESS_KEY"], region="us-east-1",
    endpoint_override=host, scheme=scheme,
)
if sys.argv[1] == "1":
    from ray.train import Result
else:
    from ray.tune import Result
result = Result.from_path(place, storage_filesystem=store)
result.checkpoint.to_directory(target)
rows = None if result.metrics_dataframe is None else len(result.metrics_dataframe)
print(json.dumps([result.metrics["step"], result.checkpoint.path, rows]))
"""


@pytest.fixture(params=["seaweedfs", "ceph"])
def endpoint(request: pytest.FixtureRequest, store: Callable[[str], Endpoint]) -> Iterator[Endpoint]:
    """A real store."""
    found = store(request.param)
    with signed_for(found):
        yield found


@pytest.mark.parametrize("v2", [True, False], ids=["ray.train", "ray.tune"])
def test_ray_opens_our_run(endpoint: Endpoint, tmp_path: Path, v2: bool) -> None:
    """P13."""
    with open_run(endpoint, checkpoint_config=CheckpointConfig(num_to_keep=2)) as run:
        for step in range(3):
            content = {"model.bin": bytes([step]) * 100_000, "sub/order": b"x"}
            last = report(run, write(tmp_path / f"source-{step}", content), {"step": step, "loss": 1 / (step + 1)})
    place = f"{endpoint.bucket}/runs/run"
    scheme, _, host = endpoint.endpoint.partition("://")
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(int(v2)), place, host, scheme, str(tmp_path / "rays")],
        capture_output=True, text=True, timeout=240, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    step, path, rows = json.loads(done.stdout.splitlines()[-1])
    assert step == 2
    assert path == last.checkpoint.path.partition("?")[0].removeprefix("s3://")
    if not v2:
        assert rows == 3
    found = tmp_path / "rays"
    assert (found / "model.bin").read_bytes() == bytes([2]) * 100_000
    assert (found / "sub" / "order").read_bytes() == b"x"


def test_a_run_of_ray_opens_here_and_goes_on(endpoint: Endpoint, tmp_path: Path) -> None:
    """P13: as pyarrow's transfer would have left it, without markers for directories."""
    with tarfile.open(Path(__file__).parent / "data" / "ray-run-directories.tar.gz") as archive:
        archive.extractall(tmp_path / "ray")
    local = tmp_path / "ray" / "storage" / "run1"
    for file in sorted(path for path in local.rglob("*") if path.is_file()):
        key = f"runs/run/{file.relative_to(local)}"
        endpoint.client.put_object(Bucket=endpoint.bucket, Key=key, Body=file.read_bytes())
    latest = json.loads((local / "checkpoint_manager_snapshot.json").read_text())["latest_checkpoint_result"]

    result = Result.from_path(endpoint.url("runs/run"))
    assert result.metrics == latest["metrics"]
    assert result.checkpoint is not None
    assert result.checkpoint.path.partition("?")[0].endswith("/" + latest["checkpoint_dir_name"])
    theirs = local / latest["checkpoint_dir_name"]
    expected = {str(path.relative_to(theirs)): path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    assert restored(result.checkpoint, tmp_path / "restored") == expected

    with open_run(endpoint) as run:
        checkpoint = run.get_checkpoint()
        assert isinstance(checkpoint, Checkpoint)
        assert restored(checkpoint, tmp_path / "resumed") == expected
        report(run, write(tmp_path / "next", {"model.bin": b"next"}), {"step": 99})
    after = Result.from_path(endpoint.url("runs/run"))
    assert after.metrics is not None
    assert after.metrics["step"] == 99
