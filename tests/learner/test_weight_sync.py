"""The whole way of the weights: learner, object store, vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from learner.config import LearnerConfig, OptimizerConfig
from learner.group import LearnerGroup
from learner.weight_sync import WeightSync
from rollout.config import EngineConfig, SamplingConfig
from rollout.pool import EnginePool
from rollout.start import start_engines
from rollout.types import Completion
from tests.learner.conftest import recorded_batch

pytestmark = pytest.mark.stack
PROMPT = [7, 8, 9, 10]


@pytest.fixture(scope="module")
def pool(model_path: Path, local_ray: None) -> Iterator[EnginePool]:
    config = EngineConfig(dtype="float32", max_model_len=256, enforce_eager=True, num_cpus=1)
    engines = start_engines(str(model_path), config, seed=0, namespace_prefix="sync")
    yield engines
    engines.shutdown()


def sample(pool: EnginePool) -> Completion:
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=12)
    return asyncio.run(pool.generate(PROMPT, sampling, affinity=0, seed=3))


def logprobs(path: Path, completion: Completion) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    scores = model(torch.tensor([PROMPT + completion.token_ids])).logits[0, len(PROMPT) - 1 : -1].log_softmax(-1)
    return scores[range(len(completion.token_ids)), completion.token_ids]


def test_engines_sample_from_what_the_learner_pushed(model_path: Path, pool: EnginePool, tmp_path: Path) -> None:
    config = LearnerConfig(dtype="float32", optimizer=OptimizerConfig(lr=1e-2, warmup_steps=0))
    learner = LearnerGroup(config, str(model_path), seed=0)
    for _ in range(3):
        learner.update(recorded_batch(8), "sft")
    assert WeightSync(learner, pool).push(1) > 0
    learner.save(tmp_path / "step")
    learner.shutdown()
    found = sample(pool)
    assert found.policy_version == 1
    torch.testing.assert_close(torch.tensor(found.logprobs), logprobs(tmp_path / "step", found), atol=1e-3, rtol=0)
    assert (torch.tensor(found.logprobs) - logprobs(model_path, found)).abs().max() > 0.1
