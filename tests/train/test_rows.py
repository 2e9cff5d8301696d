"""From a Parquet folder to batches: the cache of encoded rows, and what is random about a batch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from PIL import Image

from kontext_slider.calls import source_pixels
from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.files import weights_sha256
from kontext_slider.train import rows as encoding
from kontext_slider.train.data.pack import Row, write_dataset
from kontext_slider.train.data.scores import Scores
from kontext_slider.train.dataset import DataSet, parquet_files
from kontext_slider.train.rows import (
    RowBatches,
    cache_key,
    draw_row,
    encode_rows,
    held_out_rows,
)
from tests.tiny import tiny_image, tiny_pipeline, tiny_transformer
from tests.train.data.helpers import Ready
from tests.train.data_set import CONFIG, SENTENCES, SIZES, STRENGTHS, sequence, tiny_rows, write_data


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


@pytest.fixture
def rows(plain_pipe, data, tmp_path, accelerator):
    return encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path, accelerator)


def test_rows_are_what_the_pipeline_would_encode(plain_pipe, rows):
    """Latents unscaled or sampled, frames of the wrong row, text of another length than at inference."""
    assert len(rows) == len(SIZES) and rows.instruction(4) == SENTENCES[1]
    assert rows[4]["strengths"].tolist() == STRENGTHS
    assert rows.shapes[4] == tuple(rows[4]["latents"][1].shape) == (4, 12, 24), "96 x 48 pixels at the area of 32 x 32"
    frame = sequence(SIZES[4], 4)[1].resize((48, 24), Image.Resampling.LANCZOS)
    with torch.no_grad():
        text, pooled, _ = plain_pipe.encode_prompt(SENTENCES[1], max_sequence_length=16)
        latents = plain_pipe._encode_vae_image(source_pixels(plain_pipe, frame, False), None)
    torch.testing.assert_close(rows[4]["latents"][1], latents[0])
    assert torch.equal(rows[4]["source"], rows[4]["latents"][0])
    torch.testing.assert_close(rows[4]["text"], text[0])
    torch.testing.assert_close(rows[4]["pooled"], pooled[0])


def test_the_source_is_the_sources_own_column(plain_pipe, tmp_path, accelerator):
    """With reconstructed ends, frame 0 is not the picture that a person will hand over."""
    photo = tiny_image(seed=99)
    data = write_data(tmp_path / "data", source=[photo.resize(size) for size in SIZES])
    rows = encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path / "cache", accelerator)
    with torch.no_grad():
        latents = plain_pipe._encode_vae_image(source_pixels(plain_pipe, photo, False), None)
    torch.testing.assert_close(rows[0]["source"], latents[0])
    assert not torch.equal(rows[0]["source"], rows[0]["latents"][0])


def test_what_the_data_stages_write_is_read(plain_pipe, tmp_path, accelerator):
    """Two halves of one format, each with tests of its own that agree with itself."""
    scores = Scores(0.5, 0.0, 0.0, (0.2, 0.3), 0.0, None)
    made = [
        Row(str(k), [tiny_image(seed=k + 9), *sequence((32, 32), k), tiny_image()], STRENGTHS, SENTENCES[k],
            "stylization", "pixel-fade", "ssim", scores)
        for k in range(2)
    ]  # fmt: skip
    write_dataset([Ready(row) for row in made], tmp_path / "packed", "a test")
    rows = encode_rows(plain_pipe, CONFIG, DataSet([tmp_path / "packed"]), tmp_path / "cache", accelerator)
    assert len(rows) == 2 and rows[1]["strengths"].tolist() == STRENGTHS and rows.instruction(1) == SENTENCES[1]
    with torch.no_grad():
        pixels = [source_pixels(plain_pipe, tile, False) for tile in made[1].tiles[:-1]]
        expected = [plain_pipe._encode_vae_image(frame, None)[0] for frame in pixels]
    for latents, wanted in zip([rows[1]["source"], *(rows[1]["latents"][k] for k in range(3))], expected, strict=True):
        torch.testing.assert_close(latents, wanted)


def test_rows_of_several_folders_are_read_where_they_lie(data, tmp_path):
    """`load_dataset` copies all of it, a hundred gigabytes, while the other processes wait; and the object-size set
    lies in a folder of its own."""
    tiles = [tiny_image(seed=k) for k in range(4)]
    made = [Row(str(k), tiles, [0.0, 1.0], f"make it {k}", "x", "pasted", "none", None) for k in range(25)]
    write_dataset([Ready(row) for row in made], tmp_path / "sizes", "T", rows_per_shard=12)
    rows = DataSet([data, tmp_path / "sizes"])
    assert len(rows) == len(SIZES) + 25
    for number in (len(SIZES), len(SIZES) + 24, 0, len(SIZES) + 11, len(SIZES) + 12):
        words = SENTENCES[0] if number == 0 else f"make it {number - len(SIZES)}"
        assert rows[number]["instruction"] == words
    assert rows[len(SIZES)]["source"].size == tiles[0].size and not list(tmp_path.glob("**/*.arrow"))
    digests = dict(digest for part in range(3) for digest in rows.digests(part, 3))
    assert digests == dict(rows.digests()) and len(digests) == 4
    next((tmp_path / "sizes" / "data").iterdir()).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        DataSet([tmp_path / "sizes"])


def test_every_process_encodes_its_own_rows(plain_pipe, data, tmp_path, monkeypatch):
    """One process that encodes all, while seven wait."""

    class OneOf:
        is_main_process, num_processes = False, 3

        def __init__(self, number):
            self.process_index = number

        def wait_for_everyone(self):
            pass

    monkeypatch.setattr(encoding, "gather_object", lambda own: DataSet([data]).digests())
    for number in range(3):
        encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path, OneOf(number))
        (folder,) = tmp_path.iterdir()
        assert len(list(folder.glob("*.safetensors"))) == 3 * (number + 1)


def test_nothing_is_encoded_twice(plain_pipe, data, tmp_path, accelerator, monkeypatch):
    """Days of encoding lost to a kill, or repeated at every start."""
    encode, calls = encoding.encode_row, []

    def encode_or_die(pipe, config, row):
        calls.append(row["instruction"])
        if len(calls) == 6:
            raise KeyboardInterrupt
        return encode(pipe, config, row)

    monkeypatch.setattr(encoding, "encode_row", encode_or_die)
    with pytest.raises(KeyboardInterrupt):
        encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path, accelerator)
    rows = encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path, accelerator)
    assert calls == [SENTENCES[number % 3] for number in (0, 1, 2, 3, 4, 5, 5, 6, 7, 8)]
    encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path, accelerator)
    assert len(calls) == 10 and not list(rows.folder.glob("*.partial"))


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 16
    file.unlink()  # what was read from it is still mapped
    file.write_bytes(content)


def test_a_damaged_row_is_named_and_encoded_again(plain_pipe, data, tmp_path, accelerator):
    """A flipped bit in a cache of a terabyte: a run that goes on with another loss and says nothing."""
    rows = encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path, accelerator)
    whole, path = rows[2], rows.folder / "0000002.safetensors"
    flip_a_bit(path)
    with pytest.raises(CheckpointError, match="0000002.safetensors is damaged"):
        rows[2]
    path.unlink()
    again = encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path, accelerator)[2]
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_a_row_in_the_place_of_another_is_refused(plain_pipe, data, tmp_path, accelerator):
    """Its checksum is right, and a run would train on one row twice and on the other never."""
    rows = encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path, accelerator)
    shutil.copy(rows.folder / "0000001.safetensors", rows.folder / "0000002.safetensors")
    with pytest.raises(CheckpointError, match="another row"):
        rows[2]


def test_a_damaged_data_set_is_refused(plain_pipe, tmp_path, accelerator):
    """A bit of a picture: the run went on, with other losses."""
    tiles = [tiny_image(seed=k) for k in range(4)]
    scores = Scores(1.0, 0.0, 0.0, (1.0,), 0.0, None)
    row = Row("0000000", tiles, [0.0, 1.0], "add fog", "fog", "fade", "lpips", scores)
    write_dataset([Ready(row)], tmp_path / "data", "T")
    [shard] = (tmp_path / "data" / "data").iterdir()
    flip_a_bit(shard)
    with pytest.raises(CheckpointError, match=shard.name):
        encode_rows(plain_pipe, CONFIG, DataSet([tmp_path / "data"]), tmp_path / "cache", accelerator)


@pytest.mark.parametrize("content", ["{", "[[4, 2, 2]]", '{"shapes": [[4, 2, 2]], "sha256": "0"}', "[" * 100_000])
def test_a_damaged_index_is_made_again(plain_pipe, data, tmp_path, accelerator, content):
    """A cut file, an older version's, or another list: rows that are never trained on."""
    rows = encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path, accelerator)
    (rows.folder / "index.json").write_text(content)
    assert encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path, accelerator).shapes == rows.shapes


def test_the_key_is_made_of_values(plain_pipe, data, tmp_path):
    """Latents of other weights, another size or other pictures, or a cache that a moved folder does not find."""
    (file,) = parquet_files(data)

    def key_of(pipe, config, folder=data) -> str:
        return cache_key(pipe, config, [digest for _, digest in DataSet([folder]).digests()])

    key = key_of(plain_pipe, CONFIG)
    moved = tmp_path / "elsewhere" / file.name
    moved.parent.mkdir()
    moved.write_bytes(file.read_bytes())
    assert key_of(tiny_pipeline(), CONFIG.changed(rate=0.5, seed=3), moved.parent) == key
    others = [key_of(tiny_pipeline(), CONFIG.changed(size=24))]
    others.append(key_of(tiny_pipeline(), CONFIG.changed(max_sequence_length=8)))
    write_data(moved.parent, instruction=["make it rain"] * len(SIZES))
    others.append(key_of(tiny_pipeline(), CONFIG, moved.parent))
    with torch.no_grad():
        next(plain_pipe.vae.parameters())[0] += 1
    others.append(key_of(plain_pipe, CONFIG))
    assert len({key, *others}) == 5


def test_a_digest_is_the_same_in_every_process():
    """diffusers notes which settings were left at their defaults in the order of a set, another in every process: what
    was encoded yesterday would not be found, and a run not gone on with."""
    transformer, digests = tiny_transformer(), set()
    for left in (["num_layers", "patch_size"], ["patch_size", "num_layers"]):
        transformer.register_to_config(_use_default_values=left)
        digests.add(weights_sha256(transformer))
    assert len(digests) == 1


def test_a_shared_cache_is_held_against_each_runs_own_strengths(plain_pipe, tmp_path, accelerator):
    """Encoded for a run up to 1.5 and trained on by one up to 1, whose slider says that it knows no more."""
    data = write_data(tmp_path / "data", strengths=[[0.0, 0.5, 1.5 if k == 4 else 1.0] for k in range(len(SIZES))])
    encode_rows(plain_pipe, CONFIG.changed(highest_strength=1.5), DataSet([data]), tmp_path / "cache", accelerator)
    with pytest.raises(InvalidInput, match="Row 4 .* stay below 1"):
        encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path / "cache", accelerator)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("strengths", [0.0, 1.0], "3 frames and 2 strengths"),
        ("strengths", [0.1, 0.5, 1.0], "do not start at 0"),
        ("strengths", [0.0, 0.5, 1.2], "stay below 1"),
        ("frames", [*sequence((32, 32), 0)[:2], *sequence((96, 48), 0)[:1]], "several sizes"),
        ("instruction", " ", "empty instruction"),
        ("instruction", None, "empty instruction"),
        ("frames", [*sequence((32, 32), 0)[:2], None], "no pictures"),
        ("frames", None, "0 frames"),
        ("frames", [{"bytes": b"no picture", "path": None}] * 3, "cannot be opened"),
        ("strengths", [0.0, None, 1.0], "no numbers"),
        ("strengths", [0.0, float("nan"), 1.0], "no numbers"),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_named(plain_pipe, tmp_path, accelerator, column, value, problem):
    """One bad row among thousands."""
    column_values = tiny_rows()[column]
    data = write_data(tmp_path / "data", **{column: [column_values[0], value, *column_values[2:]]})
    with pytest.raises(InvalidInput, match=f"Row 1 of .*{problem}"):
        encode_rows(plain_pipe, CONFIG, DataSet([data]), tmp_path / "cache", accelerator)


def test_frames_that_are_kept_as_bytes_are_named(plain_pipe, tmp_path, accelerator):
    """A column of bytes, of which Parquet does not say that they are pictures."""
    columns = {"frames": [[b"1", b"2"]], "strengths": [[0.0, 1.0]], "instruction": ["make it snow"]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "train-0.parquet")
    with pytest.raises(InvalidInput, match="Row 0 .* no pictures"):
        encode_rows(plain_pipe, CONFIG, DataSet([tmp_path]), tmp_path / "cache", accelerator)


@pytest.mark.parametrize("cut", [7, 1000])
def test_a_file_that_is_no_parquet_is_a_sentence(data, tmp_path, cut):
    """A download that was cut short."""
    (tmp_path / "train-0.parquet").write_bytes(parquet_files(data)[0].read_bytes()[:cut])
    with pytest.raises(InvalidInput, match="cannot be read"):
        DataSet([tmp_path])


def test_rows_that_are_damaged_are_a_sentence(data, tmp_path):
    """The file opens, as its end is whole: was a traceback of pyarrow at the first row."""
    content = parquet_files(data)[0].read_bytes()
    (tmp_path / "train-0.parquet").write_bytes(content[:4] + b"\xff" * 2000 + content[2004:])
    rows = DataSet([tmp_path])
    with pytest.raises(InvalidInput, match="train-0.parquet cannot be read"):
        rows[0]


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    """An empty folder would train on nothing; a test split must not be trained on."""
    with pytest.raises(InvalidInput, match="no Parquet files"):
        parquet_files(tmp_path)
    for name in ("test-00000-of-00001.parquet", "train-00000-of-00001.parquet"):
        (tmp_path / name).touch()
    assert [file.name for file in parquet_files(tmp_path)] == ["train-00000-of-00001.parquet"]


class Shapes(list):
    """The latent shapes of rows, by row number."""

    key = "shapes"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return list(self)


def batches_of(shapes: list[tuple[int, ...]]) -> RowBatches:
    return RowBatches(Shapes(shapes), CONFIG.changed(batch_size=4, seed=1, held_out=0))


def test_every_row_comes_once_an_epoch_in_batches_of_one_size():
    """Rows that are never drawn, or latents of two sizes that cannot be stacked."""
    shapes = [(4, 8, 8) if row % 3 else (4, 6, 12) for row in range(24)]
    plan = batches_of(shapes)
    epochs = [[plan.numbers(6 * epoch + step) for step in range(6)] for epoch in range(2)]
    for batches in epochs:
        assert sorted(row for batch in batches for row in batch) == list(range(24))
        assert all(len({shapes[row] for row in batch}) == 1 for batch in batches)
    assert epochs[0] != epochs[1]
    assert plan.numbers(3) == batches_of(shapes).numbers(3) == epochs[0][3]
    assert len(batches_of([(4, 8, 8)]).numbers(5)) == 4


def test_rows_meet_other_rows_in_every_epoch():
    """Batches of neighbours, which data sorted by category makes batches of one category, time and again."""
    plan = batches_of([(4, 8, 8)] * 24)
    epochs = [{frozenset(plan.numbers(6 * epoch + step)) for step in range(6)} for epoch in range(2)]
    neighbours = {frozenset(range(k, k + 4)) for k in range(0, 24, 4)}
    assert not epochs[0] & epochs[1] and not (epochs[0] | epochs[1]) & neighbours


def test_held_out_rows_are_spread():
    """The last rows of data sorted by category are all of one category."""
    assert held_out_rows(100, 4) == [12, 37, 62, 87]
    assert held_out_rows(100, 0) == []
    with pytest.raises(InvalidInput, match="none is left"):
        held_out_rows(4, 4)


def test_several_processes_take_what_one_would(rows):
    """Two processes that train on the same rows, or on other noise than one would."""
    batches = RowBatches(rows, CONFIG.changed(batch_size=4))
    whole, parts = batches.draw(3, 0, 1), [batches.draw(3, part, 4) for part in range(4)]
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, torch.cat([part.tensors()[name] for part in parts])), name


def test_a_rows_random_parts(rows):
    """Noise that repeats, a frame that never comes, a drop at the wrong rate, noise levels that stop short of 1."""
    drawn = [draw_row(rows[0], CONFIG, place) for place in range(300)]
    strengths = torch.stack([row["strengths"] for row in drawn])
    assert sorted(set(strengths.tolist())) == STRENGTHS
    assert all((strengths == s).float().mean() > 0.25 for s in STRENGTHS)
    assert 0.1 < 1 - torch.stack([row["kept"] for row in drawn]).mean() < 0.3
    assert len({float(row["noise"][0, 0, 0]) for row in drawn}) == 300
    sigmas = torch.stack([row["sigmas"] for row in drawn])
    near = torch.stack([draw_row(rows[0], CONFIG.changed(timesteps="near_one"), k)["sigmas"] for k in range(300)])
    assert 0.45 < sigmas.mean() < 0.55 and 0.6 < near.mean() < 0.72 and near.max() <= 1
    quiet = draw_row(rows[0], CONFIG.changed(timesteps="one", noise_scale=0.1), 0)
    assert quiet["sigmas"] == 1 and 0.05 < quiet["noise"].std() < 0.15
    for row in drawn[:20]:
        frame = STRENGTHS.index(float(row["strengths"]))
        assert torch.equal(row["target"], rows[0]["latents"][frame]) and torch.equal(row["source"], rows[0]["source"])
