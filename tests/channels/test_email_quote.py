"""Where new text ends and quoted history begins, by what Norwegian mailboxes really contain."""

# ruff: noqa: E501 - one row, one case
from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.email.quote import fold

HISTORY = [
    # Gmail
    "tir. 3. mars 2026 kl. 10:15 skrev Sørum kommune <post@sorum.example>:\n\n> Hei Kari.\n> Takk.",
    "Den tir. 3. mars 2026 kl. 10:15 skrev Sørum kommune <post@sorum.example>:\n\n> Hei",
    "Den tir. 3. mars 2026 kl. 10:15 skrev Sørum kommune <\npost@sorum.example>:\n\n> Hei",
    "Den tirsdag 3. mars 2026 skrev Sørum kommune, Servicetorget og\nforvaltning <post@sorum.example\n>:\n> Hei",
    "tys. 3. mars 2026 kl. 10:15 skreiv Sørum kommune <post@sorum.example>:\n> Hei",
    "Den tys. 3. mars 2026 kl. 10:15 skreiv Sørum kommune <post@sorum.example>:\n> Hei",
    "2026-03-03 10:15 GMT+01:00 Sørum kommune <post@sorum.example>:\n\n> Hei",
    "On Tue, Mar 3, 2026 at 10:15 AM Sørum kommune <post@sorum.example> wrote:\n> Hei",
    "On Tue, 3 Mar 2026 at 10:15, Sørum kommune <post@sorum.example>\nwrote:\n\n> Hei",
    "Den tirs. 3. mar. 2026 kl. 10.15 skrev Sørum kommune <post@sorum.example>:\n> Hej",
    "Den tis 3 mars 2026 kl 10:15 skrev Sørum kommune <post@sorum.example>:\n> Hej",
    # Apple Mail
    "> 3. mars 2026 kl. 10:15 skrev Sørum kommune <post@sorum.example>:\n> \n> Hei",
    "> Den 3. mars 2026 kl. 10:15 skrev Sørum kommune <post@sorum.example>:\n> \n> Hei",
    "3. mars 2026 kl. 10:15 skreiv Sørum kommune <post@sorum.example>:\n\n> Hei",
    "On 3 Mar 2026, at 10:15, Sørum kommune <post@sorum.example> wrote:\n\n> Hei",
    "3 mars 2026 kl. 10:15 skrev Sørum kommune <post@sorum.example>:\n\n> Hej",
    # Thunderbird
    "Den 03.03.2026 10:15, skrev Sørum kommune:\n> Hei",
    "Den 03.03.2026 10:15, skreiv Sørum kommune:\n> Hei",
    "On 03/03/2026 10:15, Sørum kommune wrote:\n> Hei",
    "Sørum kommune skrev den 03.03.2026 10:15:\n> Hei",
    # without quote marks, as HTML turned into text
    "Den 3. mars 2026 kl. 10:15 skrev Sørum kommune:\nHei Kari.\nTakk for henvendelsen.",
    # Outlook
    "Fra: Sørum kommune <post@sorum.example>\nSendt: tirsdag 3. mars 2026 10:15\nTil: Kari <kari@eksempel.no>\nEmne: SV: Søknad\n\nHei",
    "________________________________\nFra: Sørum kommune <post@sorum.example>\nSendt: tirsdag 3. mars 2026 10:15\nTil: Kari\nEmne: SV: Søknad\n\nHei",
    "________________________________________\n\nFra: Sørum kommune\nSendt: tirsdag 3. mars 2026 10:15\nEmne: SV: Søknad\n\nHei",
    "*Fra:* Sørum kommune <post@sorum.example>\n*Sendt:* tirsdag 3. mars 2026 10:15\n*Til:* Kari\n*Emne:* Søknad\n\nHei",
    "Fra: Sørum kommune\nDato: tirsdag 3. mars 2026 kl. 10:15\nTil: Kari\nKopi: Ola\nEmne: Søknad\n\nHei",
    "Frå: Sørum kommune\nSendt: tysdag 3. mars 2026 10:15\nTil: Kari\nEmne: Søknad\n\nHei",
    "Fra: Sørum kommune\nSendt: tirsdag 3. mars 2026 10:15\nTil: Kari <kari@eksempel.no>; Ola <ola@eksempel.no>;\n Per <per@eksempel.no>\nKopi: Post\nEmne: Søknad\n\nHei",
    "From: Sørum kommune <post@sorum.example>\nSent: Tuesday, March 3, 2026 10:15\nTo: Kari\nSubject: RE: x\n\nHei",
    "Från: Sørum kommune\nSkickat: den 3 mars 2026 10:15\nTill: Kari\nÄmne: x\n\nHej",
    "Fra: Sørum kommune\nSendt: 3. marts 2026 10:15\nTil: Kari\nEmne: x\n\nHej",
    "-----Opprinnelig melding-----\nFra: Sørum kommune\nSendt: tirsdag\n\nHei",
    "----- Opprinnelig melding -----\nHei",
    "-----Opprinneleg melding-----\nHei",
    "-----Original Message-----\nHei",
    "-----Oprindelig meddelelse-----\nHej",
    "-----Ursprungligt meddelande-----\nHej",
    "---------- Forwarded message ---------\nFra: Ola <ola@eksempel.no>\nHei",
    "---------- Videresendt melding ----------\nHei",
    "Begin forwarded message:\n\nHei",
    "Start på videresendt melding:\n\nHei",
    # quote marks alone
    "> Hei Kari.\n>\n> Takk for henvendelsen.",
    ">> Eldre\n> Hei",
    # phones
    "Sendt fra min iPhone",
    "Sendt frå min iPhone",
    "Sendt fra min iPhone\n\n> 3. mars 2026 kl. 10:15 skrev Sørum kommune <post@sorum.example>:\n> \n> Hei",
    "Sendt fra Outlook for iOS<https://aka.ms/o0ukef>\n________________________________\nFra: Sørum kommune <post@sorum.example>\nSendt: tirsdag 3. mars 2026 10:15\nEmne: x\n\nHei",
    "Hent Outlook for Android<https://aka.ms/AAb9ysg>",
    "Hent Outlook for iOS\n<https://aka.ms/o0ukef>",
    "Sendt fra Yahoo Mail på Android",
    "Sendt fra min Galaxy-smarttelefon",
    "Sendt fra E-post for Windows",
    "Sent from my iPhone",
    "Sent from Mail for Windows 10",
    "Skickat från min iPhone",
    "Sendt fra min Huawei-mobil",
]  # fmt: skip


@pytest.mark.parametrize("history", HISTORY)
def test_what_programs_put_below_is_folded(history: str) -> None:
    new = "Hei igjen.\n\nKan jeg få svar innen fredag?\n\nHilsen Kari"
    assert fold(f"{new}\n\n{history}") == (new, history)


PEOPLE = [
    "",
    "Hei",
    "Fra: Storgata 1\nTil: Lillegata 2\n\nVi flytter altså.",
    "Fra: meg\nTil: dere\nHei!",
    "Reisen var slik:\nFra: Oslo\nTil: Bergen\nDato: 3. mars\nPris: 500 kr",
    "Den 3. mars kl. 10.15 skrev jeg til dere:\nhar dere svart?",
    "Den 3. mars 2026 skrev vi en søknad:\nden er ikke besvart.",
    "I brevet dere skrev 3. mars 2026 kl. 12:00 står det:\nat jeg må betale.",
    "Jeg skrev den 03.03.2026 10:15 følgende:\nHei",
    "On Tuesday 3 March at 10:15 I wrote:\nplease help",
    "Emne: Søknad\nJeg vil klage.",
    "Til: byggesak\nEmne: klage\n\nHei",
    "Sendt fra Posten i går, men ikke kommet fram ennå hos oss",
    "Pakken ble sendt fra min bror.",
    "--\nKari Nordmann\nTlf. 99 88 77 66",
    "Punkter:\n- en\n- to\n----\nSlutt",
    "Opprinnelig melding om skaden ligger ved.",
    "Dato: 3. mars\nSted: Sørumsand",
]


@pytest.mark.parametrize("text", PEOPLE)
def test_what_people_write_is_not_folded(text: str) -> None:
    assert fold(text) == (text, "")


def test_answers_between_the_quoted_lines_stay_in_sight() -> None:
    text = (
        "Se svar under.\n\nDen 3. mars 2026 kl. 10:15 skrev Sørum kommune <post@sorum.example>:\n"
        "> Hva heter du?\n\nKari\n\n> Hvor bor du?\n\nStorgata 1\n\n> Hilsen kommunen"
    )
    visible, history = fold(text)
    assert "Storgata 1" in visible
    assert "> Hvor bor du?" in visible
    assert history == "> Hilsen kommunen"


def test_an_answer_below_the_quote_stays_in_sight() -> None:
    text = "Den 3. mars 2026 kl. 10:15 skrev Sørum kommune <post@sorum.example>:\n> Hva heter du?\n> Hilsen oss\n\nJeg heter Kari."
    visible, history = fold(text)
    assert visible.strip() == "Jeg heter Kari."
    assert history.startswith("Den 3. mars")


def test_a_signature_below_the_quote_is_no_answer() -> None:
    quote = (
        "Den 3. mars 2026 kl. 10:15 skrev Sørum kommune <post@sorum.example>:\n> Hei\n\n-- \nKari"
    )
    assert fold(f"Ja takk.\n\n{quote}") == ("Ja takk.", quote)


@pytest.mark.parametrize("history", HISTORY)
def test_when_nothing_is_new_everything_is_shown(history: str) -> None:
    assert fold(history) == (history, "")


@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            st.sampled_from([line for block in HISTORY + PEOPLE for line in block.split("\n")]),
        ),
        max_size=15,
    )
)
def test_no_line_is_ever_lost(lines: list[str]) -> None:
    text = "\n".join(lines)
    visible, history = fold(text)
    both = [line.strip() for line in f"{visible}\n{history}".split("\n") if line.strip()]
    assert sorted(both) == sorted(line.strip() for line in text.split("\n") if line.strip())
    assert visible.strip() or not text.strip()


@pytest.mark.thorough
@pytest.mark.parametrize(
    "line",
    ["Den ", "Den 3. mars 2026 skrev Kari", "Fra: a@b.no\n", "> x\n", "-", "_" * 40 + "\n", "Sendt fra min ", "\n", "*Fra:* ", "skrev ", ">" * 50, "2026-03-03 10:15 <a@b.no>", "On " * 3],
)  # fmt: skip
def test_any_repetition_is_folded_in_linear_time(line: str) -> None:
    text = (line * (200_000 // len(line)))[:200_000]
    start = time.process_time()
    fold(text)
    fold(text.replace(" ", "\n"))
    assert time.process_time() - start < 1.5
