"""One request and its answer, with the fault that hits it."""

from __future__ import annotations

import base64
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

from servers.faulty import rules, signature
from servers.faulty.errors import S3Error, element
from servers.faulty.faults import Action, Fault
from servers.faulty.routing import OPERATIONS, operation_of, place_of
from servers.faulty.wire import Connection, GoneError, Request, Response

if TYPE_CHECKING:
    from servers.faulty.log import Entry
    from servers.faulty.server import FaultyS3


class Exchange:
    """Reads, carries out, answers."""

    def __init__(
        self, server: FaultyS3, connection: Connection, request: Request, connection_number: int, count: int
    ) -> None:
        self._server = server
        self._connection = connection
        self._request = request
        self._bucket, self._key = place_of(request, server.HOSTS)
        self._operation = operation_of(request, self._bucket, self._key)
        self._entry = server.log.begin(
            self._operation, self._bucket, self._key, request.target, request.headers, connection_number
        )
        self._last = bool(server.settings.requests_per_connection) and (
            count >= server.settings.requests_per_connection
        )

    def carry_out(self) -> bool:
        """Whether the connection goes on."""
        fault = self._server.script.take(self._operation, self._key)
        self._entry.fault = fault.action.value if fault else ""
        try:
            return self._with(fault)
        finally:
            self._server.log.end(self._entry)

    # ------------------------------------------------------------------ before

    def _with(self, fault: Fault | None) -> bool:
        action = fault.action if fault else None
        if fault and action is Action.EARLY_STATUS:
            self._send(self._failure(fault, 0), close=True)
            return False
        if fault and action in (Action.RESET_REQUEST, Action.STALL_REQUEST):
            self._read(fault.at)
            if action is Action.STALL_REQUEST:
                self._server.gate.wait()
            self._connection.reset()
            raise GoneError
        self._read()
        if self._server.settings.latency_s:
            time.sleep(self._server.settings.latency_s)
        if fault and action is Action.STATUS:
            return self._send(self._failure(fault, fault.status))
        if fault and action is Action.ERROR_IN_200:
            return self._send(self._failure(fault, 200))
        if fault and action is Action.DELIVER_LATER:
            self._server.keep_for_later(self._late)
            # The client gives up by itself, or `seconds` later the connection breaks.
            self._connection.ended(fault.seconds or 600)
            self._connection.reset()
            raise GoneError
        if fault and action is Action.DELAY:
            time.sleep(fault.seconds)
        if action is Action.HOLD and not self._server.gate.wait():
            raise GoneError
        response = self._answer()
        return self._after(fault, response) if fault else self._send(response)

    def _read(self, limit: int | None = None) -> None:
        self._connection.read_body(self._request, limit)
        self._entry.bytes_in = len(self._request.body)

    def _failure(self, fault: Fault, status: int) -> Response:
        error = S3Error(status or fault.status, fault.code, "by order", headers=fault.headers)
        response = error.response(self._request_id)
        self._entry.code = fault.code
        if not fault.body:
            response.body = b""
            response.headers.pop("Content-Type", None)
        if self._request.method == "HEAD":
            response.body = b""
        return response

    # ------------------------------------------------------------------ carrying out

    def _answer(self) -> Response:
        try:
            response = self._checked()
        except S3Error as error:
            self._entry.code = error.code
            if error.refusal:
                self._entry.refusal = str(error)
            response = error.response(self._request_id)
            if self._request.method == "HEAD":
                response.body = b""
        return response

    def _checked(self) -> Response:
        request, settings, state = self._request, self._server.settings, self._server.state
        rules.check_form(request)
        if self._bucket in settings.elsewhere:
            region = settings.elsewhere[self._bucket]
            raise S3Error(
                301, "PermanentRedirect", "the bucket is in another region", headers={"x-amz-bucket-region": region}
            )  # fmt: skip
        signature.check_head(request, settings)
        signature.check_body(request, settings)
        operation = OPERATIONS.get(self._operation)
        if operation is None:
            raise S3Error(501, "NotImplemented", self._operation, refusal=True)
        rules.check_key(self._key)
        rules.check_required(request, self._operation, settings)
        with state.lock:
            return operation(state, settings, request, self._bucket, self._key)

    def _late(self) -> Entry:
        entry = self._server.log.begin(
            self._operation, self._bucket, self._key, self._request.target, self._request.headers, 0
        )
        # Its signature was checked, so to say, when it was sent: time has passed since.
        self._entry = entry
        entry.fault = "delivered late"
        response = self._answer()
        entry.status = response.status
        self._server.log.end(entry)
        return entry

    # ------------------------------------------------------------------ after

    def _after(self, fault: Fault, response: Response) -> bool:
        action, body = fault.action, response.body
        if action is Action.CORRUPT_STORED and response.status < 300:
            self._corrupt_stored(fault.at)
        elif action is Action.HOLD_REPLY:
            if not self._server.gate.wait():
                raise GoneError
        elif action is Action.LOSE_REPLY:
            self._connection.reset()
            raise GoneError
        elif action is Action.WRONG_ETAG:
            _falsify_etag(response)
        elif action is Action.WRONG_CHECKSUM:
            _falsify_checksum(response)
        elif action is Action.CORRUPT_RESPONSE and len(body):
            changed = bytearray(body)
            changed[fault.at % len(changed)] ^= 1
            response.body = changed
        elif action is Action.DUPLICATE:
            response.body = (bytes(body[: fault.at]) + bytes(body))[: len(body)]
        elif action is Action.EXTEND:
            response.body = bytes(body) + bytes(body[: fault.at])
            response.length = len(response.body)
        elif action is Action.SHORTEN:
            response.body = body[: fault.at]
            response.length = len(response.body)
        elif action is Action.OTHER_RANGE:
            _move_range(response)
            return self._cut(fault, response)
        elif action in (Action.RESET_RESPONSE, Action.STALL_RESPONSE, Action.TRUNCATE):
            return self._cut(fault, response)
        return self._send(response)

    def _cut(self, fault: Fault, response: Response) -> bool:
        self._note(response)
        self._entry.bytes_out = self._connection.send(self._request, self._prepared(response), fault.at)
        if fault.action is Action.STALL_RESPONSE:
            self._server.gate.wait()
        if fault.action is Action.TRUNCATE:
            self._connection.close()
        else:
            # What was sent must have arrived before the reset overtakes it.
            self._connection.ended(0.1)
            self._connection.reset()
        raise GoneError

    def _corrupt_stored(self, at: int) -> None:
        state = self._server.state
        with state.lock:
            place = state.buckets[self._bucket]
            if self._operation == "UploadPart":
                content = place.uploads[self._request.argument("uploadId")].parts[
                    int(self._request.argument("partNumber"))
                ]
                content.content[at % max(1, len(content.content))] ^= 1
            elif self._key in place.objects:
                place.objects[self._key].flip(at)

    @property
    def _request_id(self) -> str:
        return f"FAULTY{self._entry.number:010}"

    def _note(self, response: Response) -> None:
        self._entry.status = response.status

    def _prepared(self, response: Response) -> Response:
        response.headers = {
            "Date": formatdate(signature.now(self._server.settings), usegmt=True),
            "Server": "faulty",
            "x-amz-request-id": self._request_id,
            "x-amz-id-2": base64.b64encode(self._request_id.encode()).decode(),
            **response.headers,
        }
        return response

    def _send(self, response: Response, *, close: bool = False) -> bool:
        self._note(response)
        response.close = response.close or close or self._last
        self._entry.bytes_out = self._connection.send(self._request, self._prepared(response))
        return not response.close


def _falsify_etag(response: Response) -> None:
    if "ETag" in response.headers:
        response.headers["ETag"] = '"00000000000000000000000000000000"'
    body = bytes(response.body)
    start, end = body.find(b"<ETag>"), body.find(b"</ETag>")
    if start >= 0:
        response.body = body[:start] + b"<ETag>&quot;0&quot;" + body[end:]


def _move_range(response: Response) -> None:
    size, said = len(response.body), response.headers["Content-Range"]
    start = 1 if said.startswith("bytes 0-") else 0
    response.headers["Content-Range"] = f"bytes {start}-{start + size - 1}/{said.rpartition('/')[2]}"
    response.body = bytes(size)


def _falsify_checksum(response: Response) -> None:
    if "x-amz-checksum-crc32c" in response.headers:
        response.headers["x-amz-checksum-crc32c"] = "AAAAAQ=="
    body = bytes(response.body)
    start, end = body.find(b"<ChecksumCRC32C>"), body.find(b"</ChecksumCRC32C>")
    if start >= 0:
        response.body = body[:start] + element("ChecksumCRC32C", "AAAAAQ==").encode() + body[end + 17 :]
