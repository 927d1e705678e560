"""Scores that differ from HotpotQA's (`env.metrics`), as the benchmarks' own evaluation scripts compute them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from nltk.stem import PorterStemmer

from env.metrics import normalize, scores

_LOCOMO_ARTICLES = re.compile(r"\b(a|an|the|and)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ABSTAINS = ("no information available", "not mentioned")
_STEMMER = PorterStemmer()


def token_f1(tokens: Sequence[str], gold_tokens: Sequence[str]) -> float:
    """2PR / (P + R) over multisets of tokens; 0 without a common one."""
    same = (Counter(tokens) & Counter(gold_tokens)).total()
    return 2 * same / (len(tokens) + len(gold_tokens)) if same else 0.0


def musique_scores(answer: str | None, golds: Sequence[str]) -> dict[str, float]:
    """MuSiQue (`metrics/answer.py`): SQuAD's F1. Two texts without tokens agree; yes and no are words as any other."""
    values = scores(answer, golds)
    if answer is not None:
        pairs = [(normalize(answer).split(), normalize(gold).split()) for gold in golds]
        values["f1"] = max(token_f1(*pair) if all(pair) else float(pair[0] == pair[1]) for pair in pairs)
    return values


def locomo_score(answer: str | None, gold: str, category: str) -> float:
    """LoCoMo (`task_eval/evaluation.py`): F1 over Porter stems; by category:

    multi-hop: the mean over the gold's comma-separated parts of the best F1 of any part of the answer;
    open-domain: only the gold up to the first semicolon counts; adversarial: 1 if the answer says that it is not
    mentioned.
    """
    if answer is None:
        return 0.0
    if category == "adversarial":
        return float(any(phrase in answer.lower() for phrase in _ABSTAINS))
    if category == "multi-hop":
        parts, golds = answer.split(","), gold.split(",")
        return sum(max(_stem_f1(part, one) for part in parts) for one in golds) / len(golds)
    return _stem_f1(answer, gold.split(";")[0].strip() if category == "open-domain" else gold)


def string_match(answer: str | None, wanted: Sequence[str]) -> float:
    """RULER's `string_match_all`: the share of the wanted texts that occur in the answer, whatever their case."""
    return 0.0 if answer is None else sum(text.lower() in answer.lower() for text in wanted) / len(wanted)


def _stem_f1(answer: str, gold: str) -> float:
    return token_f1(_stems(answer), _stems(gold))


@lru_cache(maxsize=4096)
def _stems(text: str) -> tuple[str, ...]:
    words = _LOCOMO_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()
    return tuple(_STEMMER.stem(word) for word in words)
