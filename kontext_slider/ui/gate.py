"""Which requests the server answers: those to its own name, and changes only from its own page or from no page at all.

A browser lets every website send requests to a program on the same computer. It names the website in the header
"Origin", and the address that it was given in "Host": by these both a form of another site and a foreign name that
leads to this computer (DNS rebinding) are told. Scripts send no Origin, and the right Host.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
SHARED = ".gradio.live"  # names of public links end so
SAFE = ("GET", "HEAD", "OPTIONS")
OTHER_NAME = "This server is not known by the name that was asked for. --host 0.0.0.0 answers to any name.\n"
OTHER_SITE = "This request comes from another website. Only the page of this server may send it.\n"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


def names_of(host: str | None, share: bool) -> frozenset[str] | None:
    """The names of a server that listens at `host` (None: this machine alone). None: any, as it listens everywhere.

    share: it has a public link, too."""
    own = (host or "127.0.0.1").strip("[]").lower()
    try:
        is_everywhere = ipaddress.ip_address(own).is_unspecified
    except ValueError:  # a name
        is_everywhere = False
    return None if is_everywhere else LOCAL | {own} | ({SHARED} if share else set())


class OriginGate:
    """Answers requests to another name, and changes that come from another website, with status 403.

    names: as of `names_of`."""

    def __init__(self, app: Asgi, names: frozenset[str] | None) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = "" if scope["type"] == "lifespan" else self._refusal(scope)
        if not refusal:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": refusal.encode()})

    def _refusal(self, scope: Scope) -> str:
        """Why a request is not answered; "" where it is."""
        headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if not self._is_own(_split(f"//{host}")[1]):
            return OTHER_NAME
        if scope["type"] == "http" and scope["method"] in SAFE:
            return ""
        addressed = {host, headers.get(b"x-forwarded-host", host)}  # which no page of another site can send
        origin = headers.get(b"origin")
        is_foreign = headers.get(b"sec-fetch-site") == "cross-site"
        return OTHER_SITE if is_foreign or (origin and _split(origin)[0] not in addressed) else ""

    def _is_own(self, name: str) -> bool:
        if self._names is None or name in self._names:
            return True
        return SHARED in self._names and name.endswith(SHARED)


def _split(address: str) -> tuple[str, str]:
    """Host and port as they stand, and the host's name, of an address; ("", "") of a malformed one."""
    try:
        parts = urlsplit(address)
        return parts.netloc, parts.hostname or ""
    except ValueError:
        return "", ""
