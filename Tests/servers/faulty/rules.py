"""What a client must get right, beyond the signature. Each refusal says what was wrong; tests find it in the log."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from urllib.parse import quote
from xml.etree import ElementTree

from servers.faulty.errors import S3Error
from servers.faulty.settings import Settings
from servers.faulty.state import StoredObject, crc32c, encoded
from servers.faulty.wire import Request, text

_ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
# Kept with an object and told again.
KEPT = ("content-type", "cache-control", "content-disposition", "content-encoding", "x-amz-storage-class")


def check_form(request: Request) -> None:
    """How the request is put: encoding of the path, no chunks, no trailers."""
    if text(request.path).encode() and quote(text(request.path), safe="/-_.~") != request.path:
        raise S3Error(400, "InvalidURI", f"not encoded as AWS does: {request.path}", refusal=True)
    streaming = request.header("x-amz-content-sha256").startswith("STREAMING-")
    trailer = "x-amz-trailer" in request.headers or "x-amz-decoded-content-length" in request.headers
    if streaming or trailer or "aws-chunked" in request.header("content-encoding"):
        raise S3Error(501, "NotImplemented", "aws-chunked", refusal=True)
    if "transfer-encoding" in request.headers:
        raise S3Error(411, "MissingContentLength", "Transfer-Encoding instead of Content-Length", refusal=True)
    if request.method in ("PUT", "POST") and "content-length" not in request.headers:
        raise S3Error(411, "MissingContentLength", "no Content-Length", refusal=True)


def check_key(key: str) -> None:
    """A key that S3 takes."""
    if len(key.encode()) > 1024:
        raise S3Error(400, "KeyTooLongError", f"a key of {len(key.encode())} bytes", refusal=True)
    if "\ufffd" in key or any(segment in (".", "..") for segment in key.split("/")):
        raise S3Error(400, "InvalidURI", f"no key for S3: {key!r}", refusal=True)


def check_required(request: Request, operation: str, settings: Settings) -> None:
    """Headers that a test asks for."""
    for name, value in settings.required_headers.get(operation, {}).items():
        if request.header(name) != value:
            raise S3Error(
                400, "InvalidRequest", f"{name} is {request.header(name)!r}, not {value!r}", refusal=True
            )  # fmt: skip


def check_digests(request: Request, settings: Settings, *, required: bool) -> int:
    """Content-MD5 and checksums of the body, as far as they were sent; the CRC-32C of the body."""
    if "content-md5" in request.headers:
        digest = base64.b64encode(hashlib.md5(request.body).digest()).decode()
        if digest != request.header("content-md5"):
            raise S3Error(400, "BadDigest", "Content-MD5 is that of another body")
    crc = crc32c(request.body)
    if settings.ignore_checksums:
        return crc
    sent = sent_checksums(request)
    if not required and sent.get("crc32") == encoded(zlib.crc32(request.body)):
        # Of an order, not of content: any will do.
        return crc
    if set(sent) - {"crc32c"}:
        raise S3Error(400, "InvalidRequest", f"only CRC32C is known here, not {sorted(sent)}", refusal=True)
    if "crc32c" in sent and sent["crc32c"] != encoded(crc):
        raise S3Error(400, "BadDigest", f"the CRC32C of the body is {encoded(crc)}, not {sent['crc32c']}")
    if required and settings.require_checksums and not sent:
        raise S3Error(400, "InvalidRequest", "no x-amz-checksum-crc32c", refusal=True)
    return crc


def sent_checksums(request: Request) -> dict[str, str]:
    """Checksum headers by algorithm."""
    names = {name: f"x-amz-checksum-{name}" for name in _ALGORITHMS}
    return {name: request.headers[header] for name, header in names.items() if header in request.headers}


def check_conditions(request: Request, there: StoredObject | None, settings: Settings) -> None:
    """If-None-Match and If-Match of a write."""
    none_match, match = request.header("if-none-match"), request.header("if-match")
    if none_match not in ("", "*"):
        raise S3Error(501, "NotImplemented", f"If-None-Match: {none_match}", refusal=True)
    if settings.ignore_conditions:
        return
    if none_match and there is not None:
        raise S3Error(412, "PreconditionFailed", "it exists", elements={"Condition": "If-None-Match"})
    if match and there is None:
        raise S3Error(404, "NoSuchKey", "there is nothing to match")
    if match and there is not None and match.strip('"') != there.etag.strip('"'):
        raise S3Error(412, "PreconditionFailed", "it is another one", elements={"Condition": "If-Match"})


def requested_range(request: Request, size: int) -> tuple[int, int] | None:
    """Start and end of one range of bytes, None without."""
    value = request.header("range")
    if not value:
        return None
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", value)
    if not match or match.groups() == ("", ""):
        raise S3Error(416, "InvalidRange", f"Range: {value}", refusal=True)
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    if start >= end:
        raise S3Error(416, "InvalidRange", f"{value} of {size} bytes")
    return start, end


def parse(request: Request, root: str) -> ElementTree.Element:
    """The body as a document with that root, without namespaces."""
    try:
        document = ElementTree.fromstring(bytes(request.body))
    except ElementTree.ParseError as error:
        raise S3Error(400, "MalformedXML", str(error), refusal=True) from None
    for one in document.iter():
        one.tag = one.tag.rpartition("}")[2]
    if document.tag != root:
        raise S3Error(400, "MalformedXML", f"<{document.tag}> instead of <{root}>", refusal=True)
    return document


def kept_headers(request: Request) -> dict[str, str]:
    """What is told again with the object."""
    return {
        name: value for name, value in request.headers.items() if name in KEPT or name.startswith("x-amz-meta-")
    }  # fmt: skip
