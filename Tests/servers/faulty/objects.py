"""Operations on buckets and whole objects."""

from __future__ import annotations

from email.utils import formatdate

from servers.faulty import rules, signature
from servers.faulty.errors import S3Error, element, xml_response
from servers.faulty.settings import Settings
from servers.faulty.state import Bucket, State, StoredObject, encoded, new_etag
from servers.faulty.wire import Request, Response


def bucket_of(state: State, name: str) -> Bucket:
    """That bucket; S3's error when there is none."""
    if name not in state.buckets:
        raise S3Error(404, "NoSuchBucket", f"no bucket {name!r}", elements={"BucketName": name})
    return state.buckets[name]


def create_bucket(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    if bucket in state.buckets:
        raise S3Error(409, "BucketAlreadyOwnedByYou", "it exists")
    state.buckets[bucket] = Bucket()
    return Response(200, {"Location": f"/{bucket}"})


def head_bucket(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    bucket_of(state, bucket)
    return Response(200, {"x-amz-bucket-region": settings.region})


def delete_bucket(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    if bucket_of(state, bucket).objects:
        raise S3Error(409, "BucketNotEmpty", "it is not empty")
    del state.buckets[bucket]
    return Response(204)


def bucket_location(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    bucket_of(state, bucket)
    return xml_response("LocationConstraint", [settings.region])


def bucket_versioning(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    bucket_of(state, bucket)
    return xml_response("VersioningConfiguration", [])


def put_object(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    place = bucket_of(state, bucket)
    if len(request.body) > settings.max_put_bytes:
        raise S3Error(400, "EntityTooLarge", f"{len(request.body)} bytes in one PUT", refusal=True)
    crc = rules.check_digests(request, settings, required=True)
    rules.check_conditions(request, place.objects.get(key), settings)
    stored = StoredObject(
        [request.body], crc, new_etag(crc), signature.now(settings), headers=rules.kept_headers(request)
    )
    place.objects[key] = stored
    headers = {"ETag": stored.etag}
    if rules.sent_checksums(request) and not settings.ignore_checksums:
        headers["x-amz-checksum-crc32c"] = encoded(crc)
        headers["x-amz-checksum-type"] = "FULL_OBJECT"
    return Response(200, headers)


def get_object(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    """HEAD as well."""
    stored = bucket_of(state, bucket).objects.get(key)
    if stored is None:
        raise S3Error(404, "NoSuchKey", "the specified key does not exist", elements={"Key": key})
    match, none_match = request.header("if-match"), request.header("if-none-match")
    if match and match.strip('"') != stored.etag.strip('"'):
        raise S3Error(412, "PreconditionFailed", "it is another one", elements={"Condition": "If-Match"})
    headers = {
        "ETag": stored.etag,
        "Last-Modified": formatdate(stored.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": "binary/octet-stream",
        **stored.headers,
    }
    if none_match and none_match.strip('"') == stored.etag.strip('"'):
        return Response(304, headers)
    wanted = rules.requested_range(request, stored.size)
    start, end = wanted or (0, stored.size)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
    elif request.header("x-amz-checksum-mode").upper() == "ENABLED" and not settings.ignore_checksums:
        headers["x-amz-checksum-crc32c"] = encoded(stored.crc)
        headers["x-amz-checksum-type"] = "FULL_OBJECT"
    body = b"" if request.method == "HEAD" else stored.read(start, end)
    return Response(206 if wanted else 200, headers, body, length=end - start)


def delete_object(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    place = bucket_of(state, bucket)
    there = place.objects.get(key)
    match = request.header("if-match")
    if match and (there is None or match.strip('"') != there.etag.strip('"')):
        raise S3Error(412, "PreconditionFailed", "it is another one")
    place.objects.pop(key, None)
    return Response(204)


def delete_objects(state: State, settings: Settings, request: Request, bucket: str, key: str) -> Response:
    place = bucket_of(state, bucket)
    if "content-md5" not in request.headers and not rules.sent_checksums(request):
        raise S3Error(400, "InvalidRequest", "missing required header: Content-MD5 or a checksum", refusal=True)
    rules.check_digests(request, settings, required=False)
    document = rules.parse(request, "Delete")
    keys = [one.findtext("Key") or "" for one in document.findall("Object")]
    if not 1 <= len(keys) <= 1000 or "" in keys:
        raise S3Error(400, "MalformedXML", f"{len(keys)} keys to delete", refusal=True)
    for one in keys:
        place.objects.pop(one, None)
    quiet = (document.findtext("Quiet") or "").lower() == "true"
    return xml_response("DeleteResult", [] if quiet else [f"<Deleted>{element('Key', one)}</Deleted>" for one in keys])
