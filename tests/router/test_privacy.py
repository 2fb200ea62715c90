"""Numbers that identify people are masked wherever nobody needs them."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from contextlib import redirect_stderr
from datetime import date
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from router.logs import configure_logs
from router.privacy import is_national_id, mask_text


def control_digits(nine: str, start: int = 0) -> str:
    """Both digits for birth date and individual number, empty when there are none (rule until
    2032); `start` is what the first sum may leave from 2032."""
    first = (3, 7, 6, 1, 8, 9, 4, 5, 2)
    k1 = (start - sum(w * int(d) for w, d in zip(first, nine, strict=True))) % 11
    if k1 == 10:
        return ""
    second = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
    k2 = -sum(w * int(d) for w, d in zip(second, f"{nine}{k1}", strict=True)) % 11
    return "" if k2 == 10 else f"{k1}{k2}"


ORDINARY = next(f"010101{n}{c}" for n in range(900, 999) if (c := control_digits(f"010101{n}")))

births = st.dates(min_value=date(1900, 1, 1), max_value=date(2049, 12, 31))


GAPS = ["", " ", "-", " - ", "\N{NO-BREAK SPACE}", "\N{EN DASH}"]


@given(
    born=births,
    individual=st.integers(0, 999),
    day=st.sampled_from([0, 40]),
    month=st.sampled_from([0, 40, 65, 80]),
    start=st.integers(0, 3),
    gap=st.sampled_from(GAPS),
)
def test_every_number_a_person_can_have_is_masked(born, individual, day, month, start, gap):
    """Fødselsnummer, D-number, synthetic ones; before and after the change of 2032."""
    six = f"{born.day + day:02}{born.month + month:02}{born.year % 100:02}"
    digits = control_digits(f"{six}{individual:03}", start)
    if not digits:
        return
    number = f"{individual:03}{digits}"
    text = f"Jeg heter Kari, {six}{gap}{number}. Ring meg."
    masked = mask_text(text)
    assert masked == f"Jeg heter Kari, {six} *****. Ring meg."
    assert mask_text(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "Ring 91234567 eller +47 912 34 567.",
        "Konto 1234.56.78903 hos banken.",
        "Saksnummer 2026/123456, gnr. 12 bnr. 345.",
        f"Fakturanummer {int(ORDINARY) ^ 1:011}",  # control digit wrong
        "99019912345",  # no such day
        "Sum 12 345 678 901 kroner.",
        f"10{ORDINARY}12",
        "",
    ],
)
def test_other_numbers_are_left_alone(text):
    assert mask_text(text) == text


def test_several_numbers_and_line_ends():
    assert (
        mask_text(f"{ORDINARY}\n{ORDINARY},{ORDINARY}") == "010101 *****\n010101 *****,010101 *****"
    )


def test_the_published_vectors():
    folder = os.environ.get("SENTRALBORD_TEST_DATA", "")
    file = Path(folder) / "fnr" / "vectors.txt"
    if not folder or not file.exists():
        pytest.skip("SENTRALBORD_TEST_DATA is not set: no published vectors")
    numbers = file.read_text(encoding="utf-8").split()
    assert len(numbers) >= 5
    for number in numbers:
        assert is_national_id(number), number
        assert mask_text(f"x {number}") == f"x {number[:6]} *****"


@given(st.text(max_size=300))
def test_masking_never_raises_and_only_hides(text):
    masked = mask_text(text)
    if masked != text:
        assert "*****" in masked


def test_masking_a_long_text_takes_no_time():
    text = "1 " * 200_000 + "0" * 200_000
    started = time.monotonic()
    mask_text(text)
    assert time.monotonic() - started < 1


def test_a_date_that_does_not_exist_is_no_birthday():
    for nine in ("310401999", "000101999", "720101999", "011301999", "010001999"):
        assert not is_national_id(nine + (control_digits(nine) or "00")), nine
    assert is_national_id(ORDINARY)


@pytest.fixture
def logged():
    """What the service's log would hold."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    before = structlog.get_config(), logging.root.handlers[:], logging.root.level
    with redirect_stderr(stream):
        configure_logs("debug")

        def read() -> list[dict[str, object]]:
            stream.flush()
            return [json.loads(line) for line in raw.getvalue().splitlines()]

        yield read
    structlog.configure(**before[0])
    logging.root.handlers[:], logging.root.level = before[1], before[2]


def test_the_log_masks_what_slips_into_it(logged):
    log = structlog.get_logger("slip")
    log.info("mail from kari@eksempel.no", number="+4791234567", id=ORDINARY, ref="S-2026-000123")
    try:
        raise ValueError("cannot send to <ola@eksempel.no>, tlf 91234567")
    except ValueError:
        log.exception("failed")
    logging.getLogger("library").warning("refused %s", "per@eksempel.no")
    lines = logged()
    assert len(lines) == 3
    text = json.dumps(lines)
    for private in ("kari", "ola@", "per@", "91234567", ORDINARY):
        assert private not in text
    assert lines[0]["ref"] == "S-2026-000123"
    assert "ValueError" in str(lines[1]["exception"])
