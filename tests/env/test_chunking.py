"""Chunks: sizes, overlap, units, and that no token is lost."""

from env.chunking import chunks, cut
from env.config import EnvConfig
from env.types import Question, Task

UNITS = ("Anna Berg works at Solaria", "Solaria is based in Oslo", "Leo Kim likes chess")


def cut_task(tokenizer, units=UNITS, **options):
    config = EnvConfig(chunk_tokens=options.pop("size"), **options)
    return chunks(Task("t", units, (Question("?", ("a",)),)), tokenizer, config)


def test_token_chunks_are_full_and_overlap(tokenizer):
    plain = cut_task(tokenizer, size=6)
    assert [len(tokenizer.encode(c)) for c in plain] == [6, 6, 2]
    assert " ".join(plain) == " ".join(UNITS)
    overlapping = cut_task(tokenizer, size=6, chunk_overlap=2)
    assert overlapping[0] == "Anna Berg works at Solaria Solaria"
    assert overlapping[1] == "Solaria Solaria is based in Oslo"
    assert overlapping[-1].endswith("likes chess")


def test_unit_chunks_do_not_split_a_unit_that_fits(tokenizer):
    assert cut_task(tokenizer, size=10, chunk_boundary="unit") == (f"{UNITS[0]}\n\n{UNITS[1]}", UNITS[2])
    assert cut_task(tokenizer, size=4, chunk_boundary="unit", units=(UNITS[2], UNITS[0])) == (
        UNITS[2],
        "Anna Berg works at",
        "Solaria",
    )


def test_cut_counts_what_it_takes_off(tokenizer):
    assert cut("Anna Berg works at Solaria", tokenizer, 2) == ("Anna Berg", 3)
    assert cut("Anna Berg", tokenizer, 2) == ("Anna Berg", 0)
