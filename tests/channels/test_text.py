"""Text from outside is put in order in time that grows with it, and no faster."""

from __future__ import annotations

import unicodedata
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.text import nfc


@given(st.text())
def test_what_people_write_is_what_unicode_says(text):
    if not any(unicodedata.combining(c) for c in text):
        assert nfc(text) == unicodedata.normalize("NFC", text)
    assert unicodedata.is_normalized("NFC", nfc(text))


@pytest.mark.parametrize("text", ["A\u030asa Ø\u0308 e\u0301", "ŋáđ", "क\u093c\u094d", "👩‍👧 שָׁלוֹם"])
def test_letters_with_their_marks_stay_whole(text):
    assert nfc(text) == unicodedata.normalize("NFC", text)


def test_a_run_of_marks_that_would_take_minutes_is_cut():
    run = "a" + "\u0315" * 200_000 + "\u0316" * 200_000
    started = process_time()
    assert len(nfc(run)) < 100
    assert process_time() - started < 5
