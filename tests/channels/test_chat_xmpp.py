"""Stanzas as they come from any client, and ours as any client reads them. No server here."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.chat import xmpp
from channels.chat.xmpp_door import (
    ERRORS_PER_MINUTE,
    Pace,
    XmppChannel,
    message_id,
    stanza_id,
)
from channels.chat.xmpp_words import WORDS, words
from tests.channels.contract import XmppHouse, open_xmpp

DOMAIN = "sentralbord.kommune.test"
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
RECEIPTS = "urn:xmpp:receipts"


def stanza(inner="<body>Hei</body>", **attributes):
    given = {
        "from": "kari@x.test/telefon",
        "to": f"vei@{DOMAIN}",
        "id": "a1",
        "type": "chat",
    } | {name.rstrip("_"): value for name, value in attributes.items()}
    written = "".join(f' {name}="{value}"' for name, value in given.items() if value is not None)
    return ET.fromstring(f"<message xmlns='jabber:component:accept'{written}>{inner}</message>")


def read(*inner, **attributes):
    return xmpp.read(stanza(*inner, **attributes), DOMAIN)


def test_a_message_says_who_wrote_what_to_which_address():
    said = read(
        f"<body>Hei\r\n&amp; god dag </body><request xmlns='{RECEIPTS}'/>"
        "<nick xmlns='http://jabber.org/protocol/nick'>Kari  N</nick>"
        "<delay xmlns='urn:xmpp:delay' stamp='2026-11-23T07:00:00Z'/>",
        from_="Kari@X.test/telefon",
        to=f"VEI@{DOMAIN}/x",
    )
    assert (said.jid, said.local, said.id) == ("kari@x.test", "vei", "a1")
    assert said.sender == "Kari@X.test/telefon"
    assert said.text == "Hei\n& god dag"
    assert (said.name, said.wants_receipt) == ("Kari N", True)
    assert said.sent_at == datetime(2026, 11, 23, 7, tzinfo=UTC)


def test_the_same_message_again_is_the_same_and_nothing_else_is():
    first = read()
    assert read(from_="kari@x.test/pc").key == first.key  # sent again from another device
    for other in (
        read("<body>Hei!</body>"),  # a client that counts its ids begins anew
        read(id="a2"),
        read(from_="ola@x.test/telefon"),
        read(to=f"skole@{DOMAIN}"),
        read("<body>Hei</body><origin-id xmlns='urn:xmpp:sid:0' id='b'/>"),
    ):
        assert other.key != first.key
    assert read(id=None).key != read(id=None).key  # nothing to know it by


@pytest.mark.parametrize(
    ("inner", "attributes"),
    [
        ("<body>Hei</body>", {"type": "groupchat"}),
        ("<body>Hei</body>", {"type": "headline"}),
        ("<body>Hei</body>", {"from_": f"skole@{DOMAIN}/x"}),
        ("<body>Hei</body>", {"from_": DOMAIN}),
        ("<body>Hei</body>", {"from_": "x.test"}),
        ("<body>Hei</body>", {"from_": None}),
        ("<body> \n </body>", {}),
        ("<active xmlns='http://jabber.org/protocol/chatstates'/>", {}),
        ("<event xmlns='http://jabber.org/protocol/pubsub#event'/>", {}),
        ("<html xmlns='http://jabber.org/protocol/xhtml-im'><body>&lt;</body></html>", {}),
        ("<x xmlns='jabber:x:conference' jid='rom@x.test'/><body>Bli med</body>", {}),
        ("<x xmlns='http://jabber.org/protocol/muc#user'><invite/></x><body>Hei</body>", {}),
        ("<reactions xmlns='urn:xmpp:reactions:0' id='a0'/><body>&gt; Hei</body>", {}),
        ("", {"type": "error"}),
    ],
)
def test_what_is_nobodys_message_is_none(inner, attributes):
    assert read(inner, **attributes) is None


@pytest.mark.parametrize(
    "stamp", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "i går"]
)
def test_a_time_that_cannot_be_costs_no_message(stamp):
    said = read(f"<body>Hei</body><delay xmlns='urn:xmpp:delay' stamp='{stamp}'/>")
    assert (said.text, said.sent_at) == ("Hei", None)


def test_formatting_is_not_read_and_a_link_beside_no_words_is_shown_as_one():
    formatted = "<html xmlns='http://jabber.org/protocol/xhtml-im'><body><b>Uhu</b></body></html>"
    assert read(f"<body>Hei</body>{formatted}").text == "Hei"
    link = "<x xmlns='jabber:x:oob'><url>https://x.test/bilde.jpg</url></x>"
    assert read(link).text == "https://x.test/bilde.jpg"
    assert read(f"<body>Se her</body>{link}").text == "Se her"


@pytest.mark.parametrize(
    ("inner", "word"),
    [
        (f"<body>{'x' * 4001}</body>", "too_long"),
        (f"<body>{'æ' * 260_000}</body>", "too_long"),
        (
            "<body>I sent you an encrypted message</body>"
            "<encrypted xmlns='eu.siacs.conversations.axolotl'/>",
            "encrypted",
        ),
        ("<encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:otr:0'/>", "encrypted"),
        (
            "<retract xmlns='urn:xmpp:message-retract:1' id='a0'/>"
            "<body>This person attempted to retract a previous message</body>",
            "retracted",
        ),
    ],
)
def test_what_cannot_be_taken_is_known_by_its_reason(inner, word):
    refused = read(inner)
    assert (refused.condition, refused.word) == ("not-acceptable", word)
    assert word in WORDS


def test_receipts_errors_and_signs_of_writing():
    assert read(f"<received xmlns='{RECEIPTS}' id='vår'/>") == xmpp.Delivered("vår", "kari@x.test")
    error = (
        "<error type='{}'><{} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>x</text></error><body>Hei</body>"
    )
    returned = read(error.format("cancel", "item-not-found"), type="error")
    assert returned == xmpp.Returned("a1", "kari@x.test", "item-not-found", temporary=False)
    policy = read(error.format("wait", "policy-violation"), type="error", from_="x.test")
    assert policy == xmpp.Returned("a1", "x.test", "policy-violation", temporary=True)
    composing = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
    assert read(composing) == xmpp.Composing("kari@x.test", "vei")


@pytest.mark.parametrize(
    ("value", "bare"),
    [
        ("Kari@X.test/telefon", "kari@x.test"),
        ("kåre@sørum.test", "kåre@sørum.test"),
        (f"a/b@{DOMAIN}", ""),
        (f"x@y@{DOMAIN}", ""),
        ("kari", ""),
        ("", ""),
        ("@x.test", ""),
        ("kari@", ""),
        ("kari@..", ""),
        ("ka ri@x.test", ""),
        ("<kari@x.test>", ""),
        ("kari@x.test\n", "kari@x.test"),
        ("kari@x.te st", ""),
        (f"{'k' * 300}@x.test", ""),
    ],
)
def test_addresses_are_what_they_are_and_nothing_that_looks_alike(value, bare):
    assert xmpp.bare_jid(value) == bare


@pytest.mark.parametrize(
    ("local", "ref"),
    [
        ("sak-s-2026-000123", "S-2026-000123"),
        ("sak-s-2026-1", ""),
        ("sak-", ""),
        ("sak-s-2026-000123x", ""),
        ("xsak-s-2026-000123", ""),
    ],
)
def test_the_address_of_an_inquiry_names_it(local, ref):
    assert xmpp.case_of(local) == ref
    assert not ref or xmpp.case_address(ref) == local


@given(st.text())
def test_whatever_somebody_writes_makes_one_well_formed_stanza(text):
    """A character that XML has no room for would end the stream, and with it all others."""
    text = text.encode("utf-8", "replace").decode()
    for made in (
        xmpp.message("kari@x.test", f"vei@{DOMAIN}", "1", text, "nb"),
        xmpp.error("kari@x.test", DOMAIN, text, "not-acceptable", text),
    ):
        root = ET.fromstring(made.replace("<message", "<message xmlns='jabber:client'", 1))
        assert root.get("to") == "kari@x.test"
        assert len(root.findall(".//{jabber:client}body")) <= 1


def test_a_message_is_a_chat_when_it_is_read_back_from_the_journal():
    said = read("<body>Hull i veien\nved skolen</body>")
    arrival = xmpp.arrival(said, "vei", NOW)
    assert (arrival.channel, arrival.external_id) == ("xmpp", said.key)
    incoming = xmpp.parse(arrival.raw, arrival.envelope, arrival.external_id)
    assert (incoming.channel, incoming.subject) == ("chat", "Hull i veien")
    assert (incoming.jid, incoming.local, incoming.department) == ("kari@x.test", "vei", "vei")
    assert incoming.sender is None  # it is no e-mail address
    assert incoming.sender_said == "kari"


def test_one_who_writes_too_fast_waits_and_the_others_do_not():
    now = 0.0
    pace = Pace(20, 60, lambda: now)
    assert [pace.allows("kari") for _ in range(21)] == [True] * 20 + [False]
    assert pace.allows("ola")
    now = 3.0
    assert [pace.allows("kari"), pace.allows("kari")] == [True, False]
    for number in range(20_000):
        pace.allows(f"fremmed {number}")
    assert len(pace._buckets) <= 10_000


def test_words_are_there_in_every_language_and_bokmal_for_the_others():
    assert {frozenset(texts) for texts in WORDS.values()} == {frozenset({"nb", "nn", "en"})}
    assert words("busy", "pl") == words("busy", "nb") != words("busy", "en")


def test_the_id_of_a_stanza_is_that_of_its_message():
    assert message_id(stanza_id("<a.b@sorum.example>")) == "<a.b@sorum.example>"


async def test_many_addresses_of_one_domain_get_no_more_than_the_domain_may_have():
    async with AsyncExitStack() as stack:
        house = XmppHouse()
        limits = {"domain_messages_per_minute": 5, "own_domains": frozenset({"kommune.test"})}
        server, _door = await open_xmpp(stack, XmppChannel, house, **limits)

        async def bring(number, domain):
            return await server.bring(
                f"{domain}{number}", "<body>Hei</body>", sender=f"n{number}@{domain}"
            )

        assert [await bring(number, "mange.test") for number in range(7)] == [
            *["receipt"] * 5,
            *["wait"] * 2,
        ]
        assert house.counted["policy-violation"] == 2
        assert await bring(1, "andre.test") == "receipt"
        assert {await bring(number, "kommune.test") for number in range(20)} == {"receipt"}


async def test_strangers_of_one_domain_are_held_and_who_has_a_talk_goes_on():
    async with AsyncExitStack() as stack:
        house = XmppHouse(known={"kjent@mange.test"})
        server, _door = await open_xmpp(stack, XmppChannel, house, domain_newcomers_per_hour=3)

        async def bring(who, text):
            return await server.bring(
                f"{who}{text}", f"<body>{text}</body>", sender=f"{who}@mange.test"
            )

        answers = [await bring(f"ny{number}", "Hei") for number in range(5)]
        assert answers == [*["receipt"] * 3, *["wait"] * 2]
        assert await bring("ny1", "En ting til") == "receipt"
        assert await bring("kjent", "Er du der?") == "receipt"
        assert await bring("ny4", "Slipp meg inn") == "wait"
        assert len(house.kept) == 5


async def test_what_somebody_says_first_and_next_is_kept_in_that_order():
    async with AsyncExitStack() as stack:
        house = XmppHouse()
        server, _door = await open_xmpp(stack, XmppChannel, house)
        words = [f"Linje {number}" for number in range(20)]
        await asyncio.gather(*(server.bring(one, f"<body>{one}</body>") for one in words))
        assert list(house.kept.values()) == words


async def test_a_program_that_answers_errors_with_messages_does_not_go_on_for_ever():
    async with AsyncExitStack() as stack:
        server, _door = await open_xmpp(stack, XmppChannel, XmppHouse())
        wrong = [
            asyncio.create_task(server.bring(f"{number}", "<body>Auto</body>", to="ingen"))
            for number in range(2 * ERRORS_PER_MINUTE)
        ]
        await asyncio.sleep(0)  # they are written in their turn, before what follows
        assert await server.bring("riktig", "<body>Hei</body>") == "receipt"
        told = [task for task in wrong if task.done()]
        assert ERRORS_PER_MINUTE <= len(told) < 1.5 * ERRORS_PER_MINUTE
        for task in wrong:
            task.cancel()
