"""One session after the other: the frames are the pipeline's own, and nothing is computed twice."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider.engine import SliderEngine, ends_first
from kontext_slider.errors import InvalidInput, MissingSlider, SessionClosed, UnreadableImage
from kontext_slider.modulation import offsets_attached
from kontext_slider.projector import ModulationOffsets
from tests.engine.helpers import alike, counted, note_renders, other_settings, reference, same
from tests.tiny import INSTRUCTION, shake, tiny_image, tiny_transformer

STRENGTHS = [0.0, 0.35, 1 / 3, 1.0]


@pytest.fixture
def engine(pipe):
    return SliderEngine(pipe)


def open_edit(engine, image=None, instruction=INSTRUCTION, **settings):
    return engine.open(image or tiny_image(40, 24), instruction, **{"steps": 2, "size": 32, **settings})


@pytest.mark.parametrize("settings", [{}, {"seed": 3, "steps": 3, "guidance": 1.0, "size": 24}, {"steps": 1}])
def test_a_frame_is_the_pipelines_own(pipe, engine, settings):
    """The engine's loop drifts from the pipeline: other noise, shift, guidance or ids."""
    session = open_edit(engine, **settings)
    for strength in STRENGTHS:
        assert alike(session.render(strength), reference(pipe, session, strength))


def test_a_frame_of_a_transformer_that_is_asked_itself_is_the_pipelines_own_bit_for_bit(pipe, engine):
    """Where nothing can be prepared, the loop around the transformer must not round otherwise than the pipeline."""
    pipe.transformer.register_forward_hook(lambda *_: None)
    session = open_edit(engine, steps=3, guidance=1.0)
    for strength in STRENGTHS:
        assert same(session.render(strength), reference(pipe, session, round(strength, 4)))  # as frames are cached


def test_strengths_give_different_frames(engine):
    """All the frames are equal, and every comparison of this file passes for nothing."""
    frames = [frame.tobytes() for _, frame in open_edit(engine).sweep(5)]
    assert len(set(frames)) == 5


def test_a_sweep_has_the_frames_of_render_and_of_the_pipeline(pipe, engine):
    """Batching changes the pixels: the exported sweep is not what the slider showed."""
    session = open_edit(engine)
    session.render(0.75)
    swept = list(session.sweep(5))
    assert [strength for strength, _ in swept] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert all(alike(frame, reference(pipe, session, strength)) for strength, frame in swept)
    assert all(same(frame, session.render(strength)) for strength, frame in swept)


def test_a_transformer_without_guidance_input(pipe):
    """A guidance tensor given to a model that has no place for it raises."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        pipe.register_modules(transformer=tiny_transformer(guidance_embeds=False))
        pipe.add_slider(pipe.slider_projector)
    session = open_edit(SliderEngine(pipe))
    assert alike(session.render(0.5), reference(pipe, session, 0.5))


def test_scaled_noise_is_the_same_in_engine_and_pipeline(pipe):
    """A model that starts from a part of the noise, or from none, shows other pictures in the page than in a script."""
    plain = open_edit(SliderEngine(pipe)).render(0.5)
    for scale in (0.0, 0.5):
        pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "noise_scale": scale})
        engine = SliderEngine(pipe)
        frames = [open_edit(engine, seed=seed).render(0.5) for seed in (0, 1)]
        assert same(*frames) == (scale == 0) and not same(frames[0], plain)
        assert alike(frames[1], reference(pipe, open_edit(engine, seed=1), 0.5))


def test_the_pipeline_is_left_as_it_was(pipe, engine):
    """A render leaves timesteps, LoRA or offsets behind, and the next plain call gives another picture."""
    session = open_edit(engine)
    plain = {"generator": None, "num_inference_steps": 3, "height": 32, "width": 32, "max_area": 1024}

    def plain_call():
        plain["generator"] = torch.Generator().manual_seed(0)
        return pipe(session.source, INSTRUCTION, **plain, _auto_resize=False).images[0]

    before = plain_call()
    scheduler = pipe.scheduler.timesteps
    session.render(0.7)
    assert pipe.scheduler.timesteps is scheduler
    assert same(plain_call(), before)


def test_a_slider_move_runs_the_denoiser_and_the_decoder_and_nothing_else(pipe, engine, monkeypatch):
    """Text and source are encoded again at each strength: twice the time of a move."""
    with counted(pipe, monkeypatch) as calls:
        session = open_edit(engine, steps=3)
        assert calls == {"text_encoder": 1, "text_encoder_2": 1, "tokenizer.__call__": 2, "tokenizer_2.__call__": 2,
                         "vae.encode": 1}  # fmt: skip
        calls.clear()
        session.render(0.4)
        assert calls == {"transformer": 3, "vae.decode": 1}
        list(session.sweep(3))
        assert calls == {"transformer": 9, "vae.decode": 3}  # strength 0 is the source
        calls.clear()
        session.render(0.4)
        session.render(0.40004)
        list(session.sweep(3))
        assert not calls


def test_encodings_are_remembered_across_sessions_by_value(pipe, engine, monkeypatch):
    """A second session of the same picture encodes again because it is another object."""
    open_edit(engine).close()
    with counted(pipe, monkeypatch) as calls:
        open_edit(engine, tiny_image(40, 24), "".join(list(INSTRUCTION)), seed=5).close()
        assert not calls
        open_edit(engine, instruction="make it night").close()
        assert calls["text_encoder"] == calls["text_encoder_2"] == 1 and not calls["vae.encode"]
        calls.clear()
        open_edit(engine, tiny_image(40, 24, seed=1)).close()
        assert calls == {"vae.encode": 1}


def test_no_two_edits_share_a_frame_by_mistake(pipe, engine):
    """The cache key forgets one setting, and the person sees another edit's picture."""
    turned = tiny_image(40, 24).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    variants = [{}, {"seed": 1}, {"steps": 3}, {"guidance": 4.0}, {"size": 36}, {"instruction": "make it night"},
                {"image": turned}, {"image": tiny_image(24, 40)}]  # fmt: skip
    for variant in variants:
        session = open_edit(engine, **variant)
        assert not session.has(0.5)
        assert alike(session.render(0.5), reference(pipe, session, 0.5))
    assert open_edit(engine).has(0.5) and not open_edit(engine).has(0.6)


def test_pixels_of_equal_bytes_and_other_shape_are_another_source(pipe, engine):
    """A digest of the bytes alone takes a flat 40 x 24 picture for a 24 x 40 one."""
    for size in ((40, 24), (24, 40)):
        session = open_edit(engine, Image.new("RGB", size, "gray"))
        assert session.render(0.5).size == session.size == session.source.size


def test_frames_belong_to_the_caller(engine):
    """Drawing on a frame, or on the source as shown, changes what is shown next."""
    session = open_edit(engine)
    source = session.source.tobytes()
    for take in (lambda: session.render(0.5), lambda: session.render(0), lambda: next(session.sweep(2))[1]):
        frame = take()
        before = frame.tobytes()
        frame.paste("red", (0, 0, *frame.size))
        assert take().tobytes() == before
    assert session.source.tobytes() == source


def test_strength_zero_is_the_untouched_source(engine, monkeypatch):
    """At 0 the page showed the source, and a sweep what the model made of it: two meanings of one number."""
    session, rendered = open_edit(engine), note_renders(monkeypatch)
    frames = dict(session.sweep(3))
    for frame in (session.render(0), session.preview(0), session.picture(0), frames[0.0]):
        assert same(frame, session.source)
    assert session.has(0) and 0 not in rendered
    assert not same(session.render(1e-3), session.source)
    further = session.then("make it snow", 0)
    assert same(further.source, session.source) and same(further.render(0), session.source)


def test_the_models_own_frame_at_zero_is_there_for_research(pipe, engine):
    """What the paper shows at 0 could be had no more; or it got into the cache of those who want the source."""
    with open_edit(engine, source_at_zero=False) as research:
        own, strip = research.render(0), dict(research.sweep(3))
        assert same(own, strip[0.0]) and not same(own, research.source)
        assert alike(own, reference(pipe, research, 0, source_at_zero=False))
    with open_edit(engine) as session:
        assert same(session.render(0), session.source)


def test_steps_are_reported_from_one_to_total(engine):
    """The progress bar starts at 0 of 3, ends at 2 of 3, or runs for frames that cost nothing."""
    session = open_edit(engine, steps=3)
    steps: list[tuple[int, int]] = []
    session.render(0.5, lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    session.render(0.5, lambda *step: steps.append(step))
    assert len(steps) == 3
    steps.clear()
    list(session.sweep(3, lambda *step: steps.append(step)))
    assert steps == [(step, 3) for step in range(1, 4)], "0 is the source, 0.5 is there"


def test_what_on_step_raises_comes_out_and_leaves_the_engine_usable(pipe, engine):
    """One failing callback blocks every session, or its strength stays in the model."""
    session = open_edit(engine)

    def fail(step, total):
        raise RuntimeError("no more")

    for call in (lambda: session.render(0.5, fail), lambda: list(session.sweep(3, fail))):
        with pytest.raises(RuntimeError, match="no more"):
            call()
    with offsets_attached(pipe.transformer, ModulationOffsets(torch.zeros(1, 32), torch.zeros(1, 32))):
        pass  # raises where others are still attached
    assert alike(session.render(0.5), reference(pipe, session, 0.5))


def test_asking_for_a_frame_inside_on_step_is_a_sentence(engine):
    """The thread waits for itself for ever."""
    session = open_edit(engine)
    with pytest.raises(InvalidInput, match="inside an on_step callback"):
        session.render(0.5, lambda *_: session.render(0.6))
    with pytest.raises(InvalidInput, match="inside an on_step callback"):
        session.render(0.5, lambda *_: session.render(0.5))
    assert session.render(0.5)


def test_defaults_come_from_the_model(pipe, engine):
    """A small model is asked for a big picture in many steps."""
    session = engine.open(tiny_image(64, 64), INSTRUCTION)
    defaults = pipe.defaults
    assert (session.steps, session.guidance, session.size) == (defaults.steps, defaults.guidance, (32, 32))
    assert session.seed == 0 and session.instruction == INSTRUCTION


@pytest.mark.parametrize("size", [(400, 300), (30, 47), (500, 20), (9, 9)])
def test_frames_have_the_size_of_the_working_image(engine, size):
    """The frame is cropped, squeezed or of another size than the source it is compared with."""
    session = engine.open(tiny_image(*size), INSTRUCTION)
    assert session.render(0.5).size == session.size == session.source.size
    assert session.size[0] % 4 == session.size[1] % 4 == 0
    assert abs(np.log(session.size[0] / session.size[1] * size[1] / size[0])) < 0.2


@pytest.mark.parametrize(("name", "value"), [("instruction", " "), ("seed", -1), ("steps", 0), ("size", 3)])
def test_bad_settings_are_refused_before_anything_is_encoded(engine, name, value):
    """A silly value dies as a traceback deep in torch. `tests/test_edit.py` tries all kinds of them."""
    with pytest.raises(InvalidInput, match=name if name != "instruction" else "Say what to change"):
        open_edit(engine, **{name: value})


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan"), float("inf"), "0.5", None, True, [0.5], (), 1j])
def test_bad_strengths_are_refused_with_a_sentence(engine, strength):
    """A negative strength quietly means something."""
    session = open_edit(engine)
    for ask in (session.render, session.has, lambda value: list(session.frames([value]))):
        with pytest.raises(InvalidInput, match="strength"):
            ask(strength)


@pytest.mark.parametrize("n", [1, 0, -1, 2.0, True, None, 10**7])
def test_bad_numbers_of_frames_are_refused_at_the_call(engine, n):
    """A sweep of one frame divides by zero, or fails only when it is first iterated."""
    with pytest.raises(InvalidInput, match="number of frames"):
        open_edit(engine).sweep(n)
    with pytest.raises(InvalidInput, match="number of frames"):
        ends_first(n)


def test_bad_pictures_are_refused(engine):
    """A picture of five pixels is blown up, a text file reaches the VAE."""
    with pytest.raises(UnreadableImage, match="too small"):
        open_edit(engine, Image.new("RGB", (5, 3)))
    with pytest.raises(UnreadableImage):
        open_edit(engine, b"no picture")


def test_a_pipeline_without_slider_is_refused(plain_pipe):
    """The slider moves and nothing changes."""
    with pytest.raises(MissingSlider, match="load_slider"):
        open_edit(SliderEngine(plain_pipe))


def test_a_closed_session_answers_with_a_sentence(engine):
    """A closed session dies with an AttributeError, or closing twice does."""
    with open_edit(engine) as session:
        sweep = session.sweep(3)
        next(sweep)
    session.close()
    for ask in (lambda: session.render(0.5), lambda: session.render(0), lambda: next(sweep),
                lambda: session.sweep(3), lambda: session.has(0.5)):  # fmt: skip
        with pytest.raises(SessionClosed, match="Open the image again"):
            ask()
    assert session.source.size == session.size


def test_two_hundred_sessions_keep_memory_flat(pipe):
    """Each closed session leaves its encodings behind: after a day the device is full."""
    engine = SliderEngine(pipe, text_cache_bytes=4000, source_cache_bytes=20_000, frame_cache_bytes=20_000)

    def use(index):
        with open_edit(engine, tiny_image(16, 16, index), f"make it {index}", size=16, steps=1) as session:
            session.render(0.5)

    def tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    for index in range(30):
        use(index)
    before = tensors()
    for index in range(30, 200):
        use(index)
    assert tensors() <= before
    for cache in (engine.caches.texts, engine.caches.sources, engine.caches.frames):
        assert 0 < cache.num_bytes <= cache.max_bytes


def test_caches_of_zero_bytes_only_cost_time(pipe):
    """With no room to remember anything, nothing is rendered, or for ever."""
    session = open_edit(SliderEngine(pipe, 0, 0, 0))
    assert same(session.render(0.5), session.render(0.5)) and not session.has(0.5)
    with pytest.raises(InvalidInput, match="cache size"):
        SliderEngine(pipe, frame_cache_bytes=-1)


def test_clear_forgets_results_of_other_weights(pipe, engine):
    """After loading another slider the old one's frames are shown."""
    session = open_edit(engine)
    before = session.render(0.5)
    with torch.no_grad():
        for parameter in pipe.slider_projector.parameters():
            parameter.mul_(2)
    engine.clear()
    after = session.render(0.5)
    assert same(after, reference(pipe, session, 0.5)) and not same(after, before)


def test_a_frame_begun_before_clear_is_not_kept(pipe, tmp_path):
    """The old slider's frame, kept after the new one was loaded: in memory, and in the folder under its name."""
    engine = SliderEngine(pipe, frame_folder=tmp_path, speed="fast")
    session = open_edit(engine, steps=8)

    def load_another(step: int, total: int) -> None:
        if step == 1:
            shake(pipe.slider_parameters(), 0.3)
            engine.clear()

    before = session.render(0.5, load_another)
    assert not session.has(0.5) and list(tmp_path.iterdir()) == []
    assert len(engine.caches.latents) == len(engine.caches.residuals) == 0
    after = open_edit(engine, steps=8).render(0.5)
    assert not same(after, before) and len(list(tmp_path.iterdir())) == 1


def test_settings_are_told_apart_by_every_field(engine):
    """A new setting is added to the session and not to the key of its frames."""
    settings = open_edit(engine).settings
    others = other_settings(settings)
    assert len({settings, *others}) == len(others) + 1


def test_ends_first_tells_the_whole_range_early():
    """A strip fills from the left, and for half of the time says nothing about the full edit."""
    assert ends_first(5) == [0, 1, 0.5, 0.25, 0.75]
    assert ends_first(2) == [0, 1] and ends_first(3) == [0, 1, 0.5]
    for n in range(2, 40):
        assert sorted(ends_first(n)) == [index / (n - 1) for index in range(n)]
