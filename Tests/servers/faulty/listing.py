"""Listings, in pages as small as the settings ask for."""

from __future__ import annotations

import time
from urllib.parse import quote

from servers.faulty.errors import S3Error, element, xml_response
from servers.faulty.multipart import upload_of
from servers.faulty.objects import bucket_of
from servers.faulty.settings import Settings
from servers.faulty.state import State, encoded
from servers.faulty.wire import Request, Response


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03}Z"


def _limit(request: Request, settings: Settings, argument: str) -> int:
    asked = request.argument(argument) or "1000"
    if not asked.isdigit():
        raise S3Error(400, "InvalidArgument", f"{argument}={asked}", refusal=True)
    return max(1, min(int(asked), settings.page_size, 1000))


def list_objects(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    if request.argument("list-type") != "2":
        raise S3Error(501, "NotImplemented", "ListObjects of the first version", refusal=True)
    place = bucket_of(state, bucket)
    prefix, delimiter = request.argument("prefix"), request.argument("delimiter")
    limit = _limit(request, settings, "max-keys")
    after = _decode(request.argument("continuation-token")) or request.argument("start-after")
    encode = (lambda one: quote(one, safe="/")) if request.argument("encoding-type") == "url" else (lambda one: one)

    # S3 sorts by bytes of UTF-8; what a common prefix stands for counts once.
    entries: list[str] = []
    content: list[str] = []
    truncated = False
    for name in sorted((one for one in place.objects if one.startswith(prefix)), key=lambda one: one.encode()):
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        entry = name if cut < 0 else name[: cut + len(delimiter)]
        if entry.encode() <= after.encode() or (entries and entries[-1] == entry):
            continue
        if len(entries) == limit:
            truncated = True
            break
        entries.append(entry)
        if cut >= 0:
            content.append(f"<CommonPrefixes>{element('Prefix', encode(entry))}</CommonPrefixes>")
            continue
        stored = place.objects[name]
        fields = {
            "Key": encode(name),
            "LastModified": _stamp(stored.modified),
            "ETag": stored.etag,
            "Size": stored.size,
        }
        text = "".join(element(one, value) for one, value in fields.items())
        content.append(f"<Contents>{text}<StorageClass>STANDARD</StorageClass></Contents>")
    head = [
        element("Name", bucket), element("Prefix", encode(prefix)), element("KeyCount", len(entries)),
        element("MaxKeys", limit), element("IsTruncated", str(truncated).lower()),
    ]  # fmt: skip
    if request.argument("encoding-type") == "url":
        head.append(element("EncodingType", "url"))
    if truncated:
        head.append(element("NextContinuationToken", _encode(entries[-1])))
    return xml_response("ListBucketResult", head + content)


def _encode(entry: str) -> str:
    """Not the key itself, and with characters that must be encoded: a token is opaque."""
    return f"1/{entry.encode().hex()}+=="


def _decode(token: str) -> str:
    if not token:
        return ""
    if not (token.startswith("1/") and token.endswith("+==")):
        raise S3Error(400, "InvalidArgument", f"the continuation token {token!r} is not ours", refusal=True)
    return bytes.fromhex(token[2:-3]).decode()


def list_multiparts(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    prefix = request.argument("prefix")
    limit = _limit(request, settings, "max-uploads")
    after = (request.argument("key-marker"), request.argument("upload-id-marker"))
    uploads = [one for one in bucket_of(state, bucket).uploads.values() if one.key.startswith(prefix)]
    uploads = sorted((one for one in uploads if (one.key, one.id) > after), key=lambda one: (one.key, one.id))
    truncated, uploads = len(uploads) > limit, uploads[:limit]
    content = [element("Bucket", bucket), element("IsTruncated", str(truncated).lower()), element("MaxUploads", limit)]
    if truncated:
        content += [element("NextKeyMarker", uploads[-1].key), element("NextUploadIdMarker", uploads[-1].id)]
    for one in uploads:
        fields = [element("Key", one.key), element("UploadId", one.id), element("Initiated", _stamp(one.started))]
        content.append(f"<Upload>{''.join(fields)}</Upload>")
    return xml_response("ListMultipartUploadsResult", content)


def list_parts(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    upload = upload_of(state, request, bucket, key)
    limit = _limit(request, settings, "max-parts")
    marker = request.argument("part-number-marker") or "0"
    numbers = sorted(number for number in upload.parts if number > int(marker))
    truncated, numbers = len(numbers) > limit, numbers[:limit]
    content = [element("Bucket", bucket), element("Key", key), element("UploadId", upload.id)]
    content += [element("IsTruncated", str(truncated).lower()), element("MaxParts", limit)]
    if truncated:
        content.append(element("NextPartNumberMarker", numbers[-1]))
    for number in numbers:
        part = upload.parts[number]
        fields = {
            "PartNumber": number,
            "LastModified": _stamp(part.modified),
            "ETag": part.etag,
            "Size": len(part.content),
        }
        if upload.algorithm and not settings.ignore_checksums:
            fields["ChecksumCRC32C"] = encoded(part.crc)
        content.append(f"<Part>{''.join(element(name, value) for name, value in fields.items())}</Part>")
    return xml_response("ListPartsResult", content)
