"""Which requests the server answers, and which it takes for another website's."""

from __future__ import annotations

import asyncio
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest
from gradio import processing_utils

from kontext_slider.ui.gate import OriginGate, names_of
from tests.ui.fake_engine import FakeEngine
from tests.ui.page import queue_test, served

HERE = "127.0.0.1:7860"


def status(gate: OriginGate, method: str = "POST", **headers: str) -> int:
    """What the gate answers; 200 where the request goes on."""
    sent = []

    async def send(message):
        sent.append(message)

    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(gate({"type": "http", "method": method, "headers": lines}, None, send))
    return sent[0]["status"]


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


def gate_of(host: str | None = None, share: bool = False) -> OriginGate:
    return OriginGate(answer, names_of(host, share))


@pytest.mark.parametrize(
    "headers",
    [
        {"host": HERE},  # a script
        {"host": HERE, "origin": f"http://{HERE}", "sec_fetch_site": "same-origin"},
        {"host": "LOCALHOST:7860", "origin": "http://localhost:7860"},
        {"host": "[::1]:7860"},
        {"host": HERE, "origin": "https://slider.example", "x_forwarded_host": "slider.example"},  # behind a proxy
    ],
)
def test_its_own_page_and_scripts_may_send(headers):
    """A page that cannot edit, or a script that is shut out."""
    assert status(gate_of(), **headers) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": HERE, "origin": "https://evil.example"},
        {"host": HERE, "origin": "null"},  # a page in a sandbox
        {"host": HERE, "origin": "http://127.0.0.1:8000"},  # another program's page
        {"host": HERE, "sec_fetch_site": "cross-site"},  # a form, in browsers that leave Origin out
        {"host": "evil.example"},
        {"host": "evil.example", "origin": "http://evil.example"},  # a name that leads to this computer
        {"host": "[::1", "origin": "http://[::1"},
        {"host": "127.0.0.1.evil.example"},
        {},
    ],
)
def test_another_website_may_not(headers):
    """Any website that is open in the same browser could fill the disk, or read photographs by another name."""
    assert status(gate_of(), **headers) == 403


def test_links_from_elsewhere_lead_to_the_page():
    """A link in a mail is a request from another site that changes nothing."""
    assert status(gate_of(), "GET", host=HERE, origin="https://mail.example", sec_fetch_site="cross-site") == 200
    assert status(gate_of(), "GET", host="evil.example") == 403


def test_the_names_of_a_server():
    """A server for the network that answers to no name but its number, or a local one that answers to all."""
    assert status(gate_of("0.0.0.0"), host="studio.local:7860") == status(gate_of("::"), host="a") == 200
    assert status(gate_of("192.168.1.7"), host="192.168.1.7:7860") == 200
    assert status(gate_of("192.168.1.7"), host="studio.local:7860") == 403
    assert status(gate_of(share=True), host="abc.gradio.live") == 200
    assert status(gate_of(), host="abc.gradio.live") == 403


@pytest.mark.filterwarnings(*(mark.args[0] for mark in queue_test))
def test_the_app_has_the_gate():
    """A gate that nobody put in the way."""
    with served(FakeEngine()) as address:
        place = urlsplit(address).netloc
        found = []
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": f"http://{place}"}):
            connection = HTTPConnection(place)
            connection.request("POST", "/gradio_api/upload", b"", headers)
            found.append(connection.getresponse().status)
            connection.close()
    assert found[:2] == [403, 403] and found[2] not in (401, 403)


@pytest.mark.filterwarnings(*(mark.args[0] for mark in queue_test))
def test_nobody_makes_the_server_fetch_an_address(monkeypatch):
    """Gradio fetches the address in place of a file, and so reaches what only this computer can reach."""
    fetched = []

    async def fetch(url, **options):
        fetched.append(url)
        raise ValueError

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", fetch)
    url = "http://example.com/photo.jpg"
    with served(FakeEngine()) as address, httpx.Client(base_url=address + "gradio_api", timeout=30) as client:
        calls = httpx.get(address + "config").json()["dependencies"]
        file = {"path": url, "url": url, "meta": {"_type": "gradio.FileData"}}
        calls = [
            call for call in calls if call["backend_fn"] and call["inputs"] and call["api_visibility"] == "private"
        ]
        for call in calls:
            body = {"data": [file] * len(call["inputs"]), "fn_index": call["id"], "session_hash": "a"}
            assert client.post("/queue/join", json=body).status_code == 200
        with client.stream("GET", "/queue/data", params={"session_hash": "a"}) as stream:
            said = "".join(stream.iter_lines())
    assert fetched == [] and said.count("as a file") == len(calls) > 5
