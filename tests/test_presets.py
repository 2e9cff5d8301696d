"""The one door to a model: names, folders and hub ids, and a sentence for each way in which it can stay shut."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import httpx2
import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from kontext_slider import presets
from kontext_slider.engine import SliderEngine
from kontext_slider.errors import CheckpointError, InvalidInput, MissingSlider
from kontext_slider.presets import PRESETS, Preset, choose_device, choose_dtype, load_pipeline
from tests.engine.helpers import held_bytes
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline, write_authors_layout

KONTEXT = PRESETS["kontext-dev"]


@pytest.fixture(scope="module")
def half_folder(tmp_path_factory):
    """A whole pipeline with its slider on disk, in half precision, as the pocket model is shipped."""
    folder = tmp_path_factory.mktemp("whole")
    tiny_pipeline().to(dtype=torch.float16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    tiny_pipeline(slider=False).save_pretrained(folder)
    return folder


def dtypes(pipe) -> set[torch.dtype]:
    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    return {parameter.dtype for module in modules for parameter in module.parameters()}


def test_a_folder_of_half_precision_loads_as_float32_on_the_cpu(half_folder):
    """Half-precision arithmetic on a CPU is slow, and some of it is missing."""
    pipe = load_pipeline(str(half_folder), device="cpu")
    assert dtypes(pipe) == {torch.float32} and pipe.has_slider
    assert SliderEngine(pipe).open(tiny_image(), INSTRUCTION).render(0.5).size == (32, 32)


def test_the_dtype_reaches_every_part(half_folder):
    """The slider stays in the precision of its file and the first render fails on mixed types."""
    pipe = load_pipeline(str(half_folder), device="cpu", dtype="bfloat16")
    assert dtypes(pipe) == {torch.bfloat16}
    assert SliderEngine(pipe).open(tiny_image(), INSTRUCTION).render(0.5).size == (32, 32)


def test_low_vram_leaves_the_encoders_out(half_folder):
    """The flag is taken and nothing is smaller."""
    whole, small = (load_pipeline(str(half_folder), device="cpu", low_vram=flag) for flag in (False, True))
    assert held_bytes(small) < held_bytes(whole)
    assert SliderEngine(small).open(tiny_image(), INSTRUCTION).render(0.5).size == (32, 32)


def test_slider_weights_are_loaded_from_where_they_are_named(plain_folder, tmp_path):
    """--slider is ignored."""
    slider = write_authors_layout(tmp_path / "slider")
    assert load_pipeline(str(plain_folder), slider=str(slider), device="cpu").has_slider


@pytest.mark.parametrize("name", ["kontext-dev", KONTEXT.model])
def test_the_large_model_comes_from_the_hub_with_its_slider(plain_folder, tmp_path, monkeypatch, name):
    """The preset's slider is forgotten, or the model asked for under its hub id comes without."""
    slider = write_authors_layout(tmp_path / "slider")
    asked = []
    monkeypatch.setattr(DiffusionPipeline, "download", lambda model, **_: asked.append(model) or str(plain_folder))
    monkeypatch.setattr("kontext_slider.hub.snapshot_download", lambda model, **_: asked.append(model) or slider)
    assert load_pipeline(name, device="cpu").has_slider
    assert asked == [KONTEXT.model, KONTEXT.slider]


def test_a_model_without_slider_is_refused(plain_folder):
    """The app opens, and the slider does nothing."""
    with pytest.raises(MissingSlider, match="--slider"):
        load_pipeline(str(plain_folder), device="cpu")


def test_the_table_is_frozen_and_complete():
    """A handler changes a preset for everybody."""
    for name, preset in PRESETS.items():
        assert preset.name == name and preset.hardware and preset.licence
        with pytest.raises(FrozenInstanceError):
            preset.model = "other"
    assert Path(PRESETS["pocket"].model).parts[-2:] == ("weights", "pocket")
    assert KONTEXT.slider == "RishubhPar/KontinuousKontextWeights"


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("pokcet", InvalidInput, "Did you mean 'pocket'"),
        ("", InvalidInput, "There is no model"),
        ("./nowhere", InvalidInput, "There is no model"),
        ("/no/such/folder", InvalidInput, "There is no model"),
        ("a/b/c", InvalidInput, "hub id such as"),
        (None, InvalidInput, "There is no model"),
    ],
)
def test_unknown_models_are_refused_with_what_there_is(model, error, words):
    """A misspelt name ends in a traceback of the hub's client."""
    with pytest.raises(error, match=words) as caught:
        load_pipeline(model, device="cpu")
    assert "kontext-dev" in str(caught.value)


def test_a_folder_without_a_model(tmp_path):
    """The folder above or below the model's is named."""
    with pytest.raises(CheckpointError, match="model_index.json is missing"):
        load_pipeline(str(tmp_path), device="cpu")


def test_a_damaged_folder(half_folder, tmp_path):
    """A half-finished copy of a model ends in a traceback."""
    (tmp_path / "model_index.json").write_bytes((half_folder / "model_index.json").read_bytes())
    with pytest.raises(CheckpointError, match="scheduler is missing"):
        load_pipeline(str(tmp_path), device="cpu")


def test_a_checkout_without_the_pocket_weights(monkeypatch):
    """An installed package without weights asks the hub for the path of a folder."""
    missing = Preset("pocket", "/no/weights/pocket", None, "", "")
    monkeypatch.setitem(PRESETS, "pocket", missing)
    with pytest.raises(CheckpointError, match="install kontext-slider again"):
        load_pipeline(device="cpu")


def hub_error(kind):
    response = httpx2.Response(403, request=httpx2.Request("GET", "https://huggingface.co/x/y"))
    return kind("no", response=response)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (hub_error(GatedRepoError), "accept its licence at https://huggingface.co/x/y"),
        (hub_error(RepositoryNotFoundError), "Check the spelling"),
        (httpx2.ConnectError("no route"), "network connection"),
    ],
)
def test_what_the_hub_refuses_becomes_a_sentence(monkeypatch, cause, words):
    """diffusers wraps every refusal into one about its cache; nobody learns that a licence must be accepted."""

    def download(model, **_):
        raise OSError("Cannot load model: not fully cached locally") from cause

    monkeypatch.setattr(DiffusionPipeline, "download", download)
    with pytest.raises(CheckpointError, match=words):
        load_pipeline("x/y", device="cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "meta", "cpu:x", 1.5])
def test_bad_devices(device):
    """Minutes of loading, and then a device that is not there."""
    with pytest.raises(InvalidInput, match="Use one of: .*cpu"):
        load_pipeline(KONTEXT.name, device=device)


@pytest.mark.parametrize("dtype", ["fp16", "int8", "", torch.int64, torch.float64])
def test_bad_dtypes(dtype):
    """A dtype that models cannot run in is found out in the first layer."""
    with pytest.raises(InvalidInput, match="Use one of: float32, bfloat16, float16"):
        load_pipeline(KONTEXT.name, device="cpu", dtype=dtype)


def test_devices_and_dtypes_that_nobody_named(monkeypatch):
    """A machine with a GPU renders on its CPU, or a CPU in bfloat16."""
    assert choose_dtype(None, torch.device("cpu")) == torch.float32
    assert choose_dtype(None, torch.device("cuda")) == torch.bfloat16
    assert choose_dtype(torch.float16, torch.device("cpu")) == choose_dtype("float16", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(None).type == "cuda" and choose_device("cuda:1").index == 1
    with pytest.raises(InvalidInput, match="not there"):
        choose_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device(None).type == "mps"


def test_the_table_is_read_without_torch():
    """`--help` takes ten seconds."""
    code = "import sys; from kontext_slider.presets import PRESETS; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(presets.__file__).parent.parent)
