"""Distances and embedders of other people's networks, on tiny ones of real classes."""

import builtins
import sys

import numpy as np
import pytest
import torch

from kontext_slider.errors import InvalidInput
from kontext_slider.features import find_distance
from kontext_slider.metrics import to_picture
from kontext_slider.metrics.networks import ClipEmbedder, clip_direction, identity_curve, lpips_distance
from tests.metrics.networks import fake_dreamsim, fake_lpips, save_tiny_clip
from tests.tiny import tiny_image


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def pictures():
    start, end = (to_picture(tiny_image(seed=seed)) for seed in (0, 1))
    return [start, 0.8 * start + 0.2 * end, end]


def check_distance(matrix):
    assert matrix.shape == (3, 3) and np.allclose(matrix, matrix.T) and not np.diagonal(matrix).any()
    assert 0 < matrix[0, 1] < matrix[0, 2]


def test_a_cosine_distance_grows_with_the_change(pictures, clip):
    """A network that is read wrongly (other layer, missing normalisation) still gives numbers."""
    check_distance(find_distance("clip", clip=str(clip))(pictures))


def test_clip_embeds_words_and_pictures_into_one_space(pictures, clip):
    """CLIP-dir compares both: of other widths or lengths, it would be no cosine."""
    embedder = ClipEmbedder(str(clip))
    images, texts = embedder.embed_images(pictures), embedder.embed_texts(["a cat", "a big dog in the snow"])
    assert images.shape == (3, 8) and texts.shape == (2, 8)
    assert torch.allclose(torch.cat([images, texts]).norm(dim=-1), torch.ones(5))
    alone = embedder.embed_texts(["a cat"])
    assert torch.allclose(alone, texts[:1], atol=1e-6), "padding must not change a sentence"


def test_pictures_are_cut_and_normalised_as_the_network_learned_it(clip, monkeypatch):
    """Pictures in another range, or squeezed, are not what the network knows: the middle square, at the network's own
    size, with CLIP's mean and spread (openai/clip-vit-base-patch32, preprocessor_config.json)."""
    embedder, seen = ClipEmbedder(str(clip)), []
    answer = embedder.model.get_image_features
    monkeypatch.setattr(
        embedder.model, "get_image_features", lambda pixel_values: (seen.append(pixel_values), answer(pixel_values))[1]
    )
    wide = np.zeros((30, 60, 3), np.float32)
    wide[:, 15:45] = 1
    embedder.embed_images([wide])
    white = (1 - np.array([0.48145466, 0.4578275, 0.40821073])) / np.array([0.26862954, 0.26130258, 0.27577711])
    assert seen[0].shape == (1, 3, 32, 32)
    assert np.allclose(seen[0][0, :, 16, 16], white, atol=1e-5)
    assert np.allclose(seen[0][0, :, 16, 2], white, atol=0.1)


def test_lpips_gets_all_pairs_at_once_in_its_own_range(pictures, monkeypatch):
    """LPIPS takes [-1, 1]; fed [0, 1], it answers other numbers and does not complain."""
    calls = []
    monkeypatch.setitem(sys.modules, "lpips", fake_lpips(calls))
    check_distance(find_distance("lpips")(pictures))
    check_distance(lpips_distance("cpu", "alex")(pictures))
    assert calls == ["vgg", 3, "alex", 3]


def test_dreamsim_embeds_every_picture_once(pictures, monkeypatch):
    """Pair by pair, a sweep of seven would cost forty-two passes of three large networks."""
    calls = []
    monkeypatch.setitem(sys.modules, "dreamsim", fake_dreamsim(calls))
    check_distance(find_distance("dreamsim")(pictures))
    assert calls == ["cpu", 3]


@pytest.mark.parametrize(
    ("name", "package"),
    [("lpips", "lpips"), ("dreamsim", "dreamsim"), ("efficientnet", "efficientnet_lite_pytorch")],
)
def test_a_missing_package_is_named_with_its_command(name, package, monkeypatch):
    """A traceback of an import does not say what to do, and another ruler in silence gives figures of another kind."""
    plain = builtins.__import__

    def without(module, *args, **kwargs):
        if module == package:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return plain(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidInput, match=f"{package}, which.*pip install {name}"):
        find_distance(name)


def test_a_network_that_is_not_there_is_said(tmp_path):
    """Half a page of stack from the hub's client."""
    with pytest.raises(InvalidInput, match="--clip"):
        ClipEmbedder(str(tmp_path))


class Compass:
    """Pictures are points (their first two values); the word "east" points along the first axis."""

    def embed_images(self, pictures):
        return torch.tensor([[float(p[0, 0, 0]), float(p[0, 0, 1])] for p in pictures])

    def embed_texts(self, texts):
        return torch.tensor([{"here": [0.0, 0.0], "east": [1.0, 0.0]}[text] for text in texts])


def points(*places):
    pictures = np.zeros((len(places), 1, 1, 3), np.float32)
    pictures[:, 0, 0, :2] = places
    return list(pictures)


def test_the_direction_is_the_papers_sum():
    """(1/N) sum of c_i / (i/N): for steps that all go the right way it is N's harmonic number."""
    right = points((0, 0), (1, 0), (2, 0))
    assert clip_direction(Compass(), right, ("here", "east")) == pytest.approx((1 / 0.5 + 1) / 2)
    aside = points((0, 0), (0, 1), (1, 0))
    assert clip_direction(Compass(), aside, ("here", "east")) == pytest.approx((0 / 0.5 + 1) / 2)


def test_a_frame_that_does_not_move_has_no_direction():
    """0 / 0 would be NaN and swallow the mean of 540 edits."""
    assert clip_direction(Compass(), points((0, 0), (0, 0), (1, 0)), ("here", "east")) == pytest.approx(0.5)


def test_identity_starts_at_one_and_falls():
    """The curve begins at the source itself, or it would hide what strength 1/N costs."""
    curve = identity_curve(Compass().embed_images, points((1, 0), (0.8, 0.6), (0, 1)))
    assert np.allclose(curve, [1, 0.8, 0])
