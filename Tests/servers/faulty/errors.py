"""Errors as S3 answers them."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

from servers.faulty.wire import Response


class S3Error(Exception):
    """An answer with an <Error>. `refusal`: no client that does everything right ever gets it."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        refusal: bool = False,
        elements: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.refusal = refusal
        self.elements = dict(elements or {})
        self.headers = dict(headers or {})

    def response(self, request_id: str) -> Response:
        elements = {"Code": self.code, "Message": self.message, **self.elements, "RequestId": request_id}
        return xml_response(
            "Error", [element(name, value) for name, value in elements.items()], self.status, self.headers
        )


def element(name: str, value: object) -> str:
    """One element of text; characters that XML cannot carry are the caller's business."""
    return f"<{name}>{escape(str(value))}</{name}>"


def xml_response(
    root: str, content: list[str], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A document of S3's; errors carry no namespace."""
    namespace = "" if root == "Error" else ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    document = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}{namespace}>{"".join(content)}</{root}>'
    return Response(status, {"Content-Type": "application/xml", **(headers or {})}, document.encode())
