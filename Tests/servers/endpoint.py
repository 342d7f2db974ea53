"""What a test needs to know of a server: where, how to sign, which bucket, and what it does not as S3 does."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

VARIABLE = "RAYSTORAGE_TEST_S3"

# What a server does differently from S3; tests ask for the words, not for the server's name.
QUIRKS = {
    "no-crc32c": "neither checks nor keeps x-amz-checksum-crc32c",
    "no-if-match": "ignores If-Match on PUT",
    "no-if-none-match": "ignores If-None-Match on PUT",
    "no-if-none-match-on-complete": "ignores If-None-Match on CompleteMultipartUpload",
    "no-content-sha256": "does not compare x-amz-content-sha256 with the body",
    "no-signature": "takes any signature",
    "no-multipart-etag": "answers CompleteMultipartUpload with an empty ETag",
    "checksum-of-whole-on-range": "answers a ranged GET with the checksum of the whole object",
    "no-list-multipart": "does not list open multipart uploads",
    "backslash-is-slash": "takes a backslash in a key for a slash",
    "no-control-characters": "finds no way to a key with a tab or a line feed",
    "no-if-match-on-get": "ignores If-Match on GET",
    "fixed-initiated-time": "says the same time of every open multipart upload",
    "wrong-checksum-of-parts": "calls the checksum of the parts' checksums that of the whole object",
    "no-list-parts": "does not list the parts of an open multipart upload",
}

_numbers = itertools.count(1)


@functools.cache
def _session() -> Any:
    """One for all clients: it reads the service's description, which takes longer than most tests."""
    import boto3

    return boto3.session.Session()


@dataclass(frozen=True)
class Endpoint:
    """One store, with a bucket that is there and empty."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    region: str = "us-east-1"
    quirks: tuple[str, ...] = ()
    # The certificate to trust for https, "" for http.
    ca_file: str = ""
    # Where a server of our own takes orders and tells what it saw, "" for others.
    control: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.quirks) - set(QUIRKS)
        if unknown:
            raise ValueError(f"unknown quirks: {sorted(unknown)}")

    @functools.cached_property
    def client(self) -> S3Client:
        """A client of boto3's that neither retries nor sends checksums unasked."""
        return self.client_with()

    def client_with(
        self, *, checksums: bool = False, attempts: int = 1, access_key: str = "", secret_key: str = ""
    ) -> S3Client:
        """A client of boto3's with other settings."""
        from botocore.config import Config

        when: Literal["when_supported", "when_required"] = "when_supported" if checksums else "when_required"
        client: S3Client = _session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            region_name=self.region,
            verify=self.ca_file or None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": attempts, "mode": "standard"},
                request_checksum_calculation=when,
                response_checksum_validation=when,
                proxies={},
            ),
        )
        return client

    def with_bucket(self, prefix: str = "test") -> Endpoint:
        """The same server with a new, empty bucket."""
        bucket = f"{prefix}-{os.getpid()}-{next(_numbers):04}"
        self.client.create_bucket(Bucket=bucket)
        return dataclasses.replace(self, bucket=bucket)

    def url(self, prefix: str = "", **more: object) -> str:
        """A storage path of raystorage's, options included, and `more`; the keys go by the environment."""
        options = {"region": self.region}
        scheme, _, host = self.endpoint.partition("://")
        options |= {"endpoint_override": host, "scheme": scheme}
        if self.ca_file:
            options["tls_ca_file_path"] = self.ca_file
        options |= {name: str(value) for name, value in more.items()}
        place = f"{self.bucket}/{prefix}".rstrip("/")
        return f"s3://{place}?{urlencode(options, safe=':/')}"

    def environment(self) -> dict[str, str]:
        """Variables from which SDKs, and raystorage, sign; whatever else the machine has to offer is out of reach."""
        nowhere = "/nonexistent/aws"
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": nowhere,
            "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        }

    def objects(self, prefix: str = "") -> dict[str, int]:
        """Every object's size, by key."""
        found: dict[str, int] = {}
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            found |= {item["Key"]: item["Size"] for item in page.get("Contents", ())}
        return found

    def read(self, key: str) -> bytes:
        """An object's bytes."""
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def open_multiparts(self, prefix: str = "") -> list[tuple[str, str]]:
        """Key and id of uploads that were neither completed nor aborted."""
        found = []
        for page in self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix):
            found += [(item["Key"], item["UploadId"]) for item in page.get("Uploads", ())]
        return found


def to_json(endpoints: Iterable[Endpoint]) -> str:
    """For the environment variable."""
    return json.dumps([dataclasses.asdict(endpoint) for endpoint in endpoints])


def from_json(text: str) -> list[Endpoint]:
    """What `to_json` wrote."""
    return [Endpoint(**{**entry, "quirks": tuple(entry["quirks"])}) for entry in json.loads(text)]


def certificate(directory: Path) -> tuple[Path, Path, Path]:
    """Files of an own authority, and of a certificate of its for 127.0.0.1 and localhost with its key."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost", "*.localhost")
    files = directory / "ca.pem", directory / "server.pem", directory / "server.key"
    authority.cert_pem.write_to_path(str(files[0]))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(files[1]), append=True)
    issued.private_key_pem.write_to_path(str(files[2]))
    return files
