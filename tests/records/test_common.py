"""Which methods are compared, and on which images."""

from __future__ import annotations

from axiom_bench.records.by_metric import compared

IMAGES = frozenset(range(20))


def test_the_same_images_for_all():
    assert compared({"a": IMAGES, "b": IMAGES}) == (("a", "b"), IMAGES)


def test_common_images_are_those_of_all_compared_methods():
    assert compared({"a": IMAGES - {0, 1}, "b": IMAGES - {2}}) == (("a", "b"), IMAGES - {0, 1, 2})


def test_a_method_that_lacks_more_than_a_tenth_is_not_compared():
    """It doesn't take images from the others either."""
    assert compared({"a": IMAGES - {0, 1, 2}, "b": IMAGES - {3}}) == (("b",), IMAGES - {3})
    assert compared({"a": IMAGES - {0, 1}, "b": IMAGES})[0] == ("a", "b")  # a tenth
    ten = frozenset(range(10))
    assert compared({"a": ten - {0}, "b": ten})[0] == ("a", "b")


def test_a_method_without_any_image_is_not_compared_and_leaves_the_others_theirs():
    assert compared({"a": frozenset[int](), "b": IMAGES}) == (("b",), IMAGES)
    assert compared({"a": frozenset[int]()}) == ((), frozenset())
    assert compared({}) == ((), frozenset())


def test_where_every_method_lacks_many_none_is_compared():
    halves = {"a": frozenset(range(10)), "b": frozenset(range(10, 20))}
    assert compared(halves) == ((), frozenset())
