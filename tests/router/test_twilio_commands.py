"""`sentralbord twilio …` against an account that keeps to Twilio's own terms."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.twilio_double import served, settings_for

URL = "https://henvendelse.sorum.example"
OURS = ["+4763869000", "+4763869010", "+4763869101", "+4763869102"]
TEXTS = "+4759440000"
CAN = {"voice": True, "sms": True, "mms": False, "fax": False}
PREFIX = "SENTRALBORD_"
_BLANK = (
    *("voice_url", "voice_fallback_url", "status_callback", "sms_url", "sms_fallback_url"),
    *("voice_application_sid", "sms_application_sid", "trunk_sid"),
)


@pytest.fixture
def account(monkeypatch, few_rules):
    with served() as double:
        for name, value in settings_for(double).items():
            monkeypatch.setenv(f"{PREFIX}{name}", value)
        monkeypatch.setenv(f"{PREFIX}PUBLIC_URL", URL)
        monkeypatch.setenv(f"{PREFIX}CHANNELS__PHONE__ENABLED", "true")
        monkeypatch.setenv(f"{PREFIX}CHANNELS__SMS__ENABLED", "true")
        monkeypatch.setenv(
            f"{PREFIX}CHANNELS__PHONE__FALLBACK_URL", "https://handler.twilio.com/twiml/EH1"
        )
        yield double


def numbers(double, *given: str, **fields: object) -> list[str]:
    blank = dict.fromkeys(_BLANK, "")
    return [
        double.put(
            "IncomingPhoneNumbers", phone_number=number, capabilities=CAN, **{**blank, **fields}
        )
        for number in given or (*OURS, TEXTS)
    ]


def test_a_dry_run_says_how_each_number_must_be_and_changes_nothing(account, run):
    numbers(account)
    assert run("twilio", "provision") == 0
    for number in (*OURS, TEXTS):
        assert number in run.out
    for field, path in (
        ("VoiceUrl", "/hooks/phone/twilio/voice#rc="),
        ("StatusCallback", "/hooks/phone/twilio/status#rc="),
        ("SmsUrl", "/hooks/sms/twilio#rc="),
        ("SmsFallbackUrl", "/hooks/sms/twilio#rc="),
    ):
        [line] = {li for li in run.out.splitlines() if li.strip().startswith(f"{field} ")}
        assert f"{URL}{path}" in line
        assert "(is empty)" in line
    assert "VoiceFallbackUrl       https://handler.twilio.com/twiml/EH1" in run.out
    assert {asked.method for asked in account.asked} == {"GET"}


def test_applied_it_is_as_it_must_be_and_a_second_time_changes_nothing(account, run):
    numbers(account)
    assert run("twilio", "provision", "--apply") == 0
    changed = len(account.asked)
    first = account.of("IncomingPhoneNumbers")[0]
    assert first["voice_url"].startswith(f"{URL}/hooks/phone/twilio/voice#")
    assert first["voice_fallback_url"] == "https://handler.twilio.com/twiml/EH1"
    assert first["sms_url"] == ""
    assert account.of("IncomingPhoneNumbers")[-1]["sms_url"].startswith(f"{URL}/hooks/sms/twilio#")
    assert run("twilio", "provision", "--apply") == 0
    assert len(account.asked) == changed + 1
    assert run("twilio", "doctor") == 0
    assert "ERROR" not in run.out


def test_a_number_that_is_not_with_the_account_is_said(account, run):
    numbers(account, *OURS)
    assert run("twilio", "provision") == 1
    assert f"{TEXTS} is not a number of the account" in run.err
    assert run("twilio", "doctor") == 1
    assert f"{TEXTS} is not a number of the account" in run.out


def test_without_an_account_a_dry_run_still_says_what_to_set(run, few_rules):
    assert run("twilio", "provision") == 0
    assert "VoiceUrl" in run.out
    assert "account_sid is not set" in run.err
    assert "fallback_url is not set" in run.err
    assert run("twilio", "provision", "--apply") == 1


def test_an_account_that_refuses_us_ends_with_a_plain_sentence(account, run, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}TWILIO__AUTH_TOKEN", "wrong")
    assert run("twilio", "provision") == 0
    assert "slipper oss ikke inn" in run.err
    assert run("twilio", "provision", "--apply") == 1
    assert run("twilio", "doctor") == 1
    assert "The account cannot be read" in run.out
    assert "Traceback" not in run.out + run.err


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 200, "body": "<html>Log in to this network</html>"},
        {"status": 200, "body": '{"incoming_phone_numbers": [{"capabilities": "x"}]}'},
        {"status": 302, "body": ""},
        {"status": 429, "code": 20429},
        {"status": 503},
        {"cut": True},
    ],
    ids=["a portal", "nonsense", "elsewhere", "too many", "down", "cut off"],
)
def test_whatever_answers_instead_of_twilio_a_plain_sentence_is_said(account, run, answer):
    for arguments, said in ((["provision", "--apply"], "is not known"), (["doctor"], "be read")):
        account.fail("IncomingPhoneNumbers", **answer)
        assert run("twilio", *arguments) == 1
        assert said in run.err + run.out
        assert "Traceback" not in run.out + run.err
        assert "uvisst" not in run.out + run.err  # whoever only looks, changes nothing


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EDGE", "evil.example/"),
        ("REGION", "ie1@evil.example"),
        ("API_URL", "ftp://127.0.0.1"),
        ("API_URL", "https://user:word@api.twilio.com"),
        ("API_URL", "no address"),
        ("ACCOUNT_SID", "AC/../.."),
    ],
)
def test_nobody_else_is_asked_with_our_credentials(account, run, monkeypatch, name, value):
    monkeypatch.setenv(f"{PREFIX}TWILIO__{name}", value)
    for command in ("provision", "fallback", "doctor"):
        assert run("twilio", command) == 1
        assert f"TWILIO__{name}" in run.err
        assert "Traceback" not in run.out + run.err
    assert account.asked == []


def test_nobody_at_home_is_said_at_once(account, run, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}TWILIO__API_URL", "http://127.0.0.1:1")
    assert run("twilio", "provision") == 0
    assert "Twilio svarer ikke" in run.err
    assert run("twilio", "provision", "--apply") == 1
    assert run("twilio", "doctor") == 1
    assert "Twilio svarer ikke" in run.out


def test_doctor_finds_what_is_not_as_it_must_be(account, run, monkeypatch):
    numbers(account, OURS[0], trunk_sid="TK" + "0" * 32)
    numbers(account, *OURS[1:], voice_url="https://old.example/voice")
    numbers(account, TEXTS)
    account.of("IncomingPhoneNumbers")[-1]["capabilities"] = CAN | {"sms": False}
    assert run("twilio", "doctor") == 1
    assert f"{OURS[0]} belongs to a SIP trunk" in run.out
    assert f"{OURS[1]} VoiceUrl is https://old.example/voice, should be {URL}" in run.out
    assert f"{TEXTS} cannot do sms" in run.out
    assert "Webhooks signed with the auth token are known from forged ones." in run.out


def test_doctor_of_the_whole_machine_looks_at_the_provider_too(account, run):
    numbers(account, *OURS)
    assert run("doctor") == 1
    assert f"{TEXTS} is not a number of the account" in run.out


def test_the_document_for_an_outage_asks_nothing_of_us(run, few_rules, monkeypatch):
    assert run("twilio", "fallback") == 0
    document = ElementTree.fromstring(run.out)
    assert [verb.tag for verb in document][-3:] == ["Record", "Say", "Hangup"]
    assert "127.0.0.1" not in run.out
    assert "callback" not in run.out.lower()
    monkeypatch.setenv(f"{PREFIX}CHANNELS__PHONE__STANDBY", "63 86 92 99")
    assert run("twilio", "fallback") == 0
    document = ElementTree.fromstring(run.out)
    [dial] = document.iter("Dial")
    assert dial.text == "+4763869299"
    monkeypatch.setenv(f"{PREFIX}MUNICIPALITY__NAME", 'Sør<Dial>22222222</Dial>&"um')
    assert run("twilio", "fallback") == 0
    document = ElementTree.fromstring(run.out)
    assert [dial.text for dial in document.iter("Dial")] == ["+4763869299"]
    assert 'Sør<Dial>22222222</Dial>&"um' in "".join(document.itertext())
