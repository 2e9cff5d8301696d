"""Where training starts: at the model that changes nothing, written down instead of learned.

A rectified-flow editor must, before it can edit, carry the noisy target x through the network unharmed, find for each
target token the source token at the same place, subtract it and divide: (x - y_source) / sigma is the velocity of "no
edit". From random weights that costs most of a short training; here it is set by hand, in the unmodified architecture:

- A token's values stand in the residual stream as they are. Spare dimensions hold a constant, the ballast, so large
  that LayerNorm divides all tokens by nearly the same number; the modulations multiply it back and hide the ballast.
- All blocks start as the identity: gates 1, output layers 0.
- In the first block one head marks the target tokens, so that later layers can tell them from the source.
- The last block looks from each target token at its source token, by position alone (rotary embedding of constant
  queries and keys), and subtracts what it finds. So the *source* tokens are where an edit is computed, before that.
- One feature of the time embedding is fitted, in closed form, to 1 / sigma - 1 and scales the output.

What is left to learn is the edit.

Legend: W width of the stream; K values of a token, M = 2 marks and the ballast share its dimensions in this order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

BALLAST = 20.0
NUM_MARKS = 2
MARK = 2.0
MARK_SHARPNESS = 1.5
INDEX_LOGIT = 18.0
DISTANCE_LOGITS = (14.0, 6.0, 4.0, 3.0)
LOWEST_SIGMA = 0.03
SIGMA_GAIN = 8.0  # the fitted feature is (1 / sigma - 1) / SIGMA_GAIN, at most 1 at the last of 8 steps
MOST_RADIANS = 40.0  # of the time embedding's waves over sigma in [0, 1]; faster ones start switched off


@torch.no_grad()
def start_as_copy(transformer: nn.Module) -> None:
    """Overwrite the weights of a fresh transformer so that it predicts (x - y_source) / sigma for any text.

    Raises ValueError if the width has too few dimensions to spare or a token does not fill whole heads."""
    config, width = transformer.config, transformer.inner_dim
    token = config.in_channels
    spare = width - token
    if spare < 8 or spare % 2 or token % config.attention_head_dim:
        raise ValueError(f"A width of {width} cannot hold tokens of {token} values and an even number of spare ones.")
    divisor = BALLAST * math.sqrt((spare - NUM_MARKS) / width)  # what LayerNorm divides by, nearly
    factor = modulation_factor(width, token, divisor)
    embed(transformer.x_embedder, transformer.context_embedder, token)
    for block in transformer.transformer_blocks:
        for norm in (block.norm1, block.norm1_context):
            modulate(norm.linear, factor)
        for layer in (block.attn.to_out[0], block.attn.to_add_out, block.ff.net[2], block.ff_context.net[2]):
            set_to_zero(layer)
    for block in transformer.single_transformer_blocks:
        modulate(block.norm.linear, factor)
        set_to_zero(block.proj_out)
    mark_targets(transformer.transformer_blocks[0].attn, token, config)
    subtract_source(transformer.single_transformer_blocks[-1], token, config)
    set_to_zero(transformer.norm_out.linear)
    transformer.norm_out.linear.bias[:width] = modulation_factor(width, token, 1.0) - 1
    divide_by_sigma(transformer.time_text_embed, transformer.norm_out.linear, token)
    set_to_zero(transformer.proj_out)
    transformer.proj_out.weight.fill_diagonal_(divisor)


def embed(image: nn.Linear, text: nn.Linear, token: int) -> None:
    """Image tokens as they are, text tokens in the same dimensions, and the ballast for both."""
    image.weight.copy_(hold_token(image.out_features, token))
    image.bias.zero_()
    text.weight[token:].zero_()
    first = token + NUM_MARKS
    for embedder in (image, text):
        embedder.bias[token:] = 0
        embedder.bias[first::2], embedder.bias[first + 1 :: 2] = BALLAST, -BALLAST


def hold_token(width: int, token: int) -> Tensor:
    """(W, K): a token as it is, and in the ballast what makes the mean zero, which LayerNorm takes."""
    ballast = width - token - NUM_MARKS
    return torch.cat([torch.eye(token), torch.zeros(NUM_MARKS, token), torch.full((ballast, token), -1.0 / ballast)])


def modulation_factor(width: int, token: int, value: float) -> Tensor:
    """What follows a LayerNorm, (W,): `value`, and a hundredth of it for the ballast, which would otherwise make a
    learning rate a hundred times too high for everything that reads it."""
    factor = torch.full((width,), value)
    factor[token + NUM_MARKS :] *= 0.01
    return factor


def modulate(modulation: nn.Linear, factor: Tensor) -> None:
    """Start with shift 0, 1 + scale = `factor` (W,), and gate 1, whatever the time and the text."""
    set_to_zero(modulation)
    for part in modulation.bias.view(-1, 3, len(factor)):  # shift, scale, gate: once per branch
        part[1], part[2] = factor - 1, 1.0


def mark_targets(attention: nn.Module, token: int, config) -> None:
    """The last head attends to the text from index 0 of the first axis, where target tokens are, and elsewhere from
    index 1; its value is 1 on the text. So the marks are +-MARK on target tokens and nearly 0 on source tokens."""
    head_dim = config.attention_head_dim
    head = slice(-head_dim, None)
    query, text_key, image_key = torch.zeros(3, head_dim)
    query[:2] = torch.tensor([math.cos(0.57), math.sin(0.57)])  # a quarter turn away once the index adds one radian
    text_key[0] = image_key[-1] = 1.0
    constants = ((attention.to_q, query), (attention.to_k, image_key), (attention.add_k_proj, text_key))
    for layer, constant in (*constants, (attention.to_v, 0 * query), (attention.add_v_proj, text_key)):
        layer.weight[head], layer.bias[head] = 0, constant
    attention.norm_q.weight.fill_(MARK_SHARPNESS)
    attention.to_out[0].weight[token : token + NUM_MARKS, -head_dim] = torch.tensor([MARK, -MARK])


def subtract_source(block: nn.Module, token: int, config) -> None:
    """Make a single block attend from (0, row, column) to (1, row, column), and write minus the token found there."""
    attention, head_dim = block.attn, config.attention_head_dim
    query, key = same_place(config.axes_dims_rope)
    sharpness = math.sqrt(query.square().sum().item() / math.sqrt(head_dim))
    attention.norm_q.weight.fill_(sharpness)
    attention.norm_k.weight.fill_(sharpness)
    for layer, constant in ((attention.to_q, query), (attention.to_k, key)):
        layer.weight[:token] = 0
        layer.bias[:token] = constant.repeat(token // head_dim)
    attention.to_v.weight[:token].zero_().fill_diagonal_(1.0)
    attention.to_v.bias[:token] = 0
    block.proj_out.weight[:, :token] = -hold_token(block.proj_out.out_features, token)


def same_place(rope_axes: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Constant query and key (head_dim,) whose logit, once turned by the rotary embedding, is highest between a
    target token and the source token at the same row and column; 7 or more above any other up to 32 tokens away
    for axes of 28."""
    queries, keys = [], []
    for axis, size in enumerate(rope_axes):
        logits = torch.zeros(size // 2)
        chosen = torch.tensor(DISTANCE_LOGITS if axis else (INDEX_LOGIT,))
        logits[: len(chosen)] = chosen[: size // 2]
        # The source's index is higher by one: its key is turned back by the first frequency, one radian.
        turn = torch.tensor(0.0 if axis else -1.0)
        queries.append(torch.stack([logits.sqrt(), torch.zeros_like(logits)], -1).flatten())
        keys.append(torch.stack([logits.sqrt() * turn.cos(), logits.sqrt() * turn.sin()], -1).flatten())
    return torch.cat(queries), torch.cat(keys)


def divide_by_sigma(embedding: nn.Module, modulation: nn.Linear, token: int) -> None:
    """Let the first feature of the time embedding be (1 / sigma - 1) / SIGMA_GAIN after its activation, by least
    squares on the layer before, and let the last modulation scale the token by 1 plus SIGMA_GAIN times it."""
    time, text = embedding.timestep_embedder, embedding.text_embedder
    waves = time.linear_1.in_features // 2
    radians = 1000 * torch.exp(-math.log(1e4) * torch.arange(waves) / waves)
    time.linear_1.weight *= 3.0 * (radians <= MOST_RADIANS).repeat(2)
    sigmas = torch.linspace(0.01, 1, 2000)
    hidden = silu(time.linear_1(embedding.time_proj(1000 * sigmas))).double()
    wanted = silu_inverse((1 / sigmas.clamp_min(LOWEST_SIGMA) - 1).double() / SIGMA_GAIN)
    features = torch.cat([hidden, torch.ones(len(sigmas), 1)], dim=1) * sigmas[:, None]  # equal relative errors
    ridge = 1e-4 * torch.eye(features.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(features.T @ features + ridge, features.T @ (wanted * sigmas))
    time.linear_2.weight[0], time.linear_2.bias[0] = solution[:-1].float(), solution[-1].float()
    text.linear_2.weight[0], text.linear_2.bias[0] = 0, 0
    modulation.weight[:token, 0] = SIGMA_GAIN


def silu_inverse(values: Tensor) -> Tensor:
    """x with silu(x) = `values`, for values from 0 to 10."""
    grid = torch.linspace(0, 11, 100_001, dtype=values.dtype)
    return grid[torch.searchsorted(silu(grid), values)]


def set_to_zero(layer: nn.Linear) -> None:
    """Weights and bias."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
