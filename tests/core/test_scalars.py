"""Shares of counts, and what a user's function of a model returns."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as hyp

from secateur.errors import MissingDataError
from secateur.scalars import answer, portion


@given(hyp.integers(0, 64), hyp.integers(0, 10**6))
def test_a_portion_is_the_nearest_whole_number_and_of_two_the_larger(parts: int, count: int) -> None:
    exact = Fraction(parts, 64) * count
    found = portion(parts / 64, count)
    assert abs(found - exact) <= Fraction(1, 2) and found != exact - Fraction(1, 2)


def test_an_error_of_the_users_own_function_passes_and_is_not_taken_for_its_result() -> None:
    def failing(model: Any) -> float:
        raise ValueError("labels are missing")

    with pytest.raises(ValueError, match=r"^labels are missing$"):
        answer("evaluate", failing, None)
    with pytest.raises(MissingDataError, match=r"evaluate gives no number for the dense model .*: return one"):
        answer("evaluate", lambda model: "good", None, " for the dense model")
    assert answer("evaluate", lambda model: 3, None) == 3.0
