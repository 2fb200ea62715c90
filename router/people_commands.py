"""The commands about who may come in: `sentralbord user …` and `sentralbord token …`."""

from __future__ import annotations

import getpass
import secrets
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from router.errors import InvalidError
from router.terminal import (
    DEFAULT_CONFIG,
    ConfigOption,
    configuration,
    note,
    one_of,
    open_store,
    out,
)

if TYPE_CHECKING:
    from sqlmodel import Session

    from router.models import Role

user_app = typer.Typer(no_args_is_help=True, help="People who sign in to the desk.")
token_app = typer.Typer(no_args_is_help=True, help="Tokens for the API.")

ONE_TIME = timedelta(minutes=60)
"""How long a sign-in link can be used."""

Username = Annotated[str, typer.Argument(metavar="NAME", help="What the person signs in with.")]
RoleOption = Annotated[str, typer.Option(help="operator, member, lead or admin.")]
_JID = "XMPP address that the person answers from."
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


@user_app.command("list")
def user_list(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List everybody who may sign in, and who may no longer."""
    from router import staff

    with open_store(config) as write:
        people = write(staff.people)
    table = Table("name", "full name", "role", "departments", "state")
    for person, departments in people:
        state = "active" if person.active else "disabled"
        if person.active and not person.password_hash:
            state = "no password"
        table.add_row(
            person.username, person.name, person.role.value, ", ".join(departments), state
        )
    out.print(table if people else "There is nobody yet: sentralbord user add", markup=False)


@user_app.command("add")
def user_add(
    username: Username,
    role: RoleOption,
    department: Annotated[
        list[str] | None, typer.Option(help="Slug; may be given several times.")
    ] = None,
    name: Annotated[str, typer.Option(help="Full name, as residents see it.")] = "",
    jid: Annotated[str, typer.Option(help=_JID)] = "",
    password_stdin: PasswordStdin = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Add a person. Asks for a password; without a terminal it makes one and prints it."""
    from router import passwords, staff
    from router.clock import utc_now

    chosen = _role(role)
    password, made = _password(password_stdin)
    hashed = passwords.hash_password(password)

    def job(session: Session) -> None:
        person = staff.add_staff(
            session, username, name or username, chosen, department or [], hashed, utc_now()
        )
        staff.set_jid(session, person, jid)

    with open_store(config) as write:
        write(job)
    if made:
        print(made)  # noqa: T201 - what the command is asked for
    note(f"{username} can sign in as {chosen.value}.")


@user_app.command("set")
def user_set(
    username: Username,
    role: Annotated[str | None, typer.Option(help="operator, member, lead or admin.")] = None,
    department: Annotated[
        list[str] | None,
        typer.Option(help="Slug; may be given several times and replaces those there are."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Full name, as residents see it.")] = None,
    jid: Annotated[str | None, typer.Option(help=f"{_JID} Empty takes it away.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Change a person's role, departments, full name or XMPP address; it holds from their next
    click."""
    from router import staff
    from router.clock import utc_now

    chosen = _role(role) if role else None
    if not (role or department or name) and jid is None:
        raise InvalidError("Nothing to change: give --role, --department, --name or --jid.")

    def job(session: Session) -> None:
        person = staff.require_staff(session, username)
        wanted = department or None
        staff.change_staff(session, person, utc_now(), role=chosen, departments=wanted, name=name)
        if jid is not None:
            staff.set_jid(session, person, jid)

    with open_store(config) as write:
        write(job)
    note(f"{username} is changed.")


@user_app.command("password")
def user_password(
    username: Username,
    password_stdin: PasswordStdin = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Give a person a new password and end their sessions. Asks for it; without a terminal it makes
    one and prints it."""
    from router import passwords, staff
    from router.clock import utc_now

    password, made = _password(password_stdin)
    hashed = passwords.hash_password(password)

    def job(session: Session) -> None:
        person = staff.require_staff(session, username)
        passwords.set_password(session, person.id or 0, hashed, utc_now())

    with open_store(config) as write:
        write(job)
    if made:
        print(made)  # noqa: T201
    note(f"{username} has a new password; open sessions have ended.")


@user_app.command("disable")
def user_disable(username: Username, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Shut a person out: sessions, sign-in links and tokens end at once, and the inquiries they
    hold go back to their queues. What they did stays."""
    from sqlmodel import col, select

    from router import queue, staff
    from router.access import Actor
    from router.clock import utc_now
    from router.models import Inquiry, InquiryStatus, Role

    def job(session: Session) -> int:
        person = staff.require_staff(session, username)
        held = session.exec(
            select(col(Inquiry.ref)).where(
                col(Inquiry.assignee_id) == person.id, col(Inquiry.status) == InquiryStatus.OPEN
            )
        ).all()
        # With the eyes of an administrator: the person may have left the department since.
        actor = Actor(role=Role.ADMIN, staff_id=person.id)
        for ref in held:
            queue.release(session, actor, ref, utc_now())
        staff.set_active(session, person, utc_now(), active=False)
        return len(held)

    with open_store(config) as write:
        released = write(job)
    note(f"{username} can no longer sign in; {released} inquiries went back to their queues.")


@user_app.command("enable")
def user_enable(username: Username, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let a person in again, with the password they had."""
    from router import staff
    from router.clock import utc_now

    with open_store(config) as write:
        write(
            lambda session: staff.set_active(
                session, staff.require_staff(session, username), utc_now(), active=True
            )
        )
    note(f"{username} can sign in again.")


@user_app.command("link")
def user_link(username: Username, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print a link that signs the person in once, within an hour."""
    from router import credentials, staff
    from router.clock import utc_now

    settings = configuration(config)

    def job(session: Session) -> str:
        person = staff.require_staff(session, username)
        if not person.active:
            raise InvalidError(f"{username} is disabled: sentralbord user enable {username}")
        return credentials.sign_in_path(session, person, utc_now(), ONE_TIME)

    with open_store(config) as write:
        path = write(job)
    print(f"{settings.public_url}{path}")  # noqa: T201


@token_app.command("create")
def token_create(
    role: RoleOption,
    department: Annotated[str | None, typer.Option(help="Narrow it to one department.")] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make an API token and print it; it cannot be shown again."""
    from router import credentials
    from router.clock import utc_now

    chosen = _role(role)
    with open_store(config) as write:
        token = write(
            lambda session: credentials.create_api_token(
                session, chosen, department, name, utc_now()
            )
        )
    print(token)  # noqa: T201


@token_app.command("list")
def token_list(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the API tokens; the secrets themselves are kept nowhere."""
    from router import credentials

    with open_store(config) as write:
        tokens = write(credentials.api_tokens)
    table = Table("id", "name", "role", "department", "created")
    for token, account in tokens:
        table.add_row(
            str(token.id),
            token.name or account.name,
            account.role.value,
            token.department or "all",
            f"{token.created_at:%Y-%m-%d %H:%M}Z",
        )
    out.print(table if tokens else "There are no tokens.", markup=False)


@token_app.command("revoke")
def token_revoke(
    token_id: Annotated[int, typer.Argument(metavar="ID", help="As `token list` shows it.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """End an API token at once."""
    from router import credentials
    from router.clock import utc_now

    with open_store(config) as write:
        write(lambda session: credentials.revoke_api_token(session, token_id, utc_now()))
    note(f"Token {token_id} opens nothing any more.")


def _password(from_stdin: bool) -> tuple[str, str]:
    """The password, and once more when it was made here and must be shown."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n"), ""
    if not sys.stdin.isatty():
        made = secrets.token_urlsafe(12)
        return made, made
    password = getpass.getpass("Password: ")
    if getpass.getpass("The same again: ") != password:
        raise InvalidError("The two are not the same.")
    return password, ""


def _role(name: str) -> Role:
    from router.models import Role

    return Role(one_of(name, tuple(Role), "role"))
