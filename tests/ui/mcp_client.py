"""A client of the Model Context Protocol, by the protocol's own package: connects, asks, hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult


def ask(address: str, question: Callable[[ClientSession], Awaitable[Any]], auth: tuple[str, str] | None = None) -> Any:
    """What `question(session)` gives, asked of the app at `address`."""

    async def talk() -> Any:
        async with (
            httpx.AsyncClient(auth=auth, timeout=60) as http,
            streamable_http_client(f"{address}gradio_api/mcp/", http_client=http) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await question(session)

    return asyncio.run(talk())


def call(address: str, tool: str, auth: tuple[str, str] | None = None, **arguments: Any) -> CallToolResult:
    """What the tool answers."""
    return ask(address, lambda session: session.call_tool(tool, arguments), auth)
