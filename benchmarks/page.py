"""A page of the app without a browser: what it sends and gets, by gradio's own protocol."""

from __future__ import annotations

import json
import random
import socket
import time
from pathlib import Path
from typing import Any

import httpx
from gradio_client.utils import apply_diff

STEPS = 1  # denoise steps that the page asks of pocket


class Page:
    """A connection to the app, by gradio's own protocol (server-sent events, messages as differences)."""

    def __init__(self, address: str) -> None:
        self.name = f"{random.getrandbits(64):x}"
        self.http = httpx.Client(base_url=address, timeout=120, headers={"Origin": address.rstrip("/")})
        config = self.http.get("/config").json()
        self._heart = self._connect()
        self._calls = {(target[1], call["id"]): call for call in config["dependencies"] for target in call["targets"]}

    def _connect(self) -> socket.socket:
        """The connection by which gradio tells that a page is there, as long as it is open."""
        heart = socket.create_connection((self.http.base_url.host, self.http.base_url.port or 80))
        heart.sendall(f"GET /gradio_api/heartbeat/{self.name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return heart

    def close(self) -> None:
        """As when somebody closes the tab."""
        self._heart.close()
        self.http.close()

    def upload(self, path: Path) -> dict[str, Any]:
        """A photograph as gradio's inputs name it."""
        [place] = self.http.post("/gradio_api/upload", files={"files": (path.name, path.read_bytes())}).json()
        return {"path": place, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def call(self, event: str, data: list[Any], sent: Any = None) -> Any:
        """Send an event with as many inputs; yields the canvas after each message."""
        number = next(
            n for (name, n), call in self._calls.items() if name == event and len(call["inputs"]) == len(data)
        )
        body = {"fn_index": number, "data": data, "event_data": sent, "session_hash": self.name}
        joined = self.http.post("/gradio_api/queue/join", json=body).raise_for_status().json()["event_id"]
        outputs: list[Any] = []
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.name}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("event_id") != joined:
                    continue
                if message["msg"] in ("process_generating", "process_completed"):
                    found = message["output"].get("data") or []
                    outputs = _merged(outputs, found) if message["msg"] == "process_generating" else outputs or found
                    yield outputs
                if message["msg"] == "process_completed":
                    if not message["success"]:
                        raise RuntimeError(f"{event}: {message['output']}")
                    return

    def edit(self, photograph: Path, words: str) -> tuple[dict[str, Any], float | None]:
        """Press Edit; the canvas when the strip is filled, and the seconds to its first frame, None without one."""
        start, canvas = time.monotonic(), dict[str, Any]()
        first: float | None = None
        for outputs in self.call("click", [self.upload(photograph), words, 11, 0, STEPS, 1.0]):
            is_first = not canvas.get("frames")
            canvas = _canvas(outputs, canvas)
            if is_first and canvas.get("frames"):
                first = time.monotonic() - start
        return canvas, first

    def rest(self, canvas: dict[str, Any], strength: float) -> dict[str, Any]:
        """Let go of the slider; the canvas when its frame is there."""
        for outputs in self.call("commit", [], {"edit": canvas["edit"], "strength": strength}):
            canvas = _canvas(outputs, canvas)
        return canvas

    def fetch(self, file: dict[str, Any]) -> bytes:
        return self.http.get(file["url"]).raise_for_status().content


def _merged(outputs: list[Any], found: list[Any]) -> list[Any]:
    return [apply_diff(old, new) for old, new in zip(outputs, found, strict=True)] if outputs else found


def _canvas(outputs: list[Any], before: dict[str, Any]) -> dict[str, Any]:
    return outputs[0] if isinstance(outputs[0], dict) and "frames" in outputs[0] else before
