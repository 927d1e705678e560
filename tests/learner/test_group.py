"""Real DeepSpeed workers in Ray: any split over workers and ZeRO stages gives the full batch's gradient; checkpoints
resume exactly; gradients that are not finite are skipped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
import safetensors.torch
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from env.errors import UserError
from learner.advantages import policy_weights
from learner.batching import plan
from learner.config import GRPOConfigSection, LearnerConfig, LoraConfig, OptimizerConfig
from learner.group import LearnerGroup
from learner.losses import PolicyTerms, policy_loss
from learner.model import load_policy
from learner.types import TrainSequence
from tests.learner.conftest import grouped_batch, random_batch, recorded_batch

pytestmark = pytest.mark.stack

CONFIG = LearnerConfig(
    dtype="float32",
    num_cpus=0.5,
    micro_batch_tokens=150,
    logit_chunk_tokens=16,
    optimizer=OptimizerConfig(lr=1e-3, warmup_steps=2),
)


@pytest.fixture(
    scope="module",
    params=[(0, 1, False), (0, 2, True), (1, 2, True), (2, 2, True), (3, 2, True)],
    ids=lambda value: f"zero{value[0]}-workers{value[1]}{'-shared' * value[2]}",
)
def group(request: pytest.FixtureRequest, model_path: Path, local_ray: None) -> Iterator[LearnerGroup]:
    stage, workers, shared = request.param
    config = CONFIG.model_copy(update={"zero_stage": stage, "workers": workers, "share_prefixes": shared})
    learner = LearnerGroup(config, str(model_path), seed=1)
    yield learner
    learner.shutdown()


def full_batch_gradient(
    model_path: Path, weights: dict[str, torch.Tensor], batch: list[TrainSequence]
) -> dict[str, np.ndarray]:
    """The same loss at these weights in one process, in one piece, without DeepSpeed and without shared prefixes."""
    policy = load_policy(str(model_path), CONFIG.model_copy(update={"share_prefixes": False}))
    policy.model.load_state_dict(weights, strict=False)  # the head is tied
    ((made,),) = plan(batch, policy_weights(batch, CONFIG.grpo), workers=1, budget=100_000)
    logprobs, entropy = policy(*map(torch.tensor, (made.input_ids, made.positions, made.targets)), chunks=1)
    terms = PolicyTerms(
        logprobs=logprobs,
        entropy=entropy,
        weights=torch.tensor(made.weights),
        advantages=torch.tensor(made.advantages),
        old_logprobs=logprobs.detach(),
        engine_logprobs=torch.tensor(made.engine_logprobs),
    )
    policy_loss(terms, CONFIG.grpo)[0].backward()
    return {name: parameter.grad.numpy() for name, parameter in policy.model.named_parameters()}


@pytest.mark.parametrize("batch", [random_batch(25), grouped_batch(6)], ids=["random", "grouped"])
def test_the_gradient_is_that_of_the_full_batch(
    group: LearnerGroup, model_path: Path, batch: list[TrainSequence]
) -> None:
    expected = full_batch_gradient(model_path, policy(group), batch)
    found = group.gradients(batch)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-5, rtol=1e-4, err_msg=name)
    assert max(np.abs(gradient).max() for gradient in expected.values()) > 1e-2


def test_fewer_turns_than_workers_need_no_more_than_a_filler(group: LearnerGroup) -> None:
    metrics = group.update(random_batch(1))
    assert metrics["tokens"] == len(random_batch(1)[0].output_ids)
    assert math.isfinite(metrics["loss"]) and metrics["updates/skipped"] == 0


def test_a_gradient_that_is_not_finite_skips_the_update(group: LearnerGroup) -> None:
    before = policy(group)
    bad = random_batch(6)
    bad[0].advantages = [math.inf] * len(bad[0].output_ids)
    assert group.update(bad)["updates/skipped"] == 1
    after = policy(group)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert group.update(random_batch(6))["updates/skipped"] == 0
    assert not all(torch.equal(before[name], tensor) for name, tensor in policy(group).items())


def test_a_checkpoint_resumes_to_the_same_losses(group: LearnerGroup, tmp_path: Path) -> None:
    group.update(recorded_batch(8, seed=1), "sft")
    group.save(tmp_path / "step")
    updates = group.updates
    going_on = [group.update(recorded_batch(8, seed=seed), "sft") for seed in (2, 3)]
    group.load(tmp_path / "step")
    assert group.updates == updates
    again = [group.update(recorded_batch(8, seed=seed), "sft") for seed in (2, 3)]
    for key in ("loss", "grad_norm", "lr", "entropy"):
        assert [metrics[key] for metrics in again] == [metrics[key] for metrics in going_on], key


def test_a_checkpoint_that_is_written_in_the_background_is_of_the_moment_it_was_begun(
    group: LearnerGroup, tmp_path: Path
) -> None:
    before, updates = policy(group), group.updates
    finish = group.begin_save(tmp_path / "step")
    group.update(random_batch(6))
    assert not (tmp_path / "step").exists(), "not there before it is whole"
    finish()
    group.load(tmp_path / "step")
    assert group.updates == updates
    assert all(torch.equal(before[name], tensor) for name, tensor in policy(group).items())


def test_checkpoint_and_weights_are_the_policy_in_hugging_face_form(group: LearnerGroup, tmp_path: Path) -> None:
    group.save(tmp_path / "step")
    sent = policy(group)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "step")
    assert sent.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(sent[name], parameter.detach(), atol=0, rtol=0)
    assert model.generation_config.eos_token_id == 1
    assert AutoTokenizer.from_pretrained(tmp_path / "step").chat_template
    group.save(tmp_path / "model", trainer_state=False)
    assert not (tmp_path / "model" / "trainer").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"step", "model"}
    with pytest.raises(UserError, match="exists already"):
        group.save(tmp_path / "step")


def policy(group: LearnerGroup) -> dict[str, torch.Tensor]:
    buckets = map(safetensors.torch.load, ray.get(group.weights("float32")))
    return {name: tensor for bucket in buckets for name, tensor in bucket.items()}


def test_damaged_checkpoints_are_refused_before_anything_changes(
    model_path: Path, local_ray: None, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"dtype": "bfloat16", "gradient_checkpointing": True})
    group = LearnerGroup(config, str(model_path), seed=1)
    losses = [group.update(recorded_batch(8), "sft")["loss"] for _ in range(6)]
    assert losses[-1] < losses[0]
    group.save(tmp_path / "step")
    before = policy(group)
    manifest = tmp_path / "step" / "trainer" / "learner.json"
    state = next((tmp_path / "step" / "trainer" / "state").glob("*optim_states.pt"))
    whole = state.read_bytes()
    state.write_bytes(whole[:-10])
    with pytest.raises(UserError, match=f"{state.name} has {len(whole) - 10} bytes instead of {len(whole)}"):
        group.load(tmp_path / "step")
    state.unlink()
    with pytest.raises(UserError, match=f"{state.name} is missing"):
        group.load(tmp_path / "step")
    state.write_bytes(whole)
    content = manifest.read_text()
    manifest.write_text(content.replace('"zero_stage": 1', '"zero_stage": 3'))
    with pytest.raises(UserError, match="written at ZeRO stage 3; this learner is at stage 1"):
        group.load(tmp_path / "step")
    manifest.write_text(content[:20])
    with pytest.raises(UserError, match="not a whole checkpoint"):
        group.load(tmp_path / "step")
    assert all(torch.equal(before[name], tensor) for name, tensor in policy(group).items())
    group.shutdown()


def test_several_updates_with_lora_kl_and_entropy(model_path: Path, local_ray: None, tmp_path: Path) -> None:
    grpo = GRPOConfigSection(kl_coefficient=0.1, entropy_coefficient=0.01, epochs=2, updates_per_batch=2)
    settings = {"grpo": grpo, "lora": LoraConfig(rank=4), "zero_stage": 2, "offload": "optimizer"}
    config = CONFIG.model_copy(update=settings | {"optimizer": OptimizerConfig(lr=2e-2, warmup_steps=0)})
    group = LearnerGroup(config, str(model_path), seed=1)
    start = safetensors.torch.load_file(model_path / "model.safetensors")
    first = group.update(random_batch(8))
    assert first["tokens"] == 2 * sum(len(sequence.output_ids) for sequence in random_batch(8))
    assert first["kl"] > 0 and first["clip/low"] + first["clip/high"] > 0
    moved = policy(group)
    changed = {name for name in moved if not torch.equal(moved[name], start[name])}
    assert changed and all("proj" in name for name in changed)
    group.save(tmp_path / "step")
    exported = safetensors.torch.load_file(tmp_path / "step" / "model.safetensors")
    assert all(torch.equal(exported[name], moved[name]) for name in moved)
    following = group.update(random_batch(8, seed=5))
    group.load(tmp_path / "step")
    assert group.update(random_batch(8, seed=5))["loss"] == following["loss"]
    group.shutdown()


def test_zero3_with_a_reference_and_several_chunks(model_path: Path, local_ray: None) -> None:
    settings = {"grpo": GRPOConfigSection(kl_coefficient=0.05), "zero_stage": 3, "workers": 2}
    config = CONFIG.model_copy(update=settings | {"gradient_checkpointing": True, "offload": "optimizer+parameters"})
    group = LearnerGroup(config, str(model_path), seed=1)
    first, *_, last = [group.update(random_batch(8)) for _ in range(3)]
    assert first["kl"] == pytest.approx(0, abs=1e-6) and last["kl"] > 1e-6
    assert sum(map(len, ray.get(group.weights("bfloat16")))) > 0
    group.shutdown()


def test_too_few_resources_end_in_a_clear_error(model_path: Path, local_ray: None) -> None:
    config = LearnerConfig(workers=3, num_cpus=7, start_timeout_s=1)
    with pytest.raises(UserError, match="3 workers of 7 CPUs and 0 GPUs each; the cluster has 4 CPUs and 0 GPUs"):
        LearnerGroup(config, str(model_path), seed=0)
