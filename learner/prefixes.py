"""One forward and backward pass over turns that begin alike: what they share is computed once.

The turns of a micro-batch are laid out in one row as the depth-first walk of the trie of their tokens::

    turns    a b c d        a b x y      a b c z
    sorted   a b c d        a b c z      a b x y
    row      a b c d        z            x y        what the turn before it does not have already
    depth    0 1 2 3        3            2 3        position ids: RoPE sees every turn as if it stood alone

Each run of new tokens attends to its turn's path: the pieces of the row that it shares, and itself causally. The
attention is torch's own, once per run, so nothing of the size [row, row] is made and no pair of tokens is computed
that the turns do not have. Layers other than attention see one row of tokens without padding. Autograd adds up the
gradients of all turns that go through a shared token: the gradient is exact, whatever the prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PretrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from env.errors import UserError

ATTENTION = "shared_prefixes"  # name among transformers' attention implementations


@dataclass(frozen=True)
class Layout:
    """How a row of T tokens is made of turns; ``runs`` and ``pieces`` both sum to T."""

    depths: np.ndarray  # int64 [1, T], position of each token in its turns
    runs: list[int]  # lengths of the runs of new tokens, one per turn that has any
    pieces: list[int]  # lengths of the pieces that keys and values are cut into
    paths: list[list[int]]  # of each run: the pieces that it sees, its own last


def shared_lengths(turns: Sequence[np.ndarray]) -> list[int]:
    """Tokens that each turn has in common with the one before it; 0 for the first."""
    return [0, *(_common(one, other) for one, other in zip(turns, turns[1:], strict=False))]


def pack(turns: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray], Layout]:
    """Lay out turns (int arrays in lexicographic order) in one row.

    Returns the row's tokens int64 [1, T], the places of each turn's tokens in it, and the layout.
    """
    places: list[np.ndarray] = []
    runs: list[int] = []
    total, cuts = 0, {0}
    for turn, shared in zip(turns, shared_lengths(turns), strict=True):
        known = places[-1][:shared] if shared else np.zeros(0, np.int64)
        runs.append(len(turn) - shared)
        places.append(np.concatenate([known, np.arange(total, total + runs[-1])]))
        cuts |= {total, int(known[-1]) + 1 if shared else 0}
        total += runs[-1]
    row, depths = np.empty((1, total), np.int64), np.empty((1, total), np.int64)
    for turn, place in zip(turns, places, strict=True):
        row[0, place], depths[0, place] = turn, np.arange(len(turn))
    starts = np.array(sorted(cuts - {total}))
    paths = [(np.unique(np.searchsorted(starts, place, "right")) - 1).tolist() for place in places]
    pieces = np.diff(starts, append=total).tolist()
    new = [number for number, length in enumerate(runs) if length]
    return row, places, Layout(depths, [runs[i] for i in new], pieces, [paths[i] for i in new])


def check_attention(config: PretrainedConfig) -> None:
    """Raise UserError for models with layers that do not attend to everything before a token."""
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
    if kinds or getattr(config, "sliding_window", None):
        raise UserError(
            f"learner.share_prefixes is true, but model type '{config.model_type}' has layers with "
            f"{', '.join(sorted(kinds)) or 'a sliding window'}; it needs full attention in all layers: set it to false"
        )


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """Length of the longest common prefix."""
    shorter = min(len(one), len(other))
    different = one[:shorter] != other[:shorter]
    return int(different.argmax()) if different.any() else shorter


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query [1, heads, T, d], key and value [1, key heads, T, d]; returns
    [1, T, heads, d]. Without a layout it is plain causal attention."""
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    keys, values = key.split(layout.pieces, dim=2), value.split(layout.pieces, dim=2)
    seen = []
    for asking, path in zip(query.split(layout.runs, dim=2), layout.paths, strict=True):
        k, v = (torch.cat([parts[piece] for piece in path], dim=2) for parts in (keys, values))
        mask = causal_lower_right(asking.shape[2], k.shape[2])
        grouped = query.shape[1] != key.shape[1]
        seen.append(
            scaled_dot_product_attention(asking, k, v, mask, dropout, scale=scaling, enable_gqa=grouped)
        )
    return torch.cat(seen, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, _attention)
