"""The parser: hand-written cases, the round trip, and texts that nobody meant to write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from env.operations import (
    DIALECTS,
    PAPER,
    RELEASED,
    Answer,
    Create,
    Delete,
    Invalid,
    Read,
    Scratchpad,
    Update,
    escape,
    parse,
    render,
)

fragments = st.sampled_from(
    [f"<{slash}{tag}>" for d in DIALECTS.values() for tag in d.tags.values() for slash in ("", "/")]
    + ["&lt;create_memory>", "&amp;lt;/answer>", "<think>", "</think>", "3: x", "Memory 2", "\\boxed{", "}", "<b>"]
)
texts = st.lists(st.one_of(st.text(max_size=12), fragments), max_size=12).map("".join)
bodies = texts.map(str.strip).filter(bool)
refs = st.integers(0, 10**9 - 1)
operations = st.one_of(
    bodies.map(Create),
    bodies.map(Read),
    st.builds(Update, refs, bodies),
    refs.map(Delete),
    texts.map(str.strip).map(Scratchpad),
)
# A boxed answer ends at its closing brace, so its round trip is promised for texts without braces only.
plain_answers = bodies.map(lambda text: text.replace("{", "").replace("}", "").replace("\\boxed", "").strip())


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
@given(data=st.data())
def test_render_then_parse_gives_the_same_operations(dialect, data):
    answers = plain_answers.filter(bool).map(Answer)
    written = data.draw(st.lists(st.one_of(operations, answers), max_size=6))
    assert parse(render(written, dialect), dialect) == written


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
@given(text=texts)
def test_no_text_breaks_the_parser(dialect, text):
    for operation in parse(text, dialect):
        assert isinstance(operation, Create | Read | Update | Delete | Scratchpad | Answer | Invalid)


@given(text=texts)
def test_an_escaped_text_holds_no_operation(text):
    assert parse(escape(text, PAPER)) == [op for op in parse(escape(text, PAPER)) if isinstance(op, Invalid)]


def test_thought_and_several_operations():
    text = "I should keep this. <create_memory> a fact </create_memory> and <read_memory>who?</read_memory> done"
    assert parse(text) == [Create("a fact"), Read("who?")]


def test_a_think_block_is_thought_even_if_it_spells_operations():
    assert parse("<think>maybe <delete_memory>3</delete_memory></think><answer>yes</answer>") == [Answer("yes")]
    assert parse("<think>never closed <answer>no</answer>") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<create_memory>never closed", "<create_memory> is not closed"),
        ("<create_memory>  </create_memory>", "empty create"),
        ("<forget>3</forget>", "unknown tag <forget>"),
        ("</answer>", "</answer> closes nothing"),
        ("<delete_memory>the old one</delete_memory>", "delete without an entry id (expected `id`)"),
        ("<update_memory>Paris</update_memory>", "update without an entry id (expected `id: content`)"),
        ("<update_memory>3: </update_memory>", "empty update"),
        ("<answer></answer>", "empty answer"),
    ],
)
def test_what_cannot_be_understood_says_why_and_the_rest_applies(text, reason):
    invalid, *rest = parse(text + " <read_memory>still read</read_memory>")
    assert isinstance(invalid, Invalid)
    assert invalid.reason == reason
    assert rest == [Read("still read")]


def test_an_unclosed_tag_ends_where_the_next_operation_begins():
    first, second = parse("<create_memory>lost <create_memory>kept</create_memory>")
    assert isinstance(first, Invalid)
    assert second == Create("kept")


@pytest.mark.parametrize("spelling", ["3: new", "#3: new", "Memory 3: new", "id 3 : new", " 3 :  new "])
def test_ids_are_read_tolerantly(spelling):
    assert parse(f"<update_memory>{spelling}</update_memory>") == [Update(3, "new")]


def test_released_dialect():
    text = (
        "<update_query>capital</update_query><add_memory>x</add_memory><modify_memory>Memory 2: y</modify_memory>"
        "<delete_memory>Memory 1</delete_memory><update_memory>notes</update_memory>"
        "<final_answer>so it is \\boxed{the {inner} city}</final_answer>"
    )
    operations = [Read("capital"), Create("x"), Update(2, "y"), Delete(1), Scratchpad("notes")]
    assert parse(text, RELEASED) == [*operations, Answer("the {inner} city")]
    assert parse("<final_answer>no box</final_answer>", RELEASED) == [Answer("no box")]
