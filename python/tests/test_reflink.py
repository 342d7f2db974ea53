"""P3 where the file system shares blocks: a capture that copies nothing is the content of the call all the same."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raystorage import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIZE = 64 << 20


@pytest.fixture(params=["xfs", "btrfs"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system that has reflinks, in a file."""
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(1 << 30)
    make = {"xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"], "btrfs": ["mkfs.btrfs", "-q"]}[request.param]
    try:
        subprocess.run([*make, image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True, capture_output=True)
    except FileNotFoundError as error:
        pytest.skip(f"{error.filename} is not installed")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no {request.param} here: {error.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def blocks(path: Path) -> int:
    """What is used of the file system, in bytes."""
    subprocess.run(["sync", "-f", path], check=True)
    state = os.statvfs(path)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def test_a_capture_shares_blocks_and_is_still_the_content_of_the_call(sharing: Path, open_run) -> None:
    """P3, P5: the source is overwritten, truncated, deleted at once; all checkpoints are bit-exact and verified."""
    source = sharing / "source"
    source.mkdir()
    (source / "model.bin").write_bytes(os.urandom(1 << 20) * (_SIZE >> 20))
    (source / "small").write_bytes(b"x" * 10)
    original = (source / "model.bin").read_bytes()
    run = open_run(storage_path=sharing / "storage", staging_dir=sharing / "staging", durability="fsync")
    used = blocks(sharing)
    first = run.report({"step": 0}, Checkpoint(source))
    first.wait()
    assert first.info["capture"] == "reflinked"
    assert blocks(sharing) - used < _SIZE // 2

    with (source / "model.bin").open("r+b") as file:
        for position in range(0, _SIZE, 4 << 20):
            file.seek(position)
            file.write(b"changed")
    changed = (source / "model.bin").read_bytes()
    second = run.report({"step": 1}, Checkpoint(source))
    os.truncate(source / "model.bin", 100)
    third = run.report({"step": 2}, Checkpoint(source))
    (source / "model.bin").unlink()
    for report, content in ((first, original), (second, changed), (third, changed[:100])):
        checkpoint = report.wait()
        assert report.info["capture"] == "reflinked"
        assert Path(checkpoint.path, "model.bin").read_bytes() == content
        assert checkpoint.verify()["ok"]
        restored = Path(checkpoint.to_directory(sharing / f"restored-{report.info['index']}"))
        assert (restored / "model.bin").read_bytes() == content
