"""The maximum over ranges against loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from axiom_bench.metrics.shared.union_find import nothing_raised, raise_range, raised_values


@given(st.data(), st.integers(1, 40))
def test_each_place_has_the_greatest_value_of_its_ranges(data, count):
    table, expected = nothing_raised(count), np.zeros(count)
    for _ in range(data.draw(st.integers(0, 12))):
        first = data.draw(st.integers(0, count - 1))
        last, value = data.draw(st.integers(first, count - 1)), data.draw(st.floats(0, 1))
        raise_range(table, first, last, value)
        expected[first : last + 1] = np.maximum(expected[first : last + 1], value)
    assert raised_values(table).tolist() == expected.tolist()
