"""P7 on endpoints that do not answer: what is wrong is said, soon, and a store that comes back is waited for."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from processes import ROOT
from servers.faulty import FaultyS3
from stores import open_run, report, signed_for, write

from raystorage import Checkpoint, NetworkError, Run, RunConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parent.parent
KEYS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "a-secret-that-nobody-may-see"}


# Of this file alone: at a port of another address a server of an earlier test may have answered, in this process.
HOST = "127.0.53.1"


def free_port() -> int:
    """Where nobody listens."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class Listener:
    """Listens at a port and hands each connection to `serve`."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server((HOST, port), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        """A server of plain HTTP that was asked for TLS."""
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._listener.close()


class Relay(Listener):
    """A port behind which a server is."""

    def __init__(self, port: int, target: int) -> None:
        self._target = target
        super().__init__(port)

    def serve(self, connection: socket.socket) -> None:
        with connection, socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=self._pump, args=(server, connection), daemon=True)
            back.start()
            self._pump(connection, server)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def plain() -> Iterator[int]:
    """The port of a server without TLS."""
    listener = Listener()
    yield listener.port
    listener.close()


def open_at(endpoint: str) -> Run:
    """A run at an endpoint, with the times that a run has by itself."""
    return Run(RunConfig("run", f"s3://bucket/runs?endpoint_override={endpoint}", storage_options=KEYS))


def command(*arguments: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """The command line with a process of its own, in which nothing has answered yet; and its seconds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "raystorage", *arguments, "--storage-options", json.dumps(KEYS)],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(PACKAGE)},
        timeout=120,
    )
    assert KEYS["secret_access_key"] not in done.stdout + done.stderr
    return done, time.monotonic() - start


def test_p7_a_run_on_a_closed_port_ends_after_half_a_minute_and_says_so_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    start = time.monotonic()
    with caplog.at_level(logging.WARNING, "raystorage"), pytest.raises(NetworkError) as raised:
        open_at(f"http://{HOST}:{port}")
    took = time.monotonic() - start
    assert 25 < took < 60, took
    assert f"{HOST}:{port} has never answered, in " in str(raised.value)
    assert "Nothing listens there" in str(raised.value)
    assert raised.value.details["connect_failure"] == "refused"
    assert raised.value.details["attempts"] > 2
    # After 5 s and, at the earliest, 10 s later.
    assert 1 <= len(caplog.records) <= 2
    warning = caplog.records[0].getMessage()
    assert f"at {HOST}:{port} has got no further for" in warning
    assert "nothing there has ever answered; trying until 20" in warning
    assert KEYS["secret_access_key"] not in caplog.text


def test_p7_a_port_without_tls_is_told_at_once(plain: int, caplog: pytest.LogCaptureFixture) -> None:
    start = time.monotonic()
    with pytest.raises(NetworkError) as raised:
        open_at(f"https://{HOST}:{plain}")
    assert time.monotonic() - start < 20
    assert "does not speak TLS" in str(raised.value)
    assert raised.value.details["attempts"] == 1
    assert caplog.records == []


def test_p7_a_certificate_that_is_not_trusted_is_told_at_once() -> None:
    with FaultyS3(tls=True) as server:
        start = time.monotonic()
        with pytest.raises(NetworkError, match="tls_ca_file_path"):
            open_at(server.endpoint.endpoint)
        assert time.monotonic() - start < 20


def test_p7_listings_and_doctor_do_not_wait_long_for_a_name_that_is_none() -> None:
    address = "s3://bucket/runs?endpoint_override=https://no-such-host.invalid"
    listing, took = command("ls", address)
    assert listing.returncode == 3
    assert "not known to DNS" in listing.stderr
    assert "no-such-host.invalid:443" in listing.stderr
    assert took < 25, took
    examined, took = command("doctor", address)
    assert examined.returncode != 0
    assert "not known to DNS" in examined.stdout
    assert "s3:PutObject" not in examined.stdout
    assert took < 15, took


def test_p7_a_store_that_comes_after_some_seconds_is_waited_for(
    faulty: FaultyS3, tmp_path: Path, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    port = free_port()
    relays: list[Relay] = []

    class Comes(logging.Handler):
        """The store comes when people have been told that it is not there."""

        def emit(self, record: logging.LogRecord) -> None:
            if not relays:
                relays.append(Relay(port, faulty.port))

    handler = Comes()
    request.addfinalizer(lambda: logging.getLogger("raystorage").removeHandler(handler))
    logging.getLogger("raystorage").addHandler(handler)
    with signed_for(faulty.endpoint), caplog.at_level(logging.WARNING, "raystorage"):
        address = f"s3://{faulty.bucket}/runs?endpoint_override=http://{HOST}:{port}&region=us-east-1"
        with Run(RunConfig("run", address)) as run:
            report(run, write(tmp_path / "source", {"shard": b"content"}), {"loss": 1.0})
            stats = run.stats
    relays[0].close()
    messages = [record.getMessage() for record in caplog.records]
    assert ["has got no further for" in message for message in messages] == [True, False], messages
    assert f"{HOST}:{port} answers again after" in messages[1]
    assert stats["retries"] >= 2
    assert stats["requests"] > stats["retries"]
    assert faulty.refusals == []


def test_p7_addresses_that_refuse_are_passed_over(faulty: FaultyS3, tmp_path: Path) -> None:
    """Each of them must cost no time: one request has 10 s for all forty."""
    with signed_for(faulty.endpoint), open_run(faulty.endpoint) as run:
        report(run, write(tmp_path / "source", {"shard": b"content"}), {"loss": 1.0})
        address = f"s3://{faulty.bucket}/runs/run?endpoint_override=http://many.raystorage.test:{faulty.port}"
        # In which order they are tried is chance: that the good one is among the first for all four is not.
        listings = [
            subprocess.Popen(
                [sys.executable, "-m", "raystorage", "ls", f"{address}&region=us-east-1"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={
                    **os.environ,
                    "PYTHONPATH": str(PACKAGE),
                    "LD_PRELOAD": str(ROOT / "build" / "faults" / "manyaddresses.so"),
                },
            )
            for _ in range(4)
        ]
        for listing in listings:
            output, _ = listing.communicate(timeout=120)
            assert listing.returncode == 0, output
            assert "checkpoint_" in output


def test_a_store_that_keeps_failing_is_told_of_once_and_counted(
    faulty: FaultyS3, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with signed_for(faulty.endpoint), caplog.at_level(logging.WARNING, "raystorage"), open_run(faulty.endpoint) as run:
        before = run.stats
        fault = faulty.fail("PutObject", status=503, code="SlowDown", key="*/shard*", times=1000)
        content = {f"shard-{number}": bytes(1000) for number in range(64)}
        done = run.report({}, Checkpoint(write(tmp_path / "source", content)))
        # Until it was told of: tries go on meanwhile.
        deadline = time.monotonic() + 60
        while not caplog.records and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                done.wait(0.1)
        faulty.heal()
        done.wait(120)
        stats = run.stats
        assert fault.hits >= 8
        assert stats["throttled"] - before["throttled"] >= 8
        assert stats["retries"] - before["retries"] >= 8
        assert stats["bytes_sent"] - before["bytes_sent"] >= 64 * 1000
        assert stats["bytes_received"] >= before["bytes_received"]
    failing = [record.getMessage() for record in caplog.records if "has got no further" in record.getMessage()]
    assert len(failing) == 1, failing
    assert "PutObject" in failing[0]
    assert "SlowDown 503" in failing[0]
    assert "(retry_timeout_s=30)" in failing[0]
    assert caplog.records[0].raystorage["operation"] == "PutObject"  # type: ignore[attr-defined]
