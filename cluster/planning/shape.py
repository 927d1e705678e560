"""What a plan needs to know of a model: exact parameter counts, and the sizes that memory and arithmetic follow."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from env.errors import UserError

# Shapes of the models that the recipes name, so that a plan needs no download. From each model's config.json.
KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3-8b": ("qwen3", {
        "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": False,
    }),
    "qwen3-0.6b": ("qwen3", {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True,
    }),
    "smollm2": ("llama", {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
    }),
}  # fmt: skip


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder-only transformer; ``parameters`` counts tied matrices once."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    query: int  # heads * head size
    key_value: int  # key-value heads * head size
    vocabulary: int

    def kv_bytes_per_token(self, bytes_per_value: int) -> int:
        """Keys and values of one position in all layers."""
        return 2 * self.layers * self.key_value * bytes_per_value

    @property
    def layer_parameters(self) -> int:
        """Parameters of all layers that every token is multiplied with (norms and look-up table left out)."""
        per_layer = 2 * self.hidden * (self.query + self.key_value) + 3 * self.hidden * self.intermediate
        return self.layers * per_layer

    @property
    def output_parameters(self) -> int:
        """Parameters of the output layer, which only some tokens pass."""
        return self.vocabulary * self.hidden


def shape_of(model: str) -> ModelShape:
    """The shape of a model folder, or of a known model whose name ``model`` contains.

    Raises UserError for anything else: nothing is downloaded for a plan.
    """
    from transformers import AutoConfig

    if (Path(model) / "config.json").is_file():
        return _shape(AutoConfig.from_pretrained(model))
    for name, (architecture, sizes) in KNOWN.items():
        if name in model.lower():
            return _shape(AutoConfig.for_model(architecture, **sizes))
    raise UserError(
        f"model '{model}': no such folder, and the name contains none of {', '.join(KNOWN)}: "
        "plan with --set model=FOLDER that holds the model's config.json"
    )


def _shape(config: Any) -> ModelShape:
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelShape(
        parameters=_count(config),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        query=heads * head,
        key_value=(getattr(config, "num_key_value_heads", None) or heads) * head,
        vocabulary=config.vocab_size,
    )


def _count(config: Any) -> int:
    """Built on the meta device: exact for every architecture, and no memory is taken."""
    from rollout.weight_check import expected_tensors

    expected = expected_tensors(config)
    return sum(prod(shape) for name, shape in expected.shapes.items() if name not in expected.tied)
