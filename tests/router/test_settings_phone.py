"""What the doors of the telephone provider need before they open, told in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.settings import load_settings
from rules.document import DocumentError

CONFIG = Path(__file__).parents[2] / "config.yaml"
SMS = {"SENTRALBORD_CHANNELS__SMS__ENABLED": "true"}
PHONE = {"SENTRALBORD_CHANNELS__PHONE__ENABLED": "true"}
ACCOUNT = {
    "SENTRALBORD_TWILIO__ACCOUNT_SID": "AC" + "0" * 32,
    "SENTRALBORD_TWILIO__AUTH_TOKEN": "hemmelig",
}
CONSOLE = {"SENTRALBORD_CHANNELS__SMS__PROVIDER": "console"}
CTI = {
    "SENTRALBORD_CHANNELS__PHONE__CTI__ENABLED": "true",
    "SENTRALBORD_CHANNELS__PHONE__CTI__TOKEN": "0123456789abcdef0123456789abcdef",
}


def problems(environment, language="en", path=CONFIG) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_settings(path, environment)
    return caught.value.text(language).splitlines()


@pytest.mark.parametrize("door", [SMS, PHONE], ids=["sms", "phone"])
def test_a_door_of_the_provider_opens_with_an_account_and_its_token_alone(door):
    token, sid = problems(door)
    assert "twilio.account_sid: is missing" in sid
    assert "config.yaml:" in sid
    assert "set SENTRALBORD_TWILIO__AUTH_TOKEN" in token
    [only_token] = problems(door | {"SENTRALBORD_TWILIO__ACCOUNT_SID": "AC" + "0" * 32})
    assert only_token == token
    assert load_settings(CONFIG, door | ACCOUNT).uses_twilio
    assert any("mangler" in line for line in problems(door, "nb"))


def test_nothing_is_asked_of_doors_that_are_closed_or_need_no_provider():
    assert not load_settings(CONFIG, {}).uses_twilio
    assert not load_settings(CONFIG, SMS | CONSOLE).uses_twilio
    # An exchange of our own needs no account with anybody.
    load_settings(CONFIG, PHONE | CTI)
    # But texts by Twilio do, beside it.
    assert len(problems(PHONE | CTI | SMS)) == 2


def test_an_account_id_looks_like_one():
    for wrong in ("AC123", "SK" + "0" * 32, "AC" + "g" * 32):
        [told] = problems(SMS | ACCOUNT | {"SENTRALBORD_TWILIO__ACCOUNT_SID": wrong})
        assert "must be AC and 32 signs" in told


def test_a_shared_key_stands_in_for_the_token_with_its_secret():
    key = {k: v for k, v in ACCOUNT.items() if "TOKEN" not in k} | {
        "SENTRALBORD_TWILIO__SHARED_KEY": "webhooks_sharedkey_1"
    }
    assert "AUTH_TOKEN" in problems(SMS | key)[0]
    settings = load_settings(CONFIG, SMS | key | {"SENTRALBORD_TWILIO__SHARED_SECRET": "delt"})
    assert settings.twilio.shared_keys == {"webhooks_sharedkey_1": "delt"}


def test_a_key_of_the_api_needs_its_secret():
    [told] = problems({"SENTRALBORD_TWILIO__API_KEY": "SK1"})
    assert "set SENTRALBORD_TWILIO__API_SECRET too" in told


def test_texts_need_a_number_to_be_sent_from(tmp_path):
    text = CONFIG.read_text(encoding="utf-8").replace('numbers: ["+4759440000"]', "numbers: []")
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    (tmp_path / "rules" / "sorum").mkdir(parents=True)
    [told] = problems(SMS | ACCOUNT, path=file)
    line = text[: text.index("numbers: []")].count("\n") + 1
    assert f"config.yaml:{line}" in told
    assert "channels.sms.numbers: texts need a number" in told


@pytest.mark.parametrize("url", ["https://[::1]:8080", "https://kari:hemmelig@sorum.kommune.no"])
def test_an_address_that_cannot_be_signed_is_refused(url):
    [told] = problems(SMS | ACCOUNT | {"SENTRALBORD_PUBLIC_URL": url})
    assert "public_url" in told
    assert "hemmelig" not in told
    load_settings(CONFIG, {"SENTRALBORD_PUBLIC_URL": url})


@pytest.mark.parametrize("name", ["auth_token", "old_auth_token", "shared_secret", "api_secret"])
def test_secrets_do_not_stand_in_the_file(tmp_path, name):
    text = CONFIG.read_text(encoding="utf-8").replace(
        "\ntwilio:\n", f'\ntwilio:\n  {name}: "hemmelig"\n'
    )
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    (tmp_path / "rules" / "sorum").mkdir(parents=True)
    [told] = problems({}, path=file)
    assert f"does not go here; use SENTRALBORD_TWILIO__{name.upper()}" in told
    assert "hemmelig" not in told
