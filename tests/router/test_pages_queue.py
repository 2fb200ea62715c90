"""The list of inquiries as a page: what stands in a line, and what the page costs."""

from __future__ import annotations

from contextlib import contextmanager
from html import unescape

import pytest
from sqlalchemy import Engine, event

from router.models import Role
from tests.router.web_house import house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


@contextmanager
def statements():
    """What the store is asked in the meantime."""
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    "subject", ["100 % %(ref)s %s", "{subject} {0}", "<b>&amp; \"'", "\\1 \\g<0>", "a\tb"]
)
async def test_a_line_shows_whatever_somebody_wrote(home, subject):
    await home.person("kari")
    await home.sign_in("kari")
    ref = await home.inquiry(subject)
    page = await home.client.get("/desk/queue")
    shown = page.text.split(f'id="open-{ref}"')[1].split("</a>")[0].split(">", 1)[1]
    assert "<" not in shown
    assert unescape(shown).split() == subject.split()


async def test_the_page_asks_the_store_little_however_many_lines_it_has(home):
    await home.person("kari")
    await home.person("vera", Role.MEMBER, "vei")
    for _ in range(3):
        await home.inquiry()
    for who, most in (("kari", 9), ("vera", 10)):
        await home.sign_in(who)
        with statements() as asked:
            page = await home.client.get("/desk/queue")
        assert page.text.count('class="row ') == 3
        # The live stream looks for news in the meantime.
        questions = [one for one in asked if one != "BEGIN" and "max(event.id)" not in one]
        assert len(questions) <= most, "\n".join(one[-160:] for one in questions)
