"""The tiny policy before training: a small Llama and a word-level tokenizer that covers the registry's world."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from env.operations import PAPER
from env.prompt import template_texts
from env.registry import QUESTIONS, RELATIONS
from env.registry_words import CITIES, COMPANIES, COUNTRIES, FIRST_NAMES, HOBBIES, LAST_NAMES

PAD, BOS, EOS, UNKNOWN, ASSISTANT = "<pad>", "<bos>", "<eos>", "<unk>", "<assistant>"
_NUMBERS = 100
_CHAT_TEMPLATE = (
    f"{BOS} {{% for message in messages %}}{{{{ message['content'] }}}} {{% endfor %}}"
    f"{{% if add_generation_prompt %}}{ASSISTANT}{{% endif %}}"
)


def vocabulary() -> list[str]:
    """Every word that the registry, the compact prompt and the operations can spell, in a fixed order."""
    names = [*FIRST_NAMES, *LAST_NAMES, *COMPANIES, *CITIES, *COUNTRIES, *HOBBIES]
    texts = [*QUESTIONS, *RELATIONS, "now has left likes nowhere . , !", *template_texts("compact")]
    numbers = map(str, range(_NUMBERS))
    return list(dict.fromkeys([*_words(texts), *numbers, *names]))


def _words(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)]


def build_tokenizer(directory: Path) -> int:
    """Write the tokenizer (Hugging Face layout, chat template included); returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tags = [f"<{slash}{tag}>" for tag in PAPER.tags.values() for slash in ("", "/")]
    special = [PAD, BOS, EOS, UNKNOWN, ASSISTANT]
    words = {word: i for i, word in enumerate([*special, *tags, *vocabulary()])}
    core = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(special)
    core.add_tokens(tags)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[ASSISTANT],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    tokenizer.save_pretrained(directory)
    return len(words)


def build(directory: Path, *, hidden: int = 256, layers: int = 3, heads: int = 8, seed: int = 42) -> None:
    """Write a randomly initialised tiny policy as a Hugging Face folder (about 2 million parameters by default)."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    directory.mkdir(parents=True, exist_ok=True)
    size = build_tokenizer(directory)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=-(-size // 64) * 64,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(directory)
