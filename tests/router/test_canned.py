"""Ready texts: their variables are checked at the start, and filled in where one writes."""

from __future__ import annotations

import html
import re

import pytest

from router import canned
from router.settings import load_settings
from rules.document import DocumentError
from tests.router.chat_house import visitor
from tests.router.store_house import REPOSITORY
from tests.router.web_house import PASSWORD, house

VALUES = {
    "name": "Kari",
    "ref": "S-2026-000001",
    "due": "torsdag",
    "department": "Vei",
    "operator": "Siv",
}


@pytest.mark.parametrize(
    ("text", "filled", "without_name"),
    [
        ("Hei, {name}! Jeg er {operator}.", "Hei, Kari! Jeg er Siv.", "Hei! Jeg er Siv."),
        ("Er du her, {name}? Svar.", "Er du her, Kari? Svar.", "Er du her? Svar."),
        ("{name}, saken er {ref}.", "Kari, saken er S-2026-000001.", ", saken er S-2026-000001."),
        ("Uten noe", "Uten noe", "Uten noe"),
        ("{department} svarer {due}", "Vei svarer torsdag", "Vei svarer torsdag"),
    ],
)
def test_blanks_are_filled_and_what_is_not_known_leaves_no_trace(text, filled, without_name):
    assert canned.fill(text, VALUES) == filled
    assert canned.fill(text, VALUES | {"name": ""}) == without_name


def test_a_value_with_braces_is_no_variable():
    assert canned.fill("Hei, {name}!", VALUES | {"name": "{ref}"}) == "Hei, {ref}!"


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("Hei, {name}!", "Hei, {nam}!", "«{nam}».*mente du «name»"),
        ("Hei, {name}!", "Hei, {}!", "«{}»"),
        ("Hei, {name}!", "Hei, {name!", "krøllparentes"),
        ("Hei, {name}!", "Hei, name}!", "krøllparentes"),
        ("- name: Vente litt", "- name: Hilse", "to ganger"),
        ("- name: Vente litt", "- departments: [veii]\n    name: Vente litt", "«veii».*«vei»"),
        ("- name: Vente litt", "- avdeling: vei\n    name: Vente litt", "avdeling"),
    ],
)
def test_a_text_that_cannot_be_filled_stops_the_start_with_its_line(
    tmp_path, before, after, complaint
):
    text = (REPOSITORY / "config.yaml").read_text(encoding="utf-8")
    assert before in text
    config = tmp_path / "config.yaml"
    config.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(DocumentError) as refused:
        load_settings(config, {"SENTRALBORD_RULES__FOLDER": str(REPOSITORY / "rules" / "sorum")})
    said = refused.value.text("nb")
    assert re.search(complaint, said), said
    line = int(re.search(r"config\.yaml:(\d+)", said)[1])
    near = config.read_text(encoding="utf-8").splitlines()[line - 2 : line + 1]
    assert any(part in "\n".join(near) for part in (after.splitlines()[0], "Hilse", "veii"))


def test_what_is_for_one_department_is_offered_to_it_alone():
    settings = load_settings(REPOSITORY / "config.yaml", {})
    [first, *others] = settings.canned_texts
    narrowed = [first.model_copy(update={"departments": ("vei",)}), *others]
    assert canned.offered(narrowed, "vei") == narrowed
    assert canned.offered(narrowed, "skole") == others


@pytest.mark.parametrize(
    ("language", "words"),
    [("nn", "Hei, Kari! Eg heiter Siv."), ("en", "Hello, Kari! My name is Siv.")],
)
async def test_they_stand_where_one_writes_in_the_residents_language(tmp_path, language, words):
    async with house(tmp_path) as home:
        await home.person("siv")
        await home.sign_in("siv", PASSWORD)
        resident = await visitor(home, "Hei", language=language)
        await resident.post("contact", {"name": "Kari Nordmann", "email": "kari@eksempel.no"})
        ref = resident.inquiry().ref
        for page in (f"/desk/chats/{ref}", f"/desk/inquiries/{ref}"):
            answer = await home.client.get(page)
            assert answer.status_code == 200
            assert words in html.unescape(answer.text), page
