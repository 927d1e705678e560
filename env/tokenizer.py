"""The policy's tokenizer as the environment and the runners use it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from env.errors import UserError
from env.types import Message

_CACHED_PROMPTS = 1024


class ChatTokenizer:
    """A Hugging Face tokenizer directory with a chat template.

    `encode_chat` remembers recent prompts: the environment counts a prompt's tokens and the runner sends the same ids.
    """

    def __init__(self, path: str | Path) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(path))
            # A second one for plain text: how special tokens are treated is state that threads must not share.
            self._plain = AutoTokenizer.from_pretrained(str(path))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"model '{path}' has no usable tokenizer: {error}") from error
        if not self._tokenizer.chat_template:
            raise UserError(f"model '{path}': its tokenizer has no chat template (chat_template.jinja)")
        if self._tokenizer.eos_token_id is None:
            raise UserError(f"model '{path}': its tokenizer names no eos_token")
        self.path = str(path)
        self.eos_token_id: int = self._tokenizer.eos_token_id
        added = self._tokenizer.added_tokens_decoder.values()
        special = {*self._tokenizer.all_special_tokens, *(token.content for token in added if token.special)}
        self._special = re.compile("|".join(re.escape(token) for token in sorted(special, key=len, reverse=True)))
        self._prompts: OrderedDict[tuple[str, ...], list[int]] = OrderedDict()

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; special tokens spelled in it stay text where the tokenizer can do that."""
        return self._plain.encode(text, add_special_tokens=False, split_special_tokens=True)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, without special tokens; a NUL, which no database takes, becomes U+FFFD."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True).replace("\0", "\ufffd")

    def defuse(self, text: str) -> str:
        """Break special tokens spelled in a text (`<eos>` becomes `< eos>`): no content can end a turn or begin one."""
        return self._special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation with the chat template, ending where the assistant's answer begins."""
        key = tuple(part for message in messages for part in (message["role"], message["content"]))
        if key in self._prompts:
            self._prompts.move_to_end(key)
            return self._prompts[key]
        safe = [Message(role=message["role"], content=self.defuse(message["content"])) for message in messages]
        text = self._tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=True)
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        self._prompts[key] = ids
        if len(self._prompts) > _CACHED_PROMPTS:
            self._prompts.popitem(last=False)
        return ids
