"""Prompts are Jinja2 templates in a directory: `user.j2`, and `system.j2` where the model takes a system message.

What all episodes of a group share (system text, questions, chunk) comes first, what differs (scratchpad, retrieved
entries) comes last, so that the engine's prefix cache pays for a chunk once per group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateNotFound

from env.config import EnvConfig
from env.errors import UserError
from env.operations import DIALECTS, Dialect, escape
from env.types import Message, Phase

_BUILT_IN = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class ShownEntry:
    """A retrieved entry as the prompt shows it: `label` is its stable id, or its position in a positional dialect."""

    label: int
    content: str


@dataclass(frozen=True)
class View:
    """All that the model is shown at one step."""

    phase: Phase
    position: int  # from 1
    total: int  # chunks or questions
    chunk: str
    question: str
    questions: tuple[str, ...]
    scratchpad: str
    query: str | None
    retrieved: tuple[ShownEntry, ...]
    size: int
    reads_left: int


class PromptTemplate:
    """Renders a `View` into chat messages. Texts from outside cannot spell the dialect's tags."""

    def __init__(self, config: EnvConfig) -> None:
        self._dialect = DIALECTS[config.dialect]
        self._constants: dict[str, Any] = {
            "operations": config.operations,
            "tags": SimpleNamespace(**self._dialect.tags),  # a dict's own `update` would hide the tag
            "id_prefix": self._dialect.id_prefix,
            "boxed": self._dialect.boxed,
            "top_k": config.top_k,
            "max_reads": config.max_reads,
            "capacity": config.capacity,
            "shared_first": config.prompt_order == "shared-first",
        }
        self._system, self._user = _templates(config.prompt)

    def messages(self, view: View) -> list[Message]:
        """The conversation for one step: an optional system message and one user message."""
        values = {**self._constants, **_defused(view, self._dialect)}
        rendered = [("system", self._system), ("user", self._user)]
        return [Message(role=role, content=part.render(values).strip()) for role, part in rendered if part]


def _defused(view: View, dialect: Dialect) -> dict[str, Any]:
    values = {name: escape(v, dialect) if isinstance(v, str) else v for name, v in vars(view).items()}
    values["questions"] = [escape(text, dialect) for text in view.questions]
    values["retrieved"] = [ShownEntry(entry.label, escape(entry.content, dialect)) for entry in view.retrieved]
    return values


@lru_cache
def _templates(name: str) -> tuple[Template | None, Template]:
    directory = _BUILT_IN / name if (_BUILT_IN / name).is_dir() else Path(name)
    loader = Environment(loader=FileSystemLoader(directory), undefined=StrictUndefined, autoescape=False)
    try:
        user = loader.get_template("user.j2")
    except TemplateNotFound as error:
        built_in = ", ".join(sorted(p.name for p in _BUILT_IN.iterdir() if p.is_dir()))
        raise UserError(f"env.prompt: '{name}' has no user.j2 (built in: {built_in}; or give a directory)") from error
    system = loader.get_template("system.j2") if (directory / "system.j2").exists() else None
    return system, user


def template_texts(name: str) -> list[str]:
    """The literal text of a built-in template's files, without its Jinja statements (for building vocabularies)."""
    lexer = Environment()
    sources = [path.read_text() for path in sorted((_BUILT_IN / name).glob("*.j2"))]
    return [text for source in sources for _, kind, text in lexer.lex(source) if kind == "data"]
