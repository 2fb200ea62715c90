"""How a text is cut into parts: by the standard, and as an independent counter counts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.sms.segments import BASIC, EXTENDED, count, plain, tidy
from tests.twilio_oracle import node

ORACLE = """
const {SegmentedMessage} = require("sms-segments-calculator");
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(texts.map((text) => {
  const m = new SegmentedMessage(text);
  return [m.encodingName, m.segmentsCount];
})));
"""
ENCODINGS = {"GSM-7": "gsm7", "UCS-2": "ucs2"}

TABLE = [
    ("", "gsm7", 0, 1),
    ("Hei på deg, Åse Øye Ærlig!", "gsm7", 26, 1),
    ("a" * 160, "gsm7", 160, 1),
    ("a" * 161, "gsm7", 161, 2),
    ("a" * 306, "gsm7", 306, 2),
    ("a" * 307, "gsm7", 307, 3),
    ("€" * 80, "gsm7", 160, 1),
    ("€" * 81, "gsm7", 162, 2),
    ("a" * 152 + "€" + "a" * 10, "gsm7", 164, 2),
    # The escape of a euro does not end the first part, so it begins the second.
    ("a" * 152 + "€" + "a" * 151, "gsm7", 305, 2),
    ("a" * 152 + "€" + "a" * 152, "gsm7", 306, 3),
    ("{[~]}\\|^", "gsm7", 16, 1),
    ("linje\r\nlinje", "gsm7", 12, 1),
    ("š", "ucs2", 1, 1),
    ("Čáhcesuolu đ ŋ ŧ ž", "ucs2", 18, 1),
    ("ž" * 70, "ucs2", 70, 1),
    ("ž" * 71, "ucs2", 71, 2),
    ("ž" * 134, "ucs2", 134, 2),
    ("ž" * 135, "ucs2", 135, 3),
    ("🫐", "ucs2", 2, 1),
    ("🫐" * 35, "ucs2", 70, 1),
    ("🫐" * 36, "ucs2", 72, 2),
    # A pair is not split: 33 to a part of 67.
    ("🫐" * 66, "ucs2", 132, 2),
    ("🫐" * 67, "ucs2", 134, 3),
]


@pytest.mark.parametrize(("text", "encoding", "units", "parts"), TABLE)
def test_a_text_has_as_many_parts_as_the_standard_says(text, encoding, units, parts):
    found = count(text)
    assert (found.encoding, found.units, found.parts) == (encoding, units, parts)


def test_an_independent_counter_counts_the_same():
    texts = [text for text, *_ in TABLE if text]
    texts += [c * 161 for c in sorted(BASIC | EXTENDED)]
    texts += [f"{'a' * n}{c}{'a' * 160}" for n in (66, 67, 69, 70, 151, 152, 153) for c in "€ž🫐|å"]
    oracle = node(ORACLE, texts, "sms-segments-calculator")
    ours = [(count(text).encoding, count(text).parts) for text in texts]
    theirs = [(ENCODINGS[name], parts) for name, parts in oracle]
    assert [t for t, a, b in zip(texts, ours, theirs, strict=True) if a != b] == []


def test_what_is_left_is_what_can_still_be_written():
    for text in ("", "a" * 159, "a" * 160, "a" * 170, "ž" * 69, "ž" * 100, "€" * 80):
        found = count(text)
        letter = "ž" if found.encoding == "ucs2" else "a"
        assert count(text + letter * found.left).parts == found.parts
        assert count(text + letter * (found.left + 1)).parts == found.parts + 1


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("Vi sees kl. 12–13 – «velkommen» …", 'Vi sees kl. 12-13 - "velkommen" ...'),
        ("Det er “klart” og ‘greit’ – takk", "Det er \"klart\" og 'greit' - takk"),
        ("12\u00a0500\u202fkr − ring 63\u00a086\u00a040\u00a000", "12 500 kr - ring 63 86 40 00"),
        ("Kjøk\u00adken\u200bveien", "Kjøkkenveien"),
        ("Bla\u030abær", "Blåbær"),
        ("a\tb\r\nc\rd", "a b\nc\nd"),
        ("Kari’s • punkt", "Kari's - punkt"),
    ],
)
def test_typography_is_written_plainly_where_that_saves_parts(written, sent):
    assert plain(written) == sent
    assert count(sent).encoding == "gsm7"


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("Buorre beaivi – Čáhcesuolu", "Buorre beaivi – Čáhcesuolu"),
        ("Hei, «Žaneta»", "Hei, «Žaneta»"),
        ("Ja – 👍🏽", "Ja – 👍🏽"),
        ("François", "François"),
        ("12 m²", "12 m²"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
    ],
)
def test_where_it_saves_nothing_everything_stays_and_letters_always_do(written, sent):
    assert plain(written) == sent


@given(st.text(max_size=400))
def test_no_letter_and_no_figure_is_ever_lost_or_changed(text):
    def letters(value):
        return [c for c in value if unicodedata.category(c)[0] in "LN"]

    sent = plain(text)
    assert letters(sent) == letters(unicodedata.normalize("NFC", text))
    assert plain(sent) == sent
    assert tidy(tidy(text)) == tidy(text)
    assert count(sent).parts <= count(tidy(text)).parts
