"""A headless Chromium driven over its DevTools pipe: two file descriptors and JSON, no driver and no package needed.

Protocol: https://chromedevtools.github.io/devtools-protocol/ . Every wait here ends: `TIMEOUT` seconds, or less.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TIMEOUT = 120.0
NAVIGATED = "Inspected target navigated or closed"  # a page that is being loaded again
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL2 on the processor
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome on this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page at a time. `requests` lists the address of every request that the page has made."""

    def __init__(self, chromium: str, profile: Path, width: int = 1280, height: int = 900) -> None:
        self.requests: list[str] = []
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._sent = 0
        self._page: str | None = None
        self._start([chromium, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"])
        threading.Thread(target=self._read, daemon=True).start()
        self._visitor: str | None = None
        self._size = width, height
        self.new_visitor()

    def new_visitor(self) -> None:
        """Close the page and open an empty one that has nothing stored: no session, cookies, cache or emulation."""
        self._page = None
        before = self._visitor
        self._visitor = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=self._visitor)["targetId"]
        if before is not None:
            self.send("Target.disposeBrowserContext", browserContextId=before)  # a page that hangs never answers
        self._page = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM"):
            self.call(f"{domain}.enable")
        self.requests.clear()
        self.resize(*self._size)

    def before_pages(self, script: str) -> None:
        """Run a script in every page that is opened from now on, before its own."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def speed_up(self, times: float) -> None:
        """Let the timers of the pages that are opened from now on run so many times as fast."""
        self.before_pages(f"const real = setTimeout; setTimeout = (call, ms, ...r) => real(call, ms / {times}, ...r);")

    def downloads_to(self, folder: Path) -> None:
        """Let downloads go to a new folder."""
        folder.mkdir()
        self.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def close(self) -> None:
        """End the browser and wait until it is gone."""
        self._page = None
        self.call("Browser.close")
        self._reader.join(TIMEOUT)
        os.close(self._to_browser)
        deadline = time.monotonic() + TIMEOUT
        while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.05)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        reply = self.send(method, **params).get(timeout=TIMEOUT)
        assert "error" not in reply, f"{method}: {reply['error']['message']}"
        return reply["result"]

    def send(self, method: str, **params: Any) -> queue.SimpleQueue[dict[str, Any]]:
        """Send one command. Returns where its answer will be."""
        self._sent += 1
        answer = self._answers[self._sent] = queue.SimpleQueue()
        message = {"id": self._sent, "method": method, "params": params}
        if self._page is not None:
            message["sessionId"] = self._page
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        return answer

    def open(self, address: str, ready: str) -> None:
        """Go to a page and wait until the expression `ready` holds there."""
        self.call("Page.navigate", url=address)
        self.wait(ready)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression (a promise is awaited)."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = TIMEOUT) -> None:
        """Wait until `expression` is truthy; until then it may throw, and the page may be loaded again."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.run(f"(() => {{ try {{ return Boolean({expression}) }} catch (e) {{ return false }} }})()"):
                    return
            except AssertionError as error:
                if NAVIGATED not in str(error):
                    raise
            time.sleep(0.05)
        raise AssertionError(
            f"In {seconds:.0f} s this never came true: {expression}\n{self.run('document.body.innerText')}"
        )

    def wait_for_file(self, path: Path, seconds: float = TIMEOUT) -> None:
        """Wait until a download is there; Chromium renames it when it is whole."""
        deadline = time.monotonic() + seconds
        while not path.exists():
            if time.monotonic() > deadline:
                there, text = list(path.parent.iterdir()), self.run("document.body.innerText")
                raise AssertionError(f"{path.name} was not downloaded, but {there}\n{text}")
            time.sleep(0.05)

    def upload(self, selector: str, path: Path) -> None:
        """Choose a file in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def type(self, selector: str, text: str) -> None:
        """Put the caret into a field, select what is there, and type over it."""
        self.run(f"(() => {{ const field = document.querySelector({selector!r}); field.focus(); field.select(); }})()")
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """A real press and release in the middle of an element, once it does not move any more."""
        place, before = self.middle(selector), None
        deadline = time.monotonic() + TIMEOUT
        while place != before:
            assert time.monotonic() < deadline, f"{selector} moves on and on"
            time.sleep(0.05)
            place, before = self.middle(selector), place
        x, y = place
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def middle(self, selector: str) -> tuple[float, float]:
        box = self.box(selector)
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def box(self, selector: str) -> dict[str, float]:
        """The element's rectangle on the screen, scrolled into view."""
        return self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect(); return {x: b.x, y: b.y, width: b.width, height: b.height}; })()"
        )

    def mouse(self, kind: str, x: float, y: float) -> None:
        """kind: mousePressed, mouseMoved (button held) or mouseReleased."""
        held = 0 if kind == "mouseReleased" else 1
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=held, clickCount=1)

    def key(self, name: str, shift: bool = False) -> None:
        """Press and release a named key, such as ArrowRight."""
        typed = {"text": "\r", "windowsVirtualKeyCode": 13} if name == "Enter" else {}
        for kind, more in (("keyDown", typed), ("keyUp", {})):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, modifiers=8 if shift else 0, **more)

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        """Set the page's size, and whether the person prefers dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """Write what is on the screen as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _start(self, command: list[str]) -> None:
        """Chromium reads commands from descriptor 3 and writes answers to descriptor 4."""
        read_commands, self._to_browser = os.pipe()
        self._from_browser, write_answers = os.pipe()
        ends = [os.dup(end) for end in (read_commands, write_answers) for _ in range(4)]  # clear of 3 and 4
        actions = [
            (os.POSIX_SPAWN_DUP2, ends[3], 3),
            (os.POSIX_SPAWN_DUP2, ends[7], 4),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        self._pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        for end in (*ends, read_commands, write_answers):
            os.close(end)

    def _read(self) -> None:
        self._reader = threading.current_thread()
        with os.fdopen(self._from_browser, "rb") as stream:
            rest = b""
            while data := stream.read1(65536):
                *messages, rest = (rest + data).split(b"\0")
                for message in messages:
                    self._hear(json.loads(message))

    def _hear(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers.pop(message["id"]).put(message)
        elif message["method"] == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
