"""The base model's own edit, which baselines and morphers are made of."""

import numpy as np
import torch

from kontext_slider.base_edit import BaseEdit, coded, edited_picture
from tests.tiny import INSTRUCTION, PLAIN, tiny_image


def test_the_base_edit_is_the_plain_pipelines(pipe):
    """All baselines step through the same loop: if it were not the pipeline's, they would belong to another model."""
    image = tiny_image()
    call = {**PLAIN, "guidance_scale": pipe.defaults.guidance, "generator": torch.Generator().manual_seed(0)}
    plain = pipe(image, INSTRUCTION, **call, output_type="np").images[0]
    assert np.abs(edited_picture(pipe, image, INSTRUCTION, 0) - plain).max() <= 1 / 255


def test_a_batch_has_the_velocities_of_its_rows(pipe):
    """Morphers ask for all strengths at once, each with its own text and source."""
    edit = BaseEdit(pipe, tiny_image(), INSTRUCTION, 0)
    other = edit.encode_text("make it night")
    z = torch.cat([edit.noise.latents, edit.source.latents])
    both = type(other)(
        torch.cat([edit.text.embeds, other.embeds]), torch.cat([edit.text.pooled, other.pooled]), other.ids
    )
    together = edit.velocity(z, 0.5, both)
    for row, text in enumerate((edit.text, other)):
        assert torch.allclose(together[row], edit.velocity(z[row : row + 1], 0.5, text)[0], atol=1e-5)


def test_the_codec_alone_is_what_a_source_decodes_to(pipe):
    """The ceiling of every figure in dB."""
    image = tiny_image()
    edit = BaseEdit(pipe, image, INSTRUCTION, 0)
    picture = np.asarray(image, dtype=np.float32) / np.float32(255)
    assert np.abs(np.clip(coded(pipe, picture), 0, 1) - edit.picture(edit.source.latents)).max() < 1e-5
