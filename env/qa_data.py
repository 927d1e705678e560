"""Load QA datasets and passage corpora; malformed records are reported with file, record and field, or
skipped."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from env.errors import UserError
from env.qa_files import RawRecord, raw_records, read_text
from env.qa_formats import FORMATS, CorpusPassage, Document, QARecord, make_document

logger = logging.getLogger(__name__)
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """What a source held: usable items, and one line for each that was skipped."""

    items: list[T]
    skipped: list[str]


def load_records(source: str, dataset: str, split: str = "train", skip_bad: bool = False) -> Loaded[QARecord]:
    """Read a QA dataset (`dataset` is a key of FORMATS) from a file, a directory or a hub name.

    2WikiMultihopQA: `id_aliases.json` beside the file, where it is, adds the accepted answers that the
    official evaluation adds. Raises UserError naming file, record and field for the first malformed record,
    unless `skip_bad`; and always when nothing usable is left."""
    loaded = _load(source, FORMATS[dataset], split, skip_bad)
    aliases = _wiki_aliases(Path(source).expanduser()) if dataset == "2wikimultihopqa" else {}
    return Loaded([item.to_record(aliases) for item in loaded.items], loaded.skipped)


def load_corpus(source: str, skip_bad: bool = False) -> Loaded[Document]:
    """Read a passage corpus: records with `title` and `text`. Raises UserError like `load_records`."""
    loaded = _load(source, CorpusPassage, "train", skip_bad)
    return Loaded([make_document(item.title, item.text) for item in loaded.items], loaded.skipped)


def _load(source: str, model: type[M], split: str, skip_bad: bool) -> Loaded[M]:
    items: list[M] = []
    skipped: list[str] = []
    for raw in raw_records(source, split):
        parsed = _parse(raw, model)
        if isinstance(parsed, model):
            items.append(parsed)
            continue
        problem = f"{source}, record {raw.number}{_id_of(raw)}: {parsed}"
        if not skip_bad:
            raise UserError(f"{problem} (env.haystack.skip_bad=true skips and counts such records)")
        skipped.append(problem)
    if not items:
        first = f"; the first problem: {skipped[0]}" if skipped else ""
        raise UserError(f"{source} holds no usable record{first}")
    if skipped:
        logger.warning("%s: skipped %d of %d records; the first: %s",
                       source, len(skipped), len(skipped) + len(items), skipped[0])
    return Loaded(items, skipped)


def _parse(raw: RawRecord, model: type[M]) -> M | str:
    """The validated record, or what is wrong with it: the field, the reason, the value."""
    if raw.error is not None:
        return raw.error
    if not isinstance(raw.value, dict):
        return f"expected an object with fields, got {type(raw.value).__name__}"
    try:
        return model.model_validate(raw.value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            return f"field '{name}' is missing"
        value = repr(first["input"])
        return f"field '{name}': {first['msg']}, got {value if len(value) <= 80 else value[:77] + '...'}"


def _id_of(raw: RawRecord) -> str:
    if not isinstance(raw.value, dict):
        return ""
    found = raw.value.get("_id", raw.value.get("id"))
    return "" if found is None else f" (id {found})"


def _wiki_aliases(source: Path) -> dict[str, list[str]]:
    """Wikidata id -> other names, from the release's `id_aliases.json`, as its evaluation script takes
    them."""
    path = (source if source.is_dir() else source.parent) / "id_aliases.json"
    if not source.exists() or not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in read_text(path).splitlines()]
        return {row["Q_id"]: [*row["aliases"], *row["demonyms"]] for row in rows}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected lines with Q_id, aliases and demonyms ({error!r})") from error
