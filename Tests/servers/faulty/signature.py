"""Checks Signature Version 4 in the Authorization header, by the letter."""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from urllib.parse import quote

from servers.faulty.errors import S3Error
from servers.faulty.settings import Credentials, Settings
from servers.faulty.wire import Request

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([^/,]+)/([^/,]+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)
_MAX_SKEW_S = 15 * 60
UNSIGNED = "UNSIGNED-PAYLOAD"


def now(settings: Settings) -> float:
    """The server's clock."""
    return time.time() + settings.clock_offset_s


def check_service(request: Request, credentials: list[Credentials], service: str) -> Credentials:
    """A signature for another service than S3, whose payload is always signed and has no header; who signed."""
    match = _AUTHORIZATION.fullmatch(request.header("authorization"))
    if not match:
        raise S3Error(403, "MissingAuthenticationToken", "not signed", refusal=True)
    access_key, day, region, said, names, signature = match.groups()
    known = next((one for one in credentials if one.access_key == access_key), None)
    if known is None or said != service:
        raise S3Error(403, "InvalidClientTokenId", "no such key, or for another service")
    request.headers["x-amz-content-sha256"] = hashlib.sha256(request.body).hexdigest()
    expected = sign(request, known, day, region, service, names.split(";"), request.header("x-amz-date"))
    if not hmac.compare_digest(expected, signature):
        raise S3Error(403, "SignatureDoesNotMatch", "the signature is another", refusal=True)
    if request.header("x-amz-security-token") != known.token or known.expired:
        raise S3Error(403, "ExpiredToken", "the token has expired, or is another")
    return known


def check_head(request: Request, settings: Settings) -> None:
    """Who asks, when, and whether the signature is right; the body comes later."""
    authorization = request.header("authorization")
    if not authorization:
        if settings.anonymous:
            return
        raise S3Error(403, "AccessDenied", "the request is not signed")
    match = _AUTHORIZATION.fullmatch(authorization)
    if not match:
        raise S3Error(400, "AuthorizationHeaderMalformed", f"not a V4 signature: {authorization!r}", refusal=True)
    access_key, day, region, service, names, signature = match.groups()
    stamp = request.header("x-amz-date")
    if not re.fullmatch(r"\d{8}T\d{6}Z", stamp) or stamp[:8] != day:
        raise S3Error(403, "AccessDenied", f"x-amz-date is {stamp!r}, the scope says {day}", refusal=True)
    credentials = next((one for one in settings.credentials if one.access_key == access_key), None)
    if credentials is None:
        raise S3Error(403, "InvalidAccessKeyId", "no such key")
    if abs(calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - now(settings)) > _MAX_SKEW_S:
        raise S3Error(403, "RequestTimeTooSkewed", "the clocks differ too much")
    if region != settings.region or service != "s3":
        raise S3Error(
            400, "AuthorizationHeaderMalformed", f"the region {region!r} is wrong; expecting {settings.region!r}",
            elements={"Region": settings.region}, headers={"x-amz-bucket-region": settings.region},
        )  # fmt: skip
    _check_signed_headers(request, names.split(";"))
    expected = sign(request, credentials, day, region, service, names.split(";"), stamp)
    if not hmac.compare_digest(expected, signature):
        raise S3Error(403, "SignatureDoesNotMatch", "the signature is another", refusal=True)
    if request.header("x-amz-security-token") != credentials.token:
        raise S3Error(403, "InvalidToken", "the token does not belong to the key")
    credentials.used += 1
    if credentials.expired:
        raise S3Error(400, "ExpiredToken", "the provided token has expired")


def _check_signed_headers(request: Request, names: list[str]) -> None:
    if names != sorted(set(names)):
        raise S3Error(403, "SignatureDoesNotMatch", "SignedHeaders are not in order", refusal=True)
    must = {name for name in request.headers if name.startswith("x-amz-")} | {"host", "x-amz-date", "content-md5"}
    missing = sorted(name for name in must if name in request.headers and name not in names)
    missing += [name for name in ("host", "x-amz-date", "x-amz-content-sha256") if name not in names]
    if missing:
        raise S3Error(403, "AccessDenied", f"there were headers which were not signed: {missing}", refusal=True)
    absent = [name for name in names if name not in request.headers]
    if absent:
        raise S3Error(403, "SignatureDoesNotMatch", f"signed but not sent: {absent}", refusal=True)


def sign(
    request: Request, credentials: Credentials, day: str, region: str, service: str, names: list[str], stamp: str
) -> str:
    """What the signature should be."""
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in request.query)
    canonical = "\n".join(
        [
            request.method,
            request.path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *[f"{name}:{request.headers[name]}" for name in names],
            "",
            ";".join(names),
            request.header("x-amz-content-sha256"),
        ]
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def check_body(request: Request, settings: Settings) -> None:
    """Whether the body is the one that was signed."""
    said = request.header("x-amz-content-sha256")
    if not request.header("authorization") and settings.anonymous and not said:
        return
    if said == UNSIGNED:
        if request.secure or settings.unsigned_payload_over_http:
            return
        raise S3Error(400, "InvalidRequest", "UNSIGNED-PAYLOAD is for https only", refusal=True)
    if not re.fullmatch(r"[0-9a-f]{64}", said):
        raise S3Error(400, "InvalidRequest", f"x-amz-content-sha256 is {said!r}", refusal=True)
    if hashlib.sha256(request.body).hexdigest() != said:
        raise S3Error(400, "XAmzContentSHA256Mismatch", "the body is not the one that was signed", refusal=True)
