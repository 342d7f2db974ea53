"""The services that hand out AWS credentials, in one server: instance metadata, containers, STS, SSO.

    with FaultyS3() as store, FakeIdentity(store.settings, lifetime_s=2) as identity:
        environment = identity.container()

What it hands out is good for the store until it expires; each asks for exactly what the real one asks for.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from servers.faulty.errors import S3Error
from servers.faulty.settings import Credentials, Settings
from servers.faulty.signature import check_service
from servers.faulty.wire import Request

ROLE = "trainer-role"
Answer = tuple[int, str, str]
_numbers = itertools.count(1)


def _json(status: int, document: object) -> Answer:
    return status, "application/json", json.dumps(document)


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class FakeIdentity:
    """One server with all services; `environment`-like methods say how a program finds each."""

    def __init__(self, settings: Settings | None = None, *, lifetime_s: float = 3600) -> None:
        self.settings = settings or Settings()
        self.lifetime_s = lifetime_s
        # Statuses to answer with before anything else, the first first.
        self.failures: list[int] = []
        # How often each service was asked, and what clients did wrong.
        self.counts: Counter[str] = Counter()
        self.refusals: list[str] = []
        self.authorization = secrets.token_hex(16)
        self.web_token = secrets.token_hex(16)
        self.sso_token = secrets.token_hex(16)
        self._metadata_tokens: set[str] = set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, name="identity", daemon=True).start()

    # ------------------------------------------------------------------ how to find it

    def instance(self) -> dict[str, str]:
        """EC2's metadata service, second version only."""
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url, "AWS_EC2_METADATA_DISABLED": "false"}

    def container(self, token_file: Path | None = None) -> dict[str, str]:
        """ECS's and EKS Pod Identity's endpoint; the latter has its token in a file."""
        found = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/container"}
        if token_file is None:
            return found | {"AWS_CONTAINER_AUTHORIZATION_TOKEN": self.authorization}
        token_file.write_text(self.authorization)
        return found | {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file)}

    def web_identity(self, token_file: Path) -> dict[str, str]:
        """IRSA: a token in a file that is exchanged at STS."""
        token_file.write_text(self.web_token)
        return {
            "AWS_ROLE_ARN": f"arn:aws:iam::123456789012:role/{ROLE}",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token_file),
            "AWS_ENDPOINT_URL_STS": self.url,
        }

    def assumed_role(self, config_file: Path) -> dict[str, str]:
        """A profile whose role is assumed with the first key of the settings."""
        key = self.settings.credentials[0]
        config_file.write_text(
            f"[profile base]\naws_access_key_id = {key.access_key}\naws_secret_access_key = {key.secret_key}\n"
            f"[profile trainer]\nrole_arn = arn:aws:iam::123456789012:role/{ROLE}\nsource_profile = base\n"
            f"region = {self.settings.region}\n"
        )
        return {"AWS_CONFIG_FILE": str(config_file), "AWS_PROFILE": "trainer", "AWS_ENDPOINT_URL_STS": self.url}

    def process(self, config_file: Path, script: Path) -> dict[str, str]:
        """A profile with a `credential_process` that fetches from here."""
        url = f"{self.url}/container"
        script.write_text(f"#!/bin/sh\nexec curl -sf --noproxy '*' -H 'Authorization: {self.authorization}' '{url}'\n")
        script.chmod(0o700)
        config_file.write_text(f"[default]\ncredential_process = {script}\nregion = {self.settings.region}\n")
        return {"AWS_CONFIG_FILE": str(config_file)}

    def sso(self, config_file: Path, home: Path) -> dict[str, str]:
        """A profile of IAM Identity Center, signed in: the token lies in the cache of that home directory."""
        config_file.write_text(
            "[profile trainer]\nsso_session = company\nsso_account_id = 123456789012\n"
            f"sso_role_name = {ROLE}\nregion = {self.settings.region}\n"
            f"[sso-session company]\nsso_region = {self.settings.region}\n"
            "sso_start_url = https://company.awsapps.com/start\nsso_registration_scopes = sso:account:access\n"
        )
        cache = home / ".aws" / "sso" / "cache" / f"{hashlib.sha1(b'company').hexdigest()}.json"
        cache.parent.mkdir(parents=True)
        expires = _stamp(time.time() + 8 * 3600)
        cache.write_text(
            json.dumps({"accessToken": self.sso_token, "expiresAt": expires, "region": self.settings.region})
        )
        return {
            "AWS_CONFIG_FILE": str(config_file), "AWS_PROFILE": "trainer", "HOME": str(home),
            "AWS_ENDPOINT_URL_SSO": self.url,
        }  # fmt: skip

    # ------------------------------------------------------------------ what it answers

    def issue(self) -> Credentials:
        """New credentials, known to the store until they expire."""
        number = next(_numbers)
        issued = Credentials(
            f"ASIAFAKE{number:08}",
            secrets.token_hex(20),
            secrets.token_hex(40),
            expires_at=time.time() + self.lifetime_s,
        )
        with self._lock:
            self.settings.credentials.append(issued)
        return issued

    def answer(self, request: Request) -> Answer:
        """Of one request."""
        with self._lock:
            if self.failures:
                return _json(self.failures.pop(0), {"message": "by order"})
        path = urlsplit(request.target).path
        for prefix, service, reply in _SERVICES:
            if path == prefix or (prefix.endswith("/") and prefix != "/" and path.startswith(prefix)):
                self.counts[service] += 1
                return reply(self, request)
        return self._refuse(404, f"nothing at {path}")

    def _refuse(self, status: int, why: str) -> Answer:
        self.refusals.append(why)
        return _json(status, {"message": why})

    def _metadata_token(self, request: Request) -> Answer:
        ttl = request.header("x-aws-ec2-metadata-token-ttl-seconds")
        if request.method != "PUT" or not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
            return self._refuse(400, f"{request.method} for a token with a TTL of {ttl!r}")
        if request.header("x-forwarded-for"):
            return self._refuse(403, "X-Forwarded-For")
        token = secrets.token_hex(20)
        self._metadata_tokens.add(token)
        return 200, "text/plain", token

    def _metadata(self, request: Request) -> Answer:
        if request.header("x-aws-ec2-metadata-token") not in self._metadata_tokens:
            return self._refuse(401, "no token of the metadata service")
        name = urlsplit(request.target).path.rpartition("/")[2]
        if not name:
            return 200, "text/plain", ROLE
        if name != ROLE:
            return _json(404, {"message": "no such role"})
        issued = self.issue()
        return _json(
            200, {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": _stamp(time.time()), **_fields(issued)}
        )

    def _container(self, request: Request) -> Answer:
        if request.header("authorization") != self.authorization:
            return self._refuse(403, "another authorization token")
        return _json(200, {"Version": 1, "RoleArn": f"arn:aws:iam::123456789012:role/{ROLE}", **_fields(self.issue())})

    def _sts(self, request: Request) -> Answer:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        action = form.get("Action", "")
        self.counts[action] += 1
        if not form.get("RoleArn", "").startswith("arn:aws:iam::") or not form.get("RoleSessionName"):
            return self._sts_error(400, "ValidationError", "no role or no session name")
        if action == "AssumeRole":
            try:
                check_service(request, self.settings.credentials, "sts")
            except S3Error as error:
                return self._sts_error(error.status, error.code, error.message)
        elif action == "AssumeRoleWithWebIdentity":
            if form.get("WebIdentityToken") != self.web_token:
                return self._sts_error(400, "InvalidIdentityToken", "another token")
            if request.header("authorization"):
                return self._sts_error(400, "ValidationError", "this request is not signed")
        else:
            return self._sts_error(400, "InvalidAction", action)
        issued = self.issue()
        fields = {
            "AccessKeyId": issued.access_key, "SecretAccessKey": issued.secret_key, "SessionToken": issued.token,
            "Expiration": _stamp(issued.expires_at or 0),
        }  # fmt: skip
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
        return 200, "text/xml", (
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>'
            f"<Credentials>{inner}</Credentials></{action}Result></{action}Response>"
        )  # fmt: skip

    def _sts_error(self, status: int, code: str, why: str) -> Answer:
        self.refusals.append(f"{code}: {why}")
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{why}</Message></Error>"
        return (
            status,
            "text/xml",
            f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{error}</ErrorResponse>',
        )

    def _sso(self, request: Request) -> Answer:
        if request.header("x-amz-sso_bearer_token") != self.sso_token:
            return self._refuse(401, "another bearer token")
        if not request.argument("role_name") or not request.argument("account_id"):
            return self._refuse(400, "no role_name or no account_id")
        issued = self.issue()
        fields = {
            "accessKeyId": issued.access_key, "secretAccessKey": issued.secret_key, "sessionToken": issued.token,
            "expiration": int((issued.expires_at or 0) * 1000),
        }  # fmt: skip
        return _json(200, {"roleCredentials": fields})

    # ------------------------------------------------------------------ from `with` to its end

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> FakeIdentity:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fields(issued: Credentials) -> dict[str, str]:
    return {
        "AccessKeyId": issued.access_key,
        "SecretAccessKey": issued.secret_key,
        "Token": issued.token,
        # `credential_process` calls it so, the others pass over it.
        "SessionToken": issued.token,
        "Expiration": _stamp(issued.expires_at or 0),
    }


_SERVICES: tuple[tuple[str, str, Callable[[FakeIdentity, Request], Answer]], ...] = (
    ("/latest/api/token", "metadata token", FakeIdentity._metadata_token),
    ("/latest/meta-data/iam/security-credentials/", "metadata", FakeIdentity._metadata),
    ("/container", "container", FakeIdentity._container),
    ("/federation/credentials", "sso", FakeIdentity._sso),
    ("/", "sts", FakeIdentity._sts),
)


def _handler(identity: FakeIdentity) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            headers = {name.lower(): value.strip() for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers)
            request.body = bytearray(self.rfile.read(int(headers.get("content-length", "0"))))
            status, kind, text = identity.answer(request)
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._do()

        def do_PUT(self) -> None:
            self._do()

        def do_POST(self) -> None:
            self._do()

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    return Handler
