"""One mailbox, however its address is written."""

from __future__ import annotations

import pytest

from channels.email.addresses import OwnAddresses, RecipientVerdict, mailbox, normalise

OWN = OwnAddresses(frozenset({"postmottak@sorum.kommune.no"}), frozenset({"sorum.kommune.no"}))


@pytest.mark.parametrize(
    ("written", "simplest"),
    [
        ("Kari@Eksempel.NO", "kari@eksempel.no"),
        ('"kari"@eksempel.no', "kari@eksempel.no"),
        ('"k\\ar\\i"@eksempel.no', "kari@eksempel.no"),
        ('"kari.n+x"@eksempel.no', "kari.n+x@eksempel.no"),
        ('"kari n"@eksempel.no', '"kari n"@eksempel.no'),
        ('"ka\\ri\\ n"@eksempel.no', '"kari n"@eksempel.no'),
        ('"a\\@b"@eksempel.no', '"a@b"@eksempel.no'),
        (r'"a\"\\b"@eksempel.no', r'"a\"\\b"@eksempel.no'),
        ('".kari"@eksempel.no', '".kari"@eksempel.no'),
        ('""@eksempel.no', ""),
        ("kari@eksempel.no.", "kari@eksempel.no"),
        ("kari@.", ""),
        ("kari@\uff45ksempel.no", "kari@eksempel.no"),
        ("kari@eksempel\u3002no", "kari@eksempel.no"),
        ("kari@SØRUM.no", "kari@sørum.no"),
        ("kari@annen\uff20eksempel.no", ""),
        ("kari", ""),
    ],
)
def test_an_address_is_written_in_the_simplest_way(written, simplest):
    assert normalise(written) == simplest
    assert normalise(simplest) == simplest


@pytest.mark.parametrize(
    "written",
    [
        "kari+1@sørum.no",
        '"k\\ari+2"@sørum.no',
        "KARI@xn--srum-gra.no.",
        "kari@sørum.no",
        '"kari"@sørum.no',
    ],
)
def test_all_spellings_lead_to_one_mailbox(written):
    assert mailbox(written) == "kari@xn--srum-gra.no"


@pytest.mark.parametrize("value", ["+4798765432", "", "skjema"])
def test_what_is_no_address_stays_as_it_is(value):
    assert mailbox(value) == value


def test_different_people_have_different_mailboxes():
    written = ["kari@a.no", "kari@b.no", "kar@a.no", "+kari@a.no", "+ola@a.no", '"kari n"@a.no']
    assert len({mailbox(one) for one in written}) == len(written)


def test_a_quoted_recipient_is_the_one_it_names():
    for written in ('"postmottak"@sorum.kommune.no', '"Post\\mottak+sak"@sorum.kommune.no'):
        assert OWN.verdict(written) is RecipientVerdict.ACCEPTED
        assert OWN.base(written) == "postmottak@sorum.kommune.no"
    assert OWN.token('"svar+a-b"@sorum.kommune.no') == "a-b"
    assert OWN.is_return('"retur+a-b"@sorum.kommune.no')
    assert OWN.verdict('"ukjent"@sorum.kommune.no') is RecipientVerdict.UNKNOWN
