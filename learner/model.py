"""The policy as the learner sees it: a Hugging Face causal LM that scores output tokens only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from env.errors import UserError
from learner.config import LearnerConfig, LoraConfig
from learner.prefixes import ATTENTION, Layout, check_attention


class Policy(nn.Module):
    """Wraps a causal LM. The output layer runs only at the positions asked for, in chunks that are recomputed in the
    backward pass: [tokens, vocabulary] is never held whole. Temperature is 1."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        targets: Tensor,
        chunks: int,
        entropy_gradient: bool = False,
        layout: Layout | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each target and entropy of its distribution, both float32 [N].

        Args: ``input_ids`` int64 [B, L], padded on the right; ``positions`` int64 [N], indexes into [B * L] of the
        tokens before the targets; ``targets`` int64 [N]; ``chunks`` that the N rows of logits are computed in, the
        same number on every rank (ZeRO-3 gathers the output layer for each); ``layout`` of a row that shares prefixes.
        """
        backbone = self.model.base_model
        shared = {} if layout is None else {"layout": layout, "position_ids": input_ids.new_tensor(layout.depths)}
        hidden = backbone(input_ids=input_ids, use_cache=False, **shared).last_hidden_state
        hidden = hidden.flatten(0, 1)[positions]
        if chunks == 1:
            return self._score(hidden, targets, entropy_gradient)
        parts = [
            checkpoint(self._score, rows, ids, entropy_gradient, use_reentrant=False)
            for rows, ids in zip(hidden.tensor_split(chunks), targets.tensor_split(chunks), strict=True)
        ]
        logprobs, entropies = zip(*parts, strict=True)
        return torch.cat(logprobs), torch.cat(entropies)

    def _score(self, hidden: Tensor, targets: Tensor, entropy_gradient: bool) -> tuple[Tensor, Tensor]:
        logits = self.model.get_output_embeddings()(hidden).float()
        log_p = torch.log_softmax(logits, dim=-1)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropy = -(log_p.exp() * log_p).sum(-1)
        return log_p.gather(-1, targets[:, None]).squeeze(-1), entropy


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Raises UserError when there is none."""
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"model '{path}' has no usable tokenizer: {_first_line(error)}") from error


def check_model(path: str) -> None:
    """Raise UserError unless a local model directory holds a config, a tokenizer and readable safetensors.

    Names that are no directory are left to transformers, which looks them up in its cache or on the hub.
    """
    folder = Path(path)
    if not folder.is_dir():
        try:
            validate_repo_id(path)
        except HFValidationError as error:
            raise UserError(f"model '{path}' is neither a directory nor a name on the Hugging Face hub") from error
        return
    if not (folder / "config.json").is_file():
        raise UserError(f"model '{path}' has no config.json")
    load_tokenizer(path)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"model '{path}' has no *.safetensors file")
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                tensors.keys()
        except (SafetensorError, OSError) as error:
            raise UserError(f"model '{path}': {file.name} is not a readable safetensors file ({error})") from error


def load_model(path: str, config: LearnerConfig) -> PreTrainedModel:
    """The causal LM in ``config.dtype`` on the CPU (DeepSpeed moves it). Raises UserError when it does not load."""
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, config.dtype),
            attn_implementation=ATTENTION if config.share_prefixes else config.attention,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model '{path}' cannot be loaded: {_first_line(error)}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise UserError(f"model '{path}' lacks {len(missing)} tensors, the first is {missing[0]}")
    if config.share_prefixes:
        check_attention(model.config)
    return model


def load_policy(path: str, config: LearnerConfig) -> Policy:
    """The trainable policy: adapters and gradient checkpointing as configured."""
    model = load_model(path, config)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if config.lora is not None:
        model = _with_adapters(model, config.lora, config.gradient_checkpointing)
    return Policy(model)


def load_reference(path: str, config: LearnerConfig) -> Policy:
    """The frozen starting policy for the KL term."""
    return Policy(load_model(path, config).requires_grad_(False).eval())


def _with_adapters(model: PreTrainedModel, lora: LoraConfig, checkpointing: bool) -> PreTrainedModel:
    """Put LoRA layers into the model in place; everything else is frozen."""
    import peft

    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    if checkpointing:
        model.enable_input_require_grads()
    return peft.get_peft_model(model, settings).get_base_model()


def _first_line(error: Any) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
