"""Statistics by hand and against formulas written anew."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from eval.intervals import Interval, bootstrap
from eval.judge.ratings import Vote, rate
from eval.metrics.distribution import frechet, spread, squared_mmd
from eval.statistics import contest, holm, least_p, rank_correlation, ranks, sign_flips, spearman


def test_wins_ties_and_losses_are_counted_apart() -> None:
    found = contest([1.0, 0.5, 0.5, 0.0, 1.0], [0.0, 0.5, 0.5, 1.0, 0.5], "higher")
    assert (found.win, found.tie, found.loss) == (0.4, pytest.approx(0.4), 0.2)
    turned = contest([1.0, 0.5, 0.5, 0.0, 1.0], [0.0, 0.5, 0.5, 1.0, 0.5], "lower")
    assert (turned.win, turned.loss) == (found.loss, found.win)
    swapped = contest([0.0, 0.5, 0.5, 1.0, 0.5], [1.0, 0.5, 0.5, 0.0, 1.0], "higher")
    assert (swapped.win, swapped.loss) == (found.loss, found.win) and swapped.tie == pytest.approx(found.tie)
    assert found.difference.mean == turned.difference.mean == pytest.approx(0.1)
    close = contest([1.0, 0.5], [0.9, 0.0], "higher", tie=0.2)
    assert (close.win, close.tie) == (0.5, 0.5)


def test_intervals_are_of_differences_not_of_levels() -> None:
    """Pairs that differ by the same amount leave no doubt, however much the sets vary."""
    b = list(np.random.default_rng(0).random(30))
    found = contest([value + 0.01 for value in b], b, "higher")
    assert found.difference.ends == pytest.approx((0.01, 0.01))
    assert found.p < 0.001


def test_sign_flips_agree_with_all_signs() -> None:
    apart = np.array([0.5, 1.0, -0.25, 0.75, 2.0, -1.0, 0.5, 0.25])
    sums = [abs(np.dot(signs, apart)) for signs in product((-1, 1), repeat=len(apart))]
    exact = np.mean([one >= abs(apart.sum()) - 1e-12 for one in sums])
    assert sign_flips(apart) == pytest.approx(exact)
    assert sign_flips(np.zeros(5)) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_ranks_share_places_and_correlate() -> None:
    assert list(ranks([10, 20, 20, 5])) == [2, 3.5, 3.5, 1]
    assert spearman([1, 2, 3, 4], [1, 8, 27, 64]) == pytest.approx(1.0)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 2, 3], [5, 5, 5]) is None
    distances = np.array([1, 2, 3, 4, 5]) - np.array([2, 1, 4, 3, 5])
    assert spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(1 - 6 * (distances**2).sum() / (5 * 24))


def test_a_correlations_interval_holds_it_and_draws_whole_sets() -> None:
    rng = np.random.default_rng(1)
    a = rng.random(60)
    b = a + rng.random(60)
    by_set = rank_correlation(a, b, [str(place // 6) for place in range(60)])
    assert by_set is not None and by_set.ends is not None
    assert by_set.ends[0] < by_set.mean < by_set.ends[1]
    assert rank_correlation(a, np.ones(60), ["x"] * 60) is None


def test_distances_of_distributions() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 400, 6))
    assert frechet(x, x) == pytest.approx(0, abs=1e-8)
    assert frechet(x, x + 3.0) == pytest.approx(6 * 9.0)
    assert squared_mmd(x, y) == pytest.approx(0, abs=0.5)
    assert squared_mmd(x, y + 2.0) > 10
    a, b = rng.standard_normal((2, 3, 2))
    kernel = lambda p, q: (p @ q / 2 + 1) ** 3  # noqa: E731
    own = [np.mean([kernel(z[i], z[j]) for i in range(3) for j in range(3) if i != j]) for z in (a, b)]
    crossed = np.mean([kernel(p, q) for p in a for q in b])
    assert squared_mmd(a, b) == pytest.approx(sum(own) - 2 * crossed)


def test_subsets_of_few_pictures_differ() -> None:
    rng = np.random.default_rng(3)
    found = spread(rng.standard_normal((60, 6)), rng.standard_normal((60, 6)))
    assert found.kid_deviation > 0.01 and abs(found.kid) < 3 * found.kid_deviation


def test_one_set_has_no_interval() -> None:
    found = bootstrap([0.7])
    assert (found.mean, found.low, found.high, found.ends) == (0.7, None, None, None)
    assert contest([1.0], [0.5], "higher").difference.ends is None
    alone = rank_correlation(np.arange(5.0), np.arange(5.0), ["x"] * 5)
    assert alone is not None and alone.mean == pytest.approx(1.0) and alone.ends is None


def test_equal_values_are_their_mean_to_the_last_bit() -> None:
    assert bootstrap([0.1] * 3) == Interval(0.1, 0.1, 0.1)


@pytest.mark.parametrize("sets", [2, 3, 4, 10, 16])
def test_p_is_exact_where_all_signs_can_be_counted(sets: int) -> None:
    """All differences in one direction: two of 2^n signs reach as far."""
    apart = np.linspace(0.1, 0.7, sets)
    assert sign_flips(apart) == 2.0 ** (1 - sets) == contest(list(apart), [0.0] * sets, "higher").least
    assert sign_flips(np.append(apart, 0.0)) == 2.0 ** (1 - sets)


def test_p_of_four_sets_by_hand() -> None:
    """Of 16 signs of 4, 3, 2, 1 those that sum to 8 or more, or to -8 or less: ++++, +++-."""
    assert sign_flips(np.array([4.0, 3.0, 2.0, -1.0])) == 4 / 16


def test_no_p_is_below_what_so_many_sets_can_have() -> None:
    assert least_p(1) == 1.0 and least_p(3) == 0.25 and least_p(16) == 2.0**-15
    assert sign_flips(np.ones(17)) >= least_p(17) == 1 / 10_001 > 2.0**-16


def test_what_is_no_number_is_no_figure() -> None:
    for values in ([], [1.0, float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="figures need"):
            bootstrap(values)
        with pytest.raises(ValueError, match="figures need"):
            contest(values, values, "higher")
    with pytest.raises(ValueError, match="figures need finite values, not nan"):
        sign_flips(np.array([1.0, float("nan")]))


def test_last_bits_decide_no_contest() -> None:
    found = contest([0.1 + 0.2 + 0.3, 1.0], [0.3 + 0.2 + 0.1, 1.0], "higher")
    assert (found.win, found.tie, found.loss, found.p) == (0.0, 1.0, 0.0, 1.0)


def test_one_comparison_rates_without_an_interval() -> None:
    first, second = rate([Vote("the only set", "a", "b", 1.0)] * 3)
    assert first.rating.mean > second.rating.mean and first.rating.ends is None and second.rating.ends is None
