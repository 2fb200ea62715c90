"""People and tokens by the command line: what is printed, and who gets in afterwards."""

from __future__ import annotations

import fcntl
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from router import credentials, passwords, queue, staff
from router.access import Actor
from router.models import CredentialKind, Inquiry, Role

NOW = datetime.now(UTC)


@pytest.fixture
def per(run):
    """A member of vei; their password."""
    assert run("user", "add", "per", "--role", "member", "--department", "vei") == 0
    return run.out.strip()


def let_in(db, secret: str, kind: CredentialKind) -> Actor | None:
    with db.read() as session:
        found = credentials.find(session, kind, secret, datetime.now(UTC))
    return found and found.actor


def refused_start() -> str:
    """What a service that cannot start says; in a process of its own, as it sets up the logs."""
    ended = subprocess.run(
        [sys.executable, "-m", "router", "serve"], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr


def by_password(db, password: str) -> bool:
    return not isinstance(passwords.verify_login(db, "per", password, NOW), passwords.LoginFailure)


def test_everybody_is_listed_and_a_service_account_is_nobody(run, per):
    assert run("token", "create", "--role", "operator", "--name", "Kart") == 0
    assert run("user", "list") == 0
    [row] = [line for line in run.out.splitlines() if "│" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "per", "per", "member", "vei", "active",
    ]  # fmt: skip
    assert "api-" not in run.out


def test_who_is_disabled_is_out_at_once_and_holds_nothing(run, per, store):
    db = store()
    with db.read() as session:
        person = staff.require_staff(session, "per")
    actor = Actor(role=Role.MEMBER, staff_id=person.id, departments=frozenset({"vei"}))
    inquiry = Inquiry(
        ref="26-1", channel="email", department="vei", received_at=NOW, due_at=NOW, warn_at=NOW,
        last_message_at=NOW, sort_at=NOW, target="service", calendar="x", lane=2,
    )  # fmt: skip
    db.write_sync(lambda session: session.add(inquiry))
    db.write_sync(lambda session: queue.claim(session, actor, "26-1", NOW))
    cookie = db.write_sync(lambda session: credentials.open_session(session, person.id, 10, NOW))
    assert let_in(db, cookie, CredentialKind.SESSION)

    assert run("user", "disable", "per") == 0
    assert "1 inquiries" in run.err
    assert let_in(db, cookie, CredentialKind.SESSION) is None
    assert not by_password(db, per)
    with db.read() as session:
        assert queue.row(session, Actor(role=Role.OPERATOR), "26-1").assignee_id is None
    assert run("user", "list") == 0
    assert "disabled" in run.out
    assert run("user", "link", "per") == 1

    assert run("user", "enable", "per") == 0
    assert by_password(db, per)
    assert let_in(db, cookie, CredentialKind.SESSION) is None


def test_a_new_password_replaces_the_old_one(run, per, store):
    assert run("user", "password", "per") == 0
    made = run.out.strip()
    db = store()
    assert by_password(db, made)
    assert not by_password(db, per)


def test_role_departments_and_name_are_changed_and_the_rest_is_kept(run, per, store):
    def actor() -> Actor:
        with db.read() as session:
            return staff.actor_of(session, staff.require_staff(session, "per"))

    db = store()
    assert run("user", "set", "per", "--department", "park", "--department", "vei") == 0
    assert actor().departments == {"park", "vei"}
    assert run("user", "set", "per", "--name", "Per Vik", "--role", "lead") == 0
    assert (actor().name, actor().role, actor().departments) == (
        "Per Vik", Role.LEAD, {"park", "vei"},
    )  # fmt: skip
    assert run("user", "set", "per", "--jid", "Per@Sorum.kommune.no/pc") == 0
    with db.read() as session:
        assert staff.require_staff(session, "per").jid == "per@sorum.kommune.no"
    assert run("user", "set", "per", "--jid", "") == 0
    with db.read() as session:
        assert staff.require_staff(session, "per").jid is None
    for wrong in (("--role", "konge"), ("--department", "slottet"), ("--jid", "per"), ()):
        assert run("user", "set", "per", *wrong) == 1
        assert len(run.err.splitlines()) == 1
    assert actor().role is Role.LEAD


def test_a_link_signs_in_once_and_not_for_long(run, per, store):
    assert run("user", "link", "per") == 0
    address, _, secret = run.out.strip().partition("?once=")
    assert address == "http://127.0.0.1:8080/desk/login"
    db = store()
    now = datetime.now(UTC)
    later = now + timedelta(minutes=60)
    assert (
        db.write_sync(lambda session: credentials.consume_one_time(session, secret, later)) is None
    )
    signed_in = db.write_sync(lambda session: credentials.consume_one_time(session, secret, now))
    assert signed_in.username == "per"
    assert db.write_sync(lambda session: credentials.consume_one_time(session, secret, now)) is None


@pytest.mark.parametrize("command", ["disable", "enable", "password", "link"])
def test_nobody_by_that_name(run, command):
    assert run("user", command, "ola") == 1
    assert run.err.strip() == "There is nobody with the username «ola»."


def test_tokens_are_listed_without_their_secret_and_revoked(run, store):
    assert run("token", "create", "--role", "member", "--department", "vei", "--name", "Kart") == 0
    secret = run.out.strip()
    db = store()
    assert let_in(db, secret, CredentialKind.API)
    assert run("token", "list") == 0
    assert secret not in run.out
    [row] = [line for line in run.out.splitlines() if "│" in line]
    number, *told = [cell.strip() for cell in row.strip("│").split("│")]
    assert told[:3] == ["Kart", "member", "vei"]
    assert run("token", "revoke", number) == 0
    assert let_in(db, secret, CredentialKind.API) is None
    assert run("token", "revoke", number) == 1
    assert run("token", "list") == 0
    assert "no tokens" in run.out


def test_the_version_is_told(run):
    assert run("--version") == 0
    assert run.out.startswith("sentralbord ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("DATA", "/proc/nowhere", "/proc/nowhere cannot be written"),
        ("DATABASE", "sqlite:////nowhere/x.db", "The database sqlite:////nowhere/x.db"),
        ("DATABASE", "tull", "database"),
    ],
)
def test_a_store_that_cannot_be_is_one_sentence(
    run,
    few_rules,
    monkeypatch,
    variable,
    value,
    told,
):
    monkeypatch.setenv(f"SENTRALBORD_{variable}", value)
    assert run("doctor") == 1
    [line] = [line for line in run.out.splitlines() if line.startswith("ERROR")]
    assert told in line
    assert run("migrate") == 1
    for said in (run.err, refused_start()):
        assert told in said
        assert len(said.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "host", "told"),
    [
        ("web", "127.0.0.1", "the port is taken"),
        ("channels.email.listen", "127.0.0.1", "the port is taken"),
        ("web", "192.0.2.1", "192.0.2.1 is not an address of this machine"),
        ("channels.email.listen", "192.0.2.1", "192.0.2.1 is not an address of this machine"),
    ],
)
def test_a_door_that_cannot_open_names_its_setting(
    run,
    few_rules,
    monkeypatch,
    key,
    host,
    told,
):
    name = f"SENTRALBORD_{key.upper().replace('.', '__')}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("SENTRALBORD_WEB__PORT", "0")
        monkeypatch.setenv("SENTRALBORD_CHANNELS__EMAIL__LISTEN__PORT", "0")
        monkeypatch.setenv(f"{name}__PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv(f"{name}__HOST", host)
        said = refused_start()
        assert said.startswith(f"{key}: cannot listen on {host}:")
        assert told in said
        assert f"{name}__" in said
        assert len(said.splitlines()) == 1
        run("doctor")
        assert told in run.out


def test_the_doctor_knows_its_own_service_on_a_taken_port(
    run,
    few_rules,
    monkeypatch,
    tmp_path,
):
    lock = tmp_path / "data" / "service.lock"
    lock.write_text("4711", encoding="ascii")
    with socket.create_server(("127.0.0.1", 0)) as taken, lock.open() as held:
        monkeypatch.setenv("SENTRALBORD_WEB__PORT", str(taken.getsockname()[1]))
        run("doctor")
        assert any(line.startswith("warning web:") for line in run.out.splitlines())
        fcntl.flock(held, fcntl.LOCK_EX)
        run("doctor")
        [line] = [line for line in run.out.splitlines() if " web:" in line]
        assert line.startswith("ok")
        assert "4711" in line


def test_problems_speak_the_language_of_the_machine(run, monkeypatch, tmp_path):
    monkeypatch.setenv("SENTRALBORD_MUNICIPALITY__DEFAULT_DEPARTMENT", "servicetorv")
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    for spoken, told in (("nn_NO.UTF-8", "mente du"), ("C.UTF-8", "did you mean")):
        monkeypatch.setenv("LANG", spoken)
        assert run("config", "check") == 1
        assert told in run.err
    assert run("config", "check", "--lang", "nb") == 1
    assert "mente du" in run.err
    assert run("--lang", "nb", "config", "check") == 1
    assert "mente du" in run.err
    assert run("config", "check", "--lang", "tysk") == 2


def test_a_variable_that_names_nothing_is_told_with_what_may_be_meant(
    run,
    few_rules,
    monkeypatch,
):
    monkeypatch.setenv("SENTRALBORD_WEB__PROT", "1")
    assert run("config", "check") == 1
    assert run.err.endswith("did you mean SENTRALBORD_WEB__PORT?\n")


def test_a_department_that_is_not_there_is_told_with_what_may_be_meant(run):
    assert run("user", "add", "per", "--role", "member", "--department", "veg") == 1
    assert run.err == "There is no department «veg», did you mean “vei”?\n"
    assert run("user", "add", "per", "--role", "member", "--department", "xyzzy") == 1
    assert run.err.startswith("There is no department «xyzzy»")
    assert run.err.endswith(".\n")


def test_a_rule_is_explained_in_words(run, few_rules):
    assert run("rules", "explain", "--subject", "Plass i barnehage") == 0
    assert run.out.startswith("department  barnehage\n")
    assert "«barnehage» in the subject" in run.out
    assert "did not fit (--all lists them)" in run.out
    assert run("rules", "explain", "--all", "--body", "Hei") == 0
    assert "did not fit:\n" in run.out
    assert run("rules", "explain", "--channel", "fax") == 1
    assert "chat, email, phone, sms, web" in run.err
    assert run("rules", "explain", "--to", "x@annet.example") == 0
    assert "x@annet.example is not one of our addresses" in run.err
    assert run("rules", "explain", "--to", "vei@sorum.kommune.no") == 0
    assert run.err == ""
