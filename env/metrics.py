"""Answer scores with the normalisation and the rules of the official HotpotQA evaluation.

Formulas: ``hotpot_evaluate_v1.py`` (github.com/hotpotqa/hotpot), which 2WikiMultihopQA and MuSiQue adapt; the
normalisation is SQuAD's. With several accepted answers the best score counts, as in their official scripts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED = frozenset({"yes", "no", "noanswer"})  # all or nothing: a token shared with a longer answer earns 0


def normalize(text: str) -> str:
    """Lower case, without ASCII punctuation, without English articles, single spaces (SQuAD)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _em(answer: str, gold: str) -> float:
    return float(normalize(answer) == normalize(gold))


def _f1(answer: str, gold: str) -> float:
    """2PR / (P + R) over the multisets of normalised tokens."""
    answer, gold = normalize(answer), normalize(gold)
    if answer != gold and (answer in _CLOSED or gold in _CLOSED):
        return 0.0
    tokens, gold_tokens = answer.split(), gold.split()
    same = (Counter(tokens) & Counter(gold_tokens)).total()
    return 2 * same / (len(tokens) + len(gold_tokens)) if same else 0.0


def _cover_em(answer: str, gold: str) -> float:
    """1 if the gold tokens occur in the answer, adjacent and in order (so that "no" is not found in
    "Norway")."""
    answer, gold = normalize(answer), normalize(gold)
    return float(f" {gold} " in f" {answer} ") if gold else float(not answer)


def _best(score: Callable[[str, str], float], answer: str | None, golds: Sequence[str]) -> float:
    if not golds:
        raise ValueError("golds is empty: a question needs at least one accepted answer")
    return 0.0 if answer is None else max(score(answer, gold) for gold in golds)


def em(answer: str | None, golds: Sequence[str]) -> float:
    """Exact match: 1.0 if the normalised answer equals any normalised gold answer. None (never answered):
    0.0."""
    return _best(_em, answer, golds)


def f1(answer: str | None, golds: Sequence[str]) -> float:
    """Token F1 in [0, 1], the best over the gold answers; yes, no and noanswer count only when they are
    equal."""
    return _best(_f1, answer, golds)


def cover_em(answer: str | None, golds: Sequence[str]) -> float:
    """1.0 if any gold answer occurs within the answer as a run of whole normalised tokens."""
    return _best(_cover_em, answer, golds)


def scores(answer: str | None, golds: Sequence[str]) -> dict[str, float]:
    """All three scores, under the keys ``em``, ``f1`` and ``cover_em``."""
    return {"em": em(answer, golds), "f1": f1(answer, golds), "cover_em": cover_em(answer, golds)}
