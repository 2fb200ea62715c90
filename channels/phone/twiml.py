"""What Twilio is answered: pure functions from where a caller is to a TwiML document.

Every address in a document is absolute and built from the public one, and carries the number of the
call (`c`) and of the step (`n`): what belongs to an earlier step comes too late. Twilio signs them.
Traps are named where they are avoided; see twilio.com/docs/voice/twiml.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from twilio.twiml.voice_response import Conference, Dial, Gather, Number, VoiceResponse

from channels.phone.base import At, Said, Step, is_number
from channels.phone.phrases import PHRASES
from channels.phone.spoken import minutes, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PATH = "/hooks/phone/twilio"
QUEUE = "sentralbord"
"""The one queue at Twilio: who is next is decided by us, not by it."""

KEY_SECONDS = 6
"""How long a menu waits for a key."""
WHISPER_SECONDS = 8
"""How long a colleague has to accept; a mobile's own voicemail never presses a key."""
BETWEEN = 20
"""Seconds between two announcements to somebody who waits."""
STANDBY_SECONDS = 45
"""How long the standby number rings while we are down."""
SILENCE = 5
"""Seconds of silence that end a message."""


@dataclass(frozen=True, slots=True)
class Voice:
    """How announcements sound. `phrases` are other words than ours, `music` an https address."""

    name: str = "Polly.Liv"
    language: str = "nb-NO"
    phrases: Mapping[str, str] = field(default_factory=dict)
    music: str = ""

    def words(self, said: Said) -> str:
        """A phrase with its blanks filled in; a recording's address has none."""
        words = self.phrases.get(said.phrase) or PHRASES[said.phrase]
        return words if _is_recording(words) else words.format(**said.blanks)


@dataclass(frozen=True, slots=True)
class Site:
    """Where we are reached, and how long things take, in seconds."""

    url: str
    voice: Voice = field(default_factory=Voice)
    ring: int = 20
    voicemail: int = 180
    talk: int = 14_400

    def address(self, step: str, **query: object) -> str:
        """The absolute address of a hook."""
        parts = urlsplit(self.url)
        path = f"{parts.path.rstrip('/')}{PATH}/{step}"
        return urlunsplit((parts.scheme, parts.netloc, path, urlencode(query), ""))


@dataclass(frozen=True, slots=True)
class Facts:
    """The call as far as documents depend on it."""

    call: int
    """Our own number of it."""
    caller: str
    """E.164 or an opaque text."""
    line: str


def room(call: int) -> str:
    """The conference of a call."""
    return f"call-{call}"


def render(step: Step, facts: Facts, site: Site) -> str:
    """The document for the caller's call at a step."""
    response = VoiceResponse()
    if step.at is At.MENU:
        _menu(response, step, facts, site)
        return _xml(response)
    _say_all(response, step.say, site.voice)
    if step.at is At.DIAL:
        _dial(response, step, facts, site)
    elif step.at is At.QUEUE:
        # The action is asked for when the caller leaves, however that comes about.
        response.enqueue(
            QUEUE,
            action=_next(site, "left", step, facts),
            method="POST",
            wait_url=_next(site, "wait", step, facts),
            wait_url_method="POST",
        )
    elif step.at is At.TALK:
        _talk(response, step, facts, site)
    elif step.at is At.VOICEMAIL:
        _record(response, step, facts, site)
    else:
        response.hangup()
    return _xml(response)


def wait(
    step: Step, facts: Facts, site: Site, position: int, seconds: float | None, *, first: bool
) -> str:
    """What somebody hears in the queue: once more whenever its verbs have run out.

    Only Play, Say, Pause, Hangup, Redirect, Leave and Gather are allowed here
    (twilio.com/docs/voice/twiml/enqueue#waiturl).
    """
    response = VoiceResponse()
    say = [
        Said("queue_first")
        if position <= 1
        else Said("queue_position", {"position": number(position)})
    ]
    if seconds is not None:
        say.append(Said("queue_estimate", {"minutes": minutes(seconds)}))
    if not first:
        say.append(Said("queue_thanks"))
    if not is_number(facts.caller):
        _say_all(response, say, site.voice)
        _wait_on(response, site.voice)
        return _xml(response)
    gather = Gather(
        input="dtmf",
        num_digits=1,
        timeout=BETWEEN,
        action=_next(site, "wait", step, facts),
        method="POST",
    )
    _say_all(gather, [*say, Said("queue_callback")], site.voice)
    if site.voice.music:
        gather.play(site.voice.music)
    response.append(gather)
    return _xml(response)


def leave() -> str:
    """Out of the queue; the action of Enqueue is asked for what comes then."""
    response = VoiceResponse()
    response.leave()
    return _xml(response)


def pause() -> str:
    """For somebody who is about to be fetched."""
    response = VoiceResponse()
    response.pause(length=2)
    return _xml(response)


def hold(site: Site) -> str:
    """What somebody hears who waits in the conference: only Play, Say, Pause and Redirect are
    allowed here (error 13238)."""
    response = VoiceResponse()
    _say_all(response, [Said("hold")], site.voice)
    _wait_on(response, site.voice)
    return _xml(response)


def whisper(step: Step, facts: Facts, site: Site, user: str, target: str) -> str:
    """What a colleague hears who picks up: without a key the call is not theirs, since a mobile's
    own voicemail picks up too."""
    response = VoiceResponse()
    gather = Gather(
        input="dtmf",
        num_digits=1,
        timeout=WHISPER_SECONDS,
        action=site.address("whispered", c=facts.call, n=step.number, u=user),
        method="POST",
    )
    said = Said("whisper", {"target": target})
    if step.back:
        said = Said("whisper_transfer", {"target": target, "operator": step.back})
    _say_all(gather, [said], site.voice)
    response.append(gather)
    response.hangup()
    return _xml(response)


def nothing() -> str:
    """The empty document: of a whisper, it joins the two."""
    return _xml(VoiceResponse())


def hang_up() -> str:
    """The end."""
    response = VoiceResponse()
    response.hangup()
    return _xml(response)


def trouble(site: Site) -> str:
    """What is said when we have failed: it needs nothing of us, and the message is found at the
    provider."""
    response = VoiceResponse()
    _say_all(response, [Said("trouble"), Said("voicemail")], site.voice)
    response.record(
        action=site.address("recorded"),
        method="POST",
        max_length=site.voicemail,
        timeout=SILENCE,
        finish_on_key="#",
        play_beep=True,
        recording_status_callback=site.address("recording"),
        recording_status_callback_method="POST",
    )
    response.hangup()
    return _xml(response)


def fallback(voice: Voice, municipality: str, standby: str, seconds: int) -> str:
    """What callers hear while we are down: it lies at the provider and asks nothing of us.

    The standby number rings, and where there is none or nobody answers, a message is taken. Its
    recording has no callback: reconciliation finds it. It has no `action` of ours either, so who
    stays on the line hears the document again: to hang up is what they are told.
    """
    response = VoiceResponse()
    _say_all(response, [Said("down", {"municipality": municipality}), Said("emergency")], voice)
    if standby:
        _say_all(response, [Said("down_connect")], voice)
        response.dial(standby, timeout=STANDBY_SECONDS)
    _say_all(response, [Said("down_record")], voice)
    response.record(max_length=seconds, timeout=2 * SILENCE, finish_on_key="#", play_beep=True)
    # Reached when nothing at all was said.
    _say_all(response, [Said("goodbye")], voice)
    response.hangup()
    return _xml(response)


def _xml(response: VoiceResponse) -> str:
    return str(response.to_xml())


def _next(site: Site, hook: str, step: Step, facts: Facts, **query: object) -> str:
    return site.address(hook, c=facts.call, n=step.number, **query)


def _dial(response: VoiceResponse, step: Step, facts: Facts, site: Site) -> None:
    dial = Dial(
        # Takes over the call: nothing after Dial is ever reached.
        action=_next(site, "dialled", step, facts),
        method="POST",
        timeout=site.ring,
        time_limit=site.talk,
        ring_tone="no",
        # Works only where Dial is the first verb.
        answer_on_bridge=None if step.say else True,
        caller_id=facts.caller if is_number(facts.caller) else facts.line,
    )
    for ring in step.ring:
        dial.append(
            Number(
                ring.phone,
                # Whoever is outside the house need not press a key.
                url=_next(site, "whisper", step, facts, u=ring.user) if ring.user else None,
                method="POST" if ring.user else None,
            )
        )
    response.append(dial)


def _menu(response: VoiceResponse, step: Step, facts: Facts, site: Site) -> None:
    gather = Gather(
        input="dtmf",
        num_digits=1,
        timeout=KEY_SECONDS,
        action=_next(site, "chosen", step, facts),
        method="POST",
        # Else nothing is told of a caller who presses nothing.
        action_on_empty_result=True,
    )
    keys = [
        Said(f"choose_{choice}", {"key": "én" if key == 1 else number(key)})
        for key, choice in enumerate(step.choices, 1)
    ]
    _say_all(gather, [*step.say, *keys], site.voice)
    response.append(gather)
    # Twilio goes on here when the action cannot be had.
    response.redirect(_next(site, "chosen", step, facts), method="POST")


def _talk(response: VoiceResponse, step: Step, facts: Facts, site: Site) -> None:
    dial = Dial(action=_next(site, "talked", step, facts), method="POST", time_limit=site.talk)
    dial.append(
        Conference(
            room(facts.call),
            participant_label="caller",
            start_conference_on_enter=True,
            # For the caller alone: operators and colleagues come and go.
            end_conference_on_exit=True,
            beep="false",
            wait_url=site.address("hold"),
            wait_method="POST",
        )
    )
    response.append(dial)


def _record(response: VoiceResponse, step: Step, facts: Facts, site: Site) -> None:
    action = _next(site, "recorded", step, facts)
    response.record(
        action=action,  # the default is the document itself: a loop
        method="POST",
        max_length=site.voicemail,
        timeout=SILENCE,
        finish_on_key="#",
        play_beep=True,
        trim="do-not-trim",
        recording_status_callback=site.address("recording", c=facts.call),
        recording_status_callback_method="POST",
    )
    # Reached when nothing at all was said.
    response.redirect(action, method="POST")


def _wait_on(parent: Any, voice: Voice) -> None:
    if voice.music:
        parent.play(voice.music)
    else:
        parent.pause(length=BETWEEN)


def _say_all(parent: Any, say: Iterable[Said], voice: Voice) -> None:
    for said in say:
        words = voice.words(said)
        if _is_recording(words):
            parent.play(words)
        elif words.strip():
            parent.say(words, voice=voice.name, language=voice.language)


def _is_recording(words: str) -> bool:
    return words.startswith("https://")
