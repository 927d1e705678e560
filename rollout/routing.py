"""Which engine gets a request: pure functions over load counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def route(loads: Sequence[int], affinity: int, slack: int, avoid: Collection[int] = ()) -> int | None:
    """Index of the engine for a request; None when every engine is to be avoided.

    That is the home engine of its affinity (modulo the engines, so that a group shares one prefix cache),
    unless it has more than ``slack`` requests above the least loaded one, which then takes over.

    Args:
        loads: requests in flight per engine.
        affinity: equal numbers prefer the same engine.
        slack: how much imbalance the prefix cache is worth, in requests.
        avoid: engines that failed this request, or just failed others.
    """
    usable = [index for index in range(len(loads)) if index not in avoid]
    if not usable:
        return None
    least = min(usable, key=lambda index: loads[index])
    home = affinity % len(loads)
    return home if home in usable and loads[home] <= loads[least] + slack else least
