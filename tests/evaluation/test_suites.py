"""Suites: what their tasks hold, the same for the same seed, and bad data refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from env.errors import UserError
from evaluation.catalog import make_suite

CONVERSATION = {
    "sample_id": "conv-1",
    "conversation": {
        "speaker_a": "Ada",
        "session_2_date_time": "2 May 2023",
        "session_2": [{"speaker": "Bob", "dia_id": "D2:1", "text": "Look", "blip_caption": "a red bike"}],
        "session_1_date_time": "1 May 2023",
        "session_1": [{"speaker": "Ada", "dia_id": "D1:1", "text": "I moved to Oslo."}],
        "session_10_date_time": "3 May 2023",
        "session_10": [{"speaker": "Ada", "dia_id": "D10:1", "text": "Bye."}],
    },
    "qa": [
        {"question": "Where did Ada move?", "answer": "Oslo", "evidence": ["D1:1"], "category": 4},
        {"question": "When?", "answer": 2023, "evidence": [], "category": 2},
        {"question": "What car?", "adversarial_answer": "a van", "evidence": [], "category": 5},
    ],
}
RECORD = {
    "question_id": "q1_abs", "question_type": "multi-session", "question": "Which?", "answer": "Not said.",
    "question_date": "2023/06/01", "haystack_dates": ["2023/05/25"], "answer_session_ids": [],
    "haystack_sessions": [[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]],
}  # fmt: skip


def write(path: Path, value: object) -> str:
    path.write_bytes(gzip.compress(json.dumps(value).encode()))
    return str(path)


def test_locomo_reads_sessions_in_order_and_asks_by_category(tmp_path):
    suite = make_suite("locomo", {"data": write(tmp_path / "l.json.gz", [CONVERSATION]), "questions": 2})
    first, second = suite.tasks(10, seed=1)
    assert first.units == (
        "[1 May 2023] Ada: I moved to Oslo.",
        "[2 May 2023] Bob: Look (shows a picture: a red bike)",
        "[3 May 2023] Ada: Bye.",
    )
    assert [q.kind for q in first.questions + second.questions] == ["single-hop", "adversarial", "temporal"]
    assert "a van or" in first.questions[1].text or "or a van" in first.questions[1].text
    assert second.questions[0].answers == ("2023",)
    assert suite.scores("She moved to Oslo", first.questions[0])["official"] == pytest.approx(2 / 5)
    assert suite.scores("not mentioned", first.questions[1])["official"] == 1.0


def test_longmemeval_marks_abstention_and_gives_the_judge_its_rule(tmp_path):
    suite = make_suite("longmemeval", {"data": write(tmp_path / "m.json.gz", [RECORD])})
    [task] = suite.tasks(5, seed=1)
    assert task.units == ("[2023/05/25] user: Hello", "[2023/05/25] assistant: Hi")
    assert task.questions[0].kind == "abstention" and task.questions[0].text.startswith("(Asked on 2023/06/01)")
    assert "cannot be answered" in suite.rubric(task.questions[0])
    assert suite.headline == "judge"


@pytest.mark.parametrize("name", ["locomo", "longmemeval"])
def test_other_records_are_refused_with_their_number(tmp_path, name):
    suite = make_suite(name, {"data": write(tmp_path / "x.json.gz", [{"question": "?"}])})
    with pytest.raises(UserError, match=r"record 1: not a Lo"):
        suite.tasks(1, seed=1)


@pytest.mark.parametrize("kind, needles", [("single", 1), ("multi-key", 3), ("multi-value", 3), ("variables", 3)])
def test_ruler_hides_its_needles_and_wants_all_of_them(kind, needles):
    suite = make_suite("ruler", {"kind": kind, "docs": 20, "needles": 3})
    [task, other] = suite.tasks(2, seed=7)
    assert len(task.units) == 20 and task != other and task == suite.tasks(1, seed=7)[0]
    words = ("Let X", "secret number")
    hidden = [s for unit in task.units for s in unit.replace(".", ".\n").splitlines() if any(w in s for w in words)]
    assert len(hidden) == needles
    [question] = task.questions
    wanted = question.answers[0].split(", ")
    assert len(wanted) == (1 if kind in ("single", "multi-key") else 3)
    assert suite.scores(question.answers[0], question)["official"] == 1.0
    assert suite.scores(wanted[0], question)["official"] == pytest.approx(1 / len(wanted))
    if kind == "variables":
        assert [s.strip().startswith(f"Let {name}") for s, name in zip(hidden, wanted, strict=True)] == [True] * 3


def test_haystacks_ask_the_same_whatever_their_length(tmp_path):
    def record(i):
        context = [[f"Title {i} {j}", [f"Sentence {j} of record {i}."]] for j in range(4)]
        return {
            "_id": str(i), "question": f"Question {i}?", "answer": f"answer {i}", "type": "bridge",
            "supporting_facts": [[f"Title {i} 0", 0], [f"Title {i} 1", 0]], "context": context,
        }  # fmt: skip

    data = write(tmp_path / "h.json.gz", [record(i) for i in range(30)])
    short, long = (make_suite("hotpotqa", {"data": data, "docs": d, "questions": 3}).tasks(8, 5) for d in (10, 40))
    assert [task.questions for task in short] == [task.questions for task in long]
    assert {len(task.units) for task in short} == {10} and {len(task.units) for task in long} == {40}
    assert len({task.questions[0].text for task in short}) > 4
    assert len(make_suite("hotpotqa", {"data": data, "docs": 10, "questions": 3}).tasks(100, 5)) == 30


def test_data_without_gold_documents_is_refused(tmp_path):
    bare = [{"_id": "1", "question": "Q?", "answer": "a", "context": [["T", ["s"]]], "supporting_facts": []}]
    suite = make_suite("hotpotqa", {"data": write(tmp_path / "b.json.gz", bare), "docs": 1, "questions": 1})
    with pytest.raises(UserError, match="supporting_facts"):
        suite.tasks(1, seed=1)


def test_unknown_suites_and_options():
    with pytest.raises(UserError, match="unknown suite 'hotpot'; did you mean hotpotqa"):
        make_suite("hotpot", {})
    with pytest.raises(UserError, match="suite 'ruler' has no option 'documents'; it has: kind, docs"):
        make_suite("ruler", {"documents": 4})
    with pytest.raises(UserError, match="suite 'hotpotqa', option 'data': Field required"):
        make_suite("hotpotqa", {})


def test_registry_knobs():
    tasks = make_suite("registry", {"hops": [3], "change_rate": 0.0, "questions_max": 1}).tasks(5, seed=3)
    assert {q.kind for task in tasks for q in task.questions} == {"3-hop"}
    assert len({task.task_id for task in tasks}) == 5
