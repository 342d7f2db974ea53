"""Credentials that expire during a run, and secrets that must not show (P11)."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers.faulty import Credentials, FaultyS3
from servers.identity import FakeIdentity
from stores import open_run, report, restored, signed_for, write
from test_fake_identity import WAYS

from raystorage import AuthenticationError, PermissionDeniedError, Run, RunConfig, StorageError

ROOT = Path(__file__).resolve().parent.parent.parent

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def identity(faulty: FaultyS3) -> Iterator[FakeIdentity]:
    with signed_for(faulty.endpoint), FakeIdentity(faulty.settings, lifetime_s=4) as one:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del os.environ[name]
        yield one


@pytest.mark.parametrize("way", WAYS)
def test_a_run_outlives_its_credentials(
    way: str, identity: FakeIdentity, faulty: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, service = WAYS[way]
    for name, value in find(identity, tmp_path).items():
        monkeypatch.setenv(name, value)
    with open_run(faulty.endpoint) as run:
        end = time.monotonic() + 9
        step = 0
        while time.monotonic() < end:
            done = report(run, write(tmp_path / f"step-{step}", {"step": str(step).encode()}), {"step": step})
            step += 1
            time.sleep(0.3)
        assert restored(done.checkpoint, tmp_path / "restored") == {"step": str(step - 1).encode()}
    used = [one for one in faulty.settings.credentials if one.used and one.token]
    assert len(used) >= 2, "they were not refreshed"
    assert identity.counts[service] <= 20, "they are fetched for each request"
    assert identity.refusals == faulty.refusals == []


@pytest.fixture
def _container(identity: FakeIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials come from a container's endpoint."""
    for name, value in identity.container().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_container")
def test_a_token_that_expires_early_is_refreshed_once(faulty: FaultyS3, identity: FakeIdentity, tmp_path: Path) -> None:
    """It says that it is good for an hour; the store says otherwise midway."""
    identity.lifetime_s = 3600
    with open_run(faulty.endpoint) as run:
        report(run, write(tmp_path / "a", {"step": b"1"}))
        faulty.expire_credentials()
        report(run, write(tmp_path / "b", {"step": b"2"}))
        assert identity.counts["container"] == 2
    assert faulty.refusals == []


@pytest.mark.usefixtures("_container")
def test_all_that_is_open_asks_once(faulty: FaultyS3, identity: FakeIdentity, tmp_path: Path) -> None:
    identity.lifetime_s = 3600
    with open_run(faulty.endpoint) as run:
        done = report(run, write(tmp_path / "a", {"step": b"1"}))
        for number in range(3):
            assert restored(done.checkpoint, tmp_path / f"restored-{number}") == {"step": b"1"}
        with open_run(faulty.endpoint, "other") as other:
            report(other, write(tmp_path / "b", {"step": b"2"}))
        # The end of one is not the end of the other's.
        report(run, write(tmp_path / "c", {"step": b"3"}))
        assert identity.counts["container"] == 1
    assert faulty.refusals == []


@pytest.mark.usefixtures("_container")
def test_credentials_that_expire_and_do_not_come_back(faulty: FaultyS3, identity: FakeIdentity, tmp_path: Path) -> None:
    with open_run(faulty.endpoint, retry_timeout_s=3) as run:
        faulty.expire_credentials()
        identity.failures = [500] * 1000
        with pytest.raises((AuthenticationError, PermissionDeniedError)):
            report(run, write(tmp_path / "a", {"step": b"1"}))
        identity.failures = []
        # Its source was asked ever more rarely; until it is asked again each report says what was wrong.
        for number in range(1000):
            try:
                report(run, write(tmp_path / f"b{number}", {"step": b"2"}))
            except AuthenticationError:
                continue
            break
        else:
            pytest.fail("credentials that came back were not taken")


def test_wrong_keys_say_so(faulty: FaultyS3, tmp_path: Path) -> None:
    with signed_for(faulty.endpoint, AWS_SECRET_ACCESS_KEY="wrong/Secret+0123456789"):
        with pytest.raises((AuthenticationError, PermissionDeniedError)) as raised:
            open_run(faulty.endpoint)
        assert "SignatureDoesNotMatch" in str(raised.value) + str(raised.value.details)


SECRET = "Sup3r/Secret+Value0123456789abcdefghijkl"
TOKEN = "T0ken/Value+9876543210zyxwvutsrqponmlkj"


def test_secrets_show_nowhere(faulty: FaultyS3, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """P11: not in a log, an error, a repr, or a file; a sample of everything that can go wrong."""
    faulty.settings.credentials = [Credentials("AKIAVISIBLE", SECRET, TOKEN)]
    endpoint = faulty.endpoint
    shown: list[str] = []
    with caplog.at_level(logging.DEBUG), signed_for(endpoint, AWS_SESSION_TOKEN=TOKEN, RAYSTORAGE_LOG="debug"):
        options = {"access_key_id": "AKIAVISIBLE", "secret_access_key": SECRET, "session_token": TOKEN}
        config = RunConfig("run", endpoint.url("runs"), retry_timeout_s=2, storage_options=None)
        shown += [repr(config), repr(RunConfig("run", endpoint.url("runs"), storage_options=options))]
        with Run(config) as run:
            shown.append(repr(run))
            report(run, write(tmp_path / "a", {"step": b"1"}))
            for status, code in ((403, "AccessDenied"), (500, "InternalError"), (400, "ExpiredToken")):
                faulty.fail("PutObject", status=status, code=code, key="*/step", times=0)
                with pytest.raises(StorageError) as raised:
                    report(run, write(tmp_path / f"{code}", {"step": b"2"}))
                shown += [str(raised.value), repr(raised.value), str(raised.value.details)]
                faulty.heal()
        doctor = subprocess.run(
            [sys.executable, "-m", "raystorage", "doctor", endpoint.url("runs")],
            capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        )  # fmt: skip
        shown += [doctor.stdout, doctor.stderr]
    shown += [record.getMessage() for record in caplog.records]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            shown.append(path.read_bytes().decode("latin-1"))
    shown += [content.decode("latin-1") for content in faulty.objects().values()]
    found = [text[:300] for text in shown if SECRET in text or TOKEN in text or "Sup3r%2FSecret" in text]
    assert found == []
