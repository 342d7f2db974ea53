"""The server: connections, one thread each, and the calls that a test makes."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from servers.endpoint import Endpoint, certificate
from servers.faulty.exchange import Exchange
from servers.faulty.faults import Action, Fault, Gate, Script
from servers.faulty.log import Entry, Log
from servers.faulty.settings import Credentials, Settings
from servers.faulty.state import Bucket, State, StoredObject, crc32c, new_etag
from servers.faulty.wire import Connection, GoneError, MalformedError, Throttle


class FaultyS3:
    """One server on a port of the kernel's choice, from `with` to the end of it."""

    HOSTS = ("localhost",)

    def __init__(self, *, tls: bool = False, bucket: str = "bucket", settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.state = State()
        self.state.buckets[bucket] = Bucket()
        self.bucket = bucket
        self.log = Log()
        self.script = Script()
        self.gate = Gate()
        self.connections = 0
        # What DELIVER_LATER kept: each is carried out when delivered.
        self._undelivered: list[Callable[[], Entry]] = []
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._open: set[Connection] = set()
        self._throttles = [Throttle(lambda: self.settings.bandwidth_bytes_s)]
        self._directory = Path(tempfile.mkdtemp(prefix="faulty-"))
        self._context: ssl.SSLContext | None = None
        self.ca_file = ""
        if tls:
            authority, chain, key = certificate(self._directory)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(chain, key)
            self.ca_file = str(authority)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="faulty-accept", daemon=True).start()

    # ------------------------------------------------------------------------- for tests

    @property
    def endpoint(self) -> Endpoint:
        """Where it is, with the first key."""
        key = self.settings.credentials[0] if self.settings.credentials else Credentials("none", "none")
        scheme = "https" if self._context else "http"
        return Endpoint(
            "faulty", f"{scheme}://127.0.0.1:{self.port}", key.access_key, key.secret_key, self.bucket,
            region=self.settings.region, ca_file=self.ca_file,
        )  # fmt: skip

    def fail(self, operation: str = "*", action: Action | str = Action.STATUS, **options: Any) -> Fault:
        """Adds a line to the script: see `servers.faulty.faults.Fault`."""
        return self.script.add(Fault(operation, Action(action), **options))

    def heal(self) -> None:
        """No faults from now on; whatever waits goes on."""
        self.script.clear()
        self.gate.release()

    def entries(self, operation: str = "") -> list[Entry]:
        """Requests so far, of one operation or all."""
        return [entry for entry in self.log.entries() if operation in ("", entry.operation)]

    def count(self, operation: str = "") -> int:
        """How many there were."""
        return len(self.entries(operation))

    def counts(self) -> dict[str, int]:
        """How many of each operation."""
        return dict(Counter(entry.operation for entry in self.log.entries()))

    @property
    def refusals(self) -> list[str]:
        """What clients did wrong."""
        return [f"{entry.operation} {entry.key}: {entry.refusal}" for entry in self.log.entries() if entry.refusal]

    def objects(self, prefix: str = "", bucket: str = "") -> dict[str, bytes]:
        """What is stored."""
        with self.state.lock:
            found = self.state.buckets[bucket or self.bucket].objects
            return {key: bytes(one.read(0, one.size)) for key, one in found.items() if key.startswith(prefix)}

    def open_multiparts(self, bucket: str = "") -> list[tuple[str, str]]:
        """Key and id of uploads that were neither completed nor aborted."""
        with self.state.lock:
            return [(one.key, one.id) for one in self.state.buckets[bucket or self.bucket].uploads.values()]

    def corrupt(self, key: str, at: int = 0) -> None:
        """Flips one bit of an object at rest."""
        with self.state.lock:
            self.state.buckets[self.bucket].objects[key].flip(at)

    def place(self, key: str, content: bytes) -> None:
        """Puts an object there behind everybody's back."""
        crc = crc32c(content)
        with self.state.lock:
            self.state.buckets[self.bucket].objects[key] = StoredObject([bytearray(content)], crc, new_etag(crc))

    def undelivered(self) -> int:
        """How many requests are under way that nobody waits for any more."""
        with self._lock:
            return len(self._undelivered)

    def deliver(self) -> list[Entry]:
        """Carries out what DELIVER_LATER kept, in order; how each ended."""
        with self._lock:
            late, self._undelivered = self._undelivered, []
        return [one() for one in late]

    def expire_credentials(self, *new: Credentials) -> None:
        """Every key that is known has expired; the new ones are good."""
        for one in self.settings.credentials:
            one.expires_after = -1
        self.settings.credentials += new

    def drop_connections(self) -> int:
        """Resets all; how many there were."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.abort()
        return len(connections)

    def settle(self, timeout_s: float = 30) -> bool:
        """Returns when no connection is open any more: whatever a client that is gone had sent is carried out."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._open, timeout_s)

    # ------------------------------------------------------------------------- within

    def keep_for_later(self, late: Callable[[], Entry]) -> None:
        """For `Exchange`."""
        with self._lock:
            self._undelivered.append(late)

    def _accept(self) -> None:
        numbers = itertools.count(1)
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number = next(numbers)
            self.connections = number
            threading.Thread(target=self._serve, args=(sock, number), name=f"faulty-{number}", daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        if self._context:
            try:
                sock = self._context.wrap_socket(sock, server_side=True)
            except OSError:
                sock.close()
                return
        connection = Connection(sock, self._throttles[0], secure=self._context is not None)
        with self._lock:
            self._open.add(connection)
        try:
            for count in itertools.count(1):
                request = connection.head()
                if request is None or not Exchange(self, connection, request, number, count).carry_out():
                    break
        except (GoneError, MalformedError):
            pass
        finally:
            connection.close()
            with self._idle:
                self._open.discard(connection)
                self._idle.notify_all()

    def close(self) -> None:
        """Nothing answers from now on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.gate.close()
        self.drop_connections()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> FaultyS3:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
