"""The password: what a client gets without it, with a wrong one and with the right one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file

import app
from kontext_slider.errors import InvalidInput
from kontext_slider.metadata import read_metadata
from kontext_slider.ui.password import CHALLENGE, VARIABLE, auth_of_environment, check_auth
from tests.ui.fake_engine import FakeEngine
from tests.ui.mcp_client import call
from tests.ui.page import STAGE, open_edit, queue_test, served
from tests.ui.serve import Server, free_port

AUTH = ("anna", "pass:wörd")  # a colon and a letter that is not ASCII
WRITTEN = ":".join(AUTH)

pytestmark = queue_test


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    with served(FakeEngine(), auth=AUTH, mcp=True) as address:
        yield address


@pytest.mark.parametrize("text", ["", "anna", ":secret", "anna:", "anna:sec\nret", None])
def test_a_malformed_password_is_refused_and_not_quoted(text, monkeypatch):
    """An empty variable is what a forgotten secret of a container looks like: no password must come of it."""
    with pytest.raises(InvalidInput, match="USER:PASSWORD"):
        check_auth(text)
    if text is not None:
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(InvalidInput, match=VARIABLE) as caught:
            auth_of_environment()
        assert "sec" not in str(caught.value)


def test_a_malformed_flag_is_not_printed(capsys):
    """The password stands in the terminal's history already; logs need not have it."""
    with pytest.raises(SystemExit):
        app.main(["--auth", "topsecret"])
    printed = "".join(capsys.readouterr())
    assert "USER:PASSWORD" in printed and "topsecret" not in printed


def everything(address: str, auth: tuple[str, str] | None, photograph: Path) -> dict[str, httpx.Response]:
    """What the server answers, by the path of the question."""
    values = {"image": {"path": str(photograph)}, "instruction": "make it night"}
    with httpx.Client(base_url=address, auth=auth, headers={"accept": "*/*"}) as http:
        paths = ["/", "/config", "/theme.css", "/gradio_api/info", "/gradio_api/mcp/", "/gradio_api/mcp/schema"]
        paths += [f"/gradio_api/file={photograph}", "/gradio_api/queue/data?session_hash=x", "/gradio_api/call/edit/x"]
        answers = {path: http.get(path) for path in paths}
        answers["/gradio_api/upload"] = http.post("/gradio_api/upload", files={"files": photograph.read_bytes()})
        for path in ("call/v2/edit", "call/suggest", "queue/join", "run/suggest", "mcp/", "cancel", "reset"):
            answers[f"/gradio_api/{path}"] = http.post(f"/gradio_api/{path}", json=values)
        return answers


@pytest.mark.parametrize("auth", [None, ("anna", "wrong"), ("", ""), (AUTH[1], AUTH[0])])
def test_a_client_without_the_password_gets_nothing(locked, photograph, auth):
    """Gradio's own login leaves the tools for MCP clients open."""
    for path, answer in everything(locked, auth, photograph).items():
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == CHALLENGE, path
        assert answer.text == "This server needs a user and a password.\n", path
    with pytest.raises(ValueError, match="credentials were not provided"):
        Client(locked, verbose=False, httpx_kwargs={"auth": auth} if auth else None)
    bearer = {"authorization": "Bearer " + httpx.BasicAuth(*AUTH)._auth_header.removeprefix("Basic ")}
    assert httpx.get(locked, headers=bearer).status_code == 401


def test_a_client_with_the_password_works(locked, photograph, tmp_path):
    """Page, upload, endpoints, files."""
    assert "Kontext Slider" in httpx.get(locked, auth=AUTH).text
    client = Client(locked, verbose=False, httpx_kwargs={"auth": AUTH}, download_files=tmp_path)
    path = client.predict(handle_file(photograph), "make it night", 0.4, api_name="/edit")
    assert read_metadata(path)["strengths"] == [0.4]
    assert call(locked, "suggest", AUTH).content[0].text.startswith("['make it night'")


@pytest.mark.browser
def test_a_visitor_with_the_password_edits(locked, browser, photograph):
    """Uploads, frames and events that a browser asks for by itself."""
    typed = locked.replace("//", "//anna:pass%3Aw%C3%B6rd@")  # into the browser's question, which it asks once
    browser.open(f"{typed}theme.css", "document.body.textContent.length > 100")
    open_edit(browser, locked, photograph)
    assert float(browser.run(f"{STAGE}.edit")) > 1


@pytest.mark.slow
def test_an_app_with_a_password(tmp_path):
    """It must not be printed, and gradio's own client for MCP calls has to have it."""
    server = Server(tmp_path, free_port(), "--mcp", **{VARIABLE: WRITTEN})
    try:
        assert httpx.get(server.address).status_code == 401
        assert not call(f"{server.address}/", "suggest", AUTH).isError
    finally:
        status, printed = server.stop()
    assert status == 128 + signal.SIGTERM
    assert printed.splitlines() == [
        f"Kontext Slider is at {server.address}/",
        f"MCP clients find its tools at {server.address}/gradio_api/mcp/",
    ]
