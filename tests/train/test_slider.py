"""The trainer at a size that trains in a second: loss, gradients, resume, what it writes."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from kontext_slider import cli
from kontext_slider.errors import CheckpointError, InvalidInput, KontextSliderError
from kontext_slider.export import read_metadata
from kontext_slider.files import file_sha256
from kontext_slider.run_folder import alone_in
from kontext_slider.slider_weights import slider_on
from kontext_slider.train import loop
from kontext_slider.train.flow import SMALLEST, SliderBatch, flow_error
from kontext_slider.train.loop import make_accelerator, make_optimizers, trained
from kontext_slider.train.slider import SliderModel, train_slider
from kontext_slider.variants import load_variant
from tests.tiny import INSTRUCTION, POOLED_DIM, TEXT_DIM, loud, shake, tiny_image, tiny_pipeline
from tests.train.data_set import CONFIG, STRENGTHS, read_losses

KINDS = ["modulation", "text-space", "no-pooled"]


class Killed(Exception):
    pass


def die_after(steps: int):
    def on_step(step: int, loss: float) -> None:
        if step == steps:
            raise Killed

    return on_step


def train(data: Path, folder: Path, config=CONFIG, **how):
    """A run on a fresh tiny pipeline, all runs with one cache. Returns the pipeline."""
    pipe = tiny_pipeline(slider=False)
    train_slider(pipe, config, folder, data, folder.parent / "cache", **how)
    return pipe


def random_batch(batch: int = 2) -> SliderBatch:
    torch.manual_seed(4)
    source, target, noise = torch.randn(3, batch, 4, 8, 8)
    text, pooled = torch.randn(batch, 5, TEXT_DIM), torch.randn(batch, POOLED_DIM)
    strengths, sigmas = torch.tensor([0.3, 0.8]), torch.tensor([0.2, 0.9])
    return SliderBatch(source, target, strengths, text, pooled, sigmas, noise, torch.ones(batch))


def loss_and_gradients(kind: str, checkpointing: bool, kept: float) -> tuple[float, dict]:
    config = CONFIG.changed(kind=kind, gradient_checkpointing=checkpointing)
    model, batch = SliderModel(tiny_pipeline(slider=False), config), random_batch()
    torch.manual_seed(7)
    shake(trained(model).values(), 0.3)
    shake(model.projector.parameters(), 1.0)
    assert model.transformer.is_gradient_checkpointing == checkpointing
    loss = model(batch._replace(kept=torch.full((2,), kept)))
    loss.backward()
    return loss.item(), {name: p.grad for name, p in trained(model).items()}


@torch.no_grad()
def test_an_anchored_run_is_trained_on_what_it_shows():
    """The untouched frames of other rows, at other noise, or subtracted where the slider is dropped."""
    model, batch = SliderModel(tiny_pipeline(slider=False), CONFIG.changed(anchored=True)), random_batch()
    shake(trained(model).values(), 0.3)
    shake(model.projector.parameters(), 1.0)
    errors = []
    for target, strengths in [(batch.target, batch.strengths), (batch.source, torch.zeros(2))]:
        with slider_on(model.transformer, model.projector, strengths, batch.pooled):
            args = (batch.source, target, batch.text, batch.pooled, batch.sigmas, batch.noise)
            errors.append(flow_error(model.transformer, *args, CONFIG.weighting))
    shown = errors[0] - torch.tensor([0.7, 0.2])[:, None, None] * errors[1]
    torch.testing.assert_close(model(batch), shown.square().mean())
    dropped = batch._replace(kept=torch.zeros(2))
    loss = model(dropped)
    plain = SliderModel(tiny_pipeline(slider=False), CONFIG)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(loss, plain(dropped))


def test_decibels_of_every_row_may_count_alike():
    """A slider trained on squared errors is least exact where a cross-fade is best: in weak edits and small objects."""
    config = CONFIG.changed(gradient_checkpointing=False, loss="log")
    model, batch = SliderModel(tiny_pipeline(slider=False), config), random_batch()
    with torch.no_grad():
        whole = model(batch)
        model.config = config.changed(loss="square")
        rows = [{k: v[n : n + 1] for k, v in batch.tensors().items()} for n in range(2)]
        squares = torch.stack([model(SliderBatch(**row)) for row in rows])
    torch.testing.assert_close(whole, (squares + SMALLEST).log().mean())


def test_a_run_goes_on_from_a_smaller_rank(data, tmp_path):
    """An earlier slider's LoRA was refused by a wider one's run, and training began from nothing."""
    train(data, tmp_path / "narrow", CONFIG.changed(rank=2))
    pipe = tiny_pipeline(slider=False)
    wide = CONFIG.changed(rank=3, start=tmp_path / "narrow" / "slider")
    model, batch = SliderModel(pipe, wide), random_batch()
    narrow = SliderModel(tiny_pipeline(slider=False), CONFIG.changed(rank=2, start=wide.start))
    with torch.no_grad():
        torch.testing.assert_close(model(batch), narrow(batch))
    assert all(p.requires_grad for name, p in model.named_parameters() if "lora_" in name)
    with pytest.raises(InvalidInput, match="set rank="):
        SliderModel(tiny_pipeline(slider=False), wide.changed(rank=1))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_keeps_the_strength(kind):
    """The released trainer drops the offsets when it recomputes: same loss, other gradients, nothing learned."""
    loss, gradients = loss_and_gradients(kind, False, 1.0)
    again, recomputed = loss_and_gradients(kind, True, 1.0)
    without, _ = loss_and_gradients(kind, True, 0.0)
    assert abs(loss - without) > 1e-3, "the strength has no effect, so this shows nothing"
    assert loss == pytest.approx(again, rel=1e-6)
    assert max(grad.abs().max() for name, grad in gradients.items() if "projector" in name) > 0
    for name, gradient in gradients.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_a_killed_run_gives_the_same_losses(data, tmp_path):
    """A resume that forgets the optimiser, the averages, the place in the data or the noise."""
    config = CONFIG.changed(accumulation=2, ema=0.9, slider_drop=0.4, gradient_checkpointing=True)
    whole = train(data, tmp_path / "whole", config)
    for steps in (3, 5):
        with pytest.raises(Killed):
            train(data, tmp_path / "killed", config, on_step=die_after(steps))
        torch.rand(3)  # whatever else the process did
    resumed = train(data, tmp_path / "killed", config)
    losses = read_losses(tmp_path / "whole")
    assert len(losses) == 6 and len(set(losses)) == 6
    assert read_losses(tmp_path / "killed") == losses
    for a, b in zip(whole.slider_parameters(), resumed.slider_parameters(), strict=True):
        assert torch.equal(a, b)
    sliders = [load_variant(tmp_path / name / "slider") for name in ("whole", "killed")]
    for name, tensor in sliders[0].lora.tensors.items():
        assert torch.equal(tensor, sliders[1].lora.tensors[name])
    saved, last = sliders[0].projector.projector[-1].weight, whole.slider_projector.projector[-1].weight
    assert saved.any() and not torch.equal(saved, last), "the averages are saved, not the last weights"


def test_other_settings_do_not_go_on(data, tmp_path):
    """Half a run at one rate and half at another."""
    with pytest.raises(Killed):
        train(data, tmp_path / "run", on_step=die_after(2))
    with pytest.raises(InvalidInput, match="another rate"):
        train(data, tmp_path / "run", CONFIG.changed(rate=1e-3))


def test_another_base_does_not_go_on(data, tmp_path):
    """A slider of two base models, that fits neither; a slider that is still on the pipeline is no other base."""
    pipe = tiny_pipeline(slider=False)
    with pytest.raises(Killed):
        train_slider(pipe, CONFIG, tmp_path / "run", data, on_step=die_after(2))
    assert pipe.has_slider
    with pytest.raises(Killed):
        train_slider(pipe, CONFIG, tmp_path / "run", data, on_step=die_after(4))
    other = tiny_pipeline(slider=False)
    loud(other.transformer)
    with pytest.raises(InvalidInput, match="another data_or_base_model"):
        train_slider(other, CONFIG, tmp_path / "run", data)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's rms_norm under autocast
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_leaves(data, tmp_path, kind):
    """A slider that cannot be loaded, checkpoints that hold the frozen model or fill the disk, strips that break."""
    config = CONFIG.changed(
        kind=kind,
        preview_every=4,
        precision="bf16",
        gradient_checkpointing=True,
    )
    run = tmp_path / "run"
    pipe = train(data, run, config)
    saved = sorted(file.name for file in (run / "checkpoints").iterdir())
    assert [name[:12] for name in saved] == ["step-000004-", "step-000006-"]
    state = torch.load(run / "checkpoints" / saved[1], weights_only=True)["tensors"]
    assert state and all("lora" in name or "projector" in name for name in state)
    assert sorted(file.name for file in (run / "previews").iterdir()) == ["step-000004.png", "step-000006.png"]
    with Image.open(run / "previews" / "step-000006.png") as strip:
        assert strip.width == 3 * 48 and strip.height == 2 * 24 + 4
    assert read_metadata(run / "previews" / "step-000006.png")["instructions"] == ["add fog"]
    if kind == "text-space":
        return
    other = tiny_pipeline()
    other.load_slider(run / "slider")
    frames = [
        p(tiny_image(), INSTRUCTION, strength=STRENGTHS, generator=torch.Generator().manual_seed(1)).images
        for p in (pipe, other)
    ]
    for one, again in zip(*frames, strict=True):
        assert (np.asarray(one) == np.asarray(again)).all()
    assert not pipe.transformer.training and not pipe.transformer.is_gradient_checkpointing


def test_it_learns(data, tmp_path):
    """Offsets that never get a gradient, a learning rate of zero, a target that is not the frame."""
    config = CONFIG.changed(steps=60, checkpoint_every=60, slider_drop=0.0, weighting="sigma_squared")
    train(data, tmp_path / "run", config)
    losses = read_losses(tmp_path / "run")
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


def test_gradients_are_clipped(data, tmp_path):
    """One bad batch throws a run off its way. Clipped to less than Adam's epsilon, nothing moves."""
    pipe = train(data, tmp_path / "run", CONFIG.changed(clip=1e-12, steps=2))
    assert 0 < pipe.slider_projector.projector[-1].weight.abs().max() < 1e-4 * CONFIG.rate * 2


class Evil:
    """Unpickled without care, it leaves a mark."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_a_checkpoint_cannot_run_code(data, tmp_path):
    """A run folder from elsewhere whose optimiser's state is a program."""
    with pytest.raises(Killed):
        train(data, tmp_path / "run", on_step=die_after(2))
    [checkpoint] = (tmp_path / "run" / "checkpoints").glob("step-000002-*.pt")
    state = torch.load(checkpoint, weights_only=True)
    torch.save(state | {"optimizers": Evil(tmp_path / "mark")}, checkpoint)
    checkpoint.rename(checkpoint.with_name(f"step-000002-{file_sha256(checkpoint)[:16]}.pt"))
    with pytest.raises(CheckpointError, match="Delete them") as refused:
        train(data, tmp_path / "run")
    assert isinstance(refused.value.__cause__.__cause__, pickle.UnpicklingError)
    assert not (tmp_path / "mark").exists()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def flip_a_bit(file: Path) -> None:
    """Of the weights: their archive is read without an error."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 64
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip_a_bit])
def test_a_corrupt_checkpoint_costs_the_steps_since_the_one_before(data, tmp_path, caplog, damage):
    """A power cut, and a run of days that does not start again though an older checkpoint is whole; or one that goes on
    with half of the corrupt one's weights."""
    config = CONFIG.changed(ema=0.9)
    train(data, tmp_path / "whole", config)
    with pytest.raises(Killed):
        train(data, tmp_path / "run", config, on_step=die_after(5))
    checkpoints = tmp_path / "run" / "checkpoints"
    [older], [file] = (list(checkpoints.glob(f"step-00000{step}-*.pt")) for step in (2, 4))
    shutil.copy(older, checkpoints / "step-000004 copy.pt")
    (checkpoints / "newest.partial").write_bytes(b"PK")
    damage(file)
    with open(tmp_path / "run" / "log.jsonl", "a") as losses:
        losses.write('{"step": 6, "lo}\n')
    train(data, tmp_path / "run", config)
    assert f"{file.name} is damaged" in caplog.text
    assert read_losses(tmp_path / "run") == read_losses(tmp_path / "whole")


def test_two_runs_do_not_share_a_folder(data, tmp_path):
    """Two processes in one folder: eighty lines of losses for forty steps, and checkpoints of both."""
    with alone_in(tmp_path / "run"), pytest.raises(InvalidInput, match="Another run is at work"):
        train(data, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_the_run(data, tmp_path, monkeypatch):
    """Days of training on NaN, and the last good checkpoint overwritten."""
    monkeypatch.setattr(
        SliderModel, "forward", lambda self, batch: sum(p.sum() for p in trained(self).values()) * torch.nan
    )
    with pytest.raises(KontextSliderError, match="step 1"):
        train(data, tmp_path / "run")


def test_what_is_not_there_is_named(monkeypatch):
    """An ImportError after an hour of encoding, or accelerate's own advice to restart."""
    monkeypatch.setattr(loop, "find_spec", lambda name: None)
    handler = make_accelerator(CONFIG).init_handler
    assert handler is not None and handler.timeout >= timedelta(hours=1), "shares of an encoding differ by minutes"
    with pytest.raises(InvalidInput, match="process of its own"):
        make_accelerator(CONFIG.changed(precision="bf16"))
    with pytest.raises(InvalidInput, match="bitsandbytes"):
        make_optimizers(torch.nn.Linear(1, 1), CONFIG.changed(optimiser="adamw8bit"))


def test_half_precision_weights_train_in_float32():
    """Steps of 1e-5 are lost in bfloat16 weights."""
    pipe = tiny_pipeline(slider=False).to(torch.bfloat16)
    model = SliderModel(pipe, CONFIG)
    assert {p.dtype for p in trained(model).values()} == {torch.float32}
    assert pipe.transformer.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(random_batch())
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in trained(model).values())


def save_base(folder: Path) -> Path:
    tiny_pipeline(slider=False).save_pretrained(folder)
    return folder


def settings_of(base: Path) -> list[str]:
    skipped = ("model", "steps")
    settings = [
        f"{name}={value}"
        for name, value in CONFIG.model_dump(mode="json").items()
        if name not in skipped and value is not None
    ]
    booleans = [setting.replace("=True", "=true").replace("=False", "=false") for setting in settings]
    return [*booleans, f"model={base}", "steps=4"]


def test_the_command_trains_and_goes_on(data, tmp_path, capsys):
    """`train-slider` without settings must go on with the run's own, not with the preset's."""
    words = ["train-slider", "--data", str(data), "--out", str(tmp_path / "run")]
    assert cli.main([*words, *settings_of(save_base(tmp_path / "base"))]) == 0
    assert len(read_losses(tmp_path / "run")) == 4
    assert cli.main(words) == 0
    for wrong, problem in ((["stepz=4"], "stepz"), (["--preset", "pocket"], "another")):
        assert cli.main([*words, *wrong]) == 2
        assert problem in capsys.readouterr().err


def test_a_start_that_is_refused_costs_nothing_and_leaves_nothing(data, tmp_path, monkeypatch, capsys):
    """An hour of encoding, or of loading twelve billion weights, before the sentence about a package; and a folder with
    a lock in it that looks like a run."""
    monkeypatch.setattr("kontext_slider.cli.train_slider.load_base", lambda *how: pytest.fail("loaded"))
    monkeypatch.setattr(loop, "find_spec", lambda name: None)
    out, plain = tmp_path / "runs" / "one", ["--preset", "kontext-dev", "optimiser=adamw", "held_out=1"]
    for words, problem in (
        (["--data", str(data), "--preset", "kontext-dev"], "needs bitsandbytes"),
        (["--data", str(data), *plain, "held_out=9"], "none is left to train on"),
        (["--data", str(tmp_path / "none"), *plain], "no Parquet files"),
        (["--data", str(data), "--data", str(tmp_path / "none"), *plain], "no Parquet files"),
        (plain, "Give a data set"),
    ):
        assert cli.main(["train-slider", "--out", str(out), *words]) == 2
        assert problem in capsys.readouterr().err and not out.parent.exists()
    with pytest.raises(InvalidInput, match="multiple of 4"):  # known once the processes are
        train(data, out, CONFIG.changed(batch_size=2, accumulation=4))
    monkeypatch.setattr("kontext_slider.train.slider.RowBatches", lambda *how: pytest.fail("later"))
    with pytest.raises(pytest.fail.Exception):
        train_slider(tiny_pipeline(slider=False), CONFIG, out, data, tmp_path / "cache")
    assert not out.parent.exists(), "nothing was written"


def train_as_one_of_two(rank: int, port: int, words: list[str]) -> None:
    """One of two processes, as torch's launcher starts them."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    assert cli.main(words) == 0 and AcceleratorState().num_processes == 2


@pytest.mark.slow
def test_two_processes_do_what_one_does(data, tmp_path):
    """Processes that train on the same rows, gradients that are not shared, or files that both write."""
    settings = settings_of(save_base(tmp_path / "base"))
    words = {name: ["train-slider", "--data", str(data), "--out", str(tmp_path / name)] for name in ("one", "two")}
    assert cli.main([*words["one"], *settings]) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.set_forkserver_preload([__name__])  # the libraries are imported once for both
    started = (port, [*words["two"], *settings])
    torch.multiprocessing.start_processes(train_as_one_of_two, started, nprocs=2, start_method="forkserver")
    losses = [read_losses(tmp_path / name) for name in words]
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert (tmp_path / "two" / "slider" / "README.md").exists()
