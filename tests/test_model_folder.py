"""Model folders with one thing wrong: each ends in a sentence that names the file, and none loads as another model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from kontext_slider import SliderEngine
from kontext_slider.errors import CheckpointError
from kontext_slider.files import shipped
from kontext_slider.hub import CHECKSUMS
from kontext_slider.model_folder import check_files, check_model, loading, write_checksums
from kontext_slider.presets import load_pipeline
from tests.tiny import tiny_pipeline, tiny_projector, write_authors_layout


@pytest.fixture
def folder(model: str, tmp_path: Path) -> Path:
    """A copy of a tiny model's folder."""
    return shutil.copytree(model, tmp_path / "model")


def change(file: str, **values: object) -> Callable[[Path], None]:
    """Other values in a JSON file."""

    def damage(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return damage


def remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def write(file: str, data: bytes) -> Callable[[Path], int]:
    return lambda folder: (folder / file).write_bytes(data)


def without_tensor(file: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / file)
        tensors.popitem()
        save_file(tensors, folder / file)

    return damage


WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
DAMAGES = {
    "no words": (remove("tokenizer/tokenizer.json"), "tokenizer/tokenizer.json"),
    "no words of the second": (remove("tokenizer_2/tokenizer.json"), "tokenizer_2/tokenizer.json"),
    "no lora": (remove("slider_projector/pytorch_lora_weights.safetensors"), "pytorch_lora_weights"),
    "no weights": (remove(WEIGHTS), "transformer"),
    "no configuration": (remove("vae/config.json"), "vae/config.json"),
    "no schedule": (remove("scheduler/scheduler_config.json"), "scheduler/scheduler_config.json"),
    "weights cut": (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]), WEIGHTS),
    "one tensor less": (without_tensor("text_encoder_2/model.safetensors"), "text_encoder_2"),
    "words are none": (write("tokenizer/tokenizer.json", b'{"model": 3}'), "tokenizer/tokenizer.json"),
    "nested": (write("vae/config.json", b"[" * 100_000), "vae/config.json"),
    "a number": (write("model_index.json", b"1"), "model_index.json"),
    "wide": (change("text_encoder/config.json", hidden_size=10**6), "text_encoder/config.json"),
    "deep": (change("transformer/config.json", num_layers=10**9), "transformer/config.json"),
    "wide projector": (change("slider_projector/config.json", hidden_dim=200_000), "slider_projector/config.json"),
    "many places": (change("text_encoder/config.json", max_position_embeddings=10**12), "text_encoder/config.json"),
    "long texts": (change("tokenizer/tokenizer_config.json", model_max_length=10**12), "tokenizer_config.json"),
    "long settings": (change("model_index.json", edit_defaults={"max_sequence_length": 10**12}), "max_sequence_length"),
    "many labels": (change("text_encoder/config.json", num_labels=10**9), "text_encoder/config.json"),
    "many extra words": (change("tokenizer_2/tokenizer_config.json", extra_ids=10**9), "tokenizer_config.json"),
    "schedule of words": (change("scheduler/scheduler_config.json", base_shift="x"), "scheduler_config.json"),
    "axes": (change("transformer/config.json", axes_dims_rope=[8, 8]), "transformer/config.json"),
    "shift is none": (change("vae/config.json", shift_factor={}), "vae/config.json"),
    "steep schedule": (change("scheduler/scheduler_config.json", base_shift=50_000), "scheduler_config.json"),
    "strong": (change("slider_projector/config.json", highest_strength=1e308), "highest strength"),
    "a stranger's class": (change("model_index.json", vae=["os", "system"]), "model_index.json"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_one_damage_is_a_sentence_that_names_the_file(name: str, folder: Path) -> None:
    """Tracebacks, 3.6 GB, an abort of the process, or a model that renders something else without a word."""
    damage, words = DAMAGES[name]
    (folder / CHECKSUMS).unlink()  # as folders of others
    damage(folder)
    with pytest.raises(CheckpointError, match=words):
        load_pipeline(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("file", "setting"),
    [("text_encoder/config.json", {"eos_token_id": None}), ("tokenizer/tokenizer_config.json", {"pad_token": None})],
)
def test_texts_that_cannot_be_encoded_are_told(file: str, setting: dict, folder: Path) -> None:
    """Loads, and was a traceback of transformers at the first picture."""
    (folder / CHECKSUMS).unlink()
    change(file, **setting)(folder)
    pipe, image = load_pipeline(str(folder), device="cpu"), Image.new("RGB", (64, 64))
    with pytest.raises(CheckpointError, match="text encoder"):
        pipe(image, "warm", strength=0.5)
    with pytest.raises(CheckpointError, match="text encoder"):
        SliderEngine(pipe).open(image, "warm")


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("file", [WEIGHTS, "vae/config.json", "tokenizer/tokenizer.json", "model_index.json"])
def test_a_flipped_bit_is_told(file: str, place: float, folder: Path) -> None:
    """A model with one other weight renders other pictures."""
    data = bytearray((folder / file).read_bytes())
    data[int(len(data) * place)] ^= 1
    (folder / file).write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=file):
        load_pipeline(str(folder), device="cpu")


def test_a_file_that_is_gone_is_told(folder: Path) -> None:
    """Without its words a tokenizer makes others: 10.5 dB to the right frame, exit status 0."""
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="tokenizer.json is missing"):
        check_model(folder)


def test_parts_that_the_caller_brings_need_not_be_there(folder: Path) -> None:
    """Checksums must not ask for files that nobody reads."""
    shutil.rmtree(folder / "slider_projector")
    check_model(folder, given=["slider_projector", "dtype"])


def test_checksums_of_a_slider_in_a_models_folder_keep_the_models(folder: Path) -> None:
    """Saving a new slider into a model's folder would take the rest of it out of the list."""
    (folder / "slider_projector" / "config.json").write_text("{}")
    write_checksums(folder, ["slider_projector/config.json"])
    assert {"model_index.json", WEIGHTS, "slider_projector/config.json"} <= check_files(folder)


def test_a_slider_whose_bytes_were_changed_is_refused(tmp_path: Path) -> None:
    """A flipped bit in the LoRA changes every frame a little."""
    pipe = tiny_pipeline()
    pipe.save_slider(tmp_path)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="pytorch_lora_weights.* its bytes were changed"):
        pipe.load_slider(tmp_path)


def test_tensors_that_claim_more_than_their_file_holds_are_refused(tmp_path: Path) -> None:
    """A file of 2.5 KB asked for 32 GB."""
    write_authors_layout(tmp_path)
    wide = {name: torch.zeros(1).expand(value.shape) for name, value in tiny_projector().state_dict().items()}
    torch.save(wide, tmp_path / "slider_projector.pth")
    with pytest.raises(CheckpointError, match="larger than the file"):
        tiny_pipeline().load_slider(tmp_path)


@pytest.mark.parametrize("error", [RuntimeError(), OverflowError("x"), MemoryError(), BaseException("a panic")])
def test_every_error_of_loading_is_ours(error: BaseException) -> None:
    """SafetensorError, RuntimeError, OverflowError and panics of Rust came through as tracebacks."""
    with pytest.raises(CheckpointError, match="a.json"), loading("a.json"):
        raise error
    with pytest.raises(KeyboardInterrupt), loading("a.json"):
        raise KeyboardInterrupt


def test_the_shipped_model_is_as_it_was_saved() -> None:
    """A checkout that changes line ends, or weights that were committed without their checksums."""
    assert len(check_files(shipped("weights/pocket"))) >= 15
