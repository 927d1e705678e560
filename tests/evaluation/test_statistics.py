"""Statistics against numbers worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from evaluation.statistics import Interval, clustered_interval, paired_permutation_test, tasks_needed


def test_the_mean_weighs_every_question_the_same():
    # tasks a (1, 1, 1) and b (0): 3/4, not the mean of the task means 1/2
    assert clustered_interval([1, 1, 1, 0], ["a", "a", "a", "b"]).mean == 0.75


def test_two_clusters_give_the_extremes():
    # redraws of {a, b} and their means: aa 1, ab 1/2, ba 1/2, bb 0, all equally likely
    assert clustered_interval([1, 0], ["a", "b"]) == Interval(0.5, 0.0, 1.0)


def test_the_bounds_are_those_of_all_redraws():
    values = [0.0, 1.0, 2.0, 4.0]
    means = [np.mean(draw) for draw in product(values, repeat=4)]  # all 256 equally likely redraws
    interval = clustered_interval(values, list("abcd"))
    assert interval.low == pytest.approx(np.quantile(means, 0.025), abs=0.1)
    assert interval.high == pytest.approx(np.quantile(means, 0.975), abs=0.1)


def test_independent_questions_come_near_the_normal_interval():
    values = [1.0] * 50 + [0.0] * 50
    interval = clustered_interval(values, [str(i) for i in range(100)])
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.012)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.012)


def test_copies_within_a_task_do_not_narrow_the_interval():
    alone = clustered_interval([1, 0, 1, 0], list("abcd"))
    copied = clustered_interval([1, 0, 1, 0] * 25, list("abcd") * 25)
    assert (copied.low, copied.high) == (alone.low, alone.high)
    as_if_independent = clustered_interval([1, 0, 1, 0] * 25, [str(i) for i in range(100)])
    assert as_if_independent.high - as_if_independent.low < 0.3 < copied.high - copied.low


def test_one_task_has_no_interval_and_equal_values_a_point():
    assert clustered_interval([1, 0], ["a", "a"]) == Interval(0.5, None, None)
    assert clustered_interval([1, 1, 1], list("abc")) == Interval(1.0, 1.0, 1.0)


def test_apart():
    assert Interval(0.2, 0.1, 0.3).apart(Interval(0.5, 0.4, 0.6))
    assert Interval(0.5, 0.4, 0.6).apart(Interval(0.2, 0.1, 0.3))
    assert not Interval(0.2, 0.1, 0.4).apart(Interval(0.5, 0.4, 0.6))
    assert not Interval(0.2, None, None).apart(Interval(0.5, 0.4, 0.6))


@pytest.mark.parametrize("values, clusters", [([], []), ([1.0], ["a", "b"])])
def test_unusable_values_are_refused(values, clusters):
    with pytest.raises(ValueError, match="equally many"):
        clustered_interval(values, clusters)


def test_permutation_by_hand():
    # differences 1, 1, 1: of the 8 sign patterns two (+++ and ---) are as extreme
    assert paired_permutation_test([0, 0, 0], [1, 1, 1], list("abc")) == pytest.approx(2 / 8)
    # differences 1, 2, -3 sum to 0: every pattern is as extreme
    assert paired_permutation_test([0, 0, 3], [1, 2, 0], list("abc")) == pytest.approx(1.0)
    # differences 3, 1, 1: sums of the patterns are 5, 3, 3, 1 and their negatives; |sum| >= 5 twice in 8
    assert paired_permutation_test([0, 0, 0], [3, 1, 1], list("abc")) == pytest.approx(2 / 8)


def test_questions_of_a_task_are_swapped_together():
    # ten questions but only two tasks: 4 patterns, two as extreme, however many questions there are
    assert paired_permutation_test([0] * 10, [1] * 10, ["a"] * 5 + ["b"] * 5) == pytest.approx(0.5)


def test_no_difference_has_p_one():
    assert paired_permutation_test([1, 0, 1], [1, 0, 1], list("abc")) == 1.0


def test_a_large_rise_over_many_tasks_is_no_luck():
    tasks = [str(i) for i in range(200)]
    before = [float(i % 4 == 0) for i in range(200)]
    after = [float(i % 2 == 0) for i in range(200)]
    assert paired_permutation_test(before, after, tasks) < 0.001


def test_tasks_needed_by_hand():
    # Differences per task 1, 0, 0, -1 (one question each): mean 0, s^2 = 2/3; z = 1.959964 + 0.841621 = 2.801585.
    # n = (2.801585^2 * 2/3) / 0.5^2 = 20.93 -> 21
    needed = tasks_needed([0, 0, 0, 1], [1, 0, 0, 0], ["a", "b", "c", "d"], difference=0.5)
    assert needed == 21
    # Half the difference needs four times as many (rounded up by itself): 83.72 -> 84.
    assert tasks_needed([0, 0, 0, 1], [1, 0, 0, 0], ["a", "b", "c", "d"], difference=0.25) == 84
    # Two questions of one task: sums 2, -1, counts 2, 1; mean 1/3, residuals (2 - 2/3) / 1.5 = 8/9 and -8/9,
    # s^2 = 2 * 64/81 = 1.5802; n = 7.848880 * 1.5802 / 1 = 12.40 -> 13
    assert tasks_needed([0, 0, 1], [1, 1, 0], ["a", "a", "b"], difference=1.0) == 13
    assert tasks_needed([0.0, 1.0], [1.0, 1.0], ["a", "a"]) is None
    assert tasks_needed([0, 1], [0, 1], ["a", "b"]) is None  # no spread to go by
