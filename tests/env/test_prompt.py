"""Prompts: every enabled operation is explained by its tag, in every dialect; what a group shares comes first."""

import pytest

from env.config import EnvConfig
from env.errors import UserError
from env.operations import DIALECTS, Answer, Create, parse
from env.prompt import PromptTemplate, ShownEntry, View

STORE = ["create", "read", "update", "delete", "scratchpad"]


def view(phase="chunk", **values):
    base = {
        "phase": phase, "position": 1, "total": 2, "chunk": "Some text." if phase == "chunk" else "",
        "question": "" if phase == "chunk" else "Who?", "questions": ("Who?", "Why?"), "scratchpad": "",
        "query": None, "retrieved": (), "size": 0, "reads_left": 1,
    }
    return View(**{**base, **values})


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
@pytest.mark.parametrize("enabled", [STORE, ["create", "read"], ["scratchpad"]])
def test_the_system_prompt_explains_what_is_enabled_and_nothing_else(dialect, enabled):
    config = EnvConfig(dialect=dialect.name, operations=enabled)
    system, user = PromptTemplate(config).messages(view())
    assert [message["role"] for message in (system, user)] == ["system", "user"]
    for kind in STORE:
        assert (f"<{dialect.tags[kind]}>" in system["content"]) == (kind in enabled)
    assert f"</{dialect.tags['answer']}>" in system["content"]
    assert "built-in" not in system["content"]


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_the_forms_in_the_last_line_parse_as_operations(dialect):
    template = PromptTemplate(EnvConfig(dialect=dialect.name))
    chunk, question = (template.messages(view(phase))[-1]["content"] for phase in ("chunk", "question"))
    assert parse(chunk.splitlines()[-1], dialect) == [Create("one fact")]
    assert parse(question.splitlines()[-1], dialect)[-1] == Answer("short answer")


@pytest.mark.parametrize("prompt", ["full", "compact"])
def test_what_a_group_shares_comes_first(prompt):
    template = PromptTemplate(EnvConfig(prompt=prompt))
    plain = template.messages(view())[-1]["content"]
    other = template.messages(view(scratchpad="mine", query="q", retrieved=(ShownEntry(3, "x"),)))[-1]["content"]
    shared = next(i for i, (a, b) in enumerate(zip(plain, other, strict=False)) if a != b)
    assert "Some text." in plain[:shared]


def test_the_prompt_says_how_full_the_memory_is():
    text = PromptTemplate(EnvConfig(capacity=20)).messages(view(size=7))[-1]["content"]
    assert "7 of at most 20 entries" in text


def test_a_prompt_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"env.prompt: 'nope' has no user.j2 \(built in: compact, full"):
        PromptTemplate(EnvConfig(prompt="nope"))
