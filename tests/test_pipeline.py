"""The pipeline: exactly the parent without a strength, the facts with one, one noise for all."""

from __future__ import annotations

import inspect
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file

from kontext_slider import EditDefaults, KontextSliderPipeline, MissingSlider
from kontext_slider.calls import complete_arguments, parent_output_size
from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.lora import ADAPTER
from tests import reference_slider as reference
from tests.tiny import (
    EDIT_DEFAULTS,
    INSTRUCTION,
    KNOWN_INSTRUCTIONS,
    PLAIN,
    SIDE,
    shake,
    tiny_image,
    tiny_pipeline,
    tiny_projector,
    write_authors_layout,
)

STRENGTHS = [0.0, 0.25, 0.5, 1.0]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parent_of(pipe: KontextSliderPipeline) -> FluxKontextPipeline:
    parts = {name: part for name, part in pipe.components.items() if name != "slider_projector"}
    parent = FluxKontextPipeline(**parts)
    parent.set_progress_bar_config(disable=True)
    return parent


def add_style(pipe: KontextSliderPipeline) -> None:
    """Another LoRA, active, with visible effect."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")  # peft, of two adapters
        pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["attn.to_q", "attn.to_v"]), "style")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        shake([p for name, p in pipe.transformer.named_parameters() if ".style." in name], 0.4)


def render(pipe, strength=None, **changes):
    settings = {"generator": seeded(), "output_type": "latent", **PLAIN, **changes}
    return pipe(tiny_image(), INSTRUCTION, strength=strength, **settings).images


# ---- against the facts


def test_matches_an_independent_implementation(plain_pipe, tmp_path):
    """The one check that everything rests on: authors' files, LoRA active, strengths 0, .25, .5, 1."""
    base = {name: tensor.clone() for name, tensor in plain_pipe.transformer.state_dict().items()}
    files = write_authors_layout(tmp_path)
    plain_pipe.load_slider(files)
    weights = reference.merged(base, load_file(files / "pytorch_lora_weights.safetensors"))
    projector = torch.load(files / "slider_projector.pth", weights_only=True)
    edit, shape = reference_edit(plain_pipe), reference.Shape(heads=2, axes=(4, 6, 6))
    settings = {**PLAIN, "width": 48, "max_area": 48 * 32, "num_inference_steps": 3, "guidance_scale": 2.5}
    latents = plain_pipe(
        tiny_image(48, 32), INSTRUCTION, strength=STRENGTHS, generator=seeded(), output_type="latent", **settings
    ).images
    for strength, frame in zip(STRENGTHS, latents, strict=True):
        offsets = reference.project(projector, strength, edit.pooled)
        torch.testing.assert_close(frame, reference.denoise(weights, shape, edit, offsets)[0], rtol=0, atol=1e-5)
    plain = reference.denoise(base, shape, edit, None)
    assert (latents - plain).abs().amax(dim=(1, 2)).min() > 0.1  # the LoRA shows at every strength
    assert (latents[0] - latents[3]).abs().max() > 0.05  # and so do the offsets


@torch.no_grad()
def reference_edit(pipe) -> reference.Edit:
    """The edit of the test above, encoded by hand."""
    embeds, pooled, _ = pipe.encode_prompt(INSTRUCTION, max_sequence_length=PLAIN["max_sequence_length"])
    pixels = torch.from_numpy(np.array(tiny_image(48, 32))).permute(2, 0, 1)[None] / 127.5 - 1
    latents = pipe.vae.encode(pixels).latent_dist.mode()
    source = (latents - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    noise = reference.pack(torch.randn(1, 4, 16, 24, generator=seeded()))
    return reference.Edit(embeds, pooled, source, noise, steps=3, guidance=2.5)


# ---- strength=None


@pytest.mark.parametrize("situation", ["no slider", "slider", "slider and style", "slider switched on by hand"])
def test_without_strength_it_is_the_parent_to_the_bit(situation):
    """A slider that leaks into plain calls makes them depend on what was loaded before."""
    pipe, plain = tiny_pipeline(slider=situation != "no slider"), tiny_pipeline(slider=False)
    if situation == "slider and style":
        add_style(pipe)
        add_style(plain)
    if situation == "slider switched on by hand":
        pipe.set_adapters([ADAPTER])
    expected = render_plain(parent_of(plain))
    assert torch.equal(render(pipe), expected)
    assert torch.equal(render(pipe, strength_batch_size=2), expected)
    if situation == "slider and style":
        assert not torch.equal(expected, render_plain(parent_of(tiny_pipeline(slider=False))))


def render_plain(parent) -> torch.Tensor:
    return parent(tiny_image(), INSTRUCTION, generator=seeded(), output_type="latent", **PLAIN).images


def test_without_strength_the_models_own_defaults_are_not_used(plain_pipe, monkeypatch):
    """strength=None means the parent's 28 steps and megapixel, whatever model_index.json says."""
    seen = {}

    def call(self, *args, **kwargs):
        seen.update(args=args, kwargs=kwargs)

    monkeypatch.setattr(FluxKontextPipeline, "__call__", call)
    plain_pipe(None, "snow", guidance_scale=1.5)
    assert seen == {"args": (None, "snow"), "kwargs": {"guidance_scale": 1.5}}


def test_signature_is_the_parents_and_four_more():
    """Tools that read signatures, and callers that pass positions, must find the parent's parameters in place."""
    parent = list(inspect.signature(FluxKontextPipeline.__call__).parameters)
    own = inspect.signature(KontextSliderPipeline.__call__).parameters
    assert list(own) == [*parent, "strength", "strength_batch_size", "allow_extrapolation", "full_size"]
    assert own["strength"].default is None and own["num_inference_steps"].default == 28
    assert "strength_batch_size" in KontextSliderPipeline.__call__.__doc__


# ---- one noise, one encoding, any batch


def test_frames_do_not_depend_on_the_batch(pipe):
    """Chunks must share the noise: the released demo changes the seed with the strength."""
    together = render(pipe, STRENGTHS)
    for size in (1, 3, 4, 9):
        torch.testing.assert_close(render(pipe, STRENGTHS, strength_batch_size=size), together, rtol=0, atol=1e-4)
    alone = torch.cat([render(pipe, strength) for strength in STRENGTHS])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-4)
    assert (together[0] - together[3]).abs().max() > 0.05


def test_noise_is_the_one_a_plain_call_draws(pipe):
    """With offsets of zero and no LoRA, every frame is the plain call's picture, and the generator is used as much."""
    pipe.unload_lora_weights()
    pipe.slider_projector = tiny_projector().zero_last_layer()
    generator, parents = seeded(), seeded()
    frames = render(pipe, [0.0, 1.0], generator=generator, guidance_scale=2.5)
    plain = render(pipe, generator=parents, guidance_scale=2.5)
    torch.testing.assert_close(frames, plain.expand(2, -1, -1), rtol=0, atol=1e-5)
    assert torch.equal(torch.rand(1, generator=generator), torch.rand(1, generator=parents))


def test_encoders_run_once(pipe, monkeypatch):
    """Encoding text and source per chunk costs more than denoising on a small machine."""
    counts = count_calls(monkeypatch, pipe.text_encoder, pipe.text_encoder_2, pipe.vae.encoder, pipe.slider_projector)
    render(pipe, STRENGTHS, strength_batch_size=1)
    assert counts == [1, 1, 1, 4]


def count_calls(monkeypatch, *modules) -> list[int]:
    counts = [0] * len(modules)
    for i, module in enumerate(modules):

        def forward(*args, i=i, plain=module.forward, **kwargs):
            counts[i] += 1
            return plain(*args, **kwargs)

        monkeypatch.setattr(module, "forward", forward)
    return counts


def test_tensors_of_batch_one_serve_all_strengths(pipe, monkeypatch):
    """An engine hands in what it encoded before: no encoder may run, and the frames are the same."""
    expected = render(pipe, STRENGTHS)
    with torch.no_grad():
        edit = encoded_edit(pipe)
    counts = count_calls(monkeypatch, pipe.text_encoder, pipe.text_encoder_2, pipe.vae.encoder)
    frames = pipe(strength=STRENGTHS, strength_batch_size=3, output_type="latent", **{**PLAIN, **edit}).images
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-4)
    assert counts == [0, 0, 0]


def encoded_edit(pipe) -> dict:
    embeds, pooled, _ = pipe.encode_prompt(INSTRUCTION, max_sequence_length=PLAIN["max_sequence_length"])
    source = pipe._encode_vae_image(pipe.image_processor.preprocess(tiny_image()), None)
    noise = reference.pack(torch.randn(1, 4, SIDE // 2, SIDE // 2, generator=seeded()))
    return {"image": source, "latents": noise, "prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_output_types(pipe, output_type):
    """Chunks joined wrongly give nested lists or lose frames."""
    frames = render(pipe, [0, 0.5, 1], strength_batch_size=2, output_type=output_type)
    (as_tuple,) = pipe(
        tiny_image(), INSTRUCTION, strength=[0, 0.5, 1], generator=seeded(), output_type=output_type,
        return_dict=False, **PLAIN,
    )  # fmt: skip
    assert len(frames) == len(as_tuple) == 3
    kinds = {"pil": list, "np": np.ndarray, "pt": torch.Tensor, "latent": torch.Tensor}
    assert isinstance(frames, kinds[output_type])
    shapes = {"pil": (SIDE, SIDE), "np": (SIDE, SIDE, 3), "pt": (3, SIDE, SIDE), "latent": (SIDE * SIDE // 16, 16)}
    assert (frames[0].size if output_type == "pil" else tuple(frames[0].shape)) == shapes[output_type]


def test_true_cfg_with_a_negative_prompt(pipe):
    """The negative branch needs the batch of the positive one, however it is given."""
    settings = {"true_cfg_scale": 3.0, "negative_prompt": "blurry"}
    together = render(pipe, STRENGTHS, **settings)
    torch.testing.assert_close(render(pipe, STRENGTHS, strength_batch_size=1, **settings), together, rtol=0, atol=1e-3)
    assert (together - render(pipe, STRENGTHS)).abs().max() > 1e-3
    embeds, pooled, _ = pipe.encode_prompt("blurry", max_sequence_length=PLAIN["max_sequence_length"])
    given = {"negative_prompt_embeds": embeds, "negative_pooled_prompt_embeds": pooled, "true_cfg_scale": 3.0}
    torch.testing.assert_close(render(pipe, STRENGTHS, **given), together, rtol=0, atol=1e-4)
    assert torch.equal(render(pipe, 0.5, negative_prompt="blurry"), render(pipe, 0.5))


def test_callbacks_see_every_step_of_every_chunk(pipe):
    """Progress bars and previews are built on them."""
    seen = []

    def watch(pipeline, step, timestep, tensors):
        seen.append((step, len(tensors["latents"]), len(tensors["prompt_embeds"])))
        return {"latents": tensors["latents"]}

    render(
        pipe, [0, 0.5, 1], strength_batch_size=2, callback_on_step_end=watch,
        callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"],
    )  # fmt: skip
    assert seen == [(0, 2, 2), (1, 2, 2), (0, 1, 1), (1, 1, 1)]


def test_an_interrupt_ends_the_sweep(pipe):
    """`_interrupt` is reset by every parent call: the next chunk would go on."""

    def stop(pipeline, step, timestep, tensors):
        pipeline._interrupt = True
        return {}

    assert len(render(pipe, STRENGTHS, strength_batch_size=1, callback_on_step_end=stop)) == 1
    assert len(render(pipe, STRENGTHS, strength_batch_size=1)) == 4


def test_global_random_state_without_generator(pipe):
    """The parent draws from the global state once; a sweep must too, and not once per chunk."""
    torch.manual_seed(3)
    frames = render(pipe, [0.5, 0.5], strength_batch_size=1, generator=None)
    assert torch.equal(frames[0], frames[1])


# ---- bad values


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), [], True, "0.5", [0.5, None]])
def test_bad_strengths(pipe, strength):
    """Nothing may be encoded or rendered for a value that means nothing."""
    with pytest.raises(ValueError, match="strength"):
        render(pipe, strength)


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_bad_batch_sizes(pipe, size):
    """range() with a step of zero has a message nobody understands."""
    with pytest.raises(InvalidInput, match="strength_batch_size"):
        render(pipe, STRENGTHS, strength_batch_size=size)


@pytest.mark.parametrize("instruction", ["", "   ", [""]])
def test_empty_instructions(pipe, instruction):
    """An empty box in an interface must not start a render."""
    with pytest.raises(InvalidInput, match="instruction"):
        pipe(tiny_image(), instruction, strength=0.5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": ["one", "two"]},
        {"image": [tiny_image(), tiny_image()]},
        {"num_images_per_prompt": 2},
        {"generator": [seeded(), seeded()]},
        {"latents": torch.zeros(3, 64, 16)},
    ],
)
def test_several_edits_in_one_call_are_refused(pipe, arguments):
    """Pairing prompts with strengths by position is a guess; the message says what to do instead."""
    with pytest.raises(InvalidInput, match="strength"):
        pipe(**{"image": tiny_image(), "prompt": "snow", "strength": [0.0, 1.0], **arguments})


def test_lists_of_one_are_accepted(pipe):
    """Generic code passes lists."""
    listed = pipe(
        [tiny_image()], [INSTRUCTION], strength=[0.5], generator=[seeded()], output_type="latent", **PLAIN
    ).images
    assert torch.equal(listed, render(pipe, 0.5))


def test_the_parents_own_complaints_remain(pipe):
    """Our encoding in front of the parent's must not hide its checks."""
    with pytest.raises(ValueError, match="prompt"):
        pipe(tiny_image(), strength=0.5)
    with pytest.raises(ValueError, match="max_sequence_length"):
        pipe(tiny_image(), "snow", strength=0.5, max_sequence_length=1000)
    with pytest.raises(TypeError, match="strenght"):
        pipe(tiny_image(), "snow", strenght=0.5)
    with pytest.raises(TypeError, match="steps"):
        pipe(tiny_image(), "snow", strength=0.5, steps=3)


def test_without_a_slider(plain_pipe):
    """Rendering the plain edit at every strength would look like a slider that does nothing."""
    with pytest.raises(MissingSlider, match="load_slider"):
        render(plain_pipe, 0.5)
    with pytest.raises(MissingSlider), plain_pipe.slider_applied([0.5], torch.zeros(1, 24)):
        pass
    assert not plain_pipe.has_slider


def test_the_projector_must_fit(plain_pipe):
    """A projector of another model would fail in the first block, far from its cause."""
    with pytest.raises(CheckpointError, match="wide"):
        KontextSliderPipeline(**{**plain_pipe.components, "slider_projector": tiny_projector(modulation_dim=64)})


# ---- the model's own defaults


def test_edit_defaults_fill_in(pipe):
    """`pipe(image, instruction, strength=s)` must do the sensible thing on a model that is not FLUX-sized."""
    assert pipe.defaults == EditDefaults(**EDIT_DEFAULTS)
    image = tiny_image(300, 150)
    frame = pipe(image, INSTRUCTION, strength=0.5, generator=seeded()).images[0]
    width, height = frame.size
    assert width / height == pytest.approx(2, rel=0.2) and width * height == pytest.approx(SIDE**2, rel=0.2)
    by_hand = pipe(
        image.resize((width, height), 1), INSTRUCTION, strength=0.5, generator=seeded(), height=height, width=width,
        max_area=width * height, _auto_resize=False, num_inference_steps=2, guidance_scale=2.5,
        max_sequence_length=16,
    ).images[0]  # fmt: skip
    assert frame.size == by_hand.size


def test_what_the_caller_gives_wins(pipe):
    """Defaults that overwrite arguments are not defaults."""
    steps = []
    frame = pipe(
        tiny_image(64, 64), INSTRUCTION, strength=0.5, height=16, width=24, num_inference_steps=3,
        callback_on_step_end=lambda pipeline, step, t, tensors: steps.append(step) or {},
    ).images[0]  # fmt: skip
    assert frame.size == (24, 16) and steps == [0, 1, 2]
    assert pipe(tiny_image(64, 32), INSTRUCTION, strength=0.5, height=16).images[0].size == (32, 16)
    assert pipe(tiny_image(64, 64), INSTRUCTION, strength=0.5, max_area=16 * 16).images[0].size == (16, 16)
    assert pipe(tiny_image(20, 12), INSTRUCTION, strength=0.5, **PLAIN).images[0].size == (SIDE, SIDE)


@pytest.mark.parametrize("asked", ["nothing", "its own size", "height", "width", "max_area", "all"])
def test_the_source_goes_in_at_the_size_of_its_frames(pipe, asked):
    """Sides were rounded twice: a source that is not as large as its frames is distorted, or refused."""
    rng = random.Random(0)
    for _ in range(300):
        width, height = rng.randint(20, 90), rng.randint(20, 90)
        options = {
            "nothing": {},
            "its own size": {"height": height, "width": width},
            "height": {"height": height},
            "width": {"width": width},
            "max_area": {"max_area": width * height},
            "all": {"height": height, "width": width, "max_area": SIDE * SIDE},
        }[asked]
        call = complete_arguments(pipe, {"image": Image.new("RGB", (width, height)), **options}, pipe.defaults)
        size = parent_output_size(pipe, call["height"], call["width"], call["max_area"])
        assert call["image"].size == size[::-1], (width, height)


@pytest.mark.parametrize("kind", ["np", "pt", "latents", "none"])
def test_defaults_take_every_kind_of_source(pipe, kind):
    """The parent takes arrays, tensors, latents and no image at all."""
    array = np.asarray(tiny_image(64, 32), dtype=np.float32)[None] / 255
    image = {
        "np": array,
        "pt": torch.from_numpy(array).permute(0, 3, 1, 2),
        "latents": torch.randn(1, 4, 8, 16),
        "none": None,
    }[kind]
    size = pipe(image, INSTRUCTION, strength=0.5).images[0].size
    assert size == {"np": (48, 24), "pt": (48, 24), "latents": (32, 16), "none": (SIDE, SIDE)}[kind]


def test_without_edit_defaults_the_parents_hold(monkeypatch):
    """FLUX Kontext itself keeps its megapixel, 28 steps and guidance 3.5."""
    pipe = tiny_pipeline(edit_defaults=None)
    assert pipe.defaults == EditDefaults()
    calls = []

    def call(self, **kwargs):
        calls.append(kwargs)
        raise KeyboardInterrupt

    pipe.default_sample_size = 8
    monkeypatch.setattr(FluxKontextPipeline, "__call__", call)
    with pytest.raises(KeyboardInterrupt):
        pipe(torch.randn(1, 4, 8, 8), INSTRUCTION, strength=0.5, max_area=SIDE * SIDE)
    (given,) = calls
    assert (given["num_inference_steps"], given["guidance_scale"], given["max_sequence_length"]) == (28, 3.5, 512)
    assert (given["height"], given["width"], given["prompt"]) == (SIDE, SIDE, None)


def test_unknown_edit_defaults_are_refused():
    """A misspelt key in model_index.json would silently do nothing."""
    with pytest.raises(CheckpointError, match="stepz"):
        tiny_pipeline(edit_defaults={"stepz": 3})


def test_known_instructions_cannot_be_changed_from_outside():
    """They are the model's; a caller that sorts its copy must not change it."""
    pipe = tiny_pipeline(known_instructions=KNOWN_INSTRUCTIONS)
    pipe.known_instructions["snow"].clear()
    assert pipe.known_instructions == KNOWN_INSTRUCTIONS
    assert tiny_pipeline().known_instructions == {}


# ---- state


def state_of(pipe) -> list:
    """LoRA switches, gradients wanted, modules, hooks."""
    found = [(p.requires_grad, p.data_ptr()) for p in pipe.transformer.parameters()]
    for module in pipe.transformer.modules():
        switches = (getattr(module, "_active_adapter", None), getattr(module, "_disable_adapters", None))
        found.append((module, sorted(vars(module)), list(module._modules.values()), switches))
    return found


def test_nothing_stays_after_calls_and_exceptions(pipe):
    """A render that fails half-way must not leave the slider on."""
    add_style(pipe)
    render(pipe)  # the parent's own call leaves a registry of diffusers hooks on the transformer
    before = state_of(pipe)

    def fail(pipeline, step, timestep, tensors):
        raise KeyError

    with pytest.raises(KeyError):
        render(pipe, STRENGTHS, callback_on_step_end=fail)
    assert state_of(pipe) == before
    render(pipe, STRENGTHS)
    render(pipe)
    assert state_of(pipe) == before


def test_unloading(pipe):
    """Without its LoRA a slider renders something it was not trained for."""
    add_style(pipe)
    pipe.unload_slider()
    assert not pipe.has_slider and list(pipe.transformer.peft_config) == ["style"]
    assert pipe.transformer.active_adapters() == ["style"]
    pipe = tiny_pipeline()
    pipe.unload_lora_weights()
    assert not pipe.has_slider
    assert list(pipe.transformer.state_dict()) == list(tiny_pipeline(slider=False).transformer.state_dict())
    pipe = tiny_pipeline()
    add_style(pipe)
    pipe.set_adapters("style")
    pipe.delete_adapters(ADAPTER)
    assert not pipe.has_slider and list(pipe.transformer.peft_config) == ["style"]


def test_a_path_is_a_picture(pipe, tmp_path):
    """The engine takes paths; here one was an error about the shape of a text."""
    tiny_image(48, 24).save(tmp_path / "a.png")
    by_path, by_image = (
        np.asarray(pipe(image, INSTRUCTION, strength=0.5, generator=seeded()).images[0])
        for image in (tmp_path / "a.png", Image.open(tmp_path / "a.png"))
    )
    np.testing.assert_array_equal(by_path, by_image)


def test_training_reaches_projector_and_lora_only_through_the_slider(plain_pipe):
    """A fresh slider must be trainable at once, also with gradient checkpointing, and start at the plain model."""
    plain_pipe.transformer.requires_grad_(False)
    plain_pipe.add_slider(tiny_projector().zero_last_layer(), 2)
    parameters = plain_pipe.slider_parameters()
    assert all(p.requires_grad for p in parameters) and len(parameters) == 10 + 2 * (24 + 6)
    plain_pipe.transformer.enable_gradient_checkpointing()
    tensors = {
        "hidden_states": torch.randn(2, 8, 16),
        "encoder_hidden_states": torch.randn(2, 4, 20),
        "pooled_projections": torch.randn(2, 24),
        "timestep": torch.full((2,), 0.5),
        "guidance": torch.ones(2),
        "img_ids": torch.zeros(8, 3),
        "txt_ids": torch.zeros(4, 3),
    }
    with torch.no_grad():
        plain = plain_pipe.transformer(**tensors).sample
    with plain_pipe.slider_applied([0.2, 0.9], tensors["pooled_projections"]):
        out = plain_pipe.transformer(**tensors).sample
    torch.testing.assert_close(out, plain)
    out.square().mean().backward()
    assert plain_pipe.slider_projector.projector[-1].weight.grad.abs().max() > 0
    lora_b = [p for n, p in plain_pipe.transformer.named_parameters() if "lora_B.slider" in n]
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in lora_b)
    assert all(p.grad is None for n, p in plain_pipe.transformer.named_parameters() if "lora_" not in n)


# ---- ways to run


def test_cpu_offload(pipe):
    """The projector must take its turn in the chain of offloaded models, before the transformer."""
    expected, plain = render(pipe, STRENGTHS), render(pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    torch.testing.assert_close(render(pipe, STRENGTHS, strength_batch_size=3), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(render(pipe), plain)
    assert pipe.transformer._hf_hook.prev_module_hook.model is pipe.slider_projector
    assert pipe.slider_projector._hf_hook.prev_module_hook.model is pipe.text_encoder_2
    pipe.remove_all_hooks()


def test_a_slider_loaded_under_offload_takes_part(plain_pipe, tmp_path):
    """enable_model_cpu_offload before load_slider is the order of every tutorial."""
    plain_pipe.enable_model_cpu_offload(device="cpu")
    plain_pipe.load_slider(write_authors_layout(tmp_path))
    assert plain_pipe.transformer._hf_hook.prev_module_hook.model is plain_pipe.slider_projector
    render(plain_pipe, STRENGTHS)
    plain_pipe.remove_all_hooks()


def test_compiled_blocks_render_the_same(pipe):
    """LoRA switches and offsets must both reach compiled blocks, call after call."""
    expected, plain = render(pipe, STRENGTHS), render(pipe)
    torch._dynamo.reset()
    pipe.transformer.compile_repeated_blocks(backend="eager")
    for _ in range(2):
        torch.testing.assert_close(render(pipe), plain, rtol=0, atol=1e-4)
        torch.testing.assert_close(render(pipe, STRENGTHS), expected, rtol=0, atol=1e-4)
    torch._dynamo.reset()


def test_bfloat16(pipe):
    """Latents, offsets and LoRA must agree on a dtype."""
    pipe.to(torch.bfloat16)
    frames = render(pipe, STRENGTHS)
    assert frames.dtype == torch.bfloat16 and frames.isfinite().all()
    assert (frames[0] - frames[3]).abs().max() > 0.05


def test_from_pipe_keeps_the_weights(plain_pipe):
    """The usual way from a loaded FluxKontextPipeline to this one."""
    pipe = KontextSliderPipeline.from_pipe(parent_of(plain_pipe), dtype=torch.float32)
    assert pipe.transformer is plain_pipe.transformer and not pipe.has_slider


def test_importing_the_package_loads_nothing_heavy():
    """The command line's --help must not wait for torch."""
    heavy = "[name for name in ('torch', 'diffusers', 'gradio') if name in sys.modules]"
    code = f"import sys, kontext_slider; dir(kontext_slider); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_resolves():
    """A name in __all__ without a home fails only when somebody uses it."""
    import kontext_slider

    for name in random.sample(kontext_slider.__all__, len(kontext_slider.__all__)):
        assert getattr(kontext_slider, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        kontext_slider.nothing_such  # noqa: B018
