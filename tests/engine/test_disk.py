"""Frames in a folder: found again by value, whole or not at all, bounded, and shared by processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider.engine import SliderEngine
from kontext_slider.engine.disk import DiskCache, file_digest
from kontext_slider.engine.model_hash import model_hash
from kontext_slider.errors import InvalidInput
from kontext_slider.pipeline import KontextSliderPipeline
from tests.engine.helpers import counted, other_settings, same
from tests.tiny import INSTRUCTION, shake, tiny_image, tiny_pipeline

ROOMY = 10**9
NUM_BYTES = 3 * 32 * 32
WORKER = """
import sys
from kontext_slider.engine.disk import DiskCache
from tests.engine.test_disk import noisy
cache, wrong = DiskCache(sys.argv[1], int(sys.argv[2])), 0
for turn in range(4):
    for key in range(12):
        cache.put(key, noisy(key), 0)
        for other in range(12):
            frame = cache.get(other)
            wrong += frame is not None and frame.tobytes() != noisy(other).tobytes()
print(wrong)
"""


def noisy(seed: int) -> Image.Image:
    """A frame that PNG cannot make smaller: some 3.2 kB."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def pngs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def open_edit(engine, **settings):
    return engine.open(tiny_image(40, 24), INSTRUCTION, **{"steps": 2, "size": 32, **settings})


def test_a_folder_without_a_name_is_refused():
    """An unset variable of a shell would fill whatever folder the program was started in."""
    with pytest.raises(InvalidInput, match="no name"):
        DiskCache("", 10)


def test_a_folder_that_is_gone_is_made_again(pipe, tmp_path, caplog):
    """Somebody tidies /tmp while the app runs, and every frame is an error from then on."""
    folder = tmp_path / "frames"
    session = SliderEngine(pipe, frame_folder=folder).open(tiny_image(), INSTRUCTION)
    session.render(0.1)
    shutil.rmtree(folder)
    session.render(0.2)
    assert len(list(folder.iterdir())) == 1
    shutil.rmtree(folder)
    folder.write_text("in the way")
    session.render(0.3)
    assert "could not be kept" in caplog.text


def test_a_frame_comes_back_pixel_for_pixel(tmp_path):
    """The folder gives back another frame, or one that lost a bit."""
    cache = DiskCache(tmp_path / "deep" / "folder", ROOMY)
    assert cache.get(("a", 1)) is None and ("a", 1) not in cache
    cache.put(("a", 1), noisy(1), NUM_BYTES)
    assert ("a", 1) in cache and ("a", 2) not in cache
    assert same(cache.get(("a", 1)), noisy(1))
    assert same(DiskCache(tmp_path / "deep" / "folder", ROOMY).get(("a", 1)), noisy(1))
    cache.clear()
    assert ("a", 1) not in cache and pngs(cache.folder) == []


def test_the_least_recently_used_frames_leave_first(tmp_path):
    """The folder grows without bound, or drops the frame that is looked at all the time."""
    cache = DiskCache(tmp_path, ROOMY)
    for key in range(3):
        cache.put(key, noisy(key), NUM_BYTES)
        os.utime(tmp_path / f"{file_digest(key)}.png", (key + 1, key + 1))
    size = sum(path.stat().st_size for path in pngs(tmp_path))
    assert cache.get(0) is not None
    bounded = DiskCache(tmp_path, size)
    bounded.put(3, noisy(3), NUM_BYTES)
    assert [key for key in range(4) if key in bounded] == [0, 2, 3]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= size


def test_a_frame_larger_than_the_folder_is_not_kept(tmp_path):
    """One huge frame throws out all the others and then itself."""
    cache = DiskCache(tmp_path, 5000)
    cache.put("small", noisy(1), NUM_BYTES)
    cache.put("huge", noisy(2), 5001)
    assert "small" in cache and "huge" not in cache
    DiskCache(tmp_path, 0).put("none", noisy(3), 1)
    assert "none" not in cache


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "bit", "foreign"])
def test_a_damaged_file_is_a_miss_and_is_removed(tmp_path, damage, caplog):
    """After a power cut, half a picture is shown for ever, or every render of that strength fails."""
    cache = DiskCache(tmp_path, ROOMY)
    cache.put("key", noisy(1), NUM_BYTES)
    [path] = pngs(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    if damage == "foreign":
        noisy(2).save(path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:900], "empty": b"", "text": b"Dear Sir", "bit": data}[damage])
    assert cache.get("key") is None and not path.exists()
    assert "damaged" in caplog.text
    cache.put("key", noisy(1), NUM_BYTES)
    assert same(cache.get("key"), noisy(1))


def test_what_is_not_ours_in_the_folder_stays(tmp_path):
    """Somebody names the folder with their photographs, and the oldest of them are removed."""
    noisy(1).save(tmp_path / "holiday.png")
    (tmp_path / ("a" * 63 + ".png")).write_bytes(b"")
    cache = DiskCache(tmp_path, 4000)
    for key in range(3):
        cache.put(key, noisy(key), NUM_BYTES)
    cache.clear()
    assert {path.name for path in tmp_path.iterdir()} == {"holiday.png", "a" * 63 + ".png"}


def test_parts_of_killed_writers_do_not_pile_up(tmp_path):
    """Each kill in the middle of a write leaves a file that nobody counts."""
    part = tmp_path / "frame-left.part"
    part.write_bytes(bytes(3000))
    os.utime(part, (1, 1))
    DiskCache(tmp_path, 5000).put("key", noisy(1), NUM_BYTES)
    assert not part.exists() and len(pngs(tmp_path)) == 1


def test_a_full_disk_costs_no_frame(pipe, tmp_path, monkeypatch, caplog):
    """The frame is rendered, cannot be written, and the person gets an error in its place."""
    engine = SliderEngine(pipe, frame_folder=tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert same(open_edit(engine).render(0.5), open_edit(SliderEngine(pipe)).render(0.5))
    assert "No space left" in caplog.text and list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_a_sentence(pipe, tmp_path):
    """A FileExistsError, after minutes of rendering."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidInput, match="choose a folder"):
        SliderEngine(pipe, frame_folder=tmp_path / "file")
    with pytest.raises(InvalidInput, match="cache size"):
        SliderEngine(pipe, frame_folder=tmp_path, frame_folder_bytes=-1)


def test_two_processes_write_and_evict_in_one_folder(tmp_path):
    """One removes or half writes what the other reads: a traceback, or somebody else's pixels."""
    room = 20_000  # for six of twelve frames
    words = [sys.executable, "-c", WORKER, str(tmp_path), str(room)]
    workers = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        told, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0 and told.strip() == "0", errors
        assert "damaged" not in errors
    DiskCache(tmp_path, room).put("last", noisy(99), 0)
    files = list(tmp_path.iterdir())
    assert 0 < sum(path.stat().st_size for path in files) <= room
    assert all(path.suffix == ".png" for path in files)


def test_another_engine_finds_the_frames_and_runs_nothing(pipe, tmp_path, monkeypatch):
    """After a restart every frame is rendered again although it lies in the folder."""
    first = open_edit(SliderEngine(pipe, frame_folder=tmp_path))
    frames = [frame for _, frame in first.sweep(3)]
    assert len(pngs(tmp_path)) == 2, "strength 0 is the source"
    later_pipe = tiny_pipeline()
    later = open_edit(SliderEngine(later_pipe, 0, 0, 0, frame_folder=tmp_path))
    with counted(later_pipe, monkeypatch) as calls:
        assert later.has(0.5) and not later.has(0.6)
        assert all(same(frame, swept) for frame, (_, swept) in zip(frames, later.sweep(3), strict=True))
        assert not calls
    assert not open_edit(SliderEngine(pipe, frame_folder=tmp_path), seed=1).has(0.5)


def test_without_a_folder_nothing_is_hashed_or_written(pipe, tmp_path, monkeypatch):
    """Everybody pays for reading 33 GB of weights, asked for or not."""
    monkeypatch.setattr("kontext_slider.engine.engine.model_hash", lambda pipe: pytest.fail("hashed"))
    monkeypatch.chdir(tmp_path)
    open_edit(SliderEngine(pipe)).render(0.5)
    assert list(tmp_path.iterdir()) == []


def test_the_hash_is_computed_once(pipe, tmp_path, monkeypatch):
    """Each slider move reads all the weights again."""
    hashed = []
    monkeypatch.setattr("kontext_slider.engine.engine.model_hash", lambda pipe: hashed.append(pipe) or "h")
    engine = SliderEngine(pipe, frame_folder=tmp_path)
    assert hashed == []
    list(open_edit(engine).sweep(3))
    assert len(hashed) == 1


def test_a_replaced_slider_has_frames_of_its_own_and_the_old_ones_come_back(pipe, tmp_path):
    """The old slider's frames are shown for the new one, today or after the next restart."""
    engine = SliderEngine(pipe, frame_folder=tmp_path)
    session = open_edit(engine)
    before = session.render(0.5)
    kept = [parameter.detach().clone() for parameter in pipe.slider_projector.parameters()]
    with torch.no_grad():
        for parameter in pipe.slider_projector.parameters():
            parameter.mul_(2)
    engine.clear()
    assert not session.has(0.5) and not same(session.render(0.5), before)
    with torch.no_grad():
        for parameter, value in zip(pipe.slider_projector.parameters(), kept, strict=True):
            parameter.copy_(value)
    engine.clear()
    assert session.has(0.5) and same(session.render(0.5), before)


def test_keys_on_disk_differ_in_every_field(pipe, tmp_path):
    """A setting is left out of a file's name: the frame of another edit is found there."""
    settings = open_edit(SliderEngine(pipe)).settings
    others = other_settings(settings)
    keys = [("h", (settings, 0.5)), ("h", (settings, 0.5001)), ("i", (settings, 0.5))]
    keys += [("h", (other, 0.5)) for other in others]
    assert len({file_digest(key) for key in keys}) == len(keys)
    assert file_digest(keys[0]) == file_digest(("h", (replace(settings), np.float64(0.5))))


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "text_encoder_2", "slider_projector", "lora"])
def test_every_part_of_the_model_is_in_its_hash(pipe, part):
    """One part's weights are forgotten: after training it, old frames are served."""
    before = model_hash(pipe)
    assert model_hash(tiny_pipeline()) == before
    parameters = pipe.slider_parameters() if part == "lora" else getattr(pipe, part).parameters()
    shake([list(parameters)[-1]], 0.1)
    assert model_hash(pipe) != before


def test_settings_of_the_model_are_in_its_hash_and_its_place_is_not(pipe, tmp_path):
    """Another schedule, noise or correction changes frames and no weight; a copy of the folder changes none."""
    before = model_hash(pipe)
    pipe.save_pretrained(tmp_path)
    assert model_hash(KontextSliderPipeline.from_pretrained(tmp_path)) == before
    assert model_hash(tiny_pipeline(edit_defaults={"anchor_source": True})) != before
    assert model_hash(tiny_pipeline(edit_defaults={"noise_scale": 0.5})) != before
    pipe.scheduler.register_to_config(shift=2.0)
    assert model_hash(pipe) != before
