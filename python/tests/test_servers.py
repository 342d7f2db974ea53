"""The stores that other tests run against do what `servers.endpoint` says of them, no more and no less."""

from __future__ import annotations

import base64
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from servers import NAMES
from servers.endpoint import VARIABLE, from_json
from servers.nginx import proxy, sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import Endpoint
    from servers.faulty import FaultyS3

ROOT = Path(__file__).resolve().parent.parent.parent
WRONG_CRC32C = base64.b64encode(b"\0\0\0\1").decode()


def status(call: Callable[[], object]) -> int:
    """What a call is answered with."""
    try:
        call()
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return 200


def status_of_changed_body(endpoint: Endpoint, key: str) -> int:
    """Signs one body and sends another of the same size."""
    request = AWSRequest("PUT", f"{endpoint.endpoint}/{endpoint.bucket}/{key}", data=b"signed")
    # Over https the payload would not be part of what is signed.
    request.context["payload_signing_enabled"] = True
    request.context["client_config"] = Config(s3={"payload_signing_enabled": True})
    S3SigV4Auth(Credentials(endpoint.access_key, endpoint.secret_key), "s3", endpoint.region).add_auth(request)
    context = ssl.create_default_context(cafile=endpoint.ca_file or None)
    changed = urllib.request.Request(request.url, b"other!", dict(request.headers.items()), method="PUT")
    try:
        return urllib.request.urlopen(changed, timeout=20, context=context).status
    except urllib.error.HTTPError as error:
        return error.code


def multipart(endpoint: Endpoint, key: str, content: bytes, **options: str) -> dict[str, object]:
    client, place = endpoint.client, {"Bucket": endpoint.bucket, "Key": key}
    upload = client.create_multipart_upload(**place)["UploadId"]
    part = client.upload_part(**place, UploadId=upload, PartNumber=1, Body=content)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    return dict(client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("faulty")])
def test_a_server_has_exactly_the_quirks_that_are_listed(name: str, store: Callable[[str], Endpoint]) -> None:  # noqa: C901
    endpoint = store(name)
    client, bucket = endpoint.client, endpoint.bucket
    place = {"Bucket": bucket}

    client.put_object(**place, Key="a/1", Body=b"one", IfNoneMatch="*")
    assert endpoint.read("a/1") == b"one"
    assert endpoint.objects("a/") == {"a/1": 3}
    found = set()
    if status(lambda: client.put_object(**place, Key="a/1", Body=b"two", IfNoneMatch="*")) != 412:
        found.add("no-if-none-match")
    if status(lambda: client.put_object(**place, Key="a/1", Body=b"two", IfMatch='"0"')) != 412:
        found.add("no-if-match")
    if status(lambda: client.put_object(**place, Key="a/2", Body=b"two", ChecksumCRC32C=WRONG_CRC32C)) != 400:
        found.add("no-crc32c")

    tag = multipart(endpoint, "b/1", b"part")["ETag"]
    assert endpoint.read("b/1") == b"part"
    if not str(tag).strip('"'):
        found.add("no-multipart-etag")
    if status(lambda: multipart(endpoint, "b/1", b"part", IfNoneMatch="*")) != 412:
        found.add("no-if-none-match-on-complete")
    upload = client.create_multipart_upload(**place, Key="b/2")["UploadId"]
    client.upload_part(**place, Key="b/2", UploadId=upload, PartNumber=1, Body=b"part")
    if status(lambda: client.list_parts(**place, Key="b/2", UploadId=upload)) != 200:
        found.add("no-list-parts")
    if status(endpoint.open_multiparts) != 200 or ("b/2", upload) not in endpoint.open_multiparts():
        found.add("no-list-multipart")

    wrong = endpoint.client_with(secret_key="wrong")
    if status(lambda: wrong.list_objects_v2(**place)) != 403:
        found.add("no-signature")

    if status_of_changed_body(endpoint, "a/3") == 200:
        found.add("no-content-sha256")
    client.put_object(**place, Key="a/4", Body=b"four", ChecksumAlgorithm="CRC32C")
    part = client.get_object(**place, Key="a/4", Range="bytes=1-2", ChecksumMode="ENABLED")
    if any(key.startswith("Checksum") and key != "ChecksumType" for key in part):
        found.add("checksum-of-whole-on-range")
    client.put_object(**place, Key="c\\1", Body=b"one")
    if "c\\1" not in endpoint.objects("c"):
        found.add("backslash-is-slash")
    if status(lambda: client.put_object(**place, Key="d/tab\tand\nline", Body=b"one")) != 200:
        found.add("no-control-characters")
    if status(lambda: client.get_object(**place, Key="a/1", IfMatch='"0"')) != 412:
        found.add("no-if-match-on-get")
    uploads = client.list_multipart_uploads(**place).get("Uploads", [])
    if any(abs(upload["Initiated"].timestamp() - time.time()) > 3600 for upload in uploads):
        found.add("fixed-initiated-time")
    if not says_the_checksum_of_the_whole(endpoint, "e/1"):
        found.add("wrong-checksum-of-parts")
    assert found == set(endpoint.quirks)


def says_the_checksum_of_the_whole(endpoint: Endpoint, key: str) -> bool:
    """Of an object of one part it is the part's."""
    client, place = endpoint.client, {"Bucket": endpoint.bucket, "Key": key}
    upload = client.create_multipart_upload(**place, ChecksumAlgorithm="CRC32C", ChecksumType="FULL_OBJECT")["UploadId"]
    part = client.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"part", ChecksumAlgorithm="CRC32C")
    named = {"PartNumber": 1, "ETag": part["ETag"]}
    if crc := part.get("ChecksumCRC32C"):
        named["ChecksumCRC32C"] = crc
    client.complete_multipart_upload(
        **place, UploadId=upload, ChecksumType="FULL_OBJECT", MultipartUpload={"Parts": [named]}
    )
    head = client.head_object(**place, ChecksumMode="ENABLED")
    return head.get("ChecksumType") != "FULL_OBJECT" or head.get("ChecksumCRC32C", crc) == crc


def test_a_command_finds_the_servers_in_its_environment() -> None:
    code = f"import os, sys; print(os.environ[{VARIABLE!r}]); sys.exit(7)"
    command = [sys.executable, "-m", "servers", "run", "rclone,moto", "--", sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": "Tests", "PATH": "/usr/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 7, done.stderr
    assert [endpoint.name for endpoint in from_json(done.stdout)] == ["rclone", "moto"]
    # And they are gone.
    for endpoint in from_json(done.stdout):
        port = endpoint.endpoint.rpartition(":")[2]
        listening = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True)
        assert listening.stdout == ""


def test_the_sink_gives_back_what_it_says_it_took(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    (tmp_path / "files" / "w1").mkdir(parents=True)
    (tmp_path / "files" / "w1" / "shard").write_bytes(content)
    with sink(tmp_path / "sink", tmp_path / "files", workers=1) as endpoint:
        client, place = endpoint.client, {"Bucket": endpoint.bucket}
        client.put_object(**place, Key="w1-a/b/shard", Body=content)
        multipart(endpoint, "w1-c/shard", content)
        assert endpoint.objects() == {"w1-a/b/shard": len(content), "w1-c/shard": len(content)}
        assert endpoint.read("w1-a/b/shard") == content
        part = client.get_object(**place, Key="w1-c/shard", Range="bytes=70000-80000")
        assert part["Body"].read() == content[70000:80001]

        # Documents are kept, with conditions: a run of ours works on it.
        first = client.put_object(**place, Key="w1-a/run.json", Body=b"{}", IfNoneMatch="*")
        assert status(lambda: client.put_object(**place, Key="w1-a/run.json", Body=b"[]", IfNoneMatch="*")) == 412
        client.put_object(**place, Key="w1-a/run.json", Body=b"[]", IfMatch=first["ETag"])
        assert endpoint.read("w1-a/run.json") == b"[]"
        client.delete_objects(**place, Delete={"Objects": [{"Key": key} for key in endpoint.objects()]})
        assert endpoint.objects() == {}


def test_the_proxy_harms_as_told(tmp_path: Path, faulty: FaultyS3) -> None:
    with proxy(tmp_path / "proxy", faulty.endpoint) as harm:
        client = harm.endpoint.client

        def ask() -> int:
            return status(lambda: client.list_objects_v2(Bucket=faulty.bucket))

        assert ask() == 200
        harm.order(status=503, every=2)
        assert [ask(), ask(), ask(), ask()] == [200, 503, 200, 503]
        assert faulty.count("ListObjectsV2") == 3
        harm.order(reset=5)
        with pytest.raises(BotoCoreError):
            ask()
        harm.order(delay_s=0.3)
        begun = time.monotonic()
        assert ask() == 200
        assert time.monotonic() - begun > 0.29
        faulty.settings.require_checksums = False
        client.put_object(Bucket=faulty.bucket, Key="a", Body=bytes(200_000))
        # nginx counts by seconds: a second's worth goes at once.
        harm.order(bytes_per_second=100_000)
        begun = time.monotonic()
        assert len(harm.endpoint.read("a")) == 200_000
        assert time.monotonic() - begun > 0.5
        harm.order()
        assert ask() == 200
