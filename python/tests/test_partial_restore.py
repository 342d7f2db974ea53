"""P1, P5: some files of a checkpoint, by name and pattern, from a disk and from a store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers.faulty import Action, FaultyS3
from stores import MIB, files_of, open_run, report, signed_for, write

import raystorage
from raystorage import Checkpoint, ChecksumError, InvalidArgumentError, NotFoundError
from raystorage.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = {
    "config.json": b"{}",
    "rank_0/shard": os.urandom(300_000),
    "rank_1/shard": os.urandom(40 * MIB),
    "rank_1/empty": b"",
}


@pytest.fixture
def server(faulty: FaultyS3) -> Iterator[FaultyS3]:
    with signed_for(faulty.endpoint):
        yield faulty


@pytest.fixture
def stored(server: FaultyS3, tmp_path: Path) -> Checkpoint:
    """A checkpoint on the store, whose requests are counted from here on."""
    with open_run(server.endpoint) as run:
        done = report(run, write(tmp_path / "source", CONTENT))
        checkpoint = done.checkpoint
    assert checkpoint is not None
    server.log.clear()
    return checkpoint


def test_only_what_is_selected_is_asked_for(server: FaultyS3, stored: Checkpoint, tmp_path: Path) -> None:
    directory = stored.to_directory(tmp_path / "out", include="config.json")
    assert files_of(directory) == {"config.json": b"{}"}
    asked = [entry.key.partition("runs/run/")[2] for entry in server.entries()]
    name = stored.path.partition("?")[0].rpartition("/")[2]
    # Three small ones say what the checkpoint is, and that it was committed.
    assert asked[0] == f"{name}/.raystorage/manifest.json"
    assert asked[-1] == f"{name}/config.json"
    assert len(asked) == 4
    assert server.counts() == {"GetObject": 4}
    assert sum(entry.bytes_out for entry in server.entries()) < 10_000

    server.log.clear()
    directory = stored.to_directory(tmp_path / "rank", include=["rank_1/**"])
    assert files_of(directory) == {"rank_1/shard": CONTENT["rank_1/shard"], "rank_1/empty": b""}
    keys = {entry.key for entry in server.entries("GetObject")}
    assert not any("rank_0" in key or "config" in key or ".metadata" in key for key in keys)
    assert server.refusals == []


def test_a_broken_part_is_gone_on_with(server: FaultyS3, stored: Checkpoint, tmp_path: Path) -> None:
    server.fail("GetObject", Action.TRUNCATE, key="*/rank_1/shard", at=3 * MIB)
    stored.to_directory(tmp_path / "out", include="rank_1")
    assert (tmp_path / "out/rank_1/shard").read_bytes() == CONTENT["rank_1/shard"]
    fetched = sum(entry.bytes_out for entry in server.entries("GetObject") if entry.key.endswith("rank_1/shard"))
    assert fetched < 41 * MIB


def test_what_is_selected_is_verified_and_the_rest_is_not_looked_at(
    server: FaultyS3, stored: Checkpoint, tmp_path: Path
) -> None:
    server.corrupt(next(key for key in server.objects() if key.endswith("rank_0/shard")), at=1000)
    stored.to_directory(tmp_path / "good", include=["config.json", "rank_1/"])
    with pytest.raises(ChecksumError, match="rank_0/shard"):
        stored.to_directory(tmp_path / "bad", include=["config.json", "rank_*/shard"])
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("include", ["confg.json", ["config.json", "rank_2/*"], "rank_1/shard/"])
def test_what_means_nothing_is_named(
    server: FaultyS3, stored: Checkpoint, tmp_path: Path, include: str | list[str]
) -> None:
    wrong = include if isinstance(include, str) else include[-1]
    with pytest.raises(NotFoundError) as raised:
        stored.to_directory(tmp_path / "out", include=include)
    assert f'"{wrong}"' in str(raised.value)
    assert raised.value.details["file"] == wrong
    assert not (tmp_path / "out").exists()
    assert not any(entry.key.endswith(tuple(CONTENT)) for entry in server.entries())


@pytest.mark.parametrize("include", ["", [], ["/etc/passwd"], ["../x"], [".raystorage/manifest.json"], [1], ["a\0"]])
def test_what_no_checkpoint_holds_is_refused(
    server: FaultyS3, stored: Checkpoint, tmp_path: Path, include: Any
) -> None:
    with pytest.raises(InvalidArgumentError, match="include"):
        stored.to_directory(tmp_path / "out", include=include)
    assert server.count() == 0


def test_from_a_disk_and_with_the_command_line(open_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run("run")
    files = {name: content[:1000] for name, content in CONTENT.items()}
    run.report({"loss": 1}, Checkpoint(write(tmp_path / "source", files)))
    path = run.close().path
    out = tmp_path / "out"
    write(out, {"mine": b"1", "config.json": b"old"})
    assert main(["get", path, str(out), "--include", "config.json", "--include", "rank_0/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(out)
    expected = {"mine": b"1", "config.json": b"{}", "rank_0/shard": files["rank_0/shard"]}
    assert files_of(out) == expected
    assert main(["get", path, str(out), "--include", "rank_7/"]) == 1
    assert '"rank_7/"' in capsys.readouterr().err
    # Nobody takes a part for a whole.
    assert main(["get", path, f"{path}/checkpoint_part", "--include", "config.json"]) == 2
    assert "would be taken for a whole checkpoint" in capsys.readouterr().err
    assert files_of(out) == expected


def test_a_run_is_no_checkpoint(server: FaultyS3, stored: Checkpoint, tmp_path: Path) -> None:
    """P1: every attempt of it would come along."""
    run = stored.path.partition("?")[0].rpartition("/")[0]
    query = stored.path.partition("?")[2]
    for place in (run, run.rpartition("/")[0]):
        with pytest.raises(InvalidArgumentError, match="no checkpoint"):
            Checkpoint(f"{place}?{query}").to_directory(tmp_path / "out")
    checkpoint = Checkpoint(f"{run}?{query}")
    with pytest.raises(InvalidArgumentError, match="<checkpoint_dir_name>"), checkpoint.as_directory():
        pass
    assert not (tmp_path / "out").exists()
    assert raystorage.Result.from_path(f"{run}?{query}").checkpoint is not None
