"""Every page as axe-core, narrow screens, zoom, dark rooms and forced colours see it."""

from __future__ import annotations

import pytest

from tests.browser.people import EMERGENCY, employ, write_in
from tests.service import REPOSITORY, unique

AXE = REPOSITORY / "node_modules/axe-core/axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 320, "height": 640}
ZOOMED = {"width": 640, "height": 400}
"""1280 × 800 at 200 %."""

SCAN = """async (tags) => {
  const found = await axe.run({ runOnly: tags, resultTypes: ["violations"] });
  return found.violations.map((rule) => `${rule.id}: ${rule.help}: `
    + rule.nodes.map((node) => `${node.target.join(" ")} (${node.any.map((c) => c.message)})`).join("; "));
}"""
TOO_WIDE = """() => {
  const page = document.documentElement;
  if (page.scrollWidth <= page.clientWidth) return [];
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.getBoundingClientRect().right > page.clientWidth)
    .map((element) => element.outerHTML.slice(0, 120)).slice(0, 5);
}"""


@pytest.fixture(scope="module")
def house(service, desk, smarthost):
    """One of everything: addresses of pages by what they show."""
    siv = employ(service, password="hemmelig-men-lang-nok")
    olav = employ(service, "Olav Operatør")
    sender = f"{unique('x')[2:]}@eksempel.no"
    refs = {
        name: desk.open(write_in(service, *text, sender=sender if name == "closed" else ""))["ref"]
        for name, text in {
            "free": (unique("Veldig lang sak om " + "kommunestyrerepresentant" * 4),),
            "held": (),
            "closed": (),
            "waste": (unique("Søppel"), "Søppelkassen vår er ikke tømt. Hilsen 010180 12345"),
            "emergency": (unique("Brann"), EMERGENCY),
        }.items()
    }
    return siv, olav, refs


def queue(page, _):
    page.goto("/desk/queue")


def empty_queue(page, _):
    page.goto("/desk/queue?q=finnesikke")


PAGES = {"queue": queue, "empty queue": empty_queue}


@pytest.mark.parametrize("name", PAGES)
def test_anybody_can_use(name, house, visitors, service):
    siv, _, refs = house
    page = visitors.staff(siv)
    PAGES[name](page, refs)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    import time

    out = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)
            t = time.time()
            r = page.evaluate(SCAN, TAGS)
            print(scheme, size, time.time() - t, r, page.evaluate(TOO_WIDE))
            out += r
    assert 0
