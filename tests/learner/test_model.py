"""Scoring of output tokens against plain transformers, and models that do not load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from env.errors import UserError
from learner.advantages import policy_weights
from learner.batching import MicroBatch, plan
from learner.config import LearnerConfig, LoraConfig
from learner.export import export_buckets, export_shapes
from learner.model import Policy, check_model, load_model, load_policy
from learner.types import TrainSequence
from tests.learner.conftest import random_batch

CONFIG = LearnerConfig(dtype="float32")


def run(policy: Policy, batch: MicroBatch, entropy_gradient: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    ids, positions, targets = map(torch.tensor, (batch.input_ids, batch.positions, batch.targets))
    return policy(ids, positions, targets, batch.chunks, entropy_gradient)


def one_micro_batch(batch: list[TrainSequence], logit_rows: int = 1024) -> MicroBatch:
    weights = policy_weights(batch, CONFIG.grpo)
    ((made,),) = plan(batch, weights, workers=1, budget=10_000, logit_rows=logit_rows)
    return made


@pytest.mark.parametrize("logit_rows", [1024, 7])
def test_logprobs_and_entropy_are_those_of_each_turn_alone(model_path: Path, logit_rows: int) -> None:
    batch = random_batch(9)
    made = one_micro_batch(batch, logit_rows)
    logprobs, entropy = run(load_policy(str(model_path), CONFIG), made)
    model = load_model(str(model_path), CONFIG)
    for (row, found), (_, entropies) in zip(
        made.split(logprobs.detach().numpy(), batch), made.split(entropy.numpy(), batch), strict=True
    ):
        sequence = batch[row]
        logits = model(torch.tensor([sequence.prompt_ids + sequence.output_ids])).logits[0]
        alone = logits[len(sequence.prompt_ids) - 1 : -1].log_softmax(-1)
        expected = alone[range(len(sequence.output_ids)), sequence.output_ids]
        torch.testing.assert_close(torch.tensor(found), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(torch.tensor(entropies), -(alone.exp() * alone).sum(-1), atol=1e-5, rtol=1e-5)


def test_chunks_recompute_to_the_same_gradient(model_path: Path) -> None:
    def gradient(logit_rows: int) -> torch.Tensor:
        policy = load_policy(str(model_path), CONFIG)
        logprobs, entropy = run(policy, one_micro_batch(random_batch(6), logit_rows), entropy_gradient=True)
        (logprobs.sum() + 0.3 * entropy.sum()).backward()
        return torch.cat([p.grad.flatten() for p in policy.parameters()])

    torch.testing.assert_close(gradient(5), gradient(1024), atol=1e-4, rtol=1e-4)


class LargestLogits(TorchDispatchMode):
    """The most rows of any tensor over the vocabulary that an operation returns, backward pass included."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.rows, self._vocabulary = 0, vocabulary

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.shape[-1:] == (self._vocabulary,):
                self.rows = max(self.rows, tensor.numel() // self._vocabulary)
        return result


@pytest.mark.parametrize(("logit_rows", "most"), [(80, 80), (1024, 240)])
def test_logits_are_never_held_for_more_rows_than_a_chunk(model_path: Path, logit_rows: int, most: int) -> None:
    made = one_micro_batch([TrainSequence([7, 8], [9] * 60, [1.0] * 60) for _ in range(4)], logit_rows)
    policy = load_policy(str(model_path), CONFIG)
    vocabulary = policy.model.config.vocab_size
    assert made.targets.size == 240 and policy.model.config.hidden_size < 80  # the head's own matrix is no logits
    with LargestLogits(vocabulary) as largest:
        run(policy, made)[0].sum().backward()
    assert largest.rows == most


def test_entropy_has_a_gradient_only_when_asked_for(model_path: Path) -> None:
    made = one_micro_batch(random_batch(2))
    policy = load_policy(str(model_path), CONFIG)
    assert not run(policy, made)[1].requires_grad
    assert run(policy, made, entropy_gradient=True)[1].requires_grad


def test_gradient_checkpointing_changes_nothing(model_path: Path) -> None:
    made = one_micro_batch(random_batch(3))
    found = []
    for checkpointing in (False, True):
        config = CONFIG.model_copy(update={"gradient_checkpointing": checkpointing})
        policy = load_policy(str(model_path), config).train()
        run(policy, made)[0].sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in policy.parameters()]))
    torch.testing.assert_close(*found)


def test_lora_trains_adapters_only_and_exports_merged_weights(model_path: Path) -> None:
    policy = load_policy(str(model_path), CONFIG.model_copy(update={"lora": LoraConfig(rank=4)}))
    trainable = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert trainable and all("lora_" in name for name in trainable)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    plain = load_model(str(model_path), CONFIG)
    before = dict(plain.named_parameters())
    exported = {k: v for bucket in export_buckets(policy.model, torch.float32) for k, v in bucket.items()}
    assert exported.keys() == before.keys()
    assert not torch.equal(exported["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"])
    plain.load_state_dict(exported, strict=False)
    ids = torch.randint(6, 100, (2, 9))
    torch.testing.assert_close(plain(ids).logits, policy.model(ids).logits, atol=1e-4, rtol=1e-4)


def test_buckets_hold_every_tensor_once_in_the_order_of_the_shapes(model_path: Path) -> None:
    model = load_model(str(model_path), CONFIG)
    buckets = list(export_buckets(model, torch.bfloat16, bucket_bytes=20_000))
    assert len(buckets) > 3
    found = [(name, tuple(tensor.shape)) for bucket in buckets for name, tensor in bucket.items()]
    assert found == export_shapes(model)
    assert {tensor.dtype for bucket in buckets for tensor in bucket.values()} == {torch.bfloat16}


def damaged(model_path: Path, target: Path) -> Path:
    return Path(shutil.copytree(model_path, target / "model"))


def test_a_model_without_tokenizer_is_refused(model_path: Path, tmp_path: Path) -> None:
    path = damaged(model_path, tmp_path)
    for file in path.glob("token*"):
        file.unlink()
    with pytest.raises(UserError, match="no usable tokenizer"):
        check_model(str(path))


def test_corrupt_safetensors_are_refused(model_path: Path, tmp_path: Path) -> None:
    path = damaged(model_path, tmp_path)
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="model.safetensors is not a readable safetensors file"):
        check_model(str(path))


def test_missing_parts_and_paths_are_named(model_path: Path, tmp_path: Path) -> None:
    path = damaged(model_path, tmp_path)
    (path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        check_model(str(path))
    (path / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        check_model(str(path))
    with pytest.raises(UserError, match="is neither a directory nor a name"):
        check_model(str(tmp_path / "nowhere" / "at" / "all"))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(path), CONFIG)


def test_a_checkpoint_that_lacks_a_tensor_is_refused(model_path: Path, tmp_path: Path) -> None:
    import safetensors.torch

    path = damaged(model_path, tmp_path)
    tensors = safetensors.torch.load_file(path / "model.safetensors")
    tensors.pop("model.norm.weight")
    safetensors.torch.save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 tensors, the first is model\.norm\.weight"):
        load_model(str(path), CONFIG)
