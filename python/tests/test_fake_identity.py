"""The fake credentials services: botocore, which knows the real ones, gets what it needs from each of them."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from servers.identity import FakeIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servers.faulty import FaultyS3

# How a program finds each service, and what is asked of it.
WAYS: dict[str, tuple[Callable[[FakeIdentity, Path], dict[str, str]], str]] = {
    "instance": (lambda identity, _: identity.instance(), "metadata"),
    "container": (lambda identity, _: identity.container(), "container"),
    "pod": (lambda identity, path: identity.container(path / "token"), "container"),
    "web identity": (lambda identity, path: identity.web_identity(path / "token"), "AssumeRoleWithWebIdentity"),
    "assumed role": (lambda identity, path: identity.assumed_role(path / "config"), "AssumeRole"),
    "sso": (lambda identity, path: identity.sso(path / "config", path / "home"), "sso"),
    "process": (lambda identity, path: identity.process(path / "config", path / "fetch"), "container"),
}


@pytest.fixture
def identity(faulty: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeIdentity]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "*")
    with FakeIdentity(faulty.settings) as one:
        yield one


# In a process of its own: botocore looks for the home directory when it is imported.
LIST = """
import boto3, sys
from botocore.config import Config
config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
boto3.client("s3", endpoint_url=sys.argv[1], config=config).list_objects_v2(Bucket="bucket")
"""


@pytest.mark.parametrize("way", WAYS)
def test_botocore_signs_with_what_it_gets(way: str, identity: FakeIdentity, faulty: FaultyS3, tmp_path: Path) -> None:
    find, service = WAYS[way]
    environment = {**os.environ, **find(identity, tmp_path)}
    subprocess.run([sys.executable, "-c", LIST, faulty.endpoint.endpoint], env=environment, check=True, timeout=60)
    assert identity.counts[service] >= 1
    assert identity.refusals == faulty.refusals == []
    used = [one for one in faulty.settings.credentials if one.used]
    # The role was assumed with the first key, which signed nothing for the store.
    assert [one.token != "" for one in used] == [True]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/latest/meta-data/iam/security-credentials/", {}, 401),
        ("PUT", "/latest/api/token", {}, 400),
        ("GET", "/container", {"Authorization": "wrong"}, 403),
        ("POST", "/", {}, 400),
        ("GET", "/federation/credentials", {}, 401),
    ],
)
def test_a_sloppy_client_is_refused(
    identity: FakeIdentity, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    data = b"Action=AssumeRole" if method == "POST" else None
    request = urllib.request.Request(identity.url + path, data, headers, method=method)
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=10)
    assert raised.value.code == status
    assert len(identity.refusals) == 1
