"""The suites by name. A suite of your own needs no entry here: name it as `package.module:Class`."""

from __future__ import annotations

SUITES: dict[str, str] = {
    "registry": "evaluation.suites.registry:Registry",
    "hotpotqa": "evaluation.suites.haystack:HotpotQA",
    "2wikimultihopqa": "evaluation.suites.haystack:TwoWiki",
    "musique": "evaluation.suites.haystack:Musique",
    "locomo": "evaluation.suites.locomo:LoCoMo",
    "longmemeval": "evaluation.suites.longmemeval:LongMemEval",
    "ruler": "evaluation.suites.ruler:Ruler",
}
