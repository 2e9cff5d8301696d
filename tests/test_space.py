"""The upload of a Space: what it is made of, and what the hub is asked for. Nothing is sent anywhere."""

from __future__ import annotations

import subprocess
from pathlib import Path
from unittest.mock import create_autospec

import httpx
import pytest
from huggingface_hub import HfApi, SpaceCard
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from kontext_slider.errors import InvalidInput
from kontext_slider.space import CARD, OURS, PACKAGES, ROOT, SENT, main, space_card, stage
from kontext_slider.ui.launch import MODEL, SLIDER
from tests.test_packaging import listed

ANSWER = httpx.Response(404, request=httpx.Request("GET", "https://huggingface.co"))
CALLS = ["list_repo_files", "create_repo", "add_space_variable", "upload_folder", "request_space_hardware"]


@pytest.fixture
def hub():
    """The hub's client with its own signatures, where nothing has the Space's name so far."""
    api = create_autospec(HfApi, instance=True)
    api.list_repo_files.side_effect = RepositoryNotFoundError("absent", response=ANSWER)
    api.create_repo.return_value = "https://huggingface.co/spaces/me/slider"
    return api


def names(api) -> list[str]:
    return [call[0] for call in api.method_calls]


def no_hub():
    raise AssertionError("the hub was asked")


def test_the_space_gets_what_the_repository_has_for_the_app(tmp_path):
    """A file of the page that is left out fails on the first visit, and what is not committed is nobody's business."""
    found = subprocess.run(["git", "ls-files", *SENT], cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("this is no clone of the repository")
    left_out = ("weights/pocket/measured", "weights/pocket/training")
    wanted = {name for name in found.stdout.splitlines() if not name.startswith(left_out)}
    files = stage(tmp_path, "pocket", None)
    untracked = {name for name, _ in files} - wanted - {CARD, PACKAGES[1]}
    assert wanted <= {name for name, _ in files}
    assert not [name for name in untracked if not name.startswith("kontext_slider/")]
    assert all((tmp_path / name).stat().st_size == size for name, size in files)
    assert (tmp_path / PACKAGES[1]).read_text() == (ROOT / PACKAGES[0]).read_text()
    assert not list(tmp_path.rglob("__pycache__")) and not list(tmp_path.rglob("*.pyi"))


def test_the_packages_of_a_space_are_the_tested_ones_and_a_torch_that_zerogpu_takes():
    """The pinned torch is refused there, and two lists of pins grow apart."""
    ours, theirs = listed("requirements.txt"), listed(PACKAGES[0])
    assert theirs.keys() == ours.keys() | {"spaces"}
    assert all(str(theirs[name]) == str(ours[name]) for name in ours if name != "torch")
    [torch], [spaces] = theirs["torch"].specifier, theirs["spaces"].specifier
    assert torch.operator == spaces.operator == "=="
    assert (2, 8) <= tuple(int(part) for part in torch.version.split(".")[:2]) <= (2, 11)


@pytest.mark.parametrize(
    ("model", "slider", "models", "hardware"),
    [
        ("pocket", None, [], "cpu-basic"),
        (
            "kontext-dev",
            None,
            ["black-forest-labs/FLUX.1-Kontext-dev", "RishubhPar/KontinuousKontextWeights"],
            "zero-a10g",
        ),
        ("me/base", "me/slider", ["me/base", "me/slider"], "zero-a10g"),
    ],
)
def test_the_card_configures_the_space(model, slider, models, hardware):
    """The hub refuses a card without sdk_version, and starts another gradio than the one that is pinned."""
    card = SpaceCard(space_card(model, slider, (ROOT / PACKAGES[0]).read_text())).data.to_dict()
    assert card["sdk"] == "gradio" and f"=={card['sdk_version']}" == str(listed("requirements.txt")["gradio"].specifier)
    assert card["app_file"] == "app.py" and card["python_version"].startswith("3.12")
    assert card.get("models", []) == models and card["suggested_hardware"] == hardware
    assert (card["license"] == "mit") == (model == "pocket") and len(card["short_description"]) <= 60


def test_a_dry_run_lists_the_files_and_asks_nobody(capsys):
    assert main(["me/slider", "--dry-run"], no_hub) == 0
    printed = capsys.readouterr().out
    assert " app.py\n" in printed and " weights/pocket/transformer/diffusion_pytorch_model.safetensors\n" in printed


def test_a_space_is_made_configured_and_filled(hub, capsys):
    """Variables that come after the files start the Space on the wrong model first, which takes minutes."""
    words = ["me/slider", "--model", "kontext-dev", "--slider", "me/other", "--hardware", "zero-a10g", "--private"]
    assert main(words, lambda: hub) == 0
    assert list(dict.fromkeys(names(hub))) == CALLS
    made = hub.create_repo.call_args
    assert made.args == ("me/slider",)
    assert made.kwargs == {"repo_type": "space", "space_sdk": "gradio", "private": True, "exist_ok": True}
    assert [call.args[1:] for call in hub.add_space_variable.call_args_list] == [
        (MODEL, "kontext-dev"),
        (SLIDER, "me/other"),
    ]
    sent = hub.upload_folder.call_args.kwargs
    assert (sent["repo_id"], sent["repo_type"], sent["delete_patterns"]) == ("me/slider", "space", "*")
    assert not Path(sent["folder_path"]).exists(), "what was staged stays on this disk"
    assert hub.request_space_hardware.call_args.args == ("me/slider", "zero-a10g")
    assert "https://huggingface.co/spaces/me/slider" in capsys.readouterr().out


def test_hardware_that_nobody_named_stays(hub):
    """A second upload would take the paid GPU away."""
    assert main(["me/slider"], lambda: hub) == 0
    assert names(hub) == CALLS[:-1]


@pytest.mark.parametrize("files", [[], [".gitattributes", CARD], [OURS, "old.py"]], ids=["empty", "new", "ours"])
def test_a_space_of_ours_is_written_again(hub, files):
    hub.list_repo_files.side_effect = None
    hub.list_repo_files.return_value = files
    assert main(["me/slider"], lambda: hub) == 0
    assert "upload_folder" in names(hub)


def test_a_space_that_holds_something_else_is_left_alone(hub, capsys):
    """The upload deletes what it does not bring: a slip in the name would empty another Space."""
    hub.list_repo_files.side_effect = None
    hub.list_repo_files.return_value = ["app.py", CARD]
    assert main(["me/other"], lambda: hub) == 2
    assert names(hub) == ["list_repo_files"] and "holds something else" in capsys.readouterr().err


def test_a_refusal_of_the_hub_is_a_sentence(hub, capsys):
    """A traceback of the client, to somebody who is not logged in."""
    hub.create_repo.side_effect = HfHubHTTPError("401 Unauthorized", response=ANSWER)
    assert main(["me/slider"], lambda: hub) == 1
    error = capsys.readouterr().err
    assert "could not be written" in error and "hf auth login" in error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["slider"], "USER/NAME"),
        (["me/slider", "--model", "no-such"], "owner/name"),
        (["me/slider", "--model", "weights/pocket"], "owner/name"),
        (["me/slider", "--slider", "./mine"], "owner/name"),
    ],
)
def test_what_a_space_cannot_have_is_refused(monkeypatch, capsys, words, sentence):
    """A folder of this computer, as the model of a Space that then does not start."""
    monkeypatch.chdir(ROOT)
    assert main(words, no_hub) == 2
    assert sentence in capsys.readouterr().err


def test_an_installed_package_says_that_it_needs_a_clone(tmp_path):
    with pytest.raises(InvalidInput, match="in a clone of the repository"):
        stage(tmp_path / "space", "pocket", None, root=tmp_path)
