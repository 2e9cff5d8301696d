"""The endpoints, by the clients that people use: gradio_client, plain HTTP as curl speaks it, and MCP."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from kontext_slider import SliderEngine, load_pipeline
from kontext_slider.edit import MAX_SEED
from kontext_slider.errors import SessionClosed
from kontext_slider.files import file_sha256
from kontext_slider.images import read_image
from kontext_slider.metadata import read_metadata
from kontext_slider.presets import PRESETS
from kontext_slider.ui.folder import TEMPORARY
from kontext_slider.ui.handlers import MAX_FRAMES, MAX_LETTERS
from kontext_slider.ui.layout import suggestions
from tests.ui.fake_engine import KNOWN, FakeEngine, FakeSession, faded
from tests.ui.mcp_client import ask, call
from tests.ui.page import EngineOfTest, queue_test, served

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
POCKET = Path(PRESETS["pocket"].model)
SECONDS = 30.0  # for what takes a moment

pytestmark = queue_test


class Watched(FakeEngine):
    """Keeps its sessions, so that a test can see whether they are closed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sessions: list[FakeSession] = []

    def open(self, *args: Any, **settings: Any) -> FakeSession:
        self.sessions.append(super().open(*args, **settings))
        return self.sessions[-1]


@pytest.fixture(scope="module")
def api_site() -> Iterator[tuple[EngineOfTest, str, Client]]:
    engine = EngineOfTest(FakeEngine())
    with served(engine, mcp=True, model="pocket", speed="fast") as address:
        yield engine, address, Client(address, verbose=False)


@pytest.fixture
def engine() -> Watched:
    return Watched()


@pytest.fixture
def address(api_site, engine) -> str:
    api_site[0].engine = engine
    return api_site[1]


@pytest.fixture
def client(api_site, address, tmp_path) -> Client:
    """Downloads go into the test's own folder."""
    api_site[2].output_dir = str(tmp_path)
    return api_site[2]


def is_closed(session: FakeSession) -> bool:
    try:
        next(session.frames([0.123]))
    except SessionClosed:
        return True
    return False


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_scripts_see_three_endpoints_and_none_of_the_page(client):
    """An event of the page that is named is an endpoint that somebody will call and that must then be kept."""
    found = client.view_api(return_format="dict")
    assert set(found["named_endpoints"]) == {"/edit", "/sweep", "/suggest"} and not found["unnamed_endpoints"]


def test_a_picture_has_the_photographs_size_and_the_recipe(client, engine, photograph):
    """A client got the model's small frame, or a file that cannot tell how it was made."""
    path = client.predict(handle_file(photograph), " make it night ", 0.4, seed=7, format="png", api_name="/edit")
    assert np.array_equal(read_image(path), faded(read_image(photograph), 0.4))
    assert read_metadata(path) == {
        "instruction": "make it night",
        "seed": 7,
        "steps": 4,
        "guidance": 2.5,
        "model": "pocket",
        "speed": "fast",
        "source": "photo.png",
        "source_sha256": file_sha256(photograph),
        "size": [320, 240],
        "edited_at": [304, 224],
        "strengths": [0.4],
    }
    assert Path(path).name == "photo-make-it-night-0.40.png"
    assert engine.rendered == [0.4] and is_closed(engine.sessions[0])


@pytest.mark.parametrize("format", ["jpg", "webp"])
def test_other_formats_of_a_picture(client, photograph, format):
    """Strength 1 and the model's own settings are what a call without them means."""
    path = client.predict(handle_file(photograph), "make it night", format=format, api_name="/edit")
    assert path.endswith(f".{format}") and read_image(path).size == (320, 240)
    assert read_metadata(path)["strengths"] == [1.0] and read_metadata(path)["steps"] == 4


def test_a_sweep_is_one_file(client, engine, photograph):
    """Its pictures are those of `edit`, its ends the photograph and the full edit."""
    path = client.predict(handle_file(photograph), "make it night", 3, "zip", 0, api_name="/sweep")
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        pictures = [np.asarray(Image.open(archive.open(name))) for name in names]
    source = read_image(photograph)
    assert [np.array_equal(picture, faded(source, s)) for picture, s in zip(pictures, (0, 0.5, 1), strict=True)]
    assert read_metadata(path)["strengths"] == [0, 0.5, 1] and is_closed(engine.sessions[0])
    path = client.predict(handle_file(photograph), "make it night", api_name="/sweep")
    assert path.endswith(".gif") and len(read_metadata(path)["strengths"]) == 11


def test_a_sweep_of_even_steps(client, engine, photograph, monkeypatch):
    """The endpoint took the flag and swept evenly by strength."""
    monkeypatch.setattr("tests.ui.fake_engine.faded", lambda source, strength: faded(source, strength**2))
    path = client.predict(handle_file(photograph), "make it night", 5, even=True, api_name="/sweep")
    made = read_metadata(path)
    assert made["even_steps"] is True and is_closed(engine.sessions[0])
    assert made["strengths"] == pytest.approx([0, 0.5, 0.5**0.5, 0.75**0.5, 1], abs=0.02)


def test_suggestions_are_those_of_the_page(client):
    assert client.predict(api_name="/suggest") == suggestions(KNOWN)


BAD = {
    "empty": ({"instruction": "  "}, "the instruction is empty"),
    "long": ({"instruction": "x" * (MAX_LETTERS + 1)}, f"at most {MAX_LETTERS} letters"),
    "strength": ({"strength": 1.2}, "from 0 .untouched. to 1 .full edit., not 1.2"),
    "strength is text": ({"strength": "half"}, "A strength is a number"),
    "seed": ({"seed": MAX_SEED + 1}, "The seed must be a whole number"),
    "seed is broken": ({"seed": 0.5}, "The seed must be a whole number"),
    "steps": ({"steps": 51}, "from 1 to 50, not 51"),
    "guidance": ({"guidance": 2.5}, "trained without a guidance input"),
    "format": ({"format": "bmp"}, "one of jpg, png, webp, not 'bmp'"),
    "no image": ({"image": None}, "The image must be a file that was sent"),
    "an image of the server": ({"image": {"path": __file__}}, "The image must be a file that was sent"),
    "frames": ({"n": MAX_FRAMES + 1, "api_name": "/sweep"}, f"from 2 to {MAX_FRAMES}, not {MAX_FRAMES + 1}"),
    "sweep format": ({"format": "png", "api_name": "/sweep"}, "one of gif, webp, mp4, zip"),
    "width": ({"width": 9999, "api_name": "/sweep"}, "one of 640, 1024, 1920, 0, not 9999"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_a_sentence(client, engine, photograph, capfd, name):
    """Limits of the page that scripts go around, and tracebacks in their place."""
    values, sentence = BAD[name]
    arguments = {"image": handle_file(photograph), "instruction": "make it night", "api_name": "/edit"} | values
    with pytest.raises(AppError, match=sentence):
        client.predict(**arguments)
    assert not engine.sessions and "Traceback" not in "".join(capfd.readouterr())


INSIDE = ["http://127.0.0.1:{port}/theme.css", "http://192.168.0.1/photo.jpg", "/etc/passwd"]


@pytest.mark.parametrize("path", INSIDE)
def test_a_call_reaches_no_file_of_the_server_and_no_address_of_its_network(address, photograph, path):
    """Who may edit may not look around."""
    path = path.format(port=httpx.URL(address).port)
    events = httpx.get(start(address, photograph, image={"path": path, "meta": {"_type": "gradio.FileData"}})).text
    assert "event: error" in events and ("failed validation" in events or "not uploaded by a user" in events)


def test_guidance_of_a_model_that_has_it(client, api_site, photograph):
    api_site[0].engine = engine = Watched(guidance_embeds=True)
    client.predict(handle_file(photograph), "make it night", guidance=3, api_name="/edit")
    assert engine.opened[0]["guidance"] == 3
    with pytest.raises(AppError, match="from 1 to 10"):
        client.predict(handle_file(photograph), "make it night", guidance=11, api_name="/edit")


def test_a_file_that_is_no_picture_is_named_as_its_sender_knows_it(client, tmp_path):
    """The server's folders are private."""
    other = tmp_path / "letter.jpg"
    other.write_text("Dear Anna")
    with pytest.raises(AppError, match=r"'letter\.jpg'") as caught:
        client.predict(handle_file(other), "make it night", api_name="/edit")
    assert "gradio" not in str(caught.value)


def test_a_render_that_fails_closes_its_session(client, api_site, photograph):
    api_site[0].engine = engine = Watched(fails_at=0.5)
    with pytest.raises(AppError, match="The fake model cannot render this strength"):
        client.predict(handle_file(photograph), "make it night", 0.5, api_name="/edit")
    assert is_closed(engine.sessions[0])


def test_an_error_that_nobody_expected(client, engine, photograph, monkeypatch, capfd):
    """The client gets a sentence, the operator the traceback."""
    monkeypatch.setattr(engine, "open", lambda *args, **settings: 1 / 0)
    with pytest.raises(AppError, match=r"The edit failed \(division by zero\)") as caught:
        client.predict(handle_file(photograph), "make it night", api_name="/edit")
    assert "Traceback" not in str(caught.value) and "Traceback" in capfd.readouterr().err


def start(address: str, photograph: Path, **arguments: Any) -> str:
    """Begin an edit by plain HTTP, as curl does. Returns where its events are."""
    with photograph.open("rb") as file:
        path = httpx.post(f"{address}gradio_api/upload", files={"files": file}).json()[0]
    values = {"image": {"path": path}, "instruction": "make it night"} | arguments
    answer = httpx.post(f"{address}gradio_api/call/v2/edit", json=values)
    return f"{address}gradio_api/call/v2/edit/{answer.json()['event_id']}"


def examples(language: str, address: str) -> list[str]:
    """Those of docs/api.md, for the app that is served here."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)
    return [block.replace("http://127.0.0.1:7860", address.rstrip("/")) for block in blocks]


@pytest.fixture
def desk(photograph, tmp_path, monkeypatch) -> Path:
    """A folder with a photo.jpg, in which somebody types what the document says."""
    read_image(photograph).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_examples_for_curl(address, desk):
    (lines,) = examples("bash", address)
    subprocess.run(["bash", "-euo", "pipefail", "-c", lines], check=True, timeout=SECONDS)
    assert read_metadata(desk / "night.jpg")["strengths"] == [0.4]
    assert read_image(desk / "night.jpg").size == (320, 240)


def test_the_examples_in_python(address, desk, capsys):
    """gradio_client and the package of MCP."""
    for lines in examples("python", address):
        exec(compile(lines, str(DOCUMENT), "exec"), {})
    printed = capsys.readouterr().out
    assert "photo-make-it-night-0.40.jpg" in printed and "make-it-night.webp" in printed
    assert printed.count(str(suggestions(KNOWN))) == 2


def test_an_error_by_plain_http(address, photograph):
    """curl shows what the server sends."""
    events = httpx.get(start(address, photograph, strength=2)).text
    assert "event: error" in events and "A strength is a number from 0" in events


@pytest.mark.parametrize("how", ["cancel", "hang up"])
def test_a_client_that_goes_away_leaves_no_work(client, api_site, photograph, how):
    """A script that was stopped kept the model busy until its edit was done."""
    api_site[0].engine = engine = Watched(step_seconds=0.05, steps=900)
    if how == "cancel":
        job = client.submit(handle_file(photograph), "make it night", 0.5, api_name="/edit")
        wait_until(lambda: bool(engine.sessions))
        wait_until(lambda: job.status().code.name == "ITERATING")
        job.cancel()
    else:
        with httpx.stream("GET", start(api_site[1], photograph)) as events:
            next(line for line in events.iter_lines() if line == "event: generating")
    session = engine.sessions[0]
    wait_until(lambda: is_closed(session))
    assert engine.rendered == []


def test_a_call_can_be_ended_before_its_first_step(address, engine, client, photograph):
    """A call that waits for the device had yielded nothing, and gradio ends no such call: a cancelled one went on."""
    engine.step_seconds = 0.5
    with engine.lock:  # somebody else has the device
        job = client.submit(handle_file(photograph), "make it night", 0.5, api_name="/edit")
        wait_until(lambda: job.status().code.name == "ITERATING")
    job.cancel()
    wait_until(lambda: is_closed(engine.sessions[0]))
    assert engine.rendered == []


def test_tools_for_mcp_clients(address, engine, photograph, tmp_path):
    """The same three, with what a model needs to know to call them, and the picture itself in the answer."""
    tools = {tool.name: tool for tool in ask(address, lambda session: session.list_tools()).tools}
    assert set(tools) == {"edit", "sweep", "suggest"}
    assert tools["edit"].inputSchema["required"] == ["image", "instruction"]
    assert all(value["description"] for value in tools["sweep"].inputSchema["properties"].values())
    assert call(address, "suggest").content[0].text == str(suggestions(KNOWN))
    image = "data:image/png;base64," + base64.b64encode(photograph.read_bytes()).decode()
    answer = call(address, "edit", image=image, instruction="make it night", strength=0.4)
    picture, text = answer.content
    assert not answer.isError and picture.type == "image" and picture.mimeType == "image/jpeg"
    path = tmp_path / "night.jpg"
    path.write_bytes(httpx.get(text.text.removeprefix("Image URL: ")).content)
    assert read_metadata(path)["strengths"] == [0.4] and is_closed(engine.sessions[0])
    refused = call(address, "edit", image=image, instruction="make it night", strength=2)
    assert refused.isError and "A strength is a number from 0" in refused.content[0].text


def test_a_tool_that_reports_its_progress(address, photograph):
    """Clients that show progress ask for it, and gradio then answers on another way."""
    image = "data:image/png;base64," + base64.b64encode(photograph.read_bytes()).decode()
    arguments = {"image": image, "instruction": "make it night", "n": 3, "format": "zip"}
    told: list[str | None] = []

    async def tell(progress: float, total: float | None, text: str | None) -> None:
        told.append(text)

    answer = ask(address, lambda session: session.call_tool("sweep", arguments, progress_callback=tell))
    assert not answer.isError and told
    assert httpx.get(answer.content[0].text).content.startswith(b"PK")


def test_a_page_without_endpoints(engine):
    """--no-api."""
    with served(engine, has_endpoints=False) as address:
        assert not Client(address, verbose=False).view_api(return_format="dict")["named_endpoints"]
        assert httpx.get(address).status_code == 200


@pytest.mark.skipif(not (POCKET / "model_index.json").is_file(), reason="weights/pocket is not in this checkout")
def test_pocket(photograph, tmp_path, monkeypatch):
    """The real engine gives a script what it gives its own callers. Frames of closed edits filled the disk."""
    cache = tmp_path / "cache"
    monkeypatch.setenv(TEMPORARY, str(cache))
    engine = SliderEngine(load_pipeline("pocket", device="cpu"))
    with served(engine) as address:
        client = Client(address, verbose=False, download_files=tmp_path)
        path = client.predict(handle_file(photograph), "make it night", 0.5, format="png", api_name="/edit")
        assert not list(cache.glob("edit-*")) and [file.suffix for file in cache.glob("result-*/*")] == [".png"]
    with engine.open(photograph, "make it night") as session:
        assert np.array_equal(read_image(path), session.picture(0.5))
