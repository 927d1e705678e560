"""Haystacks: what is in them, how questions are drawn, that they repeat, when they cannot be built."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from env.config import EnvConfig, HaystackConfig
from env.errors import UserError
from env.haystack import DocumentPool, HaystackSource, own_contexts
from env.qa_data import load_records
from env.qa_formats import Document, HotpotRecord, QARecord
from env.tasks import make_source
from tests.env.qa_samples import hotpot
from tests.env.test_qa_data import DATA

RECORDS = [
    HotpotRecord.model_validate(hotpot(i)).to_record({}) for i in range(30)
]  # 4 documents each, 2 gold


def source(
    records: list[QARecord] = RECORDS, seed: int = 0, split: str = "train", **haystack
) -> HaystackSource:
    config = HaystackConfig(**{"documents": 40, "questions_max": 10, **haystack})
    return HaystackSource(records, own_contexts(records), config, seed=seed, dataset="hotpotqa", split=split)


def test_a_haystack_holds_exactly_its_documents_numbered_in_order() -> None:
    task = source()[3]
    assert [unit.split("\n")[0] for unit in task.units] == [f"Document {i}:" for i in range(1, 41)]
    _, title, text = task.units[0].split("\n")
    assert text == f"{title} opens. {title} goes on."
    assert task.task_id == "hotpotqa-train-0-3"


def test_gold_documents_are_there_and_recorded_and_shuffled() -> None:
    tasks = list(source())
    assert len(tasks) == 30
    places = []
    for task in tasks:
        assert len({unit.split("\n", 1)[1] for unit in task.units}) == 40  # no document twice
        for question, record_id, gold in zip(
            task.questions, task.metadata["record_ids"], task.metadata["gold_documents"], strict=True
        ):
            number = record_id.removeprefix("h")
            assert question.text == f"What is fact {number}?"
            titles = {task.units[place - 1].split("\n")[1] for place in gold}
            assert titles == {f"Topic {number}.0", f"Topic {number}.1"}
            places += gold
    assert min(places) == 1
    assert max(places) == 40
    assert sum(places) / len(places) == pytest.approx(20.5, abs=3)  # uniform over 1..40


def test_every_record_leads_one_task_and_half_the_tasks_have_one_question() -> None:
    many = [HotpotRecord.model_validate(hotpot(i)).to_record({}) for i in range(2000)]
    counts: Counter[int] = Counter()
    for index, task in enumerate(source(many)):
        ids = task.metadata["record_ids"]
        assert f"h{index}" in ids
        assert len(set(ids)) == len(ids)
        counts[len(ids)] += 1
    assert counts[1] / 2000 == pytest.approx(0.5, abs=0.04)
    assert set(counts) == set(range(1, 11))
    for count in range(2, 11):
        assert counts[count] / 2000 == pytest.approx(0.5 / 9, abs=0.02)
    assert {len(task.questions) for task in source(questions_max=1)} == {1}


@given(st.integers(0, 10**6), st.integers(0, 29), st.integers(20, 120), st.integers(1, 10))
@settings(max_examples=30, deadline=None)
def test_a_task_depends_on_seed_split_and_index_alone(
    seed: int, index: int, documents: int, questions: int
) -> None:
    one, two = (source(seed=seed, documents=documents, questions_max=questions) for _ in range(2))
    two[(index + 1) % 30]  # what was built before does not matter
    assert one[index] == two[index]
    assert len(one[index].units) == documents
    assert 1 <= len(one[index].questions) <= questions
    assert (
        one[index].units != source(seed=seed + 1, documents=documents, questions_max=questions)[index].units
    )


def test_equal_documents_are_one_document() -> None:
    pool = DocumentPool([Document("A b", "one two"), Document("A  B", "One two"), Document("A b", "other")])
    pool.add(Document("a b", "onetwo"))
    assert [document.text for document in pool.documents] == ["one two", "other"]
    assert DocumentPool([Document("T", "")]).distractors == 0


def test_distractors_come_from_the_corpus_when_there_is_one() -> None:
    corpus = DocumentPool(Document(f"Corpus {i}", f"text {i}") for i in range(50))
    config = HaystackConfig(documents=50, questions_max=3)
    haystacks = HaystackSource(RECORDS, corpus, config, seed=0, dataset="hotpotqa", split="train")
    for task in haystacks:
        titles = [unit.split("\n")[1] for unit in task.units]
        gold = sum(map(len, task.metadata["gold_documents"]))
        assert gold == 2 * len(task.questions)
        assert sum(title.startswith("Corpus") for title in titles) == 50 - gold


@pytest.mark.parametrize(
    ("haystack", "message"),
    [
        ({"documents": 121}, "haystack.documents = 121, but the pool holds only 120 distinct documents"),
        ({"documents": 19}, "haystack.documents = 19, but 10 questions .* can need 20 supporting documents"),
    ],
)
def test_haystacks_that_cannot_be_filled(haystack: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        source(**haystack)


def test_more_questions_than_records() -> None:
    with pytest.raises(
        UserError, match="questions_max = 10, but the eval split of hotpotqa has only 9 records"
    ):
        source(RECORDS[:9], split="eval")


def test_indices_end() -> None:
    for index in (-1, 30):
        with pytest.raises(IndexError):
            source()[index]


@pytest.mark.skipif(not DATA.is_dir(), reason="needs real benchmark records beside the repository")
@pytest.mark.parametrize("dataset", ["hotpotqa", "2wikimultihopqa", "musique"])
def test_real_haystacks_of_800_documents_hold_what_the_questions_need(dataset: str) -> None:
    name = {
        "hotpotqa": "hotpotqa/hotpot_dev_distractor_sample.json.gz",
        "2wikimultihopqa": "2wikimultihopqa/2wikimultihopqa_dev_gold_only.json.gz",
        "musique": "musique/musique_ans_dev_gold_only.jsonl.gz",
    }[dataset]
    corpus = DATA / dataset / f"{dataset}_corpus.json.gz"
    config = EnvConfig(
        task=dataset, data=str(DATA / name), haystack=HaystackConfig(documents=800, corpus=str(corpus))
    )
    records = {record.record_id: record for record in load_records(str(DATA / name), dataset).items}
    haystacks = make_source(config, "train", seed=1)
    for index in range(20):
        task = haystacks[index]
        # Corpus and records differ in some spaces between sentences.
        bodies = {"".join(unit.split("\n", 1)[1].split()) for unit in task.units}
        assert len(bodies) == 800
        for record_id in task.metadata["record_ids"]:
            for document in records[record_id].gold:
                assert "".join(f"{document.title}{document.text}".split()) in bodies
