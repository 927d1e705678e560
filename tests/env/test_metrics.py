"""Scores against values worked out by hand from the official rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from env.metrics import cover_em, em, f1, normalize, scores


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Eiffel-Tower!", "eiffeltower"),
        ("An apple a day, the best", "apple day best"),
        ("Theatre", "theatre"),  # an article only as a whole word
        ("U.S.A.", "usa"),
        ("“quoted”", "“quoted”"),  # only ASCII punctuation is removed
        ("The", ""),
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_exact_match_takes_the_best_alias() -> None:
    assert em("the Beatles.", ["John Lennon", "Beatles"]) == 1
    assert em("Beatles band", ["John Lennon", "Beatles"]) == 0


def test_f1_by_hand() -> None:
    # 2 of 3 answer tokens, 2 of 2 gold tokens: P = 2/3, R = 1
    assert f1("Barack Hussein Obama", ["Barack Obama"]) == pytest.approx(0.8)
    # a repeated token counts as often as both have it: P = 1/3, R = 1/1
    assert f1("new new new", ["new"]) == pytest.approx(0.5)
    assert f1("London", ["Paris"]) == 0
    assert f1("Obama", ["Michelle", "Barack Obama"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("yes", "Yes!", 1),
        ("yes it is", "yes", 0),  # shares a token, but the gold is closed
        ("no", "no man's land", 0),
        ("noanswer", "noanswer", 1),
        ("noanswer given", "noanswer", 0),
    ],
)
def test_yes_no_and_noanswer_are_all_or_nothing_in_f1(answer: str, gold: str, expected: float) -> None:
    assert f1(answer, [gold]) == expected


def test_cover_exact_match_wants_whole_adjacent_tokens() -> None:
    assert cover_em("It was the Oriental Institute, Oxford", ["oriental institute"]) == 1
    assert cover_em("Norway", ["no"]) == 0
    assert cover_em("Institute of Oriental studies", ["Oriental Institute"]) == 0
    assert cover_em("anything", ["The"]) == 0  # a gold that normalises to nothing is not everywhere


def test_no_answer_scores_zero_and_no_gold_is_an_error() -> None:
    assert scores(None, ["x"]) == {"em": 0, "f1": 0, "cover_em": 0}
    with pytest.raises(ValueError, match="golds is empty"):
        em("x", [])


@given(st.text(), st.lists(st.text(), min_size=1, max_size=4))
def test_scores_are_bounded_and_ordered(answer: str, golds: list[str]) -> None:
    values = scores(answer, golds)
    assert all(0 <= value <= 1 for value in values.values())
    assert values["cover_em"] >= values["em"]
    assert scores(answer, [answer])["em"] == 1
    assert normalize(normalize(answer)) == " ".join(normalize(answer).split())
