"""The paper's Table 2 on a base without an anchor: data, four presets of `train-slider`, one evaluation of all."""

from __future__ import annotations

import json

import pytest

from kontext_slider.cli import main
from kontext_slider.train.config import ABLATIONS
from kontext_slider.train.data import scores
from tests.evaluate.pie import original_folder
from tests.tiny import HIDDEN_DIM, tiny_pipeline
from tests.train.data.helpers import ANYTHING, load, run_tiny

SMALL = (
    "size=64",
    f"hidden_dim={HIDDEN_DIM}",
    "steps=1",
    "rate=0.1",
    "warmup=1",
    "batch_size=1",
    "held_out=1",
    "preview_every=1",
)
HERE = ("optimiser=adamw", "precision=no", "max_sequence_length=16")  # what a machine without a GPU cannot have


@pytest.mark.slow
def test_table_2_from_data_to_its_rows(tmp_path, monkeypatch):
    """Presets of a base that nobody had trained on, a slider without filter that was filtered, a text token that no
    command could measure: each stops whoever wants Table 2, hours after the start."""
    monkeypatch.setattr(scores, "THRESHOLDS", {"ssim": ANYTHING})
    tiny_pipeline(slider=False).save_pretrained(tmp_path / "base")
    tiny_pipeline(seed=1).save_slider(tmp_path / "slider")
    rejected = run_tiny(tmp_path / "data", 3, until="filter").manifest("filter")
    lines = rejected.read_text().splitlines()
    rejected.write_text("\n".join([*lines[:2], '{"id": "0000002", "state": "rejected", "reason": "ugly"}']) + "\n")
    for name, flags in (("packed", []), ("unfiltered", ["--unfiltered"])):
        assert not main(["data", "pack", str(tmp_path / "data"), *flags, "--out", str(tmp_path / name)])
    assert load(tmp_path / "packed")["id"][:] == ["0000000", "0000001"]
    assert "0000002" in load(tmp_path / "unfiltered")["id"][:]
    ablations = []
    for suffix in ABLATIONS:
        name = suffix.removeprefix("-") or "full"
        data, out = tmp_path / ("unfiltered" if name == "no-filtering" else "packed"), tmp_path / name
        command = ["train-slider", "--preset", f"kontext-dev{suffix}", "--data", str(data), "--out", str(out)]
        assert not main([*command, f"model={tmp_path / 'base'}", *SMALL, *HERE])
        ablations += ["--ablation", f"{name}={out / 'slider'}"]
    how = ["--model", str(tmp_path / "base"), "--slider", str(tmp_path / "slider"), "--distance", "rms", *ablations]
    for mode in (["--pie-bench", str(original_folder(tmp_path / "pie"))], ["--edits", "1", "--baselines"]):
        out = tmp_path / f"report{mode[0]}"
        assert not main(["evaluate", *mode, *how, "--out", str(out), "--json", str(out / "figures.json")])
        figures = json.loads((out / "figures.json").read_text())
        rows = figures["rivals"] if "--pie-bench" in mode else figures["ablations"]
        assert {"full", "text-space", "no-pooled", "no-filtering"} <= set(rows)
        assert len({row["delta_smooth"] for row in rows.values()}) >= 2
