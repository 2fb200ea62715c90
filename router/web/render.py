"""Pages: one Jinja2 environment per language, its gettext catalogue read from the .po file.

`render(request, "login.html", …)` is all a handler needs; error pages come from `error_page`.
"""

from __future__ import annotations

import io
import secrets
from datetime import datetime
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from markupsafe import Markup
from starlette.responses import HTMLResponse

from router.errors import AbsentError, ConflictError, RouterError
from router.files import SOUNDS
from router.letters import phone_in_words
from router.privacy import mask_text
from router.web import links, phrases
from router.web.assets import STATIC, integrity, read_manifest
from router.web.labels import LABELS, MESSAGES, STATUS_TEXTS, STATUS_TITLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jinja2.runtime import Context
    from starlette.requests import Request

    from router.access import Actor
    from router.hall import Hall

HERE = Path(__file__).parent
LOCALE = HERE / "locale"
LANGUAGES = ("nb", "nn", "en")
DOMAIN = "sentralbord"


def content_policy(framed_by: Sequence[str] = ("'none'",)) -> str:
    """The Content-Security-Policy of a page; `framed_by` are the origins that may show it."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "media-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self'; "
        f"base-uri 'none'; frame-ancestors {' '.join(framed_by)}"
    )


@lru_cache(maxsize=len(LANGUAGES))
def catalogue(language: str) -> Translations:
    """The texts of one language, straight from its .po file."""
    path = LOCALE / language / "LC_MESSAGES" / f"{DOMAIN}.po"
    with path.open("rb") as file:
        texts = read_po(file, locale=language, domain=DOMAIN)
    compiled = io.BytesIO()
    write_mo(compiled, texts)
    compiled.seek(0)
    return Translations(compiled, domain=DOMAIN)


def label(language: str, kind: str, code: str) -> str:
    """What people see for a code; the code itself when it has no name."""
    text = LABELS[kind].get(code)
    return catalogue(language).gettext(text) if text else code


def static_url(name: str) -> str:
    """Address of a static file with a hash of its content: browsers may keep it for ever."""
    return f"/static/{name}?v={_fingerprint(name)}"


@lru_cache(maxsize=64)
def _fingerprint(name: str) -> str:
    content = (STATIC / name).read_bytes()
    return integrity(content)[7:19].replace("+", "-").replace("/", "_")


def _quick(look_up: Callable[..., Any]) -> Callable[..., Markup]:
    """As Jinja2's own, but a text is looked up once: a page has some hundred of them."""
    known = cache(lambda *text: Markup(look_up(*text)))  # noqa: S704 - our own catalogue

    def translate(*text: str, **blanks: object) -> Markup:
        return known(*text) % blanks if blanks else known(*text)

    return translate


@lru_cache(maxsize=len(LANGUAGES))
def environment(language: str) -> Environment:
    """The templates of one language."""
    texts = catalogue(language)
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,  # else each template asks the disk each time
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    made.install_gettext_callables(  # type: ignore[attr-defined]
        texts.gettext,
        texts.ngettext,
        newstyle=True,
        pgettext=texts.pgettext,
        npgettext=texts.npgettext,
    )
    made.globals.update(_=_quick(texts.gettext), pgettext=_quick(texts.pgettext))
    made.globals.update(
        lang=language,
        languages=LANGUAGES,
        static=static_url,
        vendor=read_manifest(),
        label=partial(label, language),
        LABELS=LABELS,
        SOUNDS=SOUNDS,
    )

    @cache
    def fixed(name: str) -> Markup:
        """A part that looks the same on every page, rendered once."""
        return Markup(made.get_template(name).render())  # noqa: S704 - rendered with autoescape

    made.globals["fixed"] = fixed

    def words(instant: datetime, now: datetime) -> str:
        return phrases.moment(instant, now, language, texts)

    @pass_context
    def when(context: Context, instant: datetime) -> Markup:
        return Markup('<time datetime="{}">{}</time>').format(
            phrases.rfc3339(instant), words(instant, context["now"])
        )

    def in_full(instant: datetime) -> str:
        return phrases.full_moment(instant, language, texts)

    @pass_context
    def due(context: Context, row: Any) -> phrases.DueView:
        return phrases.due_view(row, context["now"], language, texts)

    made.filters.update(
        when=when,
        in_full=in_full,
        due=due,
        day=lambda instant: phrases.day(instant, language),
        clock=phrases.clock,
        size=lambda count: phrases.size(count, language),
        span=lambda length: phrases.span(length, language),
        phone=phone_in_words,
        address=phrases.address,
        sender=lambda row: phrases.sender(row, texts),
        service=lambda caller: phrases.emergency_caller(caller, texts),
        half=phrases.half_address,
        masked=mask_text,
        linked=links.linked,
        dialled=links.dialled,
    )
    return made


def render(
    request: Request,
    template: str,
    status: int = 200,
    *,
    language: str = "",
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """One page. `language` defaults to the signed-in person's, else to what the request asks for.

    Every template also gets: request, municipality, public_url, now, lang, and of the session, when
    there is one: actor, csrf, session_ends_at.
    """
    hall: Hall = request.app.state.hall
    actor: Actor | None = getattr(request.state, "actor", None)
    language = language or (actor.language if actor else "") or language_of(request)
    page = environment(language if language in LANGUAGES else "nb").get_template(template)
    values = {
        "request": request,
        "municipality": hall.settings.municipality,
        "public_url": hall.settings.public_url,
        "actor": actor,
        "csrf": getattr(request.state, "csrf", ""),
        "session_ends_at": getattr(request.state, "session_ends_at", None),
        "now": hall.clock(),
        "asked_lang": asked_language(request),
    }
    html = page.render(values | context)
    return HTMLResponse(html, status_code=status, headers=dict(headers or {}))


def asked_language(request: Request) -> str:
    """The language named in the address (`?lang=nn`), or empty."""
    asked = request.query_params.get("lang", "")
    return asked if asked in LANGUAGES else ""


def language_of(request: Request) -> str:
    """`?lang=` first, then Accept-Language (RFC 9110 §12.5.4), then bokmål."""
    asked = asked_language(request)
    return asked or accepted_language(request.headers.get("accept-language", ""))


def accepted_language(header: str, default: str = "nb") -> str:
    """The best of ours by an Accept-Language header; `default` when it names none of them."""
    wanted: list[tuple[float, int, str]] = []
    for position, part in enumerate(header.split(",")[:20]):
        tag, _, parameter = part.strip().partition(";")
        name = tag.strip().lower().split("-")[0]
        language = "nb" if name == "no" else name
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        if language in LANGUAGES and quality > 0:
            wanted.append((-quality, position, language))
    return min(wanted)[2] if wanted else default


def sentence(error: RouterError, language: str) -> str:
    """An error in plain words, in the reader's language."""
    t = catalogue(language if language in LANGUAGES else "nb")
    if isinstance(error, ConflictError) and error.holder:
        return t.gettext("%(name)s has taken this inquiry.") % {"name": error.holder}
    if isinstance(error, AbsentError):
        words = t.gettext("%(name)s cannot be reached by phone now.") % {"name": error.name}
        if error.deputy:
            words += " " + t.gettext("%(name)s answers instead.") % {"name": error.deputy}
        return words
    if error.detail in MESSAGES:
        return t.gettext(error.detail)
    return t.gettext(STATUS_TEXTS.get(error.status, STATUS_TEXTS[500]))


def error_page(
    request: Request,
    status: int,
    *,
    error: RouterError | None = None,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """An error in plain words, for staff or for residents by the address that was asked for."""
    desk = request.url.path.startswith("/desk")
    actor: Actor | None = getattr(request.state, "actor", None)
    language = (actor.language if actor else "") or language_of(request)
    t = catalogue(language)
    fallback = 500 if status >= 500 else 400
    return render(
        request,
        "error_desk.html" if desk else "error_resident.html",
        status,
        headers=headers,
        title=t.gettext(STATUS_TITLES.get(status, STATUS_TITLES[fallback])),
        text=(
            sentence(error, language)
            if error is not None
            else t.gettext(STATUS_TEXTS.get(status, STATUS_TEXTS[fallback]))
        ),
        number=status,
    )


def nonce() -> str:
    """A fresh key that makes a double click on a form one submission."""
    return secrets.token_urlsafe(16)
