"""A password before everything that the app serves: page, files, uploads, endpoints and MCP tools.

HTTP's own, "Basic" (RFC 7617): browsers ask for it, and every client can send it. A page goes on after a restart of the
server, as nothing is kept here. It is as safe as the connection: over plain HTTP others in the network can read it.
"""

from __future__ import annotations

import base64
import os
import secrets
from typing import Any

from ..errors import InvalidInput
from .gate import Asgi, Receive, Scope, Send

VARIABLE = "KONTEXT_SLIDER_AUTH"
STARTED = "/gradio_api/startup-events"  # gradio asks itself for this to see whether it runs; it tells nothing
CHALLENGE = 'Basic realm="Kontext Slider", charset="UTF-8"'
NEEDED = "This server needs a user and a password.\n"


def check_auth(text: Any) -> tuple[str, str]:
    """User and password of USER:PASSWORD. Raises InvalidInput, which does not quote it."""
    user, _, password = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not user or not password or not text.isprintable():
        raise InvalidInput("User and password are written USER:PASSWORD, neither of them empty, on one line.")
    return user, password


def auth_of_environment() -> tuple[str, str] | None:
    """User and password of the variable, None where it is not set. Raises InvalidInput for a malformed one."""
    text = os.environ.get(VARIABLE)
    try:
        return None if text is None else check_auth(text)
    except InvalidInput as error:
        raise InvalidInput(f"{VARIABLE} cannot be used. {error}") from error


class PasswordGate:
    """Passes requests with the user and the password on to `app` and answers all others with status 401."""

    def __init__(self, app: Asgi, user: str, password: str) -> None:
        self._app = app
        self._expected = base64.b64encode(f"{user}:{password}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._may_pass(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"www-authenticate", CHALLENGE.encode()), (b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": NEEDED.encode()})

    def _may_pass(self, scope: Scope) -> bool:
        if scope["path"] == STARTED:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"basic" and secrets.compare_digest(token.strip(), self._expected)
