"""LoRA files in the names of other programs: they change the weights by exactly what they say, or a sentence says why
not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers.loaders import FluxLoraLoaderMixin
from safetensors.torch import load_file, save_file

from kontext_slider.checkpoint import read_lora
from kontext_slider.engine import SliderEngine
from kontext_slider.errors import CheckpointError
from kontext_slider.lora import ADAPTER, slider_layers
from tests.engine.helpers import alike, reference
from tests.tiny import INNER_DIM, INSTRUCTION, tiny_image, tiny_pipeline, write_authors_layout

LORA = "pytorch_lora_weights.safetensors"
D = INNER_DIM
MLP = 4 * D
# A layer in Black Forest Labs' names -> (rank, input features, output features, diffusers' layers with their rows).
LAYERS = {
    "double_blocks.0.img_attn.qkv": (4, D, {"attn.to_q": D, "attn.to_k": D, "attn.to_v": D}),
    "double_blocks.1.txt_attn.qkv": (3, D, {"attn.add_q_proj": D, "attn.add_k_proj": D, "attn.add_v_proj": D}),
    "double_blocks.0.img_attn.proj": (2, D, {"attn.to_out.0": D}),
    "double_blocks.0.txt_attn.proj": (4, D, {"attn.to_add_out": D}),
    "double_blocks.0.img_mlp.0": (4, D, {"ff.net.0.proj": MLP}),
    "double_blocks.0.img_mlp.2": (4, MLP, {"ff.net.2": D}),
    "double_blocks.0.txt_mlp.0": (4, D, {"ff_context.net.0.proj": MLP}),
    "double_blocks.0.txt_mlp.2": (4, MLP, {"ff_context.net.2": D}),
    "double_blocks.0.img_mod.lin": (4, D, {"norm1.linear": 6 * D}),
    "double_blocks.0.txt_mod.lin": (4, D, {"norm1_context.linear": 6 * D}),
    "single_blocks.1.linear1": (4, D, {"attn.to_q": D, "attn.to_k": D, "attn.to_v": D, "proj_mlp": MLP}),
    "single_blocks.0.linear2": (5, D + MLP, {"proj_out": D}),
    "single_blocks.0.modulation.lin": (4, D, {"norm.linear": 3 * D}),
    "img_in": (4, 16, {"x_embedder": D}),
    "time_in.in_layer": (4, 256, {"time_text_embed.timestep_embedder.linear_1": D}),
    "final_layer.linear": (4, D, {"proj_out": 16}),
}
ALPHA = {"single_blocks.0.linear2": 1.0, "double_blocks.0.img_attn.qkv": 7.0, "final_layer.linear": 0.5}


def alpha_of(layer: str) -> float:
    return ALPHA.get(layer, 3.0)


@pytest.fixture
def matrices() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(down, up) by Black Forest Labs' names."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return {
        name: (random(rank, width), random(sum(parts.values()), rank)) for name, (rank, width, parts) in LAYERS.items()
    }


def diffusers_name(foreign: str, layer: str) -> str:
    kind, _, rest = foreign.partition("_blocks.")
    block = rest.split(".")[0]
    stems = {"double": f"transformer_blocks.{block}.", "single": f"single_transformer_blocks.{block}."}
    return stems.get(kind, "") + layer


def expected(matrices, with_alpha: bool = True) -> dict[str, torch.Tensor]:
    """What each of diffusers' layers is changed by."""
    changes = {}
    for foreign, (down, up) in matrices.items():
        scale = alpha_of(foreign) / len(down) if with_alpha else 1.0
        parts = LAYERS[foreign][2]
        change = scale * up.double() @ down.double()
        for layer, rows in zip(parts, change.split(list(parts.values())), strict=True):
            changes[diffusers_name(foreign, layer)] = rows.float()
    return changes


def in_names(matrices, name, down_word, up_word) -> dict[str, torch.Tensor]:
    tensors = {}
    for layer, (down, up) in matrices.items():
        tensors[f"{name(layer)}.{down_word}.weight"] = down
        tensors[f"{name(layer)}.{up_word}.weight"] = up
        tensors[f"{name(layer)}.alpha"] = torch.tensor(alpha_of(layer))
    return tensors


def unfused(matrices, name, down_word="lora_A", up_word="lora_B", alphas=True) -> dict[str, torch.Tensor]:
    """The same changes, one pair for each of diffusers' layers."""
    tensors = {}
    for foreign, (down, up) in matrices.items():
        parts = LAYERS[foreign][2]
        for layer, rows in zip(parts, up.split(list(parts.values())), strict=True):
            full = name(diffusers_name(foreign, layer))
            tensors[f"{full}.{down_word}.weight"] = down.clone()
            tensors[f"{full}.{up_word}.weight"] = rows.contiguous()
            if alphas:
                tensors[f"{full}.alpha"] = torch.tensor(alpha_of(foreign))
    return tensors


KOHYA, PEFT = ("lora_down", "lora_up"), ("lora_A", "lora_B")
DIALECTS = {  # how the file is made, of which names, with which words for the two matrices
    "kohya": (in_names, lambda name: "lora_unet_" + name.replace(".", "_"), *KOHYA),
    "ComfyUI": (in_names, lambda name: "diffusion_model." + name, *KOHYA),
    "ComfyUI with peft's words": (in_names, lambda name: "diffusion_model." + name, *PEFT),
    "checkpoint": (in_names, lambda name: "model.diffusion_model." + name, *KOHYA),
    "bare": (in_names, lambda name: name, *PEFT),
    "fal": (in_names, lambda name: "base_model.model." + name, *PEFT),
    "ai-toolkit": (unfused, lambda name: "transformer." + name, *PEFT),
    "kohya of diffusers' layers": (unfused, lambda name: "lora_transformer_" + name.replace(".", "_"), *KOHYA),
    "old diffusers": (unfused, lambda name: "transformer." + name, "lora.down", "lora.up"),
    "peft": (unfused, lambda name: "base_model.model." + name, *PEFT),
    "peft with adapter": (unfused, lambda name: "base_model.model." + name, "lora_A.default", "lora_B.default"),
}


def written_by(dialect: str, matrices) -> dict[str, torch.Tensor]:
    make, *words = DIALECTS[dialect]
    return make(matrices, *words)


def load_with_lora(folder: Path, tensors: dict[str, torch.Tensor]):
    """A pipeline with the slider of `folder`, whose LoRA file is this one."""
    write_authors_layout(folder)
    save_file(tensors, folder / LORA)
    pipe = tiny_pipeline(slider=False)
    pipe.load_slider(folder)
    return pipe


def assert_changes(pipe, changes: dict[str, torch.Tensor]) -> None:
    assert len(slider_layers(pipe.transformer)) == len(changes)
    for name, change in changes.items():
        layer = pipe.transformer.get_submodule(name)
        torch.testing.assert_close(
            layer.get_delta_weight(ADAPTER), change, rtol=0, atol=2e-6 * change.abs().max().item()
        )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_changes_the_weights_by_what_it_says(dialect, matrices, tmp_path):
    """AttributeError, KeyError or "no LoRA of a FLUX transformer", for files that are one."""
    pipe = load_with_lora(tmp_path, written_by(dialect, matrices))
    assert_changes(pipe, expected(matrices))
    pipe.save_slider(tmp_path / "again")
    again = tiny_pipeline(slider=False)
    again.load_slider(tmp_path / "again")
    assert_changes(again, expected(matrices))


def test_without_alphas_the_scale_is_one(matrices, tmp_path):
    """peft's own default alpha is 8; layers of an unusual rank would act with the usual rank's scale."""
    tensors = {name: value for name, value in written_by("kohya", matrices).items() if not name.endswith(".alpha")}
    assert_changes(load_with_lora(tmp_path, tensors), expected(matrices, with_alpha=False))


def test_layers_without_an_alpha_beside_layers_with_one(matrices, tmp_path):
    """diffusers gives the layers without one the alpha that most others have."""
    tensors, without = written_by("ComfyUI", matrices), "single_blocks.0.linear2"
    del tensors[f"diffusion_model.{without}.alpha"]
    changes = expected(matrices) | {
        name: change
        for name, change in expected(matrices, with_alpha=False).items()
        if name == "single_transformer_blocks.0.proj_out"
    }
    assert_changes(load_with_lora(tmp_path, tensors), changes)


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_alphas_of_a_configuration_beside_the_file(rank_stabilised, matrices, tmp_path):
    """peft keeps alphas in another file than the matrices: without it every layer acts with another scale."""
    tensors = unfused(matrices, lambda name: "base_model.model." + name, alphas=False)
    config = {
        "peft_type": "LORA",
        "lora_alpha": 6,
        "alpha_pattern": {"attn.to_q": 10},
        "use_rslora": rank_stabilised,
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    changes = {}
    for name, change in expected(matrices, with_alpha=False).items():
        rank = tensors[f"base_model.model.{name}.lora_A.weight"].shape[0]
        alpha = 10 if name.endswith("attn.to_q") else 6
        changes[name] = change * alpha / (rank**0.5 if rank_stabilised else rank)
    assert_changes(load_with_lora(tmp_path, tensors), changes)


def test_the_last_modulation_has_its_halves_the_other_way_round(tmp_path):
    """Black Forest Labs say shift, scale; diffusers says scale, shift."""
    down, up = torch.randn(4, D), torch.randn(2 * D, 4)
    stem = "lora_unet_final_layer_adaLN_modulation_1"
    pipe = load_with_lora(tmp_path, {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up})
    shift, scale = (up @ down).chunk(2)
    assert_changes(pipe, {"norm_out.linear": torch.cat([scale, shift])})


def test_xlabs_names(tmp_path):
    """XLabs' files name the processors of attention and not its layers."""
    wide, tall = torch.randn(4, D), torch.randn(3 * D, 4)
    out = torch.randn(D, 4)
    tensors = {
        "double_blocks.0.processor.qkv_lora1.down.weight": wide,
        "double_blocks.0.processor.qkv_lora1.up.weight": tall,
        "double_blocks.0.processor.proj_lora2.down.weight": wide.clone(),
        "double_blocks.0.processor.proj_lora2.up.weight": out,
    }
    changes = {
        f"transformer_blocks.0.attn.{name}": rows
        for name, rows in zip(("to_q", "to_k", "to_v"), (tall @ wide).chunk(3), strict=True)
    }
    changes["transformer_blocks.0.attn.to_add_out"] = out @ wide
    assert_changes(load_with_lora(tmp_path, tensors), changes)


def test_the_names_mean_what_diffusers_means_by_them(tmp_path):
    """A table of our own can be wrong in itself: at FLUX's width it agrees with the library's."""
    widths = {
        "double_blocks_3_img_attn_qkv": (3072, 9216),
        "double_blocks_18_txt_attn_qkv": (3072, 9216),
        "double_blocks_3_img_attn_proj": (3072, 3072),
        "double_blocks_3_txt_attn_proj": (3072, 3072),
        "double_blocks_3_img_mlp_0": (3072, 12288),
        "double_blocks_3_img_mlp_2": (12288, 3072),
        "double_blocks_3_txt_mlp_0": (3072, 12288),
        "double_blocks_3_txt_mlp_2": (12288, 3072),
        "double_blocks_3_img_mod_lin": (3072, 18432),
        "double_blocks_3_txt_mod_lin": (3072, 18432),
        "single_blocks_37_linear1": (3072, 21504),
        "single_blocks_37_linear2": (15360, 3072),
        "single_blocks_37_modulation_lin": (3072, 9216),
    }
    tensors = {}
    for name, (width, rows) in widths.items():
        tensors[f"lora_unet_{name}.lora_down.weight"] = torch.randn(2, width)
        tensors[f"lora_unet_{name}.lora_up.weight"] = torch.randn(rows, 2)
        tensors[f"lora_unet_{name}.alpha"] = torch.tensor(0.5)
    save_file(tensors, tmp_path / LORA)
    ours, theirs = read_lora(tmp_path), FluxLoraLoaderMixin.lora_state_dict(str(tmp_path), weight_name=LORA)
    assert ours.tensors.keys() == theirs.keys()
    for layer, (down, up) in ours.pairs().items():
        key = f"transformer.{layer}"
        some = torch.randn(down.shape[1])
        wanted = theirs[f"{key}.lora_B.weight"] @ (theirs[f"{key}.lora_A.weight"] @ some)
        torch.testing.assert_close(ours.alphas[key] / len(down) * (up @ (down @ some)), wanted, rtol=1e-4, atol=1e-4)


STEM = "lora_unet_double_blocks_0_img_attn_proj"
TWO = {f"{STEM}.lora_down.weight": torch.ones(4, D), f"{STEM}.lora_up.weight": torch.ones(D, 4)}
QKV = "diffusion_model.double_blocks.0.img_attn.qkv"
WRONG = {
    "half a pair": ({f"{STEM}.lora_down.weight": torch.ones(4, D)}, "one matrix of two"),
    "an alpha alone": (
        {**TWO, "lora_unet_img_in.alpha": torch.tensor(1.0)},
        "one matrix of two for 'lora_unet_img_in'",
    ),
    "half a fused pair": ({f"{QKV}.lora_B.weight": torch.ones(3 * D, 4)}, "one matrix of two"),
    "ranks that differ": ({**TWO, f"{STEM}.lora_up.weight": torch.ones(D, 3)}, "do not fit each other"),
    "rows that are not three parts": (
        {f"{QKV}.lora_A.weight": torch.ones(4, D), f"{QKV}.lora_B.weight": torch.ones(3 * D + 1, 4)},
        "do not fit each other",
    ),
    "another width": (
        {f"{STEM}.lora_down.weight": torch.ones(4, 64), f"{STEM}.lora_up.weight": torch.ones(64, 4)},
        "64 -> 64 features, and this transformer's has 32 -> 32",
    ),
    "a block that is not there": (
        {name.replace("_0_", "_18_"): value for name, value in TWO.items()},
        "'transformer_blocks.18.attn.to_out.0', which this transformer does not have",
    ),
    "an alpha that is no number": ({**TWO, f"{STEM}.alpha": torch.tensor(float("nan"))}, "one finite number"),
    "DoRA": ({**TWO, f"{STEM}.dora_scale": torch.ones(D)}, "holds DoRA"),
    "peft's DoRA": ({"transformer.proj_out.lora_magnitude_vector": torch.ones(D)}, "holds DoRA"),
    "LoHa": ({"lora_unet_double_blocks_0_img_attn_proj.hada_w1_a": torch.ones(D, 4)}, "holds LoHa"),
    "LoKr": ({"lora_unet_double_blocks_0_img_attn_proj.lokr_w1": torch.ones(4, 4)}, "holds LoKr"),
    "whole differences": ({**TWO, f"{STEM}.diff_b": torch.ones(D)}, "full-weight differences"),
    "biases": ({"transformer.proj_out.lora_B.bias": torch.ones(D)}, "holds biases"),
    "a text encoder, kohya's": (
        {**TWO, "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(4, D)},
        "also changes a text encoder",
    ),
    "a text encoder, ComfyUI's": (
        {"text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": torch.ones(4, D)},
        "also changes a text encoder",
    ),
    "OFT": ({"lora_unet_double_blocks_0_img_attn_proj.oft_blocks": torch.ones(4, 4)}, "holds OFT"),
    "no LoRA at all": ({"double_blocks.0.img_attn.qkv.weight": torch.ones(D, D)}, "no LoRA of a FLUX transformer"),
    "SDXL": (
        {f"lora_unet_down_blocks_0_proj_in.lora_{x}.weight": torch.ones(D, D) for x in ("down", "up")},
        "no LoRA of a FLUX transformer",
    ),
    "two LoRAs in one": (
        {**TWO, **{f"transformer.transformer_blocks.0.attn.to_out.0.lora_{x}.weight": torch.ones(D, D) for x in "AB"}},
        "two LoRAs for the layer",
    ),
}


@pytest.mark.parametrize(("tensors", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_said(tensors, words, tmp_path):
    """Untrue sentences, tracebacks, or half of a file loaded without a word."""
    with pytest.raises(CheckpointError, match=words) as caught:
        load_with_lora(tmp_path, {name: value.clone() for name, value in tensors.items()})
    assert LORA in str(caught.value)


@pytest.mark.parametrize("config", [b"{", b"[1, 2]", b"\xff\xfe", b'{"use_dora": true}'], ids=str)
def test_a_wrong_configuration_beside_the_file_is_said(config, matrices, tmp_path):
    """A traceback of a JSON library."""
    (tmp_path / "adapter_config.json").write_bytes(config)
    with pytest.raises(CheckpointError, match="adapter_config.json|DoRA"):
        load_with_lora(tmp_path, written_by("peft", matrices))


@pytest.mark.parametrize("header", ["{", "[1]", '{"transformer.r": 99}', '{"transformer.use_dora": true}'])
def test_a_wrong_header_is_said(header, matrices, tmp_path):
    """The header is the configuration: other ranks there than in the matrices are another LoRA."""
    write_authors_layout(tmp_path)
    save_file(load_file(tmp_path / LORA), tmp_path / LORA, metadata={"lora_adapter_metadata": header})
    with pytest.raises(CheckpointError):
        tiny_pipeline(slider=False).load_slider(tmp_path)


def test_the_engine_uses_every_layer_of_it(matrices, tmp_path):
    """The engine prepares layers that a slider's own LoRA leaves alone: what is changed there must reach its frames."""
    pipe = load_with_lora(tmp_path, {name: value * 0.3 for name, value in written_by("kohya", matrices).items()})
    with SliderEngine(pipe).open(tiny_image(), INSTRUCTION, seed=3) as session:
        frame = session.render(0.7)
        assert alike(frame, reference(pipe, session, 0.7))
        pipe.load_slider(write_authors_layout(tmp_path / "other"))
        assert not alike(frame, reference(pipe, session, 0.7))
