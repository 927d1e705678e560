"""The atomic memory operations, and the tolerant parser that turns a model's text into them.

A model output is a macro-action: thought, and any number of tagged operations. Text outside tags is thought. What
cannot be understood becomes an `Invalid` with its reason; everything else of the same output still applies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Create:
    """Add an entry."""

    content: str


@dataclass(frozen=True)
class Read:
    """Show the entries nearest to `query` at the next step."""

    query: str


@dataclass(frozen=True)
class Update:
    """Rewrite an entry. `ref` is what the dialect writes: a stable id, or a position in the list just shown."""

    ref: int
    content: str


@dataclass(frozen=True)
class Delete:
    """Remove an entry."""

    ref: int


@dataclass(frozen=True)
class Scratchpad:
    """Replace the scratchpad; an empty content clears it."""

    content: str


@dataclass(frozen=True)
class Answer:
    """Answer the question that is asked."""

    text: str


@dataclass(frozen=True)
class Invalid:
    """Something that looked like an operation and is none."""

    reason: str
    text: str


Operation = Create | Read | Update | Delete | Scratchpad | Answer | Invalid
Kind = Literal["create", "read", "update", "delete", "scratchpad", "answer"]
KINDS: dict[type, str] = {
    Create: "create",
    Read: "read",
    Update: "update",
    Delete: "delete",
    Scratchpad: "scratchpad",
    Answer: "answer",
    Invalid: "invalid",
}


@dataclass(frozen=True)
class Dialect:
    """How operations are spelled: tag names, how an id is written, and what an id means."""

    name: str
    tags: Mapping[str, str]  # kind -> tag name
    id_prefix: str = ""
    positional: bool = False  # ids are positions (from `first_position`) in the list of entries just shown
    first_position: int = 1
    boxed: bool = False  # answers are wrapped in \boxed{}

    @property
    def kinds(self) -> dict[str, str]:
        """Tag name -> kind."""
        return {tag: kind for kind, tag in self.tags.items()}


PAPER = Dialect(
    "paper",
    {
        "create": "create_memory",
        "read": "read_memory",
        "update": "update_memory",
        "delete": "delete_memory",
        "scratchpad": "scratchpad",
        "answer": "answer",
    },
)
RELEASED = Dialect(
    "released",
    {
        "create": "add_memory",
        "read": "update_query",
        "update": "modify_memory",
        "delete": "delete_memory",
        "scratchpad": "update_memory",
        "answer": "final_answer",
    },
    id_prefix="Memory ",
    positional=True,
    boxed=True,
)
DIALECTS = {dialect.name: dialect for dialect in (PAPER, RELEASED)}

_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z_]*)>")
_THINK = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_REF = re.compile(r"\s*(?:memory|entry|id)?\s*#?\s*(\d{1,9})\s*(?::\s*(.*))?\Z", re.DOTALL | re.IGNORECASE)
_ESCAPED = "&(?:amp;)*lt;"


def parse(text: str, dialect: Dialect = PAPER) -> list[Operation]:
    """Parse a model output into operations, in the order written. Never raises, whatever the text."""
    text = _THINK.sub("", text)
    kinds = dialect.kinds
    operations: list[Operation] = []
    position = 0
    while match := _TAG.search(text, position):
        position = match.end()
        closing, tag = match.group(1), match.group(2)
        if tag not in kinds:
            if not closing:
                operations.append(Invalid(f"unknown tag <{tag}>", match.group(0)))
        elif closing:
            operations.append(Invalid(f"</{tag}> closes nothing", match.group(0)))
        else:
            body, position = _body(text, position, tag, kinds)
            if body is None:
                operations.append(Invalid(f"<{tag}> is not closed", text[match.start() : position]))
            else:
                operations.append(_operation(kinds[tag], _unescape(body, dialect).strip(), dialect))
    return operations


def parse_reply(text: str, dialect: Dialect = PAPER) -> list[Operation]:
    """Like `parse`, for a model that was not trained in the dialect: an output without any tag is the answer."""
    reply = _THINK.sub("", text).strip()
    return parse(text, dialect) or ([Answer(reply)] if reply else [])


def _body(text: str, start: int, tag: str, kinds: Mapping[str, str]) -> tuple[str | None, int]:
    """The text up to the closing tag and where to go on; None when another operation's tag (or the end) comes first."""
    for match in _TAG.finditer(text, start):
        if match.group(2) == tag and match.group(1):
            return text[start : match.start()], match.end()
        if match.group(2) in kinds:
            return None, match.start()
    return None, len(text)


def _operation(kind: str, body: str, dialect: Dialect) -> Operation:
    if kind == "scratchpad":
        return Scratchpad(body)
    if kind == "answer" and dialect.boxed:
        body = _unbox(body)
    if not body:
        return Invalid(f"empty {kind}", body)
    if kind == "create":
        return Create(body)
    if kind == "read":
        return Read(body)
    if kind == "answer":
        return Answer(body)
    return _entry_operation(kind, body)


def _entry_operation(kind: str, body: str) -> Operation:
    match = _REF.match(body)
    if match is None:
        wanted = "id" if kind == "delete" else "id: content"
        return Invalid(f"{kind} without an entry id (expected `{wanted}`)", body)
    ref, content = int(match.group(1)), (match.group(2) or "").strip()
    if kind == "delete":
        return Delete(ref)
    return Update(ref, content) if content else Invalid("empty update", body)


def _unbox(body: str) -> str:
    """The content of the last ``\\boxed{...}`` with balanced braces; the body itself when there is none."""
    start = body.rfind("\\boxed{")
    if start < 0:
        return body
    depth = 0
    for index in range(start + 6, len(body)):
        depth += {"{": 1, "}": -1}.get(body[index], 0)
        if depth == 0:
            return body[start + 7 : index].strip()
    return body


def render(operations: Iterable[Operation], dialect: Dialect = PAPER) -> str:
    """Write operations as a model would; `parse(render(ops)) == ops` for stripped contents.

    A body that itself contains one of the dialect's tags is escaped (``&lt;tag>``), so that text taken from a
    document can never become an operation. An `Invalid` is not rendered.
    """
    return "\n".join(_render(operation, dialect) for operation in operations if not isinstance(operation, Invalid))


def _render(operation: Operation, dialect: Dialect) -> str:
    match operation:
        case Update(ref, content):
            body = f"{dialect.id_prefix}{ref}: {escape(content, dialect)}"
        case Delete(ref):
            body = f"{dialect.id_prefix}{ref}"
        case Answer(text) if dialect.boxed:
            body = f"\\boxed{{{escape(text, dialect)}}}"
        case Create(text) | Read(text) | Scratchpad(text) | Answer(text):
            body = escape(text, dialect)
    tag = dialect.tags[KINDS[type(operation)]]
    return f"<{tag}>{body}</{tag}>"


def _tags(dialect: Dialect) -> str:
    return "|".join([*map(re.escape, dialect.tags.values()), "think"])


def escape(text: str, dialect: Dialect) -> str:
    """Defuse the dialect's tags in text that comes from a document or an entry: ``<tag>`` becomes ``&lt;tag>``."""
    pattern = rf"(?:<|{_ESCAPED})(?=/?(?:{_tags(dialect)})>)"
    return re.sub(pattern, lambda m: "&lt;" if m.group() == "<" else "&amp;" + m.group()[1:], text)


def _unescape(text: str, dialect: Dialect) -> str:
    pattern = rf"{_ESCAPED}(?=/?(?:{_tags(dialect)})>)"
    return re.sub(pattern, lambda m: "<" if m.group() == "&lt;" else "&" + m.group()[5:], text)
