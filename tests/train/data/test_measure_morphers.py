"""The table that compares morphers."""

from kontext_slider.metrics.distances import rms
from kontext_slider.morph import FADES
from kontext_slider.train.data.measure_morphers import TRUTH, measure_morphers
from kontext_slider.world.cases import draw_cases
from tests.tiny import tiny_pipeline


def test_the_nearest_to_the_truth_comes_first():
    """A table that is read from the top should not begin with the worst."""
    morphers = {"worst": lambda pipe, source, edited, *rest: [edited] * 3, "fade": FADES["pixel-fade"]}
    rows = measure_morphers(tiny_pipeline(), draw_cases(2, 32, seed=0), morphers, [0.0, 0.5, 1.0], rms, 0, max_kl=0.15)
    assert list(rows) == [TRUTH, "fade", "worst"] and all(len(group) == 2 for group in rows.values())
    assert rows[TRUTH][0].psnr_inside == 99 and not rows["worst"][0].kept
    assert rows["fade"][0].psnr_at_0 == 99 and rows["fade"][0].seconds > 0
