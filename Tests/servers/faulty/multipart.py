"""Uploads in parts, with every rule that some store has."""

from __future__ import annotations

from servers.faulty import rules, signature
from servers.faulty.errors import S3Error, element, xml_response
from servers.faulty.objects import bucket_of
from servers.faulty.settings import Settings
from servers.faulty.state import Part, State, StoredObject, Upload, crc32c, encoded, new_etag
from servers.faulty.wire import Request, Response


def upload_of(state: State, request: Request, bucket: str, key: str) -> Upload:
    upload = bucket_of(state, bucket).uploads.get(request.argument("uploadId"))
    if upload is None or upload.key != key:
        raise S3Error(
            404, "NoSuchUpload", "the upload does not exist", elements={"UploadId": request.argument("uploadId")}
        )
    return upload


def create(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    place = bucket_of(state, bucket)
    algorithm = request.header("x-amz-checksum-algorithm").upper()
    checksum_type = request.header("x-amz-checksum-type").upper()
    if not settings.ignore_checksums:
        if algorithm not in ("", "CRC32C"):
            raise S3Error(400, "InvalidRequest", f"only CRC32C is known here, not {algorithm}", refusal=True)
        if checksum_type not in ("", "FULL_OBJECT", "COMPOSITE") or (checksum_type and not algorithm):
            raise S3Error(400, "InvalidRequest", f"{algorithm} {checksum_type} is no checksum", refusal=True)
        if settings.require_checksums and not algorithm:
            raise S3Error(400, "InvalidRequest", "no x-amz-checksum-algorithm", refusal=True)
    upload = state.begin(place, key, algorithm, checksum_type, rules.kept_headers(request))
    upload.started = signature.now(settings)
    content = [element("Bucket", bucket), element("Key", key), element("UploadId", upload.id)]
    headers = {"x-amz-checksum-algorithm": algorithm} if algorithm and not settings.ignore_checksums else {}
    return xml_response("InitiateMultipartUploadResult", content, headers=headers)


def put_part(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    upload = upload_of(state, request, bucket, key)
    number = request.argument("partNumber")
    if not number.isdigit() or not 1 <= int(number) <= 10_000:
        raise S3Error(400, "InvalidArgument", f"part number {number}", refusal=True)
    crc = rules.check_digests(request, settings, required=bool(upload.algorithm))
    sent = rules.sent_checksums(request)
    if not settings.ignore_checksums and bool(sent) != bool(upload.algorithm):
        # In the words of S3.
        expected, actual = upload.algorithm.lower() or "null", "crc32c" if sent else "null"
        text = f"Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}"
        raise S3Error(400, "InvalidRequest", text, refusal=True)
    part = Part(request.body, crc, new_etag(crc), signature.now(settings))
    upload.parts[int(number)] = part
    headers = {"ETag": part.etag}
    if sent and not settings.ignore_checksums:
        headers["x-amz-checksum-crc32c"] = encoded(crc)
    return Response(200, headers)


def complete(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    place = bucket_of(state, bucket)
    upload = upload_of(state, request, bucket, key)
    parts = _named_parts(request, upload)
    _check_sizes(parts, settings)
    pieces = [part.content for part in parts]
    crc, size = _checksum(pieces), sum(map(len, pieces))
    if not settings.ignore_checksums:
        _check_whole(request, settings, upload, crc, size)
    rules.check_conditions(request, place.objects.get(key), settings)
    etag = new_etag(crc)[:-1] + f'-{len(parts)}"'
    stored = StoredObject(pieces, crc, etag, signature.now(settings), headers=upload.headers, parts=len(parts))
    place.objects[key] = stored
    del place.uploads[upload.id]
    content = [
        element("Location", f"/{bucket}/{key}"),
        element("Bucket", bucket),
        element("Key", key),
        element("ETag", stored.etag),
    ]
    if upload.algorithm and not settings.ignore_checksums:
        content += [element("ChecksumCRC32C", encoded(crc)), element("ChecksumType", "FULL_OBJECT")]
    response = xml_response("CompleteMultipartUploadResult", content)
    response.blanks = settings.complete_whitespace
    return response


def _named_parts(request: Request, upload: Upload) -> list[Part]:
    document = rules.parse(request, "CompleteMultipartUpload")
    named = document.findall("Part")
    numbers = [int(one.findtext("PartNumber") or 0) for one in named]
    if not numbers:
        raise S3Error(400, "MalformedXML", "no parts", refusal=True)
    if numbers != sorted(set(numbers)):
        raise S3Error(400, "InvalidPartOrder", "the parts are not in ascending order", refusal=True)
    parts = []
    for number, one in zip(numbers, named, strict=True):
        part = upload.parts.get(number)
        if part is None or (one.findtext("ETag") or "").strip('"') != part.etag.strip('"'):
            raise S3Error(400, "InvalidPart", f"part {number} is not there, or another one")
        checksum = one.findtext("ChecksumCRC32C")
        if checksum is not None and checksum != encoded(part.crc):
            raise S3Error(400, "InvalidPart", f"part {number} has the CRC32C {encoded(part.crc)}, not {checksum}")
        parts.append(part)
    if numbers != list(range(1, len(numbers) + 1)):
        raise S3Error(400, "InvalidPart", f"a gap in the part numbers: {numbers}", refusal=True)
    return parts


def _check_sizes(parts: list[Part], settings: Settings) -> None:
    sizes = [len(part.content) for part in parts]
    if any(size < settings.min_part_bytes for size in sizes[:-1]):
        raise S3Error(400, "EntityTooSmall", f"parts of {sizes} bytes", refusal=True)
    if settings.equal_parts and (len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]):
        raise S3Error(400, "InvalidPart", f"all parts but the last must have one length: {sizes}", refusal=True)


def _checksum(pieces: list[bytearray]) -> int:
    from awscrt import checksums  # type: ignore[import-untyped]

    value = 0
    for piece in pieces:
        value = int(checksums.crc32c(piece, value))
    return value if pieces else crc32c(b"")


def _check_whole(request: Request, settings: Settings, upload: Upload, crc: int, size: int) -> None:
    sent = rules.sent_checksums(request)
    if sent.get("crc32c", encoded(crc)) != encoded(crc):
        raise S3Error(400, "BadDigest", f"the CRC32C of the object is {encoded(crc)}, not {sent['crc32c']}")
    if sent and (upload.checksum_type != "FULL_OBJECT" or request.header("x-amz-checksum-type") != "FULL_OBJECT"):
        raise S3Error(400, "InvalidRequest", "a checksum of the whole without FULL_OBJECT at Create", refusal=True)
    if settings.require_checksums and not sent:
        raise S3Error(400, "InvalidRequest", "no x-amz-checksum-crc32c of the whole object", refusal=True)
    said = request.header("x-amz-mp-object-size")
    if said and said != str(size):
        raise S3Error(400, "InvalidRequest", f"the object has {size} bytes, not {said}", refusal=True)


def abort(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    upload = upload_of(state, request, bucket, key)
    del bucket_of(state, bucket).uploads[upload.id]
    return Response(204)
