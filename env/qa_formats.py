"""The official record formats of HotpotQA, 2WikiMultihopQA and MuSiQue, and of passage corpora.

Also understood: the column-wise form in which the hub keeps HotpotQA's nested lists
(``context = {"title": [...], "sentences": [...]}``), and nested values kept as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from env.types import Question

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Anything = Annotated[str, StringConstraints(max_length=10**9)]  # any constraint: no lone surrogates
Identifier = Annotated[str, StringConstraints(max_length=1000)]
Aliases = Mapping[str, Sequence[str]]  # Wikidata id -> other names


@dataclass(frozen=True, slots=True)
class Document:
    """A titled passage."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class QARecord:
    """A question with the documents that support its answer, and those that came along to distract."""

    record_id: str
    question: Question
    gold: tuple[Document, ...]
    others: tuple[Document, ...]


def _pairs(first: str, second: str) -> BeforeValidator:
    """Turn JSON text, and a dict of two columns, into the official list of pairs."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            value = json.loads(value)
        if isinstance(value, dict) and {first, second} <= value.keys():
            value = list(zip(value[first], value[second], strict=True))
        return value

    return BeforeValidator(convert)


class HotpotRecord(BaseModel):
    """One record of HotpotQA."""

    id: Identifier = Field(validation_alias=AliasChoices("_id", "id"), coerce_numbers_to_str=True)
    question: Text
    answer: Text
    type: Anything = ""
    context: Annotated[list[tuple[Anything, list[Anything]]], _pairs("title", "sentences")]
    supporting_facts: Annotated[list[tuple[Anything, int]], _pairs("title", "sent_id")] = Field(min_length=1)

    @field_validator("supporting_facts")
    @classmethod
    def _titles_resolve(cls, facts: list[tuple[str, int]], info: ValidationInfo) -> list[tuple[str, int]]:
        # Only titles: some published sentence indices lie past the end of their paragraph.
        if "context" not in info.data:
            return facts  # malformed itself, and reported as such
        texts = {title: "".join(sentences).strip() for title, sentences in info.data["context"]}
        for title, _ in facts:
            if not texts.get(title):
                problem = "empty" if title in texts else "not in the context"
                raise ValueError(f"the paragraph {title!r} is {problem}")
        return facts

    def to_record(self, aliases: Aliases) -> QARecord:
        """The record in common terms; paragraphs with a supporting sentence are gold."""
        titles = {title for title, _ in self.supporting_facts}
        documents = [(title in titles, make_document(title, _joined(text))) for title, text in self.context]
        return _record(self.id, self.question, self._answers(aliases), self.type, documents)

    def _answers(self, aliases: Aliases) -> list[str]:
        return [self.answer]


class WikiRecord(HotpotRecord):
    """One record of 2WikiMultihopQA: HotpotQA's fields, and the Wikidata id that leads to answer aliases."""

    answer_id: str | None = None

    def _answers(self, aliases: Aliases) -> list[str]:
        return [self.answer, *aliases.get(self.answer_id or "", ())]


class MusiqueParagraph(BaseModel):
    """One paragraph of a MuSiQue record."""

    title: Anything = ""
    paragraph_text: Text
    is_supporting: bool = False


class MusiqueRecord(BaseModel):
    """One record of MuSiQue (the answerable set)."""

    id: Identifier = Field(coerce_numbers_to_str=True)
    question: Text
    answer: Text
    answer_aliases: list[Anything] = []
    answerable: bool = True
    paragraphs: list[MusiqueParagraph]

    @field_validator("answerable")
    @classmethod
    def _has_answer(cls, answerable: bool) -> bool:
        if not answerable:
            raise ValueError("the paragraphs do not support the answer: use the answerable set (musique_ans)")
        return answerable

    @field_validator("paragraphs")
    @classmethod
    def _has_support(cls, paragraphs: list[MusiqueParagraph]) -> list[MusiqueParagraph]:
        if not any(paragraph.is_supporting for paragraph in paragraphs):
            raise ValueError("no paragraph has is_supporting = true")
        return paragraphs

    def to_record(self, aliases: Aliases) -> QARecord:
        """Paragraphs marked as supporting are gold; the shape in the id becomes the question's kind."""
        kind, separator, _ = self.id.partition("__")  # "3hop1__132710_120035_20661"
        documents = [(p.is_supporting, make_document(p.title, p.paragraph_text)) for p in self.paragraphs]
        answers = [self.answer, *self.answer_aliases]
        return _record(self.id, self.question, answers, kind if separator else "", documents)


class CorpusPassage(BaseModel):
    """One passage of a corpus file."""

    title: Anything = ""
    text: Text


FORMATS: dict[str, type[HotpotRecord] | type[MusiqueRecord]] = {
    "hotpotqa": HotpotRecord,
    "2wikimultihopqa": WikiRecord,
    "musique": MusiqueRecord,
}


def _joined(sentences: list[str]) -> str:
    """HotpotQA's sentences bring the space before them along, where there is one; those of 2Wiki do not."""
    return ("" if any(sentence[:1].isspace() for sentence in sentences[1:]) else " ").join(sentences)


def make_document(title: str, text: str) -> Document:
    """A document with single spaces. Releases differ in the spaces between sentences."""
    return Document(" ".join(title.split()), " ".join(text.split()))


def _record(
    record_id: str, question: str, answers: Iterable[str], kind: str, documents: list[tuple[bool, Document]]
) -> QARecord:
    distinct = tuple(dict.fromkeys(answer.strip() for answer in answers if answer.strip()))
    gold = tuple(document for is_gold, document in documents if is_gold)
    others = tuple(document for is_gold, document in documents if not is_gold)
    return QARecord(record_id, Question(question, distinct, kind), gold, others)
