"""ZeroGPU: which loans are taken, for how long, and who is charged."""

from __future__ import annotations

import sys
import threading
from contextvars import copy_context
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.context import LocalContext
from gradio_client import Client, handle_file
from PIL import Image

from kontext_slider.engine import SliderEngine
from kontext_slider.errors import InvalidInput, NoGpu, Superseded
from kontext_slider.images import read_photo
from kontext_slider.metadata import read_metadata
from kontext_slider.ui.handlers import Handlers
from kontext_slider.ui.launch import on_zero_gpu
from kontext_slider.ui.saving import write_picture
from kontext_slider.ui.zero_gpu import ZeroGpuEngine, frames_of_loan, loan_seconds
from tests.ui.fake_engine import FakeEngine, faded
from tests.ui.fake_spaces import FakeSpaces
from tests.ui.page import queue_test, served
from tests.ui.visitor import Visitor, strengths

FLUX = 12_000_000_000  # parameters
TIMEOUT = 30

pytestmark = queue_test


@pytest.fixture
def spaces(monkeypatch) -> FakeSpaces:
    fake = FakeSpaces()
    monkeypatch.setitem(sys.modules, "spaces", fake.module())
    return fake


@pytest.fixture
def session(spaces, engine, photograph):
    return ZeroGpuEngine(engine).open(photograph, "make it night", seed=0, steps=2)


@pytest.mark.parametrize(("value", "answer"), [(None, False), ("", False), ("false", False), ("true", True)])
def test_the_variable_decides(monkeypatch, value, answer):
    """The `spaces` package is in every Space, so one on CPUs took the detour."""
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    if value is not None:
        monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert on_zero_gpu() is answer


def test_every_frame_is_made_inside_a_loan(spaces, engine, session, monkeypatch):
    """A session opened outside `@spaces.GPU` would touch CUDA where ZeroGPU has none."""
    lent: list[bool] = []
    real_open = engine.open_spec
    monkeypatch.setattr(engine, "open_spec", lambda *a, **k: (lent.append(spaces.is_lent), real_open(*a, **k))[1])
    [(_, frame)] = list(session.frames([0.5]))
    assert frame.tobytes() == faded(session.source, 0.5).tobytes() and lent == [True]


def test_what_is_there_already_takes_no_loan(spaces, session, tmp_path):
    """Each loan costs the visitor seconds of a few minutes a day: the source and finished frames cost nothing."""
    assert session.render(0).tobytes() == session.source.tobytes()
    assert session.picture(0).tobytes() == session.photo.image.tobytes()
    assert [strength for strength, _ in session.frames([0])] == [0] and spaces.loans == []
    shown = session.render(0.5)
    assert [loan.strengths for loan in spaces.loans] == [[0.5]]
    assert session.render(0.5).tobytes() == shown.tobytes() and session.picture(0.5).size == session.photo.image.size
    assert session.transfer(0.5) and session.full_size_facts(0.5)["size"] == [320, 240]
    path, _, _ = write_picture(session, tmp_path, 0.5, "png", {})
    assert read_metadata(path)["instruction"] == "make it night"
    assert len(spaces.loans) == 1


def test_several_frames_are_one_loan(spaces, session):
    """A loan for each of them waits for a GPU, and loads the model, each time."""
    steps: list[tuple[int, int]] = []
    session.render(0.5)
    frames = dict(session.frames([0, 0.25, 0.5, 0.25, 1], lambda done, total: steps.append((done, total))))
    assert sorted(frames) == [0, 0.25, 0.5, 1]
    assert [loan.strengths for loan in spaces.loans] == [[0.5], [0.25, 1]]
    assert all(frame.tobytes() == faded(session.source, s).tobytes() for s, frame in frames.items() if s)


def test_steps_are_counted_over_all_loans(spaces, engine, photograph, monkeypatch):
    """The bar ran to its end for each loan and began again."""
    monkeypatch.setattr("kontext_slider.ui.zero_gpu.LOAN_SECONDS", 6)
    session = ZeroGpuEngine(engine).open(photograph, "make it night", seed=0, steps=20)
    steps: list[tuple[int, int]] = []
    list(session.frames([0.25, 0.5, 0.75], lambda done, total: steps.append((done, total))))
    assert len(spaces.loans) > 1 and steps[-1] == (60, 60)
    assert steps == sorted(steps) and {total for _, total in steps} == {60}


def test_a_painted_picture_is_made_here(spaces, session):
    """A strength map was taken for a strength, and a painted picture could not be saved on ZeroGPU."""
    painted = np.repeat([[0.0, 0.6]], 4, axis=0).repeat(5, axis=1)
    picture = session.picture(painted)
    assert picture.size == session.photo.image.size and len(spaces.loans) == 1
    assert session.edited(painted).earlier_edits[0].share is not None and len(spaces.loans) == 1


def test_a_loan_is_as_long_as_its_work(spaces, session):
    """Sixty seconds for any frame: more than is left of a visitor's quota, and a place far back in the queue."""
    session.render(0.5)
    short = spaces.loans[0].seconds
    assert short < 10
    one, four = loan_seconds(FLUX, 1, 28, 512), loan_seconds(FLUX, 4, 28, 512)
    assert short < one < 60 and one < four < 4 * one
    assert loan_seconds(FLUX, 1, 4, 512) < one < loan_seconds(FLUX, 1, 28, 1024)
    assert isinstance(one, int)


def test_a_loan_is_not_longer_than_needed_for_one_frame_or_a_minute():
    assert loan_seconds(FLUX, frames_of_loan(FLUX, 28, 512), 28, 512) <= 60
    assert frames_of_loan(FLUX, 28, 512) > 1
    assert frames_of_loan(FLUX, 50, 2048) == 1


def test_a_newer_position_ends_the_loan_of_an_older_one(spaces, engine, session):
    """It ran on to its end, at the visitor's cost, for a frame that nobody waited for."""
    engine.step_seconds = 0.2

    def move_on(done: int, total: int) -> None:
        mover = threading.Thread(target=session.render, args=(0.0,))
        mover.start()
        mover.join(TIMEOUT)

    with pytest.raises(Superseded):
        session.render(0.5, move_on)
    assert spaces.loans[0].was_closed and engine.rendered == []


def test_two_threads_share_the_frame_of_one_loan(spaces, engine, session):
    """The slider at rest and the strip asked for the same frame, and paid for it twice."""
    engine.step_seconds = 0.05
    threads = [threading.Thread(target=lambda: list(session.frames([0.5]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(spaces.loans) == 1 and engine.rendered == [0.5]


def test_a_loan_that_is_refused_is_a_sentence(spaces, session):
    """ "The render failed ('You have exceeded ...')", and a traceback in the log for each visitor without quota."""
    spaces.refusal = gr.Error("You have exceeded your quota. Try again in 1:00:00", title="ZeroGPU quota exceeded")
    with pytest.raises(NoGpu, match="ZeroGPU quota exceeded: You have exceeded your quota. Try again in 1:00:00"):
        session.render(0.5)
    spaces.refusal = None
    assert session.render(0.5).size == session.source.size, "the session goes on where a loan is granted"


def test_a_loan_that_is_cut_short_is_a_sentence(spaces, session):
    """ "The render failed (0.5)": the frame that is not there, looked up by its strength."""
    spaces.is_cut = True
    with pytest.raises(NoGpu, match="Try again"):
        session.render(0.5)


def test_an_error_of_the_engine_keeps_its_sentence(spaces, photograph):
    """`spaces` tells the name of an error's class and no more."""
    session = ZeroGpuEngine(FakeEngine(fails_at=0.5)).open(photograph, "make it night", steps=1)
    with pytest.raises(InvalidInput, match="cannot render this strength"):
        session.render(0.5)


@pytest.mark.parametrize("size", [(671, 1000), (4000, 417), (320, 240)], ids=str)
def test_frames_of_a_loan_fit_the_photograph(spaces, engine, size):
    """Only the small source is sent, and a working image of a working image may have another size."""
    session = ZeroGpuEngine(engine).open(Image.new("RGB", size, "teal"), "make it night", size=512)
    assert session.render(0.5).size == session.source.size


def test_a_frame_of_a_loan_is_the_engines_own(spaces, pipe, photograph):
    """The real engine, on the tiny model."""
    engine = SliderEngine(pipe)
    settings = {"seed": 5, "steps": 2, "guidance": 2.0}
    lent = ZeroGpuEngine(engine).open(photograph, "make it night", **settings).render(0.5)
    with SliderEngine(pipe).open(photograph, "make it night", **settings) as session:
        assert lent.tobytes() == session.render(0.5).tobytes()


def test_the_page_asks_for_loans_in_the_visitors_name(spaces, engine, photograph, tmp_path):
    """The render thread had no request, so every loan was charged to the Space's own quota, which is soon used up."""
    visitor = Visitor(Handlers(ZeroGpuEngine(engine), str(tmp_path / "cache")))

    def visit() -> None:
        LocalContext.request.set(visitor.request)  # as gradio does around each step of a handler
        assert strengths(visitor.edit(photograph, num_frames=3)[-1]) == [0, 0.5, 1]
        visitor.commit(0.3)
        visitor.commit(0.3)

    copy_context().run(visit)
    assert sorted(strength for loan in spaces.loans for strength in loan.strengths) == [0.3, 0.5, 1]
    assert all(loan.request is visitor.request for loan in spaces.loans)


def test_the_endpoints_ask_for_loans_in_the_clients_name(spaces, engine, photograph, tmp_path):
    """The whole way: a client's header, gradio's queue, the endpoint's generator, the render thread, the loan."""
    with served(ZeroGpuEngine(engine)) as address:
        client = Client(address, headers={"x-ip-token": "a visitor"}, verbose=False, download_files=str(tmp_path))
        result = client.predict(handle_file(photograph), "make it night", 0.5, api_name="/edit")
    assert Path(result).exists() and read_photo(result).image.size == (320, 240)
    assert [loan.request.headers["x-ip-token"] for loan in spaces.loans] == ["a visitor"]


def test_settings_are_checked_when_an_edit_is_opened(spaces, engine, photograph):
    """A loan that could only fail was taken first."""
    with pytest.raises(InvalidInput):
        ZeroGpuEngine(engine).open(photograph, "make it night", steps=0)
    assert spaces.loans == []
