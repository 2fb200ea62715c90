"""Wildcards: `*` is any run of characters, everything else is itself."""

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.conditions import matcher


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("post@sorum.example", ["post@sorum.example"], ["xpost@sorum.example", "post@sorum"]),
        ("post@*", ["post@", "post@x.no"], ["post", "apost@x.no"]),
        ("*@einnsyn.no", ["@einnsyn.no", "a@einnsyn.no"], ["a@einnsyn.no.x", "einnsyn.no"]),
        ("a*b*c", ["abc", "axbxc", "abbcc"], ["ac", "acb", "abxcx"]),
        ("ab*ba", ["abba", "abxba"], ["aba"]),
        ("a*bb*b", ["abbb", "axbbxb"], ["abb"]),
        ("a.c*", ["a.c"], ["abc"]),
        ("[a]*", ["[a]x"], ["ax"]),
        ("+476386*", ["+4763864000"], ["4763864000"]),
    ],
)
def test_wildcards(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    match = matcher([pattern])
    assert [match(value) for value in fits] == [pattern] * len(fits)
    assert [match(value) for value in fits_not] == [""] * len(fits_not)


@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", max_size=12))
def test_wildcards_agree_with_the_shell(pattern: str, value: str) -> None:
    assert (
        bool(matcher([pattern])(value))
        is (fnmatch.fnmatchcase(value, pattern) and bool(value or pattern))
        or value == pattern == ""
    )


def test_a_hostile_pattern_takes_linear_time() -> None:
    match = matcher(["*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"])
    started = time.process_time()
    assert match("a" * 50_000 + "c") == ""
    assert match("b" + "a" * 50_000 + "b") != ""
    assert time.process_time() - started < 0.2
