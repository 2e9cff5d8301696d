"""Sliders and whole pipelines on disk: both layouts, round trips, and files that are not what they should be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest
import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from kontext_slider import KontextSliderPipeline, hub
from kontext_slider.errors import CheckpointError, DiskError, MissingSlider
from kontext_slider.lora import ADAPTER, slider_lora_parameters, take_lora
from tests.mounts import mounted
from tests.renders import STRENGTHS, add_style, render, state_of
from tests.tiny import KNOWN_INSTRUCTIONS, tiny_pipeline, tiny_projector, tiny_transformer, write_authors_layout

LORA = "pytorch_lora_weights.safetensors"


def assert_same_frames(one, other) -> None:
    torch.testing.assert_close(render(one, STRENGTHS), render(other, STRENGTHS), rtol=0, atol=1e-5)


# ---- adapters


def test_saved_slider_loads_onto_the_base(pipe, plain_pipe, tmp_path):
    """The adapter folder alone must reproduce the slider on a fresh base."""
    pipe.save_slider(tmp_path)
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
    weights = ["slider_projector/config.json", "slider_projector/diffusion_pytorch_model.safetensors"]
    assert files == ["README.md", "checksums.json", LORA, *weights]
    assert not plain_pipe.has_slider
    plain_pipe.load_slider(tmp_path)
    assert plain_pipe.has_slider
    assert_same_frames(plain_pipe, pipe)


def test_card_says_what_it_is_and_names_no_local_path(pipe, tmp_path):
    """A card with the path of the machine it was made on tells strangers about that machine."""
    pipe.save_pretrained(tmp_path / "model")
    again = KontextSliderPipeline.from_pretrained(tmp_path / "model")
    again.save_slider(tmp_path / "slider")
    again.save_pretrained(tmp_path / "again")
    card = (tmp_path / "slider" / "README.md").read_text()
    assert "LoRA rank | 4" in card and "library_name: diffusers" in card
    pipe.save_slider(tmp_path / "own", card="mine")
    assert (tmp_path / "own" / "README.md").read_text() == "mine"
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert str(tmp_path).encode() not in file.read_bytes(), file


FOREIGN = {
    "notes.json": b'{"_name_or_path": "/home/me/model",  "b": 1, "a": 2}',
    "transformer/my_config.json": b'{"name_or_path": "/home/me/model", "b": 1}',
    "slider_projector/other_config.json": b'{"_name_or_path": "/home/me/model"}',
    "mine/config.json": b'{"_name_or_path": "/home/me/model"}',
    "list.json": b"[1, 2]",
    "broken.json": b'{"a',
    "latin-1.json": b'{"caf\xe9": 1}',
    "README.md": b"# My project\n",
}


@pytest.mark.parametrize("save", ["save_slider", "save_pretrained"])
def test_a_full_disk_is_told(pipe, tmp_path, save):
    """At the end of a training, the library that writes safetensors ended it with an error of its own."""
    told = pytest.raises(DiskError, match=r"Could not write .*No space left on device.*make room")
    with mounted(tmp_path / "full", "-t", "tmpfs", "-o", "size=8k", "tmpfs") as folder, told:
        getattr(pipe, save)(folder / "out")


@pytest.mark.parametrize("whole", [False, True], ids=["slider", "pipeline"])
def test_other_files_of_the_folder_stay_as_they_are(whole, pipe, tmp_path):
    """Saving rewrote every JSON file that it found, and ended in a traceback at one that was not JSON in UTF-8."""
    pipe.save_pretrained(tmp_path / "first")
    again = KontextSliderPipeline.from_pretrained(tmp_path / "first")
    folder = tmp_path / "second"
    for name, content in FOREIGN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "folder.json").mkdir()
    (again.save_pretrained if whole else again.save_slider)(folder)
    for name, content in FOREIGN.items():
        assert (folder / name).read_bytes() == content, name
    tiny_pipeline(slider=False).load_slider(folder)


def test_a_card_of_our_own_is_written_anew(pipe, tmp_path):
    """A slider that is saved over another one keeps the other one's facts on its card."""
    pipe.save_slider(tmp_path)
    tiny_pipeline(rank=2).save_slider(tmp_path)
    assert "LoRA rank | 2" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_bytes(b"caf\xe9")
    pipe.save_slider(tmp_path, card="mine")
    assert (tmp_path / "README.md").read_text() == "mine"


def test_authors_layout_round_trips_through_ours(plain_pipe, tmp_path):
    """Sizes of the authors' file are inferred from its tensors; ours carries them."""
    plain_pipe.load_slider(write_authors_layout(tmp_path / "theirs"))
    assert dict(plain_pipe.slider_projector.config)["modulation_dim"] == 32
    plain_pipe.save_slider(tmp_path / "ours")
    again = tiny_pipeline(slider=False)
    again.load_slider(tmp_path, subfolder="ours")
    assert_same_frames(again, plain_pipe)
    tensors = torch.load(tmp_path / "theirs" / "slider_projector.pth", weights_only=True)
    assert set(load_file(tmp_path / "ours/slider_projector/diffusion_pytorch_model.safetensors")) == set(tensors)


def test_a_second_slider_replaces_the_first(pipe, tmp_path):
    """Two sliders at once would add up."""
    pipe.load_slider(write_authors_layout(tmp_path, rank=2))
    fresh = tiny_pipeline(slider=False)
    fresh.load_slider(tmp_path)
    assert list(pipe.transformer.peft_config) == [ADAPTER]
    assert_same_frames(pipe, fresh)


def test_other_adapters_keep_their_state(plain_pipe, tmp_path):
    """peft activates what it loads and switches everything else off."""
    add_style(plain_pipe)
    before = render(plain_pipe)
    plain_pipe.load_slider(write_authors_layout(tmp_path))
    assert torch.equal(render(plain_pipe), before)
    plain_pipe.load_slider(tmp_path)
    assert plain_pipe.transformer.active_adapters() == ["style"]
    assert torch.equal(render(plain_pipe), before)
    assert not any(p.requires_grad for p in slider_lora_parameters(plain_pipe.transformer))


def test_alpha_is_the_rank_where_the_file_is_silent_and_the_files_where_not(plain_pipe, tmp_path):
    """peft's own default alpha is 8: a released rank-4 LoRA would act twice as strongly."""
    plain_pipe.load_slider(write_authors_layout(tmp_path))
    layer = plain_pipe.transformer.transformer_blocks[0].attn.to_q
    assert layer.scaling[ADAPTER] == 1.0
    tensors = load_file(tmp_path / LORA)
    alphas = {n.replace("lora_A.weight", "alpha"): torch.tensor(2.0) for n in tensors if n.endswith("lora_A.weight")}
    save_file({**tensors, **alphas}, tmp_path / LORA)
    plain_pipe.load_slider(tmp_path)
    layer = plain_pipe.transformer.transformer_blocks[0].attn.to_q
    assert layer.scaling[ADAPTER] == 0.5
    plain_pipe.save_slider(tmp_path / "again")
    plain_pipe.load_slider(tmp_path / "again")
    assert plain_pipe.transformer.transformer_blocks[0].attn.to_q.scaling[ADAPTER] == 0.5


def test_saving_without_a_slider(plain_pipe, tmp_path):
    """An empty adapter folder would be found out by whoever downloads it."""
    with pytest.raises(MissingSlider):
        plain_pipe.save_slider(tmp_path / "slider")
    plain_pipe.slider_projector = tiny_projector()
    with pytest.raises(MissingSlider, match="LoRA"):
        plain_pipe.save_slider(tmp_path / "slider")
    assert not (tmp_path / "slider").exists()


# ---- files that are wrong


PROJECTOR = "slider_projector.pth"
KEY = "transformer.transformer_blocks.1.attn.to_k.lora_A.weight"
TWO = [f"transformer.transformer_blocks.9.attn.to_k.lora_{part}.weight" for part in "AB"]


def projector_of(change):
    """Write what `change` makes of the projector's tensors."""

    def damage(folder: Path) -> None:
        torch.save(change(torch.load(folder / PROJECTOR, weights_only=True)), folder / PROJECTOR)

    return damage


def lora_of(change):
    """Write what `change` makes of the LoRA's tensors."""
    return lambda folder: save_file(change(load_file(folder / LORA)), folder / LORA)


BREAKS = {
    "nothing there": lambda folder: (folder / PROJECTOR).unlink(),
    "no lora": lambda folder: (folder / LORA).unlink(),
    "lora bytes": lambda folder: (folder / LORA).write_bytes(b"not safetensors"),
    "projector bytes": lambda folder: (folder / PROJECTOR).write_bytes(b"broken"),
    "projector keys": projector_of(lambda found: {**found, "projector.2.weight": found["projector.2.weight"][:3]}),
    "projector kind": projector_of(lambda found: {"weight": torch.zeros(2, 2)}),
    "projector width": projector_of(lambda found: tiny_projector(modulation_dim=64).state_dict()),
    "pooled width": projector_of(lambda found: tiny_projector(pooled_dim=20).state_dict()),
    "projector names": projector_of(lambda found: {**found, "projector.x.weight": torch.zeros(2, 2)}),
    "projector values": projector_of(lambda found: dict.fromkeys(found, 1.0)),
    "strength width": projector_of(
        lambda found: {**found, "pe_extender.weight": torch.zeros(len(found["pe_extender.weight"]), 3)}
    ),
    "pickle": projector_of(lambda found: {"projector": Path("x"), "model": tiny_projector()}),
    "lora shape": lora_of(lambda found: {**found, KEY: torch.zeros(4, 7)}),
    "lora pair": lora_of(lambda found: {name: value for name, value in found.items() if "to_q.lora_B" not in name}),
    "lora rank": lora_of(lambda found: {**found, KEY: found[KEY][:2].contiguous()}),
    "lora dimension": lora_of(lambda found: {**found, KEY: found[KEY][0].contiguous()}),
    "lora module": lora_of(lambda found: {**found, TWO[0]: torch.zeros(4, 32), TWO[1]: torch.zeros(32, 4)}),
    "lora owner": lora_of(lambda found: {"text_encoder.q_proj.lora_A.weight": torch.zeros(4, 32)}),
}


@pytest.mark.parametrize("damage", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("loaded", [False, True], ids=["onto the base", "onto a slider"])
def test_wrong_files_change_nothing(damage, loaded, tmp_path):
    """Half a slider renders pictures, and they are wrong."""
    pipe = tiny_pipeline(slider=loaded)
    damage(write_authors_layout(tmp_path))
    before, projector = state_of(pipe), pipe.slider_projector
    with pytest.raises(CheckpointError):
        pipe.load_slider(tmp_path)
    assert state_of(pipe) == before and pipe.slider_projector is projector


CONFIGS = [b"\xff\xfe\x00\x80", b'{"pooled', {"hidden_dim": -4}, {"highest_strength": "1"}, {"highest_strength": None}]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_wrong_configuration_is_a_sentence(config, plain_pipe, tmp_path):
    """A truncated file, or a value that fails at the first frame, long after the loading went well."""
    tiny_pipeline().save_slider(tmp_path)
    (tmp_path / "checksums.json").unlink()
    file = tmp_path / "slider_projector" / "config.json"
    data = config if isinstance(config, bytes) else json.dumps({**json.loads(file.read_text()), **config}).encode()
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="not readable|config.json is damaged"):
        plain_pipe.load_slider(tmp_path)
    assert not plain_pipe.has_slider


def test_a_failure_inside_the_library_is_rolled_back(pipe, tmp_path, monkeypatch):
    """What no check foresees must not cost the slider that was there."""
    expected, plain = render(pipe, STRENGTHS), FluxTransformer2DModel.load_lora_adapter
    calls = []

    def fail_once(self, *args, **kwargs):
        calls.append(1)
        plain(self, *args, **kwargs)
        if len(calls) == 1:
            raise RuntimeError("no more memory")

    monkeypatch.setattr(FluxTransformer2DModel, "load_lora_adapter", fail_once)
    with pytest.raises(CheckpointError, match="no more memory"):
        pipe.load_slider(write_authors_layout(tmp_path))
    torch.testing.assert_close(render(pipe, STRENGTHS), expected, rtol=0, atol=1e-5)


def test_our_layout_with_missing_tensors(pipe, plain_pipe, tmp_path):
    """diffusers fills missing weights with random ones and only logs it."""
    pipe.save_slider(tmp_path)
    (tmp_path / "checksums.json").unlink()
    file = tmp_path / "slider_projector" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["projector.4.bias"]
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match="projector.4.bias"):
        plain_pipe.load_slider(tmp_path)
    (tmp_path / "slider_projector" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config.json is damaged"):
        plain_pipe.load_slider(tmp_path)


# ---- the hub


def hub_answer(error: type[Exception]):
    def answer(*args, **kwargs):
        if issubclass(error, HfHubHTTPError):
            raise error("no", response=httpx.Response(403, request=httpx.Request("GET", "https://hub")))
        raise error("no")

    return answer


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (GatedRepoError, "accept its licence"),
        (RepositoryNotFoundError, "Check the spelling"),
        (LocalEntryNotFoundError, "cannot be reached"),
        (HfHubHTTPError, "cannot be reached"),
        (httpx.ConnectError, "cannot be reached"),
    ],
)
def test_hub_troubles_get_their_sentence(plain_pipe, monkeypatch, error, sentence):
    """A traceback of an HTTP library is not an answer."""
    monkeypatch.setattr(hub, "snapshot_download", hub_answer(error))
    with pytest.raises(CheckpointError, match=sentence):
        plain_pipe.load_slider("somebody/slider")


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "a/b/c", "not a name!", Path("nowhere")])
def test_sources_that_are_neither_folder_nor_hub_id(plain_pipe, source):
    """A misspelt folder must not be asked of the hub."""
    with pytest.raises(CheckpointError, match="folder"):
        plain_pipe.load_slider(source)


def test_hub_repository_of_either_layout(plain_pipe, monkeypatch, tmp_path):
    """Only the slider's files are fetched, with the caller's options, from the subfolder asked for."""
    asked = {}
    write_authors_layout(tmp_path / "v2")

    def snapshot(name, allow_patterns, **options):
        asked.update(name=name, patterns=allow_patterns, **options)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    plain_pipe.load_slider("somebody/slider", subfolder="v2", revision="abc", token="t")
    assert plain_pipe.has_slider
    assert (asked["name"], asked["revision"], asked["token"]) == ("somebody/slider", "abc", "t")
    assert f"v2/{LORA}" in asked["patterns"] and "v2/slider_projector.pth" in asked["patterns"]


def test_whole_pipeline_from_the_hub(pipe, monkeypatch, tmp_path):
    """diffusers refuses repositories that name a component class of another package."""
    pipe.save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    monkeypatch.setattr(hub, "hf_hub_download", lambda name, file, **options: str(index))
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **options: str(tmp_path))
    again = KontextSliderPipeline.from_pretrained("somebody/pocket")
    again.set_progress_bar_config(disable=True)
    assert_same_frames(again, pipe)


# ---- whole pipelines


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_pipeline_in_the_hubs_cache_is_checked_as_a_folder(pipe, plain_pipe, monkeypatch, tmp_path, is_ours):
    """A configuration that was changed in the cache asked for all memory, as it was compared with the tensors only in
    folders."""
    (pipe if is_ours else plain_pipe).save_pretrained(tmp_path)
    (tmp_path / hub.CHECKSUMS).unlink()
    config = tmp_path / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_layers": 10**6}))
    monkeypatch.setattr(hub, "download_pipeline", lambda name, **options: tmp_path if is_ours else None)
    monkeypatch.setattr(FluxKontextPipeline, "download", classmethod(lambda cls, name, **options: str(tmp_path)))
    with pytest.raises(CheckpointError, match=r"transformer.config\.json.*num_layers is 1000000"):
        KontextSliderPipeline.from_pretrained("somebody/pocket")


def test_pipeline_survives_saving(tmp_path):
    """Projector, LoRA, defaults and instructions must all come back, and nothing of peft be in the base."""
    pipe = tiny_pipeline(known_instructions=KNOWN_INSTRUCTIONS)
    before = state_of(pipe)
    pipe.save_pretrained(tmp_path)
    assert state_of(pipe) == before
    saved = load_file(tmp_path / "transformer" / "diffusion_pytorch_model.safetensors")
    assert set(saved) == set(tiny_transformer().state_dict())
    again = KontextSliderPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.defaults == pipe.defaults and again.known_instructions == KNOWN_INSTRUCTIONS
    torch.testing.assert_close(render(again), render(pipe), rtol=0, atol=1e-5)
    assert_same_frames(again, pipe)
    again.load_slider(tmp_path)  # a whole pipeline's folder is a slider's folder too
    again.load_slider(tmp_path / "slider_projector")
    assert_same_frames(again, pipe)


def test_pipeline_without_slider_survives_saving(plain_pipe, tmp_path):
    """The base alone is a pipeline, also over a folder that held a slider before."""
    tiny_pipeline().save_pretrained(tmp_path)
    plain_pipe.save_pretrained(tmp_path)
    again = KontextSliderPipeline.from_pretrained(tmp_path)
    assert not again.has_slider and take_lora(again.transformer) is None
    assert json.loads((tmp_path / "model_index.json").read_text())["slider_projector"] == [None, None]


def test_projector_alone_survives_saving(plain_pipe, tmp_path):
    """A stale LoRA of the folder's former slider must not join the new projector."""
    tiny_pipeline().save_pretrained(tmp_path)
    plain_pipe.slider_projector = tiny_projector()
    plain_pipe.save_pretrained(tmp_path)
    again = KontextSliderPipeline.from_pretrained(tmp_path)
    assert again.has_slider and take_lora(again.transformer) is None


def test_half_precision_on_disk(pipe, tmp_path):
    """Shipped weights are half precision and must run in float32 on a CPU, every part of them."""
    pipe.to(torch.float16).save_pretrained(tmp_path)
    assert load_file(tmp_path / "slider_projector" / LORA).popitem()[1].dtype == torch.float16
    again = KontextSliderPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    parts = (again.transformer, again.vae, again.text_encoder, again.text_encoder_2, again.slider_projector)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32}
    assert_same_frames(again, pipe.to(torch.float32))
    half = KontextSliderPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    assert render(half, 0.5).dtype == torch.bfloat16


def test_both_names_of_the_projectors_module_resolve(pipe, tmp_path):
    """A model_index.json written by hand may name the package and not the module."""
    pipe.save_pretrained(tmp_path)
    (tmp_path / "checksums.json").unlink()
    file = tmp_path / "model_index.json"
    index = json.loads(file.read_text())
    assert index["slider_projector"] == ["kontext_slider.projector", "StrengthProjector"]
    file.write_text(json.dumps({**index, "slider_projector": ["kontext_slider", "StrengthProjector"]}))
    assert KontextSliderPipeline.from_pretrained(tmp_path).has_slider


def test_a_callers_projector_comes_without_the_folders_lora(pipe, tmp_path):
    """The folder's LoRA belongs to the folder's projector."""
    pipe.save_pretrained(tmp_path)
    again = KontextSliderPipeline.from_pretrained(tmp_path, slider_projector=None)
    assert not again.has_slider and take_lora(again.transformer) is None


def test_a_damaged_lora_stops_the_loading(pipe, tmp_path):
    """A pipeline that comes up without its LoRA would render something else."""
    pipe.save_pretrained(tmp_path)
    (tmp_path / "checksums.json").unlink()
    shutil.copy(tmp_path / "model_index.json", tmp_path / "slider_projector" / LORA)
    with pytest.raises(CheckpointError, match="LoRA"):
        KontextSliderPipeline.from_pretrained(tmp_path)
