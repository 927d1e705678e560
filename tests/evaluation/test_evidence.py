"""Replaying an episode's memory, and naming where the evidence for an answer went."""

from __future__ import annotations

import pytest

from env.types import OperationRecord
from evaluation.evidence import explain
from evaluation.replay import Change, replay
from rollout.record import trajectory_to_json

from .conftest import make_trajectory, make_turn

FACT = "Ada lives in Oslo."


def cause_of(turns, answer, gold=("Oslo",)):
    [explanation] = explain(trajectory_to_json(make_trajectory(turns, answer, gold)))
    return explanation


def asked(answer="Rome", **shown):
    return make_turn(
        "Where does Ada live?", "question", ops=[("answer", answer, None)] if answer else [], **shown
    )


def test_replay_follows_every_operation():
    turns = [
        make_turn(
            "one", ops=[("create", "a", 1), ("create", "b", 2), ("scratchpad", "note, far too long", None)]
        ),
        make_turn("two", scratchpad="note", ops=[("update", "A", 1), ("delete", "", 2), ("read", "a", None)]),
        make_turn(
            "three",
            scratchpad="note",
            ops=[("create", "c", None, "discarded"), ("invalid", "b", None, "no entry 2")],
        ),
    ]
    states = replay(trajectory_to_json(make_trajectory(turns, None))["turns"])
    assert [state.entries for state in states] == [{1: "a", 2: "b"}, {1: "A"}, {1: "A"}]
    assert [state.scratchpad for state in states] == ["note"] * 3  # as the environment cut it
    assert states[1].changes[:2] == [Change("update", "A", 1, "ok", "a"), Change("delete", "", 2, "ok", "b")]


def test_right_names_entry_and_step():
    stored = make_turn(FACT, ops=[("create", FACT, 7)])
    found = cause_of([make_turn("Nothing."), stored, asked("Oslo", retrieved=[(7, FACT)])], "Oslo")
    assert (found.cause, found.entries) == ("right", (7,))
    assert "entry 7 (written at step 2)" in found.text


def test_right_from_the_scratchpad_or_from_nowhere():
    written = make_turn(FACT, ops=[("scratchpad", FACT, None)])
    assert (
        "the scratchpad (written at step 1)"
        in cause_of([written, asked("Oslo", scratchpad=FACT)], "Oslo").text
    )
    assert "inferred or guessed" in cause_of([make_turn("Nothing."), asked("Oslo")], "Oslo").text


STORED = make_turn(FACT, ops=[("create", FACT, 1)])
NOTED = make_turn(FACT, ops=[("scratchpad", FACT, None)])
FULL = make_turn(FACT, ops=[("create", FACT, None, "discarded")])
REWRITTEN = make_turn("x", ops=[("update", "Ada", 1)])
DELETED = make_turn("x", ops=[("delete", "", 1)])
CLEARED = make_turn("x", scratchpad=FACT, ops=[("scratchpad", "", None)])
WRONG = make_turn(FACT, ops=[("create", "Ada lives in Bern.", 1)])
NAMELESS = make_turn(FACT, ops=[("create", "Someone is in Oslo.", 1)])
BOTH = [(1, FACT), (2, "Ada likes Rome.")]


@pytest.mark.parametrize(
    "turns, cause, words",
    [
        (
            [STORED, asked(retrieved=BOTH)],
            "misread",
            "entry 1, and not given. The answer given stands in entry 2.",
        ),
        ([NOTED, asked(scratchpad=FACT)], "misread", "scratchpad at step 2"),
        ([STORED, asked()], "not retrieved", "entry 1 (written at step 1)"),
        ([STORED, REWRITTEN, asked()], "overwritten", "entry 1 was rewritten at step 2"),
        ([STORED, DELETED, asked()], "overwritten", "entry 1 was deleted at step 2"),
        ([NOTED, CLEARED, asked()], "overwritten", "the scratchpad was rewritten at step 2"),
        ([FULL, asked()], "discarded", "step 1: the memory was full"),
        ([make_turn("x"), make_turn(FACT, position=1), asked()], "never stored", "read at step 2"),
        ([WRONG, asked()], "stored wrong", "At step 1 the evidence was written as “Ada lives in Bern.”"),
        ([NAMELESS, asked()], "stored wrong", "Someone is in Oslo."),
        ([make_turn(FACT, ops=[("create", "It rains.", 1)]), asked()], "never stored", "read at step 1"),
        # The name answers another question as well: only what also names Ada is evidence.
        ([make_turn("Bob has a house in Oslo."), make_turn(FACT, position=1), asked(retrieved=[(1, "Bob: Oslo")])],
         "never stored", "read at step 2"),
        ([make_turn("Osloite rock."), asked()], "undecided", "does not contain"),
    ],
)
def test_where_the_evidence_was_lost(turns, cause, words):
    found = cause_of(turns, "Rome")
    assert (found.cause, words in found.text) == (cause, True), found.text


def test_the_step_of_the_loss_is_named():
    steps = [cause_of(turns, "Rome").step for turns in ([STORED, DELETED, asked()], [FULL, asked()], [STORED, asked()])]
    assert steps == [2, 1, 2]


def test_what_was_indexed_without_the_model_counts_as_held():
    question = asked()
    question.record.before = [OperationRecord("create", FACT, 1)]
    found = cause_of([question], "Rome")
    assert (found.cause, found.text) == (
        "not retrieved", "The gold answer was in memory but not shown at step 1: entry 1."
    )  # fmt: skip


def test_an_update_that_keeps_the_answer_loses_nothing():
    turns = [
        make_turn(FACT, ops=[("create", FACT, 1)]),
        make_turn("x", ops=[("update", "Ada: Oslo", 1)]),
        asked(),
    ]
    assert cause_of(turns, "Rome").cause == "not retrieved"


def test_what_is_stored_at_the_answering_step_comes_too_late():
    late = make_turn("Where does Ada live?", "question", ops=[("create", FACT, 1), ("answer", "Rome", None)])
    assert cause_of([make_turn(FACT), late], "Rome").cause == "never stored"


def test_unanswered_and_never_reached():
    assert cause_of([make_turn(FACT), asked(None)], None).text.startswith(
        "The episode ended without an answer."
    )
    assert "ended after step 1, before this question" in cause_of([make_turn(FACT)], None).text
    assert "no step at all" in cause_of([], None).text


def test_yes_and_no_decide_nothing():
    assert (
        cause_of([make_turn("yes"), asked("no", retrieved=[(1, "yes")])], "no", gold=("yes",)).cause
        == "undecided"
    )


def test_several_questions_are_told_apart_by_position():
    trajectory = trajectory_to_json(
        make_trajectory([make_turn(FACT), asked("Oslo", retrieved=[(1, FACT)])], "Oslo")
    )
    trajectory["answers"].append({**trajectory["answers"][0], "answer": None, "scores": {}})
    assert [explanation.cause for explanation in explain(trajectory)] == ["right", "unanswered"]
