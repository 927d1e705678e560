"""The official formats in every kind of file; malformed records: what the error says, what skipping keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from env.errors import UserError
from env.qa_data import load_corpus, load_records
from env.qa_formats import FORMATS, Document
from env.types import Question
from tests.env.qa_samples import hotpot, musique, wiki, write_json

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub-cache")


@pytest.mark.parametrize("name", ["d.json", "d.jsonl", "d.json.gz", "d.jsonl.gz"])
def test_hotpotqa_in_every_kind_of_json(tmp_path: Path, name: str) -> None:
    loaded = load_records(write_json(tmp_path / name, [hotpot(1), hotpot(2)]), "hotpotqa")
    first = loaded.items[0]
    assert first.record_id == "h1"
    assert first.question == Question("What is fact 1?", ("Answer 1",), "bridge")
    assert first.gold == (
        Document("Topic 1.0", "Topic 1.0 opens. Topic 1.0 goes on."),
        Document("Topic 1.1", "Topic 1.1 opens. Topic 1.1 goes on."),
    )
    assert [document.title for document in first.others] == ["Topic 1.2", "Topic 1.3"]
    assert (len(loaded.items), loaded.skipped) == (2, [])


def test_sentences_are_joined_with_one_space_or_as_they_say(tmp_path: Path) -> None:
    record = hotpot(1)
    record["context"][0][1] = ["Is it?", '".', " It is."]  # HotpotQA: spaces belong to the sentences
    record["context"][1][1] = ["One.", "Two."]  # 2WikiMultihopQA: they do not
    gold = load_records(write_json(tmp_path / "d.json", [record]), "hotpotqa").items[0].gold
    assert [document.text for document in gold] == ['Is it?". It is.', "One. Two."]


def test_musique_has_aliases_and_hops(tmp_path: Path) -> None:
    record = load_records(write_json(tmp_path / "m.jsonl", [musique(7)]), "musique").items[0]
    assert record.question == Question("What is part 7?", ("Answer 7", "The 7th"), "2hop")
    assert [document.text for document in record.gold] == ["Part 1 of 7.", "Part 3 of 7."]
    assert len(record.others) == 3


def test_2wiki_takes_aliases_from_the_file_beside_it(tmp_path: Path) -> None:
    path = write_json(tmp_path / "dev.json", [wiki(1), wiki(2)])
    assert load_records(path, "2wikimultihopqa").items[0].question.answers == ("Answer 1",)
    rows = [{"Q_id": "Q1", "aliases": ["One", "Uno"], "demonyms": ["Oner"]}]
    (tmp_path / "id_aliases.json").write_text("\n".join(map(json.dumps, rows)))
    records = load_records(path, "2wikimultihopqa").items
    assert [record.question.answers for record in records] == [
        ("Answer 1", "One", "Uno", "Oner"),
        ("Answer 2",),
    ]
    (tmp_path / "id_aliases.json").write_text('{"Q_id": "Q1"}')
    with pytest.raises(UserError, match="id_aliases.json: expected lines with Q_id, aliases and demonyms"):
        load_records(path, "2wikimultihopqa")


def _as_on_the_hub(record: dict[str, Any]) -> dict[str, Any]:
    titles, sentences = zip(*record["context"], strict=True)
    facts = zip(*record["supporting_facts"], strict=True)
    return {
        "id": record["_id"],
        **{key: record[key] for key in ("question", "answer", "type", "level")},
        "supporting_facts": dict(zip(("title", "sent_id"), map(list, facts), strict=True)),
        "context": {"title": list(titles), "sentences": list(sentences)},
    }


def test_parquet_and_dataset_directories_are_read_through_datasets(tmp_path: Path) -> None:
    official = load_records(write_json(tmp_path / "d.json", [hotpot(1), hotpot(2)]), "hotpotqa").items
    directory = tmp_path / "dataset"
    directory.mkdir()
    table = Dataset.from_list([_as_on_the_hub(hotpot(1)), _as_on_the_hub(hotpot(2))])
    table.to_parquet(directory / "validation-00000.parquet")
    assert load_records(str(directory / "validation-00000.parquet"), "hotpotqa").items == official
    assert load_records(str(directory), "hotpotqa", split="validation").items == official
    with pytest.raises(UserError, match=r"split 'test'\) cannot be loaded"):
        load_records(str(directory), "hotpotqa", split="test")


def test_nested_values_as_json_text(tmp_path: Path) -> None:
    texts = {key: json.dumps(hotpot(1)[key]) for key in ("context", "supporting_facts")}
    records = load_records(write_json(tmp_path / "t.jsonl", [{**hotpot(1), **texts}]), "hotpotqa").items
    assert records == load_records(write_json(tmp_path / "d.json", [hotpot(1)]), "hotpotqa").items


def _without(record: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != key}


MALFORMED = [
    ("hotpotqa", _without(hotpot(2), "answer"), r"record 2 \(id h2\): field 'answer' is missing"),
    ("hotpotqa", {**hotpot(2), "answer": "  "}, "field 'answer': .*at least 1 character"),
    ("hotpotqa", {**hotpot(2), "answer": None}, "field 'answer': .*string, got None"),
    ("hotpotqa", {**hotpot(2), "context": [["T", "not a list"]]}, "field 'context.0.1': .*list"),
    ("hotpotqa", {**hotpot(2), "context": "[broken"}, "field 'context'"),
    ("hotpotqa", {**hotpot(2), "answer": "half a character: \ud83d"}, "field 'answer': .*unicode"),
    ("hotpotqa", {**hotpot(2), "context": [["T", ["\ud83d"]]]}, "field 'context.0.1.0': .*unicode"),
    ("hotpotqa", {**hotpot(2), "_id": "\ud83d"}, "field '_id': .*unicode"),
    ("hotpotqa", {**hotpot(2), "supporting_facts": []}, "field 'supporting_facts': .*at least 1 item"),
    ("hotpotqa", {**hotpot(2), "supporting_facts": [["Nowhere", 0]]}, "'Nowhere' is not in the context"),
    ("hotpotqa", {**hotpot(2), "context": [["Topic 2.0", []], ["Topic 2.1", ["x"]]]}, "'Topic 2.0' is empty"),
    ("hotpotqa", _without(hotpot(2), "_id"), "record 2: field '_id' is missing"),
    ("hotpotqa", ["a", "list"], "record 2: expected an object with fields, got list"),
    ("musique", {**musique(2), "answerable": False}, "field 'answerable': .*musique_ans"),
    (
        "musique",
        {**musique(2), "paragraphs": musique(2)["paragraphs"][:1]},
        "field 'paragraphs': .*is_supporting",
    ),
    (
        "musique",
        {**musique(2), "paragraphs": [{"title": "x"}]},
        "field 'paragraphs.0.paragraph_text' is missing",
    ),
]


@pytest.mark.parametrize(("dataset", "bad", "message"), MALFORMED)
def test_a_malformed_record_is_located_or_skipped(
    tmp_path: Path, dataset: str, bad: Any, message: str
) -> None:
    good = {"hotpotqa": hotpot, "musique": musique}[dataset]
    path = write_json(tmp_path / "d.jsonl", [good(1), bad, good(3)])
    with pytest.raises(UserError, match=message) as caught:
        load_records(path, dataset)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    loaded = load_records(path, dataset, skip_bad=True)
    assert len(loaded.items) == 2
    assert len(loaded.skipped) == 1
    assert f"{path}, record 2" in loaded.skipped[0]


def test_a_line_that_is_no_json_is_a_malformed_record(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(hotpot(1)) + '\n\n{"_id": \n')
    with pytest.raises(UserError, match="record 3: not JSON: Expecting value at column 9"):
        load_records(str(path), "hotpotqa")
    assert len(load_records(str(path), "hotpotqa", skip_bad=True).items) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.json", b"", "is empty"),
        ("d.jsonl", b" \n", "is empty"),
        ("d.json", b"[]", "holds no usable record"),
        ("d.json", b"[{]", "not valid JSON: .*line 1 column 3"),
        ("d.json.gz", b"not packed", "cannot be read"),
        ("d.json", b"\xff\xfe", "cannot be read"),
        ("d.txt", b"x", "unknown kind of file"),
        ("d.parquet", b"x", "cannot be loaded"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_records(str(tmp_path / name), "hotpotqa")
    assert str(tmp_path / name) in str(caught.value)


def test_missing_files_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="none.jsonl does not exist"):
        load_records(str(tmp_path / "none.jsonl"), "hotpotqa")
    with pytest.raises(UserError, match="data file train.json does not exist"):
        load_records("train.json", "hotpotqa")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"dataset 'nobody/nothing' \(config distractor, split 'validation'\)"
    ):
        load_records("nobody/nothing:distractor", "hotpotqa", split="validation")


def test_when_every_record_is_bad_skipping_is_no_way_out(tmp_path: Path) -> None:
    path = write_json(tmp_path / "d.json", [{}, {}])
    with pytest.raises(
        UserError, match="no usable record; the first problem: .*record 1: field '_id' is missing"
    ):
        load_records(path, "hotpotqa", skip_bad=True)


def test_corpus(tmp_path: Path) -> None:
    rows = [{"title": "A", "text": "one  two"}, {"text": "untitled"}, {"title": "B", "text": ""}]
    path = write_json(tmp_path / "c.json", rows)
    loaded = load_corpus(path, skip_bad=True)
    assert loaded.items == [Document("A", "one two"), Document("", "untitled")]
    assert len(loaded.skipped) == 1
    with pytest.raises(UserError, match="record 3: field 'text'"):
        load_corpus(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_no_value_in_any_field_breaks_the_loader(
    tmp_path_factory: pytest.TempPathFactory, dataset: str, data: st.DataObject
) -> None:
    """Whatever stands in a field, the record is understood or reported; no other exception comes out."""
    good = musique(1) if dataset == "musique" else wiki(1)
    field = data.draw(st.sampled_from(sorted(good)))
    path = tmp_path_factory.mktemp("any") / "d.json"
    write_json(path, [{**good, field: data.draw(JSON)}])
    try:
        records = load_records(str(path), dataset).items
    except UserError as error:
        assert "record 1" in str(error)
    else:
        assert records[0].question.answers
        assert records[0].gold


@pytest.mark.skipif(not DATA.is_dir(), reason="needs real benchmark records beside the repository")
@pytest.mark.parametrize(
    ("dataset", "name", "count", "kinds"),
    [
        ("hotpotqa", "hotpotqa/hotpot_dev_distractor_sample.json.gz", 842, {"bridge", "comparison"}),
        ("hotpotqa", "hotpotqa/hotpot_train_sample.json.gz", 357, {"bridge", "comparison"}),
        ("2wikimultihopqa", "2wikimultihopqa/2wikimultihopqa_dev_sample.json.gz", 397,
         {"comparison", "compositional", "inference", "bridge_comparison"}),
        ("musique", "musique/musique_ans_dev_sample.jsonl.gz", 206,
         {"2hop", "3hop1", "3hop2", "4hop1", "4hop2", "4hop3"}),
    ],
)  # fmt: skip
def test_real_records(dataset: str, name: str, count: int, kinds: set[str]) -> None:
    loaded = load_records(str(DATA / name), dataset)
    assert (len(loaded.items), loaded.skipped) == (count, [])
    assert {record.question.kind for record in loaded.items} == kinds
    assert all(record.gold for record in loaded.items)
