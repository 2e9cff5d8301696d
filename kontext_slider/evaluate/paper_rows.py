"""The rows of the paper's tables 1 to 3 with the paper's own figures, and the words around them (`paper_tables.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from kontext_slider.evaluate.rows import ANCHOR_ALONE, CEILING, CROSS_FADE, NO_ANCHOR, OURS, OWN_FADE

PAPERS = "full"  # the name of the slider that is trained as the paper has it
STABLE_DIFFUSION = "needs Stable Diffusion 2.1 (5 GB)"


@dataclass(frozen=True)
class Row:
    """A system of the paper, or one beside its systems: its name in reports, the paper's delta_smooth / CLIP-dir, and
    what it needs that a report without it lacked."""

    name: str
    title: str
    paper: str = "-"
    needs: str = "not measured"


METHOD = "the paper's method as the paper has it, trained here"
TABLES: dict[str, tuple[Row, ...]] = {
    "Table 1: systems": (
        Row(OURS, "this model's own slider, as shipped"),
        Row(NO_ANCHOR, "the same without its anchor"),
        Row(PAPERS, METHOD, "0.329 / 0.241 (beside ConceptSliders 0.098 / 0.382, beside MARBLE 0.350 / 0.101)"),
        Row(ANCHOR_ALONE, "the anchor alone: an untrained slider with it"),
        Row(CROSS_FADE, "pixel cross-fade of the base's edit, which that is"),
        Row(OWN_FADE, "pixel cross-fade of the slider's full edit"),
        Row("free-morph", "FreeMorph", "0.365 / 0.189", STABLE_DIFFUSION),
        Row("diff-morpher", "DiffMorpher", "0.371 / 0.181", STABLE_DIFFUSION),
        Row("wan", "WAN 2.1, first and last frame", "0.853 / 0.269", "needs WAN 2.1 FLF2V (14 B) and a GPU"),
        Row("concept-slider", "ConceptSliders", "0.143 / 0.186", "needs sliders of train-concept"),
        Row("marble", "MARBLE", "2.577 / 0.157", "needs SDXL, an IP-Adapter, depth and masks; knows four attributes"),
        Row(CEILING, "no system: the ground truth behind the codec"),
    ),
    "Table 2: ablations": (
        Row("text-space", "the strength as a token in text space", "1.468 / 0.191"),
        Row("no-pooled", "without pooled text in the projector", "1.092 / 0.141"),
        Row("no-filtering", "without filtering the data", "0.483 / 0.228"),
        Row(PAPERS, METHOD, "0.329 / 0.241"),
        Row("pocket", "pocket's design on the same data: vector of time and text, anchored, trained as shown"),
    ),
    "Table 3: scales of the base, and other baselines": (
        Row("cfg-scale", "CFG scale", "152.2 / 0.242"),
        Row("attention-reweighting", "attention reweighting", "120.8 / 0.237"),
    ),
}
TITLES = {  # of methods that the paper does not have
    "guidance-scale": "the distilled guidance scale",
    "latent-cross-fade": "cross-fade of the latents",
    "modulation-scale": "scaled text modulation, as in the paper's Fig. 14",
    "grag": "GRAG",
    "pad-tokens": "interpolation from pad tokens",
    "embedding-steering": "steering of the text embedding",
    "velo-edit": "VeloEdit",
    "flow-slider": "FlowSlider",
    "ada-or": "AdaOr-like mixing",
}
NOTE = """
Beside each row stand the paper's figures: FLUX.1 Kontext, PIE-Bench, DreamSim, delta_smooth / CLIP-dir. They are of
another model on other pictures by another ruler, so only the order of rows can be compared with them. **What is
measured here does not carry over to FLUX**: with the released weights it has no anchor. An anchor alone is already a
cross-fade, which every ruler of smoothness likes.
""".strip()
READING = """
- delta_smooth: the largest triangle deficit of a sweep (paper, appendix A.6), by several rulers; less is smoother. The
  synthetic edits were spaced by {fitted}: those columns judge nothing, they are beside for comparison.
- dB to the ground truth: PSNR of frames above strength 0 to the drawn picture at the same strength; more is nearer.
- over the cross-fade: the same minus the cross-fade's, edit by edit, with half the width of its interval at 95 %.
- `full` is the paper's method as the paper has it, in this model's size: offsets in the text stream, 128 sines and
  cosines, no anchor, every frame trained for itself. The rows of table 2 differ from it in one thing each.
- ± is half the width of the bootstrap interval at 95 % over edits; where it says "over N runs", over trainings.
""".strip()
