"""What is measured of a saved model, and written into its folder when."""

import json
from pathlib import Path

import pytest

from kontext_slider.errors import KontextSliderError
from kontext_slider.evaluate import model_card
from kontext_slider.evaluate.truth import Score
from kontext_slider.pipeline import KontextSliderPipeline
from tests.tiny import tiny_image, tiny_pipeline

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.fixture
def model(tmp_path) -> Path:
    """A model that has been measured before."""
    pipe = tiny_pipeline()
    pipe.register_to_config(known_instructions={"night": ["make it night"]})
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def photos(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    tiny_image().save(tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


def known(model: Path) -> list[str]:
    return list(json.loads((model / "model_index.json").read_text())["known_instructions"])


def measured(psnr: float):
    """Scores of fog that comes to `psnr` dB where the untouched picture has 20."""
    return lambda *how: [
        Score(kind, "fog", s, psnr, 40.0, 20.0, s, s) for kind in ("scene", "photo") for s in STRENGTHS
    ]


def test_a_model_of_which_nothing_works_keeps_what_it_offers(model, photos, monkeypatch):
    """35 known instructions became none, and then a traceback."""
    monkeypatch.setattr(model_card, "score_truth", measured(21.0))
    with pytest.raises(KontextSliderError, match="nothing to offer"):
        model_card.measure(model, photos, 1, "")
    assert known(model) == ["night"]


def test_what_a_model_offers_is_written_last(model, photos, monkeypatch):
    """A measurement that was cut short leaves a model that offers other edits than its card and report say."""

    def stop(*what) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_card, "score_truth", measured(30.0))
    monkeypatch.setattr(model_card, "score_sizes", stop)
    with pytest.raises(KeyboardInterrupt):
        model_card.measure(model, photos, 1, "")
    assert known(model) == ["night"] and not (model / "README.md").exists()
    size = [Score("scene", "fog", s, 31.0, 40.0, 20.0, s, s) for s in (0.5, 1.0)]
    monkeypatch.setattr(model_card, "score_sizes", lambda pipe: {256: size})
    model_card.measure(model, photos, 1, "## Training\n\nfor an hour")
    card = (model / "README.md").read_text()
    assert known(model) == ["fog"] and (model / "measured" / "photos.jpg").exists()
    assert (model / "measured" / "truth.md").exists() and "for an hour" in card
    assert list(KontextSliderPipeline.from_pretrained(model).known_instructions) == ["fog"], (
        "checksums are the old ones"
    )
    assert "- fog (environment_change): " in card and "| 256 x 256 | 31.0 | 31.0 | 40.0 | 20.0 |" in card
