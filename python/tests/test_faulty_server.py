"""The faulty server itself: who does everything right passes, who is sloppy is refused, each fault is what it says.

The client is boto3, which shares no code with the server or with raystorage.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import urllib.request
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from awscrt import checksums
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
from servers import start
from servers.faulty import Action, Credentials, FaultyS3, Settings
from servers.faulty.control import Control
from servers.faulty.state import encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
PLACE = {"Bucket": "bucket", "Key": "a/b"}


def crc(content: bytes) -> str:
    return encoded(checksums.crc32c(content))


def put(server: FaultyS3, content: bytes = b"content", key: str = "a/b", attempts: int = 1, **options: str) -> dict:
    client = server.endpoint.client_with(attempts=attempts)
    return client.put_object(Bucket="bucket", Key=key, Body=content, ChecksumCRC32C=crc(content), **options)


def get(server: FaultyS3, attempts: int = 1, **options: str) -> bytes:
    return server.endpoint.client_with(attempts=attempts).get_object(**PLACE, **options)["Body"].read()


def code(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ClientError) as raised:
        call()
    answer = raised.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def upload(server: FaultyS3, parts: list[bytes], **changes: object) -> dict:
    """An upload in parts as it should be, with what a test wants to be wrong."""
    client = server.endpoint.client
    begun = client.create_multipart_upload(
        **PLACE, ChecksumAlgorithm="CRC32C", ChecksumType=changes.get("type", "FULL_OBJECT")
    )
    named = []
    for number, part in enumerate(parts, changes.get("first", 1)):
        place = {**PLACE, "UploadId": begun["UploadId"], "PartNumber": number}
        done = client.upload_part(**place, Body=part, ChecksumCRC32C=crc(part))
        named.append({"PartNumber": number, "ETag": done["ETag"], "ChecksumCRC32C": done["ChecksumCRC32C"]})
    whole = b"".join(parts)
    return client.complete_multipart_upload(
        **PLACE,
        UploadId=begun["UploadId"],
        MultipartUpload={"Parts": changes.get("order", lambda one: one)(named)},
        ChecksumCRC32C=changes.get("crc", crc(whole)),
        ChecksumType=changes.get("type", "FULL_OBJECT"),
        MpuObjectSize=changes.get("size", len(whole)),
    )


# ------------------------------------------------------------------ a client that does everything right


@pytest.fixture(params=[False, True], ids=["http", "https"])
def server(request: pytest.FixtureRequest) -> Iterator[FaultyS3]:
    with FaultyS3(tls=request.param) as one:
        yield one


def test_a_strict_client_passes(server: FaultyS3) -> None:
    client = server.endpoint.client
    etag = put(server, IfNoneMatch="*")["ETag"]
    assert get(server) == b"content"
    assert get(server, Range="bytes=2-4") == b"nte"
    assert get(server, Range="bytes=-2") == b"nt"
    put(server, b"another", IfMatch=etag)
    assert get(server) == b"another"

    parts = [bytes([number]) * 5 * MIB for number in range(3)] + [b"end"]
    upload(server, parts)
    assert hashlib.sha256(get(server)).digest() == hashlib.sha256(b"".join(parts)).digest()
    head = client.head_object(**PLACE, ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["ChecksumCRC32C"]) == (15 * MIB + 3, crc(b"".join(parts)))

    for number in range(7):
        put(server, key=f"list/{number}/x é+%&<")
    server.settings.page_size = 2
    assert list(server.endpoint.objects("list/")) == [f"list/{number}/x é+%&<" for number in range(7)]
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Delimiter="/")
    assert [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", ())] == ["a/", "list/"]

    keys = [{"Key": key} for key in server.endpoint.objects()]
    client.delete_objects(Bucket="bucket", Delete={"Objects": keys, "Quiet": True})
    assert server.objects() == {}

    begun = client.create_multipart_upload(**PLACE, ChecksumAlgorithm="CRC32C", ChecksumType="FULL_OBJECT")["UploadId"]
    client.upload_part(**PLACE, UploadId=begun, PartNumber=1, Body=b"x", ChecksumCRC32C=crc(b"x"))
    assert server.endpoint.open_multiparts() == server.open_multiparts() == [("a/b", begun)]
    assert [one["Size"] for one in client.list_parts(**PLACE, UploadId=begun)["Parts"]] == [1]
    client.abort_multipart_upload(**PLACE, UploadId=begun)
    assert server.open_multiparts() == []
    assert server.refusals == []


def test_hundreds_of_megabytes_pass_quickly(faulty: FaultyS3) -> None:
    content = bytes(256 * MIB)
    begun = time.monotonic()
    put(faulty, content)
    assert len(get(faulty)) == len(content)
    assert time.monotonic() - begun < 30


# ------------------------------------------------------------------ a sloppy client


def refused(server: FaultyS3, call: Callable[[], object], expected: str) -> None:
    assert code(call)[1] == expected
    assert len(server.refusals) == 1, server.refusals


def with_header(server: FaultyS3, operation: str, moment: str, **headers: str) -> object:
    """A client that sends other headers: signed too (`before-sign`), or behind the signature's back (`before-send`)."""
    client = server.endpoint.client

    def change(request: object, **_: object) -> None:
        for name, value in headers.items():
            request.headers.pop(name.replace("_", "-"), None)
            request.headers[name.replace("_", "-")] = value

    client.meta.events.register(f"{moment}.s3.{operation}", change)
    return client


def test_a_body_without_a_checksum(faulty: FaultyS3) -> None:
    refused(faulty, lambda: faulty.endpoint.client.put_object(**PLACE, Body=b"x"), "InvalidRequest")


def test_a_wrong_checksum(faulty: FaultyS3) -> None:
    call = lambda: faulty.endpoint.client.put_object(**PLACE, Body=b"x", ChecksumCRC32C=crc(b"y"))  # noqa: E731
    assert code(call) == (400, "BadDigest")
    assert faulty.objects() == {}


def test_a_wrong_secret(faulty: FaultyS3) -> None:
    wrong = faulty.endpoint.client_with(secret_key="wrong")
    refused(faulty, lambda: wrong.get_object(**PLACE), "SignatureDoesNotMatch")


def test_a_header_that_was_not_signed(faulty: FaultyS3) -> None:
    client = with_header(faulty, "GetObject", "before-send", x_amz_request_payer="requester")
    refused(faulty, lambda: client.get_object(**PLACE), "AccessDenied")


def test_a_body_that_was_not_signed(faulty: FaultyS3) -> None:
    client = with_header(faulty, "GetObject", "before-send", x_amz_content_sha256="UNSIGNED-PAYLOAD")
    assert code(lambda: client.get_object(**PLACE))[1] == "SignatureDoesNotMatch"


def test_an_unsigned_payload_is_for_https_only() -> None:
    for tls, expected in ((True, 200), (False, 400)):
        with FaultyS3(tls=tls) as server:
            assert raw_put(server, "UNSIGNED-PAYLOAD") == expected
            assert raw_put(server, hashlib.sha256(b"x").hexdigest()) == 200
            assert raw_put(server, hashlib.sha256(b"y").hexdigest()) == 400
            assert raw_put(server, "STREAMING-UNSIGNED-PAYLOAD-TRAILER") == 501


def raw_put(server: FaultyS3, sha256: str) -> int:
    """A PUT of b"x" signed by botocore with that payload hash."""
    import http.client
    import ssl

    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as Key

    class Signer(S3SigV4Auth):
        def payload(self, request: object) -> str:
            return sha256

    endpoint = server.endpoint
    request = AWSRequest("PUT", f"{endpoint.endpoint}/bucket/a", data=b"x")
    request.headers["x-amz-checksum-crc32c"] = crc(b"x")
    Signer(Key(endpoint.access_key, endpoint.secret_key), "s3", endpoint.region).add_auth(request)
    if endpoint.ca_file:
        context = ssl.create_default_context(cafile=endpoint.ca_file)
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
    with closing(connection):
        connection.request("PUT", "/bucket/a", b"x", dict(request.headers.items()))
        return connection.getresponse().status


def test_aws_chunked_is_refused() -> None:
    """What SDKs do over https since 2025, and what many stores do not understand."""
    with FaultyS3(tls=True) as server:
        client = server.endpoint.client_with(checksums=True)
        refused(server, lambda: client.put_object(**PLACE, Body=b"x", ChecksumAlgorithm="CRC32C"), "NotImplemented")


@pytest.mark.parametrize(
    ("parts", "changes", "expected"),
    [
        ([b"a" * 5 * MIB, b"b" * 6 * MIB, b"c"], {}, "InvalidPart"),
        ([b"a" * 5 * MIB, b"b" * 6 * MIB], {}, "InvalidPart"),
        ([b"a" * MIB, b"b"], {}, "EntityTooSmall"),
        ([b"a" * 5 * MIB, b"b"], {"order": lambda named: named[::-1]}, "InvalidPartOrder"),
        ([b"a" * 5 * MIB, b"b"], {"first": 2}, "InvalidPart"),
        ([b"a" * 5 * MIB, b"b"], {"size": 7}, "InvalidRequest"),
        ([b"a"], {"type": "COMPOSITE"}, "InvalidRequest"),
    ],
    ids=["unequal", "larger last", "small", "order", "gap", "size", "composite"],
)
def test_parts_that_some_store_does_not_take(
    faulty: FaultyS3, parts: list[bytes], changes: dict[str, object], expected: str
) -> None:
    refused(faulty, lambda: upload(faulty, parts, **changes), expected)


def test_a_wrong_checksum_of_the_whole(faulty: FaultyS3) -> None:
    assert code(lambda: upload(faulty, [b"a"], crc=crc(b"b"))) == (400, "BadDigest")
    assert len(faulty.open_multiparts()) == 1


def test_deleting_many_without_a_digest(faulty: FaultyS3) -> None:
    client = faulty.endpoint.client
    client.meta.events.register("before-sign.s3.DeleteObjects", lambda request, **_: strip_digests(request))
    refused(
        faulty, lambda: client.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "a"}]}), "InvalidRequest"
    )


def strip_digests(request: object) -> None:
    for name in list(request.headers):
        if name.lower().startswith("x-amz-checksum") or name.lower() == "content-md5":
            del request.headers[name]


def test_a_header_that_a_test_asks_for(faulty: FaultyS3) -> None:
    faulty.settings.required_headers = {"PutObject": {"x-amz-storage-class": "STANDARD_IA"}}
    assert code(lambda: put(faulty)) == (400, "InvalidRequest")
    put(faulty, StorageClass="STANDARD_IA")


# ------------------------------------------------------------------ conditions, regions, clocks, keys


def test_conditions(faulty: FaultyS3) -> None:
    first = put(faulty, IfNoneMatch="*")["ETag"]
    assert code(lambda: put(faulty, IfNoneMatch="*")) == (412, "PreconditionFailed")
    second = put(faulty, IfMatch=first)["ETag"]
    assert second != first
    assert code(lambda: put(faulty, IfMatch=first)) == (412, "PreconditionFailed")
    assert code(lambda: put(faulty, key="new", IfMatch=first)) == (404, "NoSuchKey")
    assert code(lambda: get(faulty, IfMatch=first)) == (412, "PreconditionFailed")
    assert get(faulty, IfMatch=second) == b"content"
    faulty.settings.ignore_conditions = True
    put(faulty, IfNoneMatch="*")


def test_another_region(faulty: FaultyS3) -> None:
    faulty.settings.region = "eu-west-1"
    client = replace(faulty.endpoint, region="us-east-1").client
    # boto3 takes the region from the answer and tries once more.
    assert code(lambda: client.get_object(**PLACE)) == (404, "NoSuchKey")
    assert [(entry.status, entry.code) for entry in faulty.entries()] == [
        (400, "AuthorizationHeaderMalformed"), (404, "NoSuchKey"),
    ]  # fmt: skip
    faulty.settings.elsewhere = {"bucket": "ap-south-1"}
    assert code(lambda: put(faulty))[0] == 301


def test_a_clock_that_is_wrong(faulty: FaultyS3) -> None:
    faulty.settings.clock_offset_s = 7200
    assert code(lambda: put(faulty)) == (403, "RequestTimeTooSkewed")


def test_keys_that_expire(faulty: FaultyS3) -> None:
    faulty.settings.credentials[0].expires_after = 2
    put(faulty)
    put(faulty)
    assert code(lambda: put(faulty)) == (400, "ExpiredToken")
    faulty.settings.credentials = [Credentials("NEW", "new", "token")]
    assert code(lambda: put(faulty)) == (403, "InvalidToken")


# ------------------------------------------------------------------ faults


def test_statuses_by_operation_key_and_count(faulty: FaultyS3) -> None:
    faulty.fail("PutObject", status=503, code="SlowDown", key="a/*", skip=1, times=2)
    put(faulty, key="b")
    put(faulty, key="a/1")
    assert code(lambda: put(faulty, key="a/2")) == (503, "SlowDown")
    put(faulty, key="b")
    assert code(lambda: put(faulty, key="a/3")) == (503, "SlowDown")
    put(faulty, key="a/4")
    assert sorted(faulty.objects()) == ["a/1", "a/4", "b"]
    assert faulty.counts() == {"PutObject": 6}
    faulty.fail("GetObject", times=0, status=429, body=False, headers={"Retry-After": "1"})
    for _ in range(3):
        assert code(lambda: get(faulty))[0] == 429
    faulty.heal()
    assert code(lambda: get(faulty)) == (404, "NoSuchKey")
    faulty.fail("PutObject", Action.ERROR_IN_200)
    assert code(lambda: put(faulty))[1] == "InternalError"
    assert faulty.entries()[-1].status == 200
    assert "a/b" not in faulty.objects()


BROKEN = (BotoCoreError, ConnectionError)


@pytest.mark.parametrize(
    ("operation", "action", "at", "stored"),
    [
        ("PutObject", Action.RESET_REQUEST, 0, False),
        ("PutObject", Action.RESET_REQUEST, 100_000, False),
        ("PutObject", Action.LOSE_REPLY, 0, True),
        ("GetObject", Action.RESET_RESPONSE, 0, True),
        ("GetObject", Action.RESET_RESPONSE, 100_000, True),
        ("GetObject", Action.TRUNCATE, 100_000, True),
    ],
)
def test_broken_connections(faulty: FaultyS3, operation: str, action: Action, at: int, stored: bool) -> None:
    content = bytes(range(256)) * 4096
    if operation == "GetObject":
        put(faulty, content)
    faulty.fail(operation, action, at=at)
    with pytest.raises(Exception) as raised:
        put(faulty, content) if operation == "PutObject" else get(faulty)
    assert not isinstance(raised.value, ClientError | AssertionError), raised.value
    assert ("a/b" in faulty.objects()) == stored
    # And the next one works.
    put(faulty, content)
    assert get(faulty) == content


@pytest.mark.parametrize(
    ("action", "at", "expected"),
    [
        (Action.SHORTEN, 3, b"con"),
        (Action.DUPLICATE, 3, b"conconte"),
        (Action.EXTEND, 3, b"contentscon"),
        (Action.CORRUPT_RESPONSE, 1, b"cnntents"),
    ],
)
def test_other_bytes_than_were_stored(faulty: FaultyS3, action: Action, at: int, expected: bytes) -> None:
    put(faulty, b"contents")
    faulty.fail("GetObject", action, at=at)
    assert get(faulty) == expected
    assert get(faulty) == b"contents"


def test_damage_at_rest(faulty: FaultyS3) -> None:
    faulty.fail("PutObject", Action.CORRUPT_STORED, at=1)
    put(faulty)
    assert get(faulty) == b"cnntent"
    faulty.corrupt("a/b", -1)
    assert get(faulty) == b"cnntenu"


def test_answers_that_lie(faulty: FaultyS3) -> None:
    faulty.fail("PutObject", Action.WRONG_ETAG)
    faulty.fail("PutObject", Action.WRONG_CHECKSUM)
    first = put(faulty)
    assert first["ETag"] != faulty.endpoint.client.head_object(**PLACE)["ETag"]
    assert put(faulty)["ChecksumCRC32C"] != crc(b"content")
    faulty.fail("UploadPart", Action.WRONG_ETAG)
    assert code(lambda: upload(faulty, [b"x"])) == (400, "InvalidPart")


def test_stalls_and_holds_end_when_released(faulty: FaultyS3) -> None:
    put(faulty)
    for operation, action in (("GetObject", Action.HOLD), ("GetObject", Action.STALL_RESPONSE)):
        faulty.fail(operation, action, at=3)
        ended: list[object] = []

        def call(ended: list[object] = ended) -> None:
            try:
                ended.append(get(faulty))
            except Exception as error:
                ended.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        assert faulty.gate.wait_until_held()
        assert ended == []
        faulty.gate.release()
        thread.join(30)
        assert len(ended) == 1
        assert (ended[0] == b"content") == (action is Action.HOLD)


def test_a_write_that_arrives_long_after_its_connection_was_given_up(faulty: FaultyS3) -> None:
    faulty.fail("PutObject", Action.DELIVER_LATER, key="decision", seconds=0.1)
    with pytest.raises(BotoCoreError):
        put(faulty, b"first", key="decision", IfNoneMatch="*")
    assert faulty.undelivered() == 1
    assert "decision" not in faulty.objects()
    put(faulty, b"second", key="decision", IfNoneMatch="*")
    assert [entry.status for entry in faulty.deliver()] == [412]
    assert faulty.objects()["decision"] == b"second"

    faulty.fail("PutObject", Action.DELIVER_LATER, key="other", seconds=0.1)
    with pytest.raises(BotoCoreError):
        put(faulty, b"first", key="other", IfNoneMatch="*")
    assert [entry.status for entry in faulty.deliver()] == [200]
    assert faulty.objects()["other"] == b"first"


def test_a_slow_network(faulty: FaultyS3) -> None:
    faulty.settings.bandwidth_bytes_s = 4 * MIB
    begun = time.monotonic()
    put(faulty, bytes(2 * MIB))
    assert 0.4 < time.monotonic() - begun < 5
    faulty.settings.bandwidth_bytes_s, faulty.settings.latency_s = 0, 0.3
    begun = time.monotonic()
    put(faulty)
    assert 0.3 < time.monotonic() - begun < 5


def test_blanks_before_a_slow_answer(faulty: FaultyS3) -> None:
    faulty.settings.complete_whitespace = 3
    assert upload(faulty, [b"x"])["ETag"]


def test_nothing_answers_after_the_end() -> None:
    with FaultyS3() as server:
        endpoint = server.endpoint
        put(server)
    with pytest.raises(EndpointConnectionError):
        endpoint.read("a/b")


def test_the_same_over_http(faulty: FaultyS3) -> None:
    with closing(Control(faulty)) as control:

        def order(path: str, **order: object) -> object:
            data = json.dumps(order).encode() if order or path in ("/heal", "/reset", "/deliver") else None
            with urllib.request.urlopen(urllib.request.Request(control.url + path, data), timeout=10) as response:
                return json.load(response)

        order("/fail", operation="PutObject", status=503, code="SlowDown")
        assert code(lambda: put(faulty)) == (503, "SlowDown")
        put(faulty)
        assert order("/counts") == {"PutObject": 2}
        assert order("/objects") == {"a/b": 7}
        assert order("/settings", page_size=5)["page_size"] == 5
        assert [entry["code"] for entry in order("/log")] == ["SlowDown", ""]
        order("/corrupt", key="a/b", at=0)
        assert get(faulty) == b"bontent"
        order("/reset")
        assert order("/log") == []
        assert faulty.settings == Settings()


def test_it_starts_like_the_real_ones() -> None:
    with start("faulty-tls") as endpoint:
        endpoint.client.put_object(Bucket=endpoint.bucket, Key="a", Body=b"x", ChecksumCRC32C=crc(b"x"))
        assert endpoint.objects() == {"a": 1}
        assert endpoint.control
