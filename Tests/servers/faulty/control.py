"""The calls of `FaultyS3` over HTTP, for tests in other languages: JSON in, JSON out.

POST /fail      {"operation": "UploadPart", "action": "status", "status": 503, "code": "SlowDown", "times": 2}
POST /settings  {"clock_offset_s": 7200, "page_size": 2}        any fields of Settings, `credentials` as objects
POST /heal      POST /reset (log, script and settings; objects stay)      POST /deliver      POST /drop_connections
POST /corrupt   {"key": "a/b", "at": 0}          POST /expire {"access_key": ..., "secret_key": ..., "token": ...}
POST /wait      {"held": 1} or {"operation": "PutObject", "count": 2}, with "timeout_s"
GET  /log       GET /counts      GET /refusals      GET /multiparts      GET /objects (key: size)
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from servers.faulty.server import FaultyS3
from servers.faulty.settings import Credentials, Settings


def _fail(server: FaultyS3, order: dict[str, Any]) -> object:
    server.fail(**order)
    return True


def _settings(server: FaultyS3, order: dict[str, Any]) -> object:
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := set(order) - known:
        raise ValueError(f"no such settings: {sorted(unknown)}")
    for name, value in order.items():
        setattr(server.settings, name, [Credentials(**one) for one in value] if name == "credentials" else value)
    return dataclasses.asdict(server.settings)


def _reset(server: FaultyS3, order: dict[str, Any]) -> object:
    server.heal()
    server.log.clear()
    for field in dataclasses.fields(Settings):
        setattr(server.settings, field.name, getattr(Settings(), field.name))
    return True


def _wait(server: FaultyS3, order: dict[str, Any]) -> object:
    timeout_s = float(order.get("timeout_s", 60))
    if "held" in order:
        return server.gate.wait_until_held(int(order["held"]), timeout_s)
    return server.log.wait_for(str(order["operation"]), int(order.get("count", 1)), timeout_s)


def _expire(server: FaultyS3, order: dict[str, Any]) -> object:
    server.expire_credentials(*([Credentials(**order)] if order else []))
    return True


def _corrupt(server: FaultyS3, order: dict[str, Any]) -> object:
    server.corrupt(str(order["key"]), int(order.get("at", 0)))
    return True


def _heal(server: FaultyS3, order: dict[str, Any]) -> object:
    server.heal()
    return True


_ORDERS: dict[str, Callable[[FaultyS3, dict[str, Any]], object]] = {
    "POST /fail": _fail,
    "POST /settings": _settings,
    "POST /heal": _heal,
    "POST /reset": _reset,
    "POST /deliver": lambda server, _: [dataclasses.asdict(entry) for entry in server.deliver()],
    "POST /drop_connections": lambda server, _: server.drop_connections(),
    "POST /corrupt": _corrupt,
    "POST /expire": _expire,
    "POST /wait": _wait,
    "GET /log": lambda server, _: [dataclasses.asdict(entry) for entry in server.entries()],
    "GET /counts": lambda server, _: server.counts(),
    "GET /refusals": lambda server, _: server.refusals,
    "GET /multiparts": lambda server, _: server.open_multiparts(),
    "GET /objects": lambda server, _: {key: len(content) for key, content in server.objects().items()},
}


class Control:
    """Listens on a port of its own until closed."""

    def __init__(self, server: FaultyS3) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                order = _ORDERS.get(f"{self.command} {self.path}")
                status, answer = 200, cast("object", None)
                try:
                    if order is None:
                        status, answer = 404, f"no such order: {self.command} {self.path}"
                    else:
                        status, answer = 200, order(server, json.loads(body or b"{}"))
                except (ValueError, TypeError, KeyError) as error:
                    status, answer = 400, repr(error)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self._do()

            def do_POST(self) -> None:
                self._do()

            def log_message(self, format: str, *args: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, name="faulty-control", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
