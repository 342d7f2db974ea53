"""P5, P9 where a store does not allow everything: what is missing is named, and keeps nothing else from being done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from awscrt import checksums
from servers.faulty.state import encoded
from stores import MIB, open_run, report, restored, signed_for, write

from raystorage import Checkpoint, CheckpointConfig, InvalidArgumentError, PermissionDeniedError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.faulty import FaultyS3

PACKAGE = Path(__file__).resolve().parent.parent
MAY_NOT_LIST = "ListMultipartUploads"


@pytest.fixture
def server(faulty: FaultyS3) -> Iterator[FaultyS3]:
    with signed_for(faulty.endpoint):
        yield faulty


def refuse(server: FaultyS3, *operations: str) -> None:
    for operation in operations:
        server.fail(operation, status=403, code="AccessDenied", times=0)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raystorage", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )  # fmt: skip


def place(server: FaultyS3, key: str, content: bytes) -> None:
    """An object of somebody else."""
    crc = encoded(checksums.crc32c(content))
    server.endpoint.client.put_object(Bucket=server.endpoint.bucket, Key=key, Body=content, ChecksumCRC32C=crc)


def shards(server: FaultyS3) -> list[str]:
    return [key for key in server.objects() if key.endswith("/shard")]


# ------------------------------------------------------------------ runs


def test_an_eviction_needs_no_listing_of_uploads(
    server: FaultyS3, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """P9: `s3:ListBucketMultipartUploads` is for cleaning up, and its lack is told once."""
    refuse(server, MAY_NOT_LIST)
    with open_run(server.endpoint, checkpoint_config=CheckpointConfig(num_to_keep=1)) as run:
        for step in range(4):
            last = report(run, write(tmp_path / f"{step}", {"shard": str(step).encode()}), {"loss": float(step)})
    assert [server.objects()[key] for key in shards(server)] == [b"3"]
    assert restored(last.checkpoint, tmp_path / "restored") == {"shard": b"3"}
    told = [record.getMessage() for record in caplog.records if MAY_NOT_LIST in record.getMessage()]
    assert len(told) == 1, told
    assert caplog.records[0].levelname == "WARNING"
    assert "403" in told[0]
    assert "allow s3:ListBucketMultipartUploads" in told[0]


def test_a_failed_upload_needs_no_listing_of_uploads(server: FaultyS3, tmp_path: Path) -> None:
    """P9: what it began itself it knows."""
    refuse(server, MAY_NOT_LIST)
    server.fail("UploadPart", status=403, code="AccessDenied", key="*/shard", skip=1, times=0)
    with open_run(server.endpoint, retry_timeout_s=3) as run, pytest.raises(PermissionDeniedError):
        report(run, write(tmp_path / "a", {"shard": bytes(70 * MIB), "small": b"x"}))
    assert server.count("CreateMultipartUpload") == 1
    assert server.open_multiparts() == []
    assert [key for key in server.objects() if key.endswith(("/shard", "/small"))] == []


def test_gc_collects_what_it_may(server: FaultyS3, tmp_path: Path) -> None:
    """P9: objects without uploads, and of an upload only what is known."""
    endpoint = server.endpoint
    with open_run(endpoint, retry_timeout_s=3) as run:
        done = report(run, write(tmp_path / "a", {"shard": b"kept"}))
    name = str(done.checkpoint.path).partition("?")[0].rsplit("/", 1)[1]
    # Of an attempt of that epoch about which nothing was decided, and an upload to a checkpoint that was.
    place(server, f"runs/run/{name[:-1]}7/shard", b"left")
    endpoint.client.create_multipart_upload(
        Bucket=endpoint.bucket, Key=f"runs/run/{name}/shard", ChecksumAlgorithm="CRC32C", ChecksumType="FULL_OBJECT"
    )
    url = endpoint.url("runs/run", part_size_bytes="8388608")
    shown = command("gc", url, "--now", "--dry-run")
    assert "an upload that was not completed" in shown.stdout, shown
    assert "0 B" not in shown.stdout
    assert "would remove 2, 4 B and 1 of unknown size; kept 0" in shown.stdout
    answer = json.loads(command("gc", url, "--now", "--dry-run", "--json").stdout)
    assert [one["bytes"] for one in answer["removed"]] == [4, None]
    refuse(server, MAY_NOT_LIST)
    done_gc = command("gc", url, "--now")
    assert done_gc.returncode == 0, done_gc
    assert "allow s3:ListBucketMultipartUploads" in done_gc.stderr
    assert [server.objects()[key] for key in shards(server)] == [b"kept"]


def test_objects_are_deleted_one_by_one_where_a_batch_is_refused(server: FaultyS3, tmp_path: Path) -> None:
    refuse(server, "DeleteObjects")
    with open_run(server.endpoint, checkpoint_config=CheckpointConfig(num_to_keep=1)) as run:
        for step in range(2):
            report(run, write(tmp_path / f"{step}", {"shard": b"x", "other": b"y"}))
    assert len(shards(server)) == 1
    assert server.count("DeleteObjects") == 1


# ------------------------------------------------------------------ doctor

LIST, WRITE, READ = "list (s3:ListBucket)", "write (s3:PutObject)", "read (s3:GetObject)"
LOOK, PARTS = "look (s3:GetObject, by HEAD)", "multipart (s3:PutObject)"
LIST_PARTS, ABORT = "parts (s3:ListMultipartUploadParts)", "abort (s3:AbortMultipartUpload)"
UPLOADS, DELETE = "open uploads (s3:ListBucketMultipartUploads)", "delete (s3:DeleteObject)"


def examine(server: FaultyS3, *more: str) -> dict[str, dict[str, Any]]:
    done = command("doctor", server.endpoint.url("runs", **dict(one.split("=") for one in more)), "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["ok"] else 1), done
    return {check["name"]: check for check in answer["checks"]}


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("ListObjectsV2", LIST), ("PutObject", WRITE), ("GetObject", READ), ("HeadObject", LOOK),
        ("CreateMultipartUpload", PARTS), ("UploadPart", PARTS), ("CompleteMultipartUpload", PARTS),
        ("ListParts", LIST_PARTS), ("ListMultipartUploads", UPLOADS),
    ],
)  # fmt: skip
def test_doctor_names_what_is_refused_and_leaves_nothing(server: FaultyS3, operation: str, name: str) -> None:
    refuse(server, operation)
    checks = examine(server)
    failed = {name: check["detail"] for name, check in checks.items() if not check["ok"]}
    assert list(failed) == [name], failed
    assert failed[name].startswith(f'{operation} "s3://')
    assert "403" in failed[name]
    # What to do about it is said, and once.
    assert failed[name].lower().count("allow ") == 1, failed[name]
    assert checks[name]["error"]["details"]["operation"] == operation
    assert server.objects() == {}
    assert server.open_multiparts() == []
    assert ("speed" in checks) == (operation not in ("PutObject", "GetObject", "HeadObject"))


def test_doctor_needs_no_batches(server: FaultyS3) -> None:
    refuse(server, "DeleteObjects")
    assert all(check["ok"] for check in examine(server).values())
    assert server.objects() == {}


def test_doctor_says_what_it_could_not_delete(server: FaultyS3) -> None:
    """Nor does it leave megabytes."""
    refuse(server, "DeleteObject", "DeleteObjects")
    checks = examine(server)
    assert [name for name, check in checks.items() if not check["ok"]] == [DELETE]
    detail = checks[DELETE]["detail"]
    assert detail.startswith('DeleteObject "s3://')
    left = {f"s3://{server.endpoint.bucket}/{key}" for key in server.objects()}
    assert set(checks[DELETE]["error"]["details"]["left"]) == left
    prefix = next(key for key in left if "doctor" in key).rpartition("/")[0]
    assert f'left below "{prefix}/": ' in detail
    assert '"record"' in detail
    assert "/.raystorage-probe/" in detail
    assert sum(map(len, server.objects().values())) < 100
    assert server.open_multiparts() == []


def test_doctor_says_which_uploads_it_could_not_end(server: FaultyS3) -> None:
    refuse(server, "AbortMultipartUpload")
    checks = examine(server)
    assert [name for name, check in checks.items() if not check["ok"]] == [ABORT]
    assert checks[ABORT]["detail"].startswith('AbortMultipartUpload "s3://')
    assert "1 open upload is left below" in checks[DELETE]["detail"]
    assert server.objects() == {}


@pytest.mark.parametrize(("code", "words"), [
    ("InvalidAccessKeyId", "The access key is not known"), ("SignatureDoesNotMatch", "The secret key is wrong"),
    ("NoSuchBucket", "The bucket does not exist"), ("RequestTimeTooSkewed", "This machine's clock differs"),
])  # fmt: skip
def test_doctor_advises_once(server: FaultyS3, code: str, words: str) -> None:
    server.fail("*", status=404 if code == "NoSuchBucket" else 403, code=code, times=0)
    detail = examine(server)[LIST]["detail"]
    before, _, after = detail.partition(f". {words}")
    assert code in before
    assert ". " not in after, detail


def test_nobody_is_told_of_credentials_that_he_has_not_given(server: FaultyS3) -> None:
    refuse(server, "*")
    detail = examine(server, "anonymous=true")[LIST]["detail"]
    assert "anonymous=true" in detail
    assert "These credentials" not in detail


# ------------------------------------------------------------------ words


def test_files_are_named_without_the_options_of_the_address(server: FaultyS3, tmp_path: Path) -> None:
    with open_run(server.endpoint) as run:
        done = report(run, write(tmp_path / "a", {"sub/shard": b"x" * 100}))
    key = next(key for key in server.objects() if key.endswith("/sub/shard"))
    server.corrupt(key, 0)
    shown = command("verify", done.checkpoint.path)
    assert shown.returncode == 1
    where = f"s3://{server.endpoint.bucket}/{key}"
    assert [line for line in shown.stdout.splitlines() if line.startswith(f"{where}: ")], shown.stdout
    table = shown.stdout.splitlines()[1].split()
    assert table[0] == key.split("/")[-3]
    server.endpoint.client.delete_object(Bucket=server.endpoint.bucket, Key=key)
    shown = command("verify", done.checkpoint.path)
    assert f'"{where}" is missing' in shown.stdout


def test_a_key_that_is_a_file_and_a_directory(server: FaultyS3, tmp_path: Path) -> None:
    for key in ("a", "a/b", "a.txt"):
        place(server, f"plain/x/{key}", b"1")
    before = server.count("GetObject")
    with pytest.raises(InvalidArgumentError, match=r'"a" and "a/b" cannot both be files') as raised:
        Checkpoint(server.endpoint.url("plain/x")).to_directory(tmp_path / "out")
    assert raised.value.details["files"] == ["a", "a/b"]
    # No more than what it looked for in vain.
    assert not [entry for entry in server.entries()[before:] if entry.operation == "GetObject" and entry.status == 200]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arn", [
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine", "arn:aws:s3:::bucket/prefix",
])  # fmt: skip
def test_a_bucket_that_is_an_arn(arn: str) -> None:
    with pytest.raises(StorageError, match=r"by an ARN; write its name, or of an access point the alias"):
        Checkpoint(f"s3://{arn}").to_directory()
