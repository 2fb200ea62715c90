"""The command line, as the people who run the service use it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from datetime import UTC, datetime, timedelta

import pytest

from router import credentials, deadlines, journal, passwords, schema
from router.models import CredentialKind
from tests.router.store_house import STORE
from tests.service import TOWN_HALL, free_port, mail


def test_one_effective_setting_is_printed_bare(run, monkeypatch):
    monkeypatch.setenv("SENTRALBORD_CHANNELS__EMAIL__LISTEN__PORT", "2526")
    for key, printed in (
        ("channels.email.listen.port", "2526\n"),
        ("web.host", "127.0.0.1\n"),
        ("departments.vei.addresses.0", "vei@sorum.kommune.no\n"),
        ("channels.email.listen.trusted_peers", "[]\n"),
    ):
        assert run("config", "show", key) == 0
        assert run.out == printed
    assert run("config", "show", "channels.sms.numbers.7") == 1
    assert "channels.sms.numbers.7" in run.err
    assert run.out == ""


def test_all_settings_are_printed_without_secrets(run, monkeypatch):
    monkeypatch.setenv("SENTRALBORD_SIGNING_KEY", "hemmelig")
    assert run("config", "show") == 0
    assert json.loads(run.out)["web"]["port"] == 8080
    assert "hemmelig" not in run.out


def test_a_wrong_configuration_is_told_with_its_place_and_exit_code_1(run, monkeypatch):
    monkeypatch.setenv("SENTRALBORD_WEB__PORT", "åtti")
    for command in (("config", "check"), ("doctor",), ("serve",), ("migrate",)):
        assert run(*command) == 1
        assert run.err.startswith("SENTRALBORD_WEB__PORT: web.port: ")
        assert "Traceback" not in run.err


def test_our_own_configuration_and_rules_are_fine(run, monkeypatch):
    assert run("config", "check") == 0
    assert "Fine." in run.out
    monkeypatch.setenv("SENTRALBORD_WEB__PROT", "1")
    assert run("config", "check") == 1
    assert "Fine." not in run.out
    assert run.err == (
        "SENTRALBORD_WEB__PROT names no setting and is ignored; "
        "did you mean SENTRALBORD_WEB__PORT?\n"
    )
    assert run("rules", "check") == 0


def test_a_nynorsk_contact_is_explained_with_the_word_and_the_form_that_decided(run):
    text = "Hei! Når kjem snøbrøytinga på vegen vår? Helsing Kari"
    assert run("rules", "explain", "--body", text) == 0
    assert run.out.startswith("department  vei\n")
    assert "Rutet til Vei" in run.out
    assert "«snøbrøytinga»" in run.out
    assert run("rules", "explain", "--json", "--body", text) == 0
    told = json.loads(run.out)
    assert told["department"] == "vei"
    [hit] = hits(told["trace"])
    assert (hit["token"], hit["form"]) == ("snøbrøytinga", "snøbrøytinga")
    assert hit["keyword"]


def hits(trace) -> list[dict[str, str]]:
    """What the rule that decided found in the text."""
    return [hit for rule in trace["route"] for hit in rule.get("hits", [])]


def test_a_contact_is_explained_and_nothing_is_stored(run, tmp_path, few_rules):
    shutil.rmtree(tmp_path / "data")
    assert run("rules", "explain", "--subject", "Plass i barnehage", "--json") == 0
    assert json.loads(run.out)["department"] == "barnehage"
    assert not (tmp_path / "data").exists()


def test_a_token_is_all_that_is_printed_and_it_opens_the_api(run, store):
    assert run("token", "create", "--role", "member", "--department", "vei", "--name", "Kart") == 0
    token = run.out.removesuffix("\n")
    assert len(token) > 40
    assert token.split() == [token]
    with store().read() as session:
        found = credentials.find(session, CredentialKind.API, token, datetime.now(UTC))
    assert found.actor.departments == frozenset({"vei"})
    assert found.actor.staff_id


@pytest.mark.parametrize(
    "arguments",
    [("--role", "konge"), ("--role", "member"), ("--role", "operator", "--department", "x")],
)
def test_a_token_that_cannot_be_is_refused_in_words(run, arguments):
    assert run("token", "create", *arguments) == 1
    assert run.out == ""
    assert len(run.err.splitlines()) == 1


def test_a_person_gets_a_password_that_works(run, store):
    assert run("user", "add", "kari.olsen", "--role", "operator", "--name", "Kari Olsen") == 0
    password = run.out.strip()
    now = datetime.now(UTC)
    db = store()
    person = passwords.verify_login(db, "Kari.Olsen", password, now)
    assert person.name == "Kari Olsen"
    assert isinstance(passwords.verify_login(db, "kari.olsen", "feil", now), passwords.LoginFailure)
    assert run("user", "add", "kari.olsen", "--role", "operator") == 1
    assert "taken" in run.err


def test_the_schema_is_made_and_made_again(run, tmp_path):
    (tmp_path / "data" / STORE).unlink()
    assert run("migrate") == 0
    assert f"new -> {schema.head_revision()}" in run.out
    assert run("migrate") == 0
    assert f"is at {schema.head_revision()}" in run.out
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_parked_arrivals_are_listed_shown_and_put_back_in_line(run, store):
    assert run("migrate") == 0
    assert run("parked", "list") == 0
    assert "Nothing is parked." in run.out
    raw = mail("Sak", "Ærlig talt.")
    now = datetime.now(UTC)
    arrival = journal.RawArrival("telegraf", "1", now, {"recipients": [TOWN_HALL]}, raw)
    db = store()
    _, number = db.write_sync(
        lambda session: journal.insert(session.connection(), [journal.Entry(arrival)])[0]
    )
    db.write_sync(lambda session: journal.park(session, number, "No such door.", now))

    assert run("parked", "list") == 0
    assert "telegraf" in run.out
    assert "No such door." in run.out
    assert run("parked", "show", str(number)) == 0
    assert run.out.encode() == raw
    assert run("parked", "retry", str(number)) == 0
    with db.read() as session:
        assert journal.waiting(session) == [number]
    for command in ("show", "retry"):
        assert run("parked", command, "999") == 1
        assert len(run.err.splitlines()) == 1


def test_the_doctor_is_content_with_a_good_installation(run, few_rules):
    assert run("migrate") == 0
    assert run("doctor") == 0
    assert "rules." in run.out
    assert f"Schema {schema.head_revision()}." in run.out


def test_the_doctor_asks_for_the_address_that_residents_use(run, monkeypatch, few_rules):
    assert run("doctor") == 0
    [line] = [line for line in run.out.splitlines() if "public_url" in line]
    assert line.startswith("warning")
    assert "http://127.0.0.1:8080" in line
    monkeypatch.setenv("SENTRALBORD_PUBLIC_URL", "https://henvendelse.sorum.kommune.no")
    assert run("doctor") == 0
    assert "public_url" not in run.out


def test_the_doctor_warns_of_an_xmpp_link_that_others_can_read(run, monkeypatch, few_rules):
    for name, value in (
        ("ENABLED", "true"),
        ("HOST", "192.0.2.1"),
        ("DOMAIN", "x.test"),
        ("SECRET", "kort"),
    ):
        monkeypatch.setenv(f"SENTRALBORD_CHANNELS__XMPP__{name}", value)

    def nobody(*_args, **_more):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("socket.create_connection", nobody)
    assert run("doctor") == 0
    told = [line for line in run.out.splitlines() if "xmpp" in line.lower()]
    assert [line.startswith("warning") for line in told] == [True] * 3
    assert "no TLS" in told[0]
    assert "openssl rand" in told[1]
    assert "does not answer" in told[2]


def test_the_doctor_warns_of_a_sqlite_that_can_damage_its_log(run, monkeypatch, few_rules):
    monkeypatch.setitem(sys.modules, "pysqlite3", None)
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.40.1")
    assert run("doctor") == 0
    [line] = [line for line in run.out.splitlines() if "SQLite" in line]
    assert line.startswith("warning")
    assert "3.40.1" in line
    assert "pysqlite3" in line


def test_the_doctor_names_what_is_wrong(run, monkeypatch, tmp_path, few_rules):
    data = tmp_path / "data"
    assert run("migrate") == 0
    data.chmod(0o755)
    monkeypatch.setenv("SENTRALBORD_CHANNELS__EMAIL__SMARTHOST__PORT", str(free_port()))
    monkeypatch.setenv("SENTRALBORD_WEB__HOST", "0.0.0.0")
    monkeypatch.setenv("SENTRALBORD_CHANNELS__EMAIL__LISTEN__HOST", "0.0.0.0")
    assert run("doctor") == 0
    told = [line.split()[0] for line in run.out.splitlines()]
    assert told.count("warning") >= 4
    for words in (
        "chmod 700",
        "does not answer",
        "public_url is not https",
        "any host may deliver mail",
    ):
        assert words in run.out


def test_the_doctor_reports_a_store_of_another_release(run, store, few_rules):
    assert run("migrate") == 0
    store().write_sync(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE alembic_version SET version_num = '0000'"
        )
    )
    assert run("doctor") == 1
    assert "sentralbord migrate" in run.out


def test_an_unknown_command_is_refused(run):
    assert run("sevre") == 2
    assert "serve" in run.err or "sevre" in run.err


def test_a_warning_is_raised_for_what_was_parked_a_while_ago(run, store):
    """The command puts it back in line, and the alarm can be raised anew."""
    assert run("migrate") == 0
    db, now = store(), datetime.now(UTC)
    arrival = journal.RawArrival("telegraf", "1", now, {}, b"x")
    _, number = db.write_sync(
        lambda session: journal.insert(session.connection(), [journal.Entry(arrival)])[0]
    )

    def alarms(minutes: int) -> int:
        later = now + timedelta(minutes=minutes)
        return db.write_sync(lambda s: deadlines.alarm_unprocessed(s, later, timedelta(seconds=60)))

    db.write_sync(lambda session: journal.park(session, number, "x", now))
    assert (alarms(2), alarms(3)) == (1, 0)
    assert run("parked", "retry") == 0
    db.write_sync(lambda session: journal.park(session, number, "x", now))
    assert (alarms(4), alarms(5)) == (1, 0)
    with db.read() as session:
        kinds = session.connection().exec_driver_sql("SELECT kind FROM event").scalars().all()
    assert kinds == ["parked", "parked"]
