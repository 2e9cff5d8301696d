"""A model at several sizes."""

from kontext_slider.evaluate.sizes import STRENGTHS, score_sizes, table
from tests.tiny import tiny_pipeline


def test_frames_are_rendered_at_the_size_that_is_measured():
    """Rendered at the model's own size and compared at another, every figure would be that of a resize."""
    pipe = tiny_pipeline(edit_defaults={"size": 64, "steps": 1, "max_sequence_length": 64})
    sizes = []
    before = pipe.vae.decode
    pipe.vae.decode = lambda latents, **kw: (sizes.append(latents.shape[-1]), before(latents, **kw))[1]
    scores = score_sizes(pipe, (32, 48), every=20)
    assert {len(rows) for rows in scores.values()} == {2 * len(STRENGTHS)}
    assert [row.edit for row in scores[32]] == [row.edit for row in scores[48]]
    assert len(set(sizes)) == 2 and len(table(scores).splitlines()) == 4


def test_every_size_shows_the_same_scenes(monkeypatch):
    """Other scenes are easier or harder: the table would compare them, and not sizes."""
    asked = []
    monkeypatch.setattr("kontext_slider.evaluate.sizes.score_case", lambda pipe, case, *_: asked.append(case) or [])
    score_sizes(tiny_pipeline(), (32, 48), every=20)
    small, large = asked[: len(asked) // 2], asked[len(asked) // 2 :]
    assert {case.source.shape for case in small} == {(32, 32, 3)} != {case.source.shape for case in large}
    assert [case.truth.scene for case in small] == [case.truth.scene for case in large]
    assert [case.instruction for case in small] == [case.instruction for case in large]
