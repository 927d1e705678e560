"""Scores as the benchmarks' own evaluation scripts give them, worked out by hand from their rules."""

from __future__ import annotations

import pytest

from env.metrics import scores
from env.types import Question
from evaluation.official import locomo_score, musique_scores, string_match
from evaluation.suites.haystack import HotpotQA, Musique, TwoWiki

EXACT = 1e-9


def approx(**values: float):
    return {name: pytest.approx(value, abs=EXACT) for name, value in values.items()}


@pytest.mark.parametrize(
    ("answer", "golds", "em", "f1"),
    [
        # hotpot_evaluate_v1.py: lower case, no punctuation, no articles, single spaces
        ("The  Chief of Protocol!", ["chief of protocol"], 1, 1),
        ("an A.I. lab", ["the AI Lab"], 1, 1),
        ("Greenwich Village, New York City", ["Greenwich Village"], 0, 2 * (2 / 5) * 1 / (2 / 5 + 1)),  # P 2/5, R 1
        ("yes", ["Yes."], 1, 1),
        ("yes it is", ["yes"], 0, 0),  # a closed gold: all or nothing
        ("no", ["no direction home"], 0, 0),  # a closed answer: all or nothing
        ("noanswer", ["no answer"], 0, 0),
        ("", ["Paris"], 0, 0),
        ("the", ["an"], 1, 0),  # equal once normalised to nothing: EM 1, but no common token
        ("a b a b", ["b b c"], 0, 4 / 5),  # tokens b b and b b c: P 1, R 2/3
    ],
)  # fmt: skip
def test_hotpotqa(answer, golds, em, f1):
    found = HotpotQA(data="x").scores(answer, Question("?", tuple(golds)))
    assert (found["em"], found["f1"]) == (em, pytest.approx(f1, abs=EXACT))


def test_2wiki_takes_the_best_alias_for_each_score_by_itself():
    # Alias 1 gives EM 0 and F1 2*2/(2+3) = 0.8, alias 2 EM 0 and F1 2*1/(2+1) = 2/3.
    found = TwoWiki(data="x").scores("George Lucas", Question("?", ("George Walton Lucas", "Lucas")))
    assert found == approx(em=0, f1=0.8, cover_em=1)


@pytest.mark.parametrize(
    ("answer", "golds", "em", "f1"),
    [
        # metrics/answer.py: SQuAD's F1, in which yes and no are words like others
        ("yes it is", ["yes"], 0, 2 * 1 / (3 + 1)),
        ("no", ["no direction home"], 0, 2 * 1 / (1 + 3)),
        ("", ["the"], 1, 1),  # neither has a token: they agree
        ("", ["Paris"], 0, 0),
        ("the", ["Paris", "a"], 1, 1),
        ("Barack Obama", ["Obama", "President Barack Hussein Obama"], 0, 2 / 3),  # 2*1/(2+1) and 2*2/(2+4): equal
    ],
)
def test_musique(answer, golds, em, f1):
    found = Musique(data="x").scores(answer, Question("?", tuple(golds)))
    assert (found["em"], found["f1"]) == (em, pytest.approx(f1, abs=EXACT))
    assert musique_scores(None, golds) == approx(em=0, f1=0, cover_em=0)


@pytest.mark.parametrize(
    ("answer", "gold", "category", "score"),
    [
        # single-hop, temporal: F1 over Porter stems; commas vanish, "and" is an article here
        ("She was running and hiking", "runs, hikes", "single-hop", 2 * 2 / (4 + 2)),  # she wa run hike | run hike
        ("7 May 2023", "7 May, 2023", "temporal", 1.0),
        ("in May", "7 May 2023", "temporal", 2 * 1 / (2 + 3)),
        # multi-hop: for each part of the gold the best part of the answer, then the mean
        ("pottery, camping", "camping, swimming", "multi-hop", (1 + 0) / 2),
        ("a pottery class", "pottery", "multi-hop", 2 * 1 / (2 + 1)),
        ("", "pottery", "multi-hop", 0.0),
        # open-domain: the gold ends at the first semicolon
        ("Likely no", "Likely no; she loves the sea", "open-domain", 1.0),
        # adversarial: only saying so counts
        ("That is Not Mentioned in the conversation", "x", "adversarial", 1.0),
        ("No information available.", "x", "adversarial", 1.0),
        ("an old car", "Not mentioned in the conversation", "adversarial", 0.0),
        (None, "x", "single-hop", 0.0),
    ],
)
def test_locomo(answer, gold, category, score):
    assert locomo_score(answer, gold, category) == pytest.approx(score, abs=EXACT)


def test_ruler_counts_the_wanted_texts_that_occur():
    assert string_match("1234567 and x99", ["1234567", "X99", "7654321", "5"]) == pytest.approx(3 / 4, abs=EXACT)
    assert string_match(None, ["1"]) == 0
    assert string_match("12", ["1"]) == 1  # as a substring, as the official script has it


def test_a_question_without_an_answer_scores_zero_everywhere():
    assert scores(None, ["x"]) == approx(em=0, f1=0, cover_em=0)
