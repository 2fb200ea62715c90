"""One person by several addresses: merged, split, undone exactly, and threads that follow."""

import random

import pytest

from router import merging, threads
from router.access import Actor
from router.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from router.merging import Card, Found
from router.models import ContactMerge, Role
from tests.router.store_house import House, house
from tests.service import mail, unique

KARI, KNUT = "kari@eksempel.no", "knut@eksempel.no"


@pytest.fixture
def town(tmp_path):
    with house(tmp_path) as opened:
        yield opened


@pytest.fixture
def siv(town: House) -> Actor:
    return town.person("siv", Role.OPERATOR)


def contact(town: House, value: str) -> int:
    return town.count("SELECT contact_id FROM address WHERE value = :value", value=value)


def owner(town: House, ref: str) -> int:
    return town.count("SELECT contact_id FROM inquiry WHERE ref = :ref", ref=ref)


def belongings(town: House) -> tuple[list[tuple], ...]:
    """Every address and inquiry with its contact, and the contacts."""
    return (
        town.rows("SELECT id, contact_id, channel, value, name FROM address ORDER BY id"),
        town.rows("SELECT id, contact_id FROM inquiry ORDER BY id"),
    )


def card(town: House, actor: Actor, number: int) -> Card:
    with town.db.read() as session:
        return merging.card(session, actor, number)


def search(town: House, actor: Actor, text: str, but: int = 0) -> list[Found]:
    with town.db.read() as session:
        return merging.search(session, actor, text, but)


def merge(town: House, actor: Actor, kept: str | int, merged: str | int) -> ContactMerge:
    one, other = (contact(town, who) if isinstance(who, str) else who for who in (kept, merged))
    return town.write(lambda s: merging.merge(s, actor, one, other, town.clock()))


def split(town: House, actor: Actor, value: str) -> ContactMerge:
    [(owner, address)] = town.rows(
        "SELECT contact_id, id FROM address WHERE value = :value", value=value
    )
    return town.write(lambda s: merging.split(s, actor, owner, address, town.clock()))


def undo(town: House, actor: Actor, done: ContactMerge | int) -> ContactMerge:
    number = done if isinstance(done, int) else done.id or 0
    return town.write(lambda s: merging.undo(s, actor, number, town.clock()))


class TestMerge:
    def test_one_contact_has_it_all(self, town, siv) -> None:
        refs = [town.ask(sender=KARI), town.ask(sender=KNUT), town.ask(sender=KARI)]
        merge(town, siv, KARI, KNUT)
        seen = card(town, siv, contact(town, KARI))
        assert [address.value for address in seen.addresses] == [KARI, KNUT]
        assert [row.ref for row in seen.inquiries] == refs[::-1]
        [done] = seen.moves
        assert (done.staff_name, done.split, done.here, done.addresses) == (
            "Siv",
            False,
            True,
            [KNUT],
        )
        assert town.events(refs[1])[-1] == "contact_merged"
        assert "contact_merged" not in town.events(refs[0])

    def test_it_leads_on_from_the_old_one(self, town, siv) -> None:
        for sender in (KARI, KNUT, "tredje@eksempel.no"):
            town.ask(sender=sender)
        first, second = contact(town, KARI), contact(town, KNUT)
        third = contact(town, "tredje@eksempel.no")
        merge(town, siv, KARI, KNUT)
        merge(town, siv, third, first)
        with town.db.read() as session:
            for number in (first, second, third):
                assert merging.now_part_of(session, number) == third
            assert merging.now_part_of(session, 999) == 999

    def test_new_mail_finds_its_way(self, town, siv) -> None:
        town.ask(sender=KARI)
        town.ask(sender=KNUT)
        merge(town, siv, KARI, KNUT)
        assert owner(town, town.ask(sender=KNUT)) == contact(town, KARI)
        assert town.count("SELECT count(*) FROM contact") == 2

    @pytest.mark.parametrize("role", [Role.MEMBER, Role.LEAD])
    def test_only_who_sees_all_may(self, town, siv, role) -> None:
        town.ask(sender=KARI)
        town.ask(sender=KNUT)
        vera = town.person("vera", role, "vei")
        done = merge(town, siv, KARI, KNUT)
        for attempt in (
            lambda: merge(town, vera, KARI, KNUT),
            lambda: split(town, vera, KNUT),
            lambda: undo(town, vera, done),
            lambda: search(town, vera, "kari"),
        ):
            with pytest.raises(ForbiddenError):
                attempt()

    def test_what_cannot_be_one_person(self, town, siv) -> None:
        town.ask(sender=KARI)
        town.ask(sender=KNUT)
        with pytest.raises(InvalidError):
            merge(town, siv, KARI, KARI)
        with pytest.raises(NotFoundError):
            merge(town, siv, KARI, 999)
        gone = contact(town, KNUT)
        merge(town, siv, KARI, KNUT)
        for kept, merged in ((KARI, gone), (gone, KARI)):
            with pytest.raises(InvalidError):
                merge(town, siv, kept, merged)

    def test_who_hides_their_number_is_nobody(self, town, siv) -> None:
        """Two anonymous callers: no contact, so nothing that could be merged."""
        town.ask(sender=KARI)
        refs = [town.ask(sender="<>", mail_from="") for _ in range(2)]
        owners = town.rows(
            "SELECT contact_id FROM inquiry WHERE ref IN (:a, :b)", a=refs[0], b=refs[1]
        )
        assert owners == [(None,), (None,)]
        assert town.count("SELECT count(*) FROM contact") == 1


class TestSplit:
    def test_an_address_leaves_with_what_was_opened_from_it(self, town, siv) -> None:
        mine, theirs = town.ask(sender=KARI), town.ask(sender=KNUT)
        merge(town, siv, KARI, KNUT)
        town.clock.move(minutes=5)
        later = town.ask(sender=KNUT)
        split(town, siv, KNUT)
        assert contact(town, KARI) != contact(town, KNUT)
        assert owner(town, mine) == contact(town, KARI)
        assert owner(town, theirs) == owner(town, later) == contact(town, KNUT)
        assert town.events(theirs)[-1] == "contact_split"
        assert card(town, siv, contact(town, KNUT)).moves[0].split

    def test_not_the_only_one_and_not_anothers(self, town, siv) -> None:
        town.ask(sender=KARI)
        town.ask(sender=KNUT)
        with pytest.raises(InvalidError):
            split(town, siv, KARI)
        [(address,)] = town.rows("SELECT id FROM address WHERE value = :v", v=KNUT)
        with pytest.raises(NotFoundError):
            town.write(lambda s: merging.split(s, siv, contact(town, KARI), address, town.clock()))


class TestUndo:
    def test_all_is_as_it_was(self, town, siv) -> None:
        for sender in (KARI, KNUT, KARI, KNUT):
            town.ask(sender=sender)
        before = belongings(town)
        done = merge(town, siv, KARI, KNUT)
        apart = split(town, siv, KARI)
        assert belongings(town) != before
        undo(town, siv, apart)
        undo(town, siv, done)
        assert belongings(town) == before
        assert undo(town, siv, done).undone_at == town.clock()
        assert belongings(town) == before

    def test_what_came_since_follows_its_address(self, town, siv) -> None:
        town.ask(sender=KARI)
        town.ask(sender=KNUT)
        done = merge(town, siv, KARI, KNUT)
        mine, theirs = town.ask(sender=KARI), town.ask(sender=KNUT)
        undo(town, siv, done)
        assert owner(town, mine) == contact(town, KARI)
        assert owner(town, theirs) == contact(town, KNUT)
        assert town.events(theirs)[-1] == "contact_restored"

    def test_the_later_change_goes_first(self, town, siv) -> None:
        third = "tredje@eksempel.no"
        for sender in (KARI, KNUT, third):
            town.ask(sender=sender)
        before = belongings(town)
        first = merge(town, siv, KARI, KNUT)
        second = merge(town, siv, third, KARI)
        with pytest.raises(ConflictError):
            undo(town, siv, first)
        undo(town, siv, second)
        undo(town, siv, first)
        assert belongings(town) == before

    def test_of_what_never_was(self, town, siv) -> None:
        with pytest.raises(NotFoundError):
            undo(town, siv, 999)

    @pytest.mark.parametrize("seed", range(8))
    def test_any_story_taken_back_in_reverse_leaves_no_trace(self, town, siv, seed) -> None:
        chance = random.Random(seed)
        senders = [f"{letter}@eksempel.no" for letter in "abcde"]
        for _ in range(8):
            town.ask(sender=chance.choice(senders))
        known = [value for (value,) in town.rows("SELECT value FROM address ORDER BY id")]
        before, stack = belongings(town), []
        for _ in range(12):
            one, other = chance.choice(known), chance.choice(known)
            try:
                if chance.random() < 0.6:
                    stack.append((belongings(town), merge(town, siv, one, other)))
                else:
                    stack.append((belongings(town), split(town, siv, one)))
            except InvalidError:
                continue
        for was, done in reversed(stack):
            undo(town, siv, done)
            assert belongings(town) == was
        assert belongings(town) == before


class TestThreads:
    def answer(self, town: House, ref: str, sender: str, message_id: str):
        """What a mail from `sender` that answers a letter of ours would join."""
        raw = mail(unique("SV"), "Takk!", sender=sender, In_Reply_To=message_id)
        [item] = town.prepared(town.journal(raw, mail_from=sender))
        with town.db.read() as session:
            joined, _hint = threads.find_thread(session, item, town.head)
            return joined.ref if joined else None

    def test_the_other_address_takes_part_while_they_are_one(self, town, siv) -> None:
        ref = town.ask(sender=KARI)
        town.ask(sender=KNUT)
        town.reply(siv, ref)
        [(ours,)] = town.rows("SELECT message_id FROM message WHERE kind = 'reply'")
        assert self.answer(town, ref, KARI, ours) == ref
        assert self.answer(town, ref, KNUT, ours) is None
        done = merge(town, siv, KARI, KNUT)
        assert self.answer(town, ref, KNUT, ours) == ref
        undo(town, siv, done)
        assert self.answer(town, ref, KNUT, ours) is None
        assert self.answer(town, ref, KARI, ours) == ref


class TestSearch:
    def test_by_name_address_and_number(self, town, siv) -> None:
        town.ask(sender="Åse Bø <aase@eksempel.no>")
        town.ask(sender=KNUT)
        number = contact(town, KNUT)
        statement = (
            "INSERT INTO address (contact_id, channel, value, name, created_at)"
            " VALUES (:contact, 'phone', '+4790000001', '', '2026-11-23 08:00:00.000000')"
        )
        town.write(lambda s: s.connection().exec_driver_sql(statement, {"contact": number}))
        for text, values in (
            ("åse", ["aase@eksempel.no"]),
            ("BØ ÅSE", ["aase@eksempel.no"]),
            ("knut@", [KNUT]),
            ("900 00 001", [KNUT]),
            ("+47 90 00 00 01", [KNUT]),
            ("004790000001", [KNUT]),
            ("00001", [KNUT]),
            ("eksempel", [KNUT, "aase@eksempel.no"]),
            ("åse knut", []),
            ("%", []),
            ("  ", []),
        ):
            assert [found.addresses[0][1] for found in search(town, siv, text)] == values, text
        assert search(town, siv, "Knut@Eksempel.no ")[0].id == number
        [found] = search(town, siv, "knut")
        assert (found.addresses, found.inquiries) == (
            [("email", KNUT), ("phone", "+4790000001")],
            1,
        )
        assert search(town, siv, "knut", but=number) == []


def test_members_see_their_own_inquiries_and_nothing_where_they_have_none(town, siv) -> None:
    road = town.ask(subject="Hull i veien", text="Det er et hull i veien.", sender=KARI)
    other = town.ask(subject="Barnehageplass", text="Vi trenger barnehageplass.", sender=KARI)
    town.ask(subject="Barnehageplass", text="Vi trenger barnehageplass.", sender=KNUT)
    vera = town.person("vera", Role.MEMBER, town.inquiry(road).department)
    assert town.inquiry(other).department not in (vera.departments or ())
    seen = card(town, vera, contact(town, KARI))
    assert [row.ref for row in seen.inquiries] == [road]
    assert seen.moves == []
    for number in (contact(town, KNUT), 999):
        with pytest.raises(NotFoundError):
            card(town, vera, number)
