"""`kontext-slider evaluate` as a person runs it, on a tiny real-class pipeline."""

import csv
import json
import shlex
import sys

import pytest

from kontext_slider.cli import build_parser, main
from kontext_slider.cli.evaluate import command_line
from kontext_slider.cli.evaluate_setup import described_methods, load, make_setup, parse_ablations
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.anchor import with_anchor
from kontext_slider.evaluate.truth import Score
from kontext_slider.images import read_image
from kontext_slider.morph import OWN_MODELS
from kontext_slider.projector import TextSpaceProjector
from kontext_slider.variants import save_variant
from tests.cli.helpers import status_of
from tests.evaluate.pie import original_folder
from tests.metrics.networks import save_tiny_clip
from tests.tiny import HIDDEN_DIM, INSTRUCTION, POOLED_DIM, TEXT_DIM, shake, tiny_image, tiny_pipeline

DEMANDED = {
    "delta_smooth", "delta_first", "linearity_error", "calibration_error", "monotonicity", "truth_psnr",
    "zero_psnr_gap", "full_psnr_gap",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pipe = tiny_pipeline(seed=0)
    pipe.register_to_config(known_instructions={"night": ["make it night"]})
    pipe.save_pretrained(folder / "model")
    tiny_pipeline(seed=1).save_slider(folder / "other")
    return folder


@pytest.fixture(scope="module")
def report(model, tmp_path_factory):
    """A run with everything: two seeds, a baseline of each kind, an ablation, two distances, strips."""
    out = tmp_path_factory.mktemp("report")
    code = main([
        "evaluate", "--model", str(model / "model"), "--edits", "2", "--seed", "101", "--seeds", "2",
        "--out", str(out), "--baselines", "pixel-cross-fade", "cfg-scale", "--ablation", f"other={model / 'other'}",
        "--strips", "1", "--ablation", f"no-filtering={model / 'other'}",
        "--json", str(out / "figures.json"), "--distance", "ssim", "rms",
    ])  # fmt: skip
    assert not code
    return out


def test_the_json_is_one_flat_object_with_the_baselines_beside_it(report):
    """Whoever reads it takes figures by these names."""
    figures = json.loads((report / "figures.json").read_text())
    assert set(figures) >= DEMANDED | {"phrasing_gap", "distance", "full_psnr", "beyond"}
    assert set(figures) >= {"slider_gain_over_crossfade_db", "slider_gain_over_crossfade_db_interval"}
    assert set(figures["rivals"]) == {"cfg-scale", "cfg-scale + anchor"}
    assert set(figures["parts"]) == {
        "ours + anchor", "cross-fade of our full edit", "anchor alone", "pixel-cross-fade",
    }  # fmt: skip
    assert set(figures["ablations"]) == {"other", "no-filtering"}
    rows = (*figures["parts"].values(), *figures["rivals"].values(), figures["ceiling"])
    assert all(set(row) >= DEMANDED and set(row["by_ruler"]) == {"ssim", "rms"} for row in rows)
    assert figures["num_edits"] == 4 and set(figures["intervals"]) >= DEMANDED and figures["distance"] == "ssim"


@pytest.mark.slow
def test_edits_shared_out_are_the_same_edits(model, report, tmp_path):
    """Rows of one process under the edits of another, or an edit measured twice."""
    code = main([
        "evaluate", "--model", str(model / "model"), "--edits", "3", "--seed", "101", "--out", str(tmp_path),
        "--rivals", "cfg-scale", "--ablation", f"other={model / 'other'}", "--strips", "1", "--distance", "rms",
        "--jobs", "2",
    ])  # fmt: skip
    shared, alone = (list(csv.DictReader((out / "edits.csv").read_text().splitlines())) for out in (tmp_path, report))
    assert not code and len(shared) == 3 * (5 + 2 + 1 + 1)
    column = {method: [row["edit"] for row in shared if row["method"] == method] for method in ("ours", "cfg-scale")}
    assert column["ours"] == column["cfg-scale"] and len(set(column["ours"])) == 3
    for method in ("ours", "other", "cfg-scale"):
        found, before = (
            [row for row in rows if row["method"] == method and row["seed"] == "101"][:2] for rows in (shared, alone)
        )
        for a, b in zip(found, before, strict=True):
            assert a["edit"] == b["edit"] and float(a["truth_psnr"]) == pytest.approx(float(b["truth_psnr"]), abs=1e-3)


def test_an_ablation_is_another_slider_and_ours_comes_back(report):
    """A table whose every row is the same slider says that nothing matters; one that is not put back ruins ours."""
    rows = list(csv.DictReader((report / "edits.csv").read_text().splitlines()))
    column = {name: [row["truth_psnr"] for row in rows if row["method"] == name] for name in ("ours", "other")}
    assert len(rows) == 4 * (5 + 2 + 2 + 1) and all(
        a != b for a, b in zip(column["ours"], column["other"], strict=True)
    )
    assert {row["seed"] for row in rows} == {"101", "102"}


def test_the_page_has_its_tables_and_pictures(report):
    """Tables of baselines and ablations, the command that made them, and every picture that is named; a row called
    "unfiltered" says nothing to who has not read the code, and of another's slider there is nothing to say."""
    page = (report / "report.md").read_text()
    assert all(words in page for words in ("`kontext-slider evaluate", "--edits 2", "--seed 101", "--seeds 2"))
    for part in ("## What the slider adds", "## Ablations", "judged by ssim", "edit by edit"):
        assert part in page
    ablations = page.split("## Ablations")[1].split("##")[0]
    assert "| other | " in ablations and "| no-filtering | " in ablations
    assert "- no-filtering: the same, trained on" in ablations and "- other:" not in ablations
    pictures = [line.split("](")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(pictures) == 3 and all(read_image(report / name).width > 300 for name in pictures)


def test_edits_that_the_model_offers_have_a_table_of_their_own(report):
    """Means that edits nobody can ask for are hidden in, or the only means there are."""
    figures, page = json.loads((report / "figures.json").read_text()), (report / "report.md").read_text()
    assert "on the 2 edits that the model offers" in page and "the other 2:" in page
    rows = list(csv.DictReader((report / "edits.csv").read_text().splitlines()))
    mine = [float(row["truth_psnr"]) for row in rows if row["method"] == "ours" and row["edit"] == "night"]
    assert figures["offered"]["ours"]["truth_psnr"] == pytest.approx(sum(mine) / 2, abs=1e-3)


def test_pie_bench_from_folder_to_figures(model, tmp_path):
    """The whole way: pictures of 512 on a model of 32, masks and captions with them; a share first, then the rest. A
    slider that is a text token could not be measured here."""
    token = TextSpaceProjector(POOLED_DIM, HIDDEN_DIM, TEXT_DIM)
    pipe = tiny_pipeline()
    save_variant(tmp_path / "token", shake(token.parameters(), 0.6) or token, pipe.transformer)
    command = [
        "evaluate", "--pie-bench", str(original_folder(tmp_path / "pie")),
        "--model", str(model / "model"), "--json", str(tmp_path / "figures.json"), "--out", str(tmp_path / "out"),
        "--distance", "pocket", "rms", "--clip", str(save_tiny_clip(tmp_path / "clip")),
        "--baselines", "pixel-cross-fade", "--ablation", f"text-space={tmp_path / 'token'}",
    ]  # fmt: skip
    assert not main([*command, "--share", "1/2"])
    assert json.loads((tmp_path / "figures.json").read_text()) == {"share": "1/2", "num_measured": 3}
    assert not main(command)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["num_edits"] == 2 and set(figures["rivals"]) == {"pixel-cross-fade", "text-space"}
    wanted = {"delta_smooth", "delta_first", "linearity_error", "monotonicity", "clip_dir", "background_psnr"}
    for row in (figures, *figures["rivals"].values()):
        assert wanted <= set(row) and set(row["by_ruler"]) == {"pocket", "rms"}
        assert len(row["identity"]) == 7 and row["identity"][0] == pytest.approx(1, abs=1e-4)
    assert figures["delta_smooth"] != figures["rivals"]["text-space"]["delta_smooth"]
    page = (tmp_path / "out" / "pie-bench.md").read_text()
    assert "| style | " in page and "- text-space: the same, with the strength as one more text token" in page
    assert "| text-space | 1.000 | " in page and (tmp_path / "out" / "pie-identity.png").is_file()


@pytest.mark.parametrize("share", ["2/2", "1", "a/b", "1/0", "0/"])
def test_a_share_is_one_of_several(share, capsys):
    """A share that is none measures nothing and ends as if it had."""
    assert status_of(["evaluate", "--pie-bench", "PIE", "--share", share]) == 2
    assert "K/N with K from 0 to N - 1" in capsys.readouterr().err


@pytest.mark.parametrize(("package", "name"), [("dreamsim", "dreamsim"), ("lpips", "lpips")])
def test_a_missing_package_is_named_and_no_other_ruler_is_taken(model, tmp_path, monkeypatch, capsys, package, name):
    """Where DreamSim was missing, another distance was measured and looked like the paper's."""
    monkeypatch.setitem(sys.modules, package, None)
    command = ["evaluate", "--pie-bench", str(original_folder(tmp_path / "pie")), "--model", str(model / "model")]
    assert main([*command, "--out", str(tmp_path / "out"), "--distance", name]) == 2
    assert f"pip install {package}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ablations_are_named_folders():
    """A slip in the flag must not cost an hour of rendering before it is found. The same name again is another run."""
    folders = parse_ablations(["a=b", "c=d=e", "a=f"])
    assert {name: list(map(str, runs)) for name, runs in folders.items()} == {"a": ["b", "f"], "c": ["d=e"]}
    for words in (
        ["nothing"],
        ["=folder"],
        ["name="],
        ["a=b", "a=b"],
        ["ours=b"],
        ["cfg-scale=b"],
        ["ours + anchor=b"],
    ):
        with pytest.raises(InvalidInput, match="ablation"):
            parse_ablations(words)


def test_morphers_are_baselines_on_the_models_that_were_named(model, monkeypatch):
    """Their weights are on no machine of ours: were a name or the order of the arguments another, nobody would see."""
    asked = []

    def load(self, name, chosen):
        asked.append((self, name, chosen))
        return lambda pipe, source, *rest: [source]

    monkeypatch.setattr("kontext_slider.cli.morphers.MorpherLoader.load", load)
    words = ["--model", str(model / "model"), "--distance", "rms", "--free-morph", "a/b", "--captions", "c/d"]
    setup = make_setup(build_parser(["evaluate"]).parse_args(["evaluate", *words, "--baselines"]))
    ((loader, *named),) = asked
    assert not loader.offload
    assert named == ["free-morph", "a/b"] and list(setup.baselines) == ["free-morph"]
    assert (loader.device, loader.dtype, loader.captions) == (setup.pipe.device, setup.pipe.dtype, "c/d")
    frames = setup.baselines["free-morph"](setup.pipe, tiny_image(), INSTRUCTION, (0.5,), 0)
    assert frames[0].shape == (32, 32, 3)


def test_other_captions_are_another_method(tmp_path):
    """Half the edits would be measured by the words of yesterday's file, which has the same name."""
    words = tmp_path / "words.json"
    args = build_parser(["evaluate"]).parse_args(["evaluate", "--free-morph", "a/b", "--captions", str(words)])
    found = []
    for text in ("{}", '{"make it snow": ["a", "b"]}'):
        words.write_text(text)
        found.append(described_methods(args)["free-morph"])
    assert found[0] != found[1] and all(each.startswith(f"a/b, captions {words} (") for each in found)


def test_a_morpher_without_a_name_has_the_default_model():
    """A flag that swallows the next one, or none at all where no model is named."""
    args = build_parser(["evaluate"]).parse_args(["evaluate", "--free-morph", "--edits", "2"])
    assert (args.free_morph, args.edits) == (OWN_MODELS["free-morph"].model, 2)
    assert build_parser(["evaluate"]).parse_args(["evaluate"]).free_morph is None


@pytest.mark.parametrize(
    "flag",
    ["--scenes-per-edit", "--edits", "--seeds", "--jobs"],
)
def test_counts_start_at_one(flag, capsys):
    """No edits, and the means are of nothing."""
    assert status_of(["evaluate", flag, "0"]) == 2
    assert "from 1 to" in capsys.readouterr().err


def test_the_seed_reaches_the_scenes_of_the_truth(model, monkeypatch, tmp_path):
    """The tables of two seeds were the same to the last digit, and looked like a result that holds."""
    asked = []

    def scored(pipe, scenes_per_edit, photos, seed):
        asked.append((scenes_per_edit, photos, seed))
        return [Score("scene", "night", strength, 30.0, 40.0, 20.0, strength, strength) for strength in (0.0, 1.0)]

    monkeypatch.setattr("kontext_slider.cli.evaluate.score_truth", scored)
    flags = ["--model", str(model / "model"), "--scenes-per-edit", "1", "--seed", "7", "--out", str(tmp_path)]
    assert not main(["evaluate", *flags]) and asked == [(1, [], 7)]


def test_seeds_are_held_out_ones(capsys):
    """Held-out scenes are counted from a million on: a seed below 0 leads back to those that training drew."""
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--edits", "1", "--seed", "-1"])
    assert stopped.value.code == 2 and "whole number from 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--out", "file"], "folder file cannot be made"),
        (["--out", "file/below"], "folder file/below cannot be made"),
        (["--out", "folder", "--json", "file/figures.json"], "folder file cannot be made"),
        (["--out", "folder", "--json", "folder"], "is a folder"),
    ],
)
def test_there_is_room_for_the_results_before_they_are_computed(tmp_path, monkeypatch, capsys, flags, words):
    """A file in the folder's place was found when all was computed, and all of it was lost."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kontext_slider.cli.evaluate.make_setup", lambda args: pytest.fail("work was begun"))
    (tmp_path / "file").write_text("somebody's")
    assert main(["evaluate", "--edits", "1", *flags]) == 2
    assert words in capsys.readouterr().err and (tmp_path / "file").read_text() == "somebody's"


def test_the_command_in_a_report_means_the_same_anywhere():
    """A report is reproduced from its command; flags left at their defaults, or given without a word, must be in it."""
    parser = build_parser(["evaluate"])
    words = ["evaluate", "--edits", "3", "--baselines", "--ablation", "a=b c", "--ablation", "d=e"]
    for more in ([], ["--wan", "--offload"]):
        args = parser.parse_args([*words, *more])
        line = shlex.split(command_line(args))
        assert line[0] == "kontext-slider" and parser.parse_args(line[1:]) == args


def test_the_former_name_of_the_flag_still_works():
    """`--rivals` stands in published commands."""
    parser = build_parser(["evaluate"])
    args = parser.parse_args(["evaluate", "--rivals", "velo-edit"])
    assert args.baselines == ["velo-edit"] and parser.parse_args(["evaluate"]).baselines is None
    assert "--rivals" not in parser.format_help()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--jobs", "2"], "--jobs is used with --edits or with --pie-bench only"),
        (["--ablation", "a=b"], "--ablation is used with --edits or with --pie-bench only"),
        (["--share", "0/2"], "--share is used with --pie-bench only"),
        (["--edits", "1", "--share", "0/2"], "--share is used with --pie-bench only"),
        (["--pie-bench", "folder", "--photos", "folder"], "--photos is used without --edits and --pie-bench only"),
        (["--pie-bench", "folder", "--scenes-per-edit", "2"], "--scenes-per-edit is used"),
        (["--pie-bench", "folder", "--strips", "1"], "--strips is used with --edits only"),
        (["--pie-bench", "folder", "--captions", "words.json"], "--captions is used by"),
        (["--edits", "1", "--wan", "--captions", "words.json"], "--captions is used by"),
        (["--edits", "1", "--free-morph", "--offload"], "--offload is used by --wan only"),
        (["--pie-bench", "folder", "--concept-sliders", "folder"], "--baselines concept-slider only"),
        (["--distance", "ssim"], "--distance is used with --edits or with --pie-bench only"),
        (["--edits", "1", "--photos", "folder"], "--photos is used without --edits"),
        (["--edits", "1", "--scenes-per-edit", "2"], "--scenes-per-edit is used without --edits"),
        (["--edits", "1", "--clip", "folder"], "--clip is used by --distance clip only"),
        (["--pie-bench", "folder", "--seeds", "3"], "--seeds is used with --edits only"),
        (["--pie-bench", "folder", "--edits", "3"], "Give one of them"),
        (["--edits", "1", "--seed", "99", "--seeds", "2"], "for choosing and for reporting"),
    ],
)
def test_a_flag_that_would_have_no_effect_is_refused(tmp_path, monkeypatch, capsys, flags, words):
    """`--scenes-per-edit 20 --edits 5` measured five edits, and its command said twenty scenes; ablations that were
    named on PIE-Bench were left out of its table without a word."""
    monkeypatch.setattr("kontext_slider.cli.evaluate.load", lambda args: pytest.fail("work was begun"))
    assert main(["evaluate", *flags, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["edits", "pie-bench"])
def test_a_missing_concept_slider_is_told_before_anything_is_rendered(tmp_path, monkeypatch, capsys, mode):
    """It was found at its edit, after the baselines of all edits before it."""
    monkeypatch.setattr("kontext_slider.cli.evaluate_setup.load_pipeline", lambda *args, **kw: pytest.fail("loaded"))
    what = ["--edits", "2"] if mode == "edits" else ["--pie-bench", str(original_folder(tmp_path / "pie"))]
    flags = ["--concept-sliders", str(tmp_path / "none"), "--baselines", "concept-slider"]
    assert main(["evaluate", *what, *flags, "--distance", "rms", "--out", str(tmp_path / "out")]) == 2
    assert "has no concept slider for" in capsys.readouterr().err


def test_a_model_without_settings_of_its_own_is_compared_at_one_size(tmp_path):
    """FLUX.1 Kontext names none: its slider came out at the parent pipeline's 1024 pixels and guidance, the base's edit
    beside it at 512, and the first edit ended in a traceback about shapes."""
    pipe = tiny_pipeline()
    pipe.register_to_config(edit_defaults=None)
    pipe.save_pretrained(tmp_path / "model")
    args = build_parser(["evaluate"]).parse_args(["evaluate", "--model", str(tmp_path / "model")])
    found = load(args)
    assert found.config.edit_defaults["size"] == found.defaults.size == 512
    with_it = with_anchor(found, True).config.edit_defaults
    assert with_it == {**found.config.edit_defaults, "anchor_source": True}
