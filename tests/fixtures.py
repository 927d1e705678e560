"""Shared fixtures as plain functions: a tiny random Llama with a word-level tokenizer, made in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

WORDS = tuple(f"w{index}" for index in range(100))
SPECIALS = ("<pad>", "<eos>", "<unk>", "<user>", "<system>", "<assistant>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <eos> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def save_tokenizer(path: Path, words: Sequence[str] = WORDS) -> int:
    """Write a word-level tokenizer with chat template to ``path``; returns the vocabulary size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate((*SPECIALS, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="", cleanup=False)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<system>", "<assistant>"],
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(path)
    return len(vocabulary)


def save_tiny_llama(
    path: Path,
    *,
    seed: int = 0,
    tied: bool = True,
    words: Sequence[str] = WORDS,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    max_positions: int = 512,
) -> Path:
    """A random Llama in Hugging Face format (float32 safetensors, tokenizer, generation config) in ``path``.

    Heads have 32 dimensions, the least that vLLM's attention on CPU takes. The weights are scaled up from the
    usual initialisation, so that log-probabilities differ clearly between tokens and between seeds.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    size = save_tokenizer(path, words)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=max_positions,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.15,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).float()
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0)
    model.save_pretrained(path)
    return path
