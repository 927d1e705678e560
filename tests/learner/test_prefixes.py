"""Shared prefixes: every turn sees exactly its own tokens, and gradients are those of padded batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PretrainedConfig, Qwen2Config, Qwen3Config

from env.errors import UserError
from learner.advantages import imitation_weights, policy_weights
from learner.batching import MicroBatch, plan
from learner.config import LearnerConfig, LoraConfig
from learner.losses import imitation_loss
from learner.model import Policy, load_policy
from learner.prefixes import check_attention, pack
from learner.types import TrainSequence
from tests.learner.conftest import grouped_batch

CONFIG = LearnerConfig(dtype="float32", share_prefixes=True)


def test_a_row_by_hand() -> None:
    turns = [np.array(turn) for turn in ([1, 2, 3, 4], [1, 2, 3, 9], [1, 2, 7, 8], [5, 6])]
    row, places, layout = pack(turns)
    assert row.tolist() == [[1, 2, 3, 4, 9, 7, 8, 5, 6]]
    assert layout.depths.tolist() == [[0, 1, 2, 3, 3, 2, 3, 0, 1]]
    assert [place.tolist() for place in places] == [[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 5, 6], [7, 8]]
    assert layout.runs == [4, 1, 2, 2]
    assert layout.pieces == [2, 1, 1, 1, 2, 2]  # 1 2 | 3 | 4 | 9 | 7 8 | 5 6
    assert layout.paths == [[0, 1, 2], [0, 1, 3], [0, 4], [5]]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12))
def test_every_turn_sees_its_own_tokens_and_no_token_is_there_twice(turns: list[list[int]]) -> None:
    row, places, layout = pack([np.array(turn) for turn in sorted(turns)])
    prefixes = {tuple(turn[:length]) for turn in turns for length in range(1, len(turn) + 1)}
    assert row.size == len(prefixes) == sum(layout.runs) == sum(layout.pieces)
    cut = np.split(np.arange(row.size), np.cumsum(layout.pieces)[:-1])
    seen = {tuple(np.concatenate([cut[piece] for piece in path])) for path in layout.paths}
    for turn, place in zip(sorted(turns), places, strict=True):
        assert row[0, place].tolist() == turn
        assert layout.depths[0, place].tolist() == list(range(len(turn)))
        assert tuple(place) in seen or any(path[: len(place)] == tuple(place) for path in seen)
    for length, path in zip(layout.runs, layout.paths, strict=True):  # a run ends its own path
        assert sum(layout.pieces[piece] for piece in path) >= length


def gradient(policy: Policy, micro_batches: list[MicroBatch]) -> dict[str, torch.Tensor]:
    """Of the SFT loss over the micro-batches, by parameter."""
    for made in micro_batches:
        arrays = (made.input_ids, made.positions, made.targets, made.weights)
        ids, positions, targets, weights = map(torch.tensor, arrays)
        logprobs, entropy = policy(ids, positions, targets, made.chunks, layout=made.layout)
        imitation_loss(logprobs, entropy, weights)[0].backward()
    return {name: p.grad.float() for name, p in policy.named_parameters() if p.grad is not None}


def both(batch: list[TrainSequence], budget: int) -> tuple[list[MicroBatch], list[MicroBatch]]:
    weights = policy_weights(batch, CONFIG.grpo)
    plain, shared = (
        plan(batch, weights, workers=1, budget=budget, logit_rows=16, share_prefixes=share)[0]
        for share in (False, True)
    )
    assert sum(made.input_ids.size for made in shared) < 0.7 * sum(made.input_ids.size for made in plain)
    return plain, shared


@pytest.mark.parametrize("budget", [64, 10_000])
@pytest.mark.parametrize(
    "settings",
    [{}, {"gradient_checkpointing": True}, {"lora": LoraConfig(rank=4)}],
    ids=["plain", "checkpointing", "lora"],
)
def test_the_gradient_is_that_of_padded_batches(model_path: Path, settings: dict[str, object], budget: int) -> None:
    config = CONFIG.model_copy(update=settings)
    plain, shared = both(grouped_batch(), budget)
    padded = config.model_copy(update={"share_prefixes": False})
    torch.manual_seed(0)  # of the adapters
    expected = gradient(load_policy(str(model_path), padded).train(), plain)
    torch.manual_seed(0)
    found = gradient(load_policy(str(model_path), config).train(), shared)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=name)
    assert max(value.abs().max() for value in expected.values()) > 1e-2


def test_bfloat16_stays_within_its_rounding(model_path: Path) -> None:
    config = CONFIG.model_copy(update={"dtype": "bfloat16"})
    plain, shared = both(grouped_batch(), 10_000)
    exact = gradient(load_policy(str(model_path), CONFIG), shared)
    padded = gradient(load_policy(str(model_path), config.model_copy(update={"share_prefixes": False})), plain)
    found = gradient(load_policy(str(model_path), config), shared)

    def error(values: dict[str, torch.Tensor]) -> float:
        return sum(float((values[name] - exact[name]).square().sum()) for name in exact) ** 0.5

    size = sum(float(value.square().sum()) for value in exact.values()) ** 0.5
    assert error(found) < max(1.5 * error(padded), 0.02 * size)


def test_qwen3_and_sft(tmp_path: Path) -> None:
    config = Qwen3Config(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, initializer_range=0.15,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    batch = [TrainSequence(turn.prompt_ids, turn.output_ids, [1.0] * len(turn.output_ids)) for turn in grouped_batch()]
    found = []
    for share, implementation in ((False, "sdpa"), (True, "shared_prefixes")):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        (made,) = plan(batch, imitation_weights(batch), workers=1, budget=10_000, share_prefixes=share)
        found.append({name: value.clone() for name, value in gradient(Policy(model), made).items()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Qwen2Config(num_hidden_layers=1, layer_types=["sliding_attention"]), "with sliding_attention"),
        (PretrainedConfig(sliding_window=64), "with a sliding window"),
    ],
)
def test_models_without_full_attention_are_refused(config: PretrainedConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_attention(config)
