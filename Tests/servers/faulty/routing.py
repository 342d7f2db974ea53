"""Which operation a request is, and for which bucket and key."""

from __future__ import annotations

from collections.abc import Callable

from servers.faulty import listing, multipart, objects
from servers.faulty.settings import Settings
from servers.faulty.state import State
from servers.faulty.wire import Request, Response, text

Operation = Callable[[State, Settings, Request, str, str], Response]

OPERATIONS: dict[str, Operation] = {
    "CreateBucket": objects.create_bucket,
    "HeadBucket": objects.head_bucket,
    "DeleteBucket": objects.delete_bucket,
    "GetBucketLocation": objects.bucket_location,
    "GetBucketVersioning": objects.bucket_versioning,
    "PutObject": objects.put_object,
    "GetObject": objects.get_object,
    "HeadObject": objects.get_object,
    "DeleteObject": objects.delete_object,
    "DeleteObjects": objects.delete_objects,
    "ListObjectsV2": listing.list_objects,
    "CreateMultipartUpload": multipart.create,
    "UploadPart": multipart.put_part,
    "CompleteMultipartUpload": multipart.complete,
    "AbortMultipartUpload": multipart.abort,
    "ListParts": listing.list_parts,
    "ListMultipartUploads": listing.list_multiparts,
}

# Sub-resources of buckets and objects that stand in the query without a value.
_BUCKET = {
    ("GET", "location"): "GetBucketLocation",
    ("GET", "versioning"): "GetBucketVersioning",
    ("GET", "uploads"): "ListMultipartUploads",
    ("POST", "delete"): "DeleteObjects",
}
_PLAIN_BUCKET = {"PUT": "CreateBucket", "HEAD": "HeadBucket", "DELETE": "DeleteBucket", "GET": "ListObjectsV2"}
_OBJECT = {
    ("POST", "uploads"): "CreateMultipartUpload",
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", "uploadId"): "ListParts",
}
_PLAIN_OBJECT = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}


def place_of(request: Request, hosts: tuple[str, ...]) -> tuple[str, str]:
    """Bucket and key, of a path-style request or one to a host `bucket.<one of ours>`."""
    host = request.header("host").rpartition(":")[0] or request.header("host")
    path = text(request.path).removeprefix("/")
    for own in hosts:
        if host.endswith(f".{own}"):
            return host.removesuffix(f".{own}"), path
    bucket, _, key = path.partition("/")
    return bucket, key


def operation_of(request: Request, bucket: str, key: str) -> str:
    """S3's name of the operation, or method and path of what is none."""
    table, plain = (_OBJECT, _PLAIN_OBJECT) if key else (_BUCKET, _PLAIN_BUCKET)
    for (method, argument), name in table.items():
        if request.method == method and request.has(argument):
            return name
    if bucket and request.method in plain and not request.has("acl"):
        return plain[request.method]
    return f"{request.method} {request.target}"
