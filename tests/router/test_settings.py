"""The configuration: every mistake is told with its place and, where possible, what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.errors import SettingsError
from router.settings import load_settings, setting, unknown_variables
from rules.document import DocumentError

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "config.yaml"


@pytest.fixture
def edited(tmp_path):
    """A copy of our own configuration with one thing changed; tells the changed line."""

    def edit(old: str, new: str) -> tuple[Path, int]:
        text = CONFIG.read_text(encoding="utf-8")
        assert text.count(old) == 1, old
        line = text[: text.index(old)].count("\n") + 1
        (tmp_path / "rules" / "sorum").mkdir(parents=True)
        file = tmp_path / "config.yaml"
        file.write_text(text.replace(old, new), encoding="utf-8")
        return file, line

    return edit


def problems(path: Path, environment=None) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_settings(path, environment or {})
    return caught.value.text("en").splitlines()


def test_our_own_configuration_is_fine():
    settings = load_settings(CONFIG, {})
    assert settings.departments["vei"].addresses == ("vei@sorum.kommune.no",)
    assert settings.public_url == "http://127.0.0.1:8080"
    assert settings.data == REPOSITORY / "var"
    assert settings.rules.folder == REPOSITORY / "rules" / "sorum"


MISTAKES = {
    "a misspelt key": (
        "  host: 127.0.0.1\n  port: 8080",
        "  hosst: 127.0.0.1\n  port: 8080",
        0,
        "web.hosst: unknown key, did you mean “host”?",
    ),
    "a misspelt key deep inside": (
        "      port: 2525",
        "      prot: 2525",
        0,
        "channels.email.listen.prot: unknown key, did you mean “port”?",
    ),
    "a misspelt section": ("\nweb:\n", "\nwebb:\n", 1, "webb: unknown key, did you mean “web”?"),
    "a number that is none": ("  port: 8080", "  port: åtti", 0, "port: must be a whole number"),
    "a number out of range": ("  port: 8080", "  port: 80800", 0, "port: must be at most 65535"),
    "a value that is not offered": (
        "      tls: none  ",
        "      tls: startls  ",
        0,
        "channels.email.smarthost.tls: unknown value “startls”, did you mean “starttls”?",
    ),
    "no value": ("    addresses: [vei@sorum.kommune.no]", "    addresses:", 0, "empty"),
    "not an address": (
        "[vei@sorum.kommune.no]",
        "[vei]",
        0,
        "departments.vei.addresses.0",
    ),
    "an address of two": (
        "[park@sorum.kommune.no]",
        "[vei@sorum.kommune.no]",
        0,
        "departments.park.addresses.0: vei@sorum.kommune.no already belongs to vei",
    ),
    "a network that is none": ("_peers: []  ", "_peers: [10.1.0.0/240]  ", 0, "no network like"),
    "a default department that is none": (
        "  default_department: servicetorg",
        "  default_department: servicetorv",
        0,
        "unknown department “servicetorv”, did you mean “servicetorg”?",
    ),
    "a time that is none": (
        '    mon-fri: ["08:00-15:45"]',
        '    mon-fri: ["8-15:45"]',
        0,
        "calendar.hours.mon-fri: “8” is ",
    ),
    "a day that is none": (
        '    easter-4: "12:00"',
        '    easterr-4: "12:00"',
        0,
        "calendar.half_days.easterr-4: “easterr-4” is no",
    ),
    "a time zone that is none": (
        "  timezone: Europe/Oslo",
        "  timezone: Europe/Osl",
        0,
        "calendar.timezone: unknown time zone “Europe/Osl”",
    ),
    "a department's hours that are none": (
        "hours: {mon: [\"10:00-14:00\"], tue:",
        "hours: {mon: [\"1000\"], tue:",
        0,
        "departments.nav.hours.mon: “1000” is no",
    ),
    "a page that is no origin": (
        "    embed_on: []  ",
        "    embed_on: [https://www.sorum.kommune.no/kontakt]  ",
        0,
        "channels.chat.embed_on.0: “https://www.sorum.kommune.no/kontakt” is no origin like",
    ),
    "hours of the chat that are none": (
        "    embed_on: []  ",
        "    hours: {mon-fri: [\"9\"]}  ",
        0,
        "channels.chat.hours.mon-fri: “9” is no",
    ),
    "cookies across sites in the clear": (
        "    embed_on: []  ",
        "    cross_site: true  ",
        0,
        "channels.chat.cross_site: browsers take such cookies over https alone",
    ),
    "a target without a length": (
        "  service:     {working_days: 3, ",
        "  service:     {",
        0,
        "reply_targets.service: give either working_days or months",
    ),
    "one port for two doors": (
        "      port: 2525",
        "      port: 8080",
        0,
        "channels.email.listen.port: 8080 is web.port too",
    ),
    "a password in the clear": (
        '      username: ""',
        "      username: post",
        -1,
        "channels.email.smarthost.tls: a password would go unencrypted",
    ),
    "a URL that is none": (
        "# public_url: https://henvendelse.sorum.kommune.no",
        "public_url: henvendelse.sorum.kommune.no",
        0,
        "must begin with http:// or https://",
    ),
    "a tab": ("  host: 127.0.0.1\n  port: 8080", "\thost: 127.0.0.1\n  port: 8080", 0, ""),
    "a key twice": ("  port: 8080", "  port: 8080\n  port: 8081", 1, "web.port"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_file_line_and_what_was_meant(edited, name):
    old, new, offset, told = MISTAKES[name]
    path, line = edited(old, new)
    found = problems(path)
    mine = [text for text in found if text.startswith(f"{path.name}:{line + offset}:")]
    assert mine, found
    assert any(told in text for text in mine), found


def test_all_mistakes_are_told_at_once(edited):
    path, _ = edited("  port: 8080", "  port: åtti\n  hosst: x")
    assert len(problems(path)) == 2


def test_a_file_that_is_not_there_and_a_folder_that_is_not_there(tmp_path, edited):
    with pytest.raises(SettingsError, match=r"no configuration file .*nei\.yaml"):
        load_settings(tmp_path / "nei.yaml", {})
    path, line = edited("  folder: rules/sorum", "  folder: rules/sørum")
    assert problems(path)[0].startswith(f"config.yaml:{line}: rules.folder: there is no folder")


def test_the_environment_wins_over_the_file():
    environment = {
        "SENTRALBORD_WEB__PORT": "8099",
        "SENTRALBORD_CHANNELS__EMAIL__LISTEN__PORT": "2526",
        "SENTRALBORD_CHANNELS__EMAIL__LISTEN__TRUSTED_PEERS": "10.1.0.0/24, 10.2.0.0/24",
        "SENTRALBORD_PUBLIC_URL": "https://henvendelse.example/",
        "SENTRALBORD_DEPARTMENTS__VEI__FORWARD_TO": "Vei@Entreprenor.example",
        "SENTRALBORD_CHANNELS__EMAIL__SMARTHOST__PASSWORD": "hemmelig",
        "PATH": "/bin",
    }
    settings = load_settings(CONFIG, environment)
    assert settings.web.port == 8099
    assert settings.channels.email.listen.port == 2526
    assert [str(n) for n in settings.channels.email.listen.trusted_peers] == [
        "10.1.0.0/24",
        "10.2.0.0/24",
    ]
    assert settings.public_url == "https://henvendelse.example"
    assert settings.departments["vei"].forward_to == "vei@entreprenor.example"
    assert settings.channels.email.smarthost.password.get_secret_value() == "hemmelig"
    assert "hemmelig" not in str(settings) + settings.model_dump_json()
    assert "hemmelig" not in str(setting(settings, "channels.email.smarthost.password"))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WEB__PORT", "åtti", "web.port: must be a whole number"),
        # Neither of these stands in the file.
        ("CHANNELS__EMAIL__SMARTHOST__TIMEOUT", "fem", "timeout: must be a number"),
        ("DEPARTMENTS__VEI__FORWARD_TO", "vei", "departments.vei.forward_to"),
        ("WEB__TRUSTED_PROXIES", "10.1.0.1, x", "“x” is no network like"),
        ("MUNICIPALITY__DEFAULT_DEPARTMENT", "servicetorv", "did you mean “servicetorg”?"),
        ("RULES__FOLDER", "/finnes/ikke", "there is no folder"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(name, value, told):
    found = problems(CONFIG, {f"SENTRALBORD_{name}": value})
    assert found[0].startswith(f"SENTRALBORD_{name}: "), found
    assert any(told in line for line in found), found


def test_a_secret_can_come_from_a_file(tmp_path):
    secret = tmp_path / "password"
    secret.write_text("hemmelig\n", encoding="utf-8")
    name = "SENTRALBORD_CHANNELS__EMAIL__SMARTHOST__PASSWORD_FILE"
    settings = load_settings(CONFIG, {name: str(secret)})
    assert settings.channels.email.smarthost.password.get_secret_value() == "hemmelig"


def test_a_secret_file_that_cannot_be_read_is_told_in_words(tmp_path):
    name = "SENTRALBORD_CHANNELS__EMAIL__SMARTHOST__PASSWORD_FILE"
    with pytest.raises((DocumentError, SettingsError), match=name):
        load_settings(CONFIG, {name: str(tmp_path / "nei")})


def test_a_secret_does_not_belong_in_the_file(edited):
    path, line = edited('      username: ""', "      username: x\n      password: hemmelig")
    found = problems(path)
    told = f"config.yaml:{line + 1}: channels.email.smarthost.password: does not go here"
    assert any(text.startswith(told) for text in found), found
    assert "hemmelig" not in "".join(found)


def test_a_password_does_not_go_over_an_open_line():
    [told] = problems(CONFIG, {"SENTRALBORD_CHANNELS__EMAIL__SMARTHOST__USERNAME": "post"})
    assert told.endswith("a password would go unencrypted; choose starttls or tls")


def test_a_variable_that_names_nothing_is_told():
    assert unknown_variables(
        {
            "SENTRALBORD_WEB__PORT": "1",
            "SENTRALBORD_WEBB__PORT": "1",
            "SENTRALBORD_WEB__PROT": "1",
            "SENTRALBORD_SIGNING_KEY_FILE": "/x",
            "SENTRALBORD_WEB_FILES": "/x",
            "SENTRALBORD_CONFIG": "x.yaml",
            "SENTRALBORD_TEST_DATA": "/x",
            "HOME": "/",
        }
    ) == ["SENTRALBORD_WEBB__PORT", "SENTRALBORD_WEB_FILES", "SENTRALBORD_WEB__PROT"]


def test_one_value_by_its_key():
    settings = load_settings(CONFIG, {})
    assert setting(settings, "channels.email.listen.port") == 2525
    assert setting(settings, "departments.vei.addresses.0") == "vei@sorum.kommune.no"
    assert setting(settings, "departments.vei.name.nn") == "Veg"
    for key in ("web.prot", "departments.vei.addresses.7", "", "web..port"):
        with pytest.raises(KeyError):
            setting(settings, key)


CTI = "SENTRALBORD_CHANNELS__PHONE__CTI__"


def test_an_exchange_must_show_a_token_that_cannot_be_guessed():
    [told] = problems(CONFIG, {f"{CTI}ENABLED": "true"})
    assert "channels.phone.cti.enabled" in told
    assert f"{CTI}TOKEN" in told
    for weak in ("hemmelig", "x" * 21, "with a space " + "x" * 30, "sla/sh" + "x" * 30):
        [told] = problems(CONFIG, {f"{CTI}ENABLED": "true", f"{CTI}TOKEN": weak})
        assert "must have at least 22 characters" in told
        assert weak not in told
    load_settings(CONFIG, {f"{CTI}ENABLED": "true", f"{CTI}TOKEN": "0" * 32})


@pytest.mark.parametrize(
    ("value", "origin"),
    [
        ("https://www.sorum.kommune.no", "https://www.sorum.kommune.no"),
        ("HTTPS://WWW.Sorum.kommune.no/", "https://www.sorum.kommune.no"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("www.sorum.kommune.no", ""),
        ("https://", ""),
        ("https://*.kommune.no", ""),
        ("https://a.no;script-src *", ""),
        ("https://a.no https://b.no", ""),
        ("https://bruker@a.no", ""),
        ("javascript://a.no", ""),
        ("https://a.no/?x", ""),
        ("'self'", ""),
    ],
)
def test_an_origin_goes_into_a_header_so_it_is_one_or_nothing(value, origin):
    variable = {"SENTRALBORD_CHANNELS__CHAT__EMBED_ON": value}
    if not origin:
        with pytest.raises(DocumentError, match="embed_on"):
            load_settings(CONFIG, variable)
    else:
        assert load_settings(CONFIG, variable).channels.chat.embed_on == (origin,)


def test_people_are_named_as_their_accounts_are(edited):
    file, _line = edited("      ola: {name: Ola Hansen", "      Ola: {name: Ola Hansen")
    settings = load_settings(file, {})
    assert set(settings.channels.phone.people) == {"kari", "ola"}
    assert settings.channels.phone.people["kari"].deputy == "ola"


def test_the_xmpp_door_needs_a_domain_and_a_secret_that_stands_in_no_file(tmp_path):
    xmpp = "SENTRALBORD_CHANNELS__XMPP__"
    nameless, secretless = problems(CONFIG, {f"{xmpp}ENABLED": "true", f"{xmpp}DOMAIN": ""})
    assert "channels.xmpp.domain" in nameless
    assert f"{xmpp}SECRET" in secretless
    [told] = problems(CONFIG, {f"{xmpp}DOMAIN": "sentralbord@sorum.kommune.no"})
    assert "is no domain" in told
    good = {f"{xmpp}ENABLED": "true", f"{xmpp}SECRET": "0" * 32}
    door = load_settings(CONFIG, good | {f"{xmpp}DOMAIN": "Sentralbord.sorum.kommune.no."})
    assert door.channels.xmpp.domain == "sentralbord.sorum.kommune.no"
    assert setting(door, "channels.xmpp.secret") == "**********"
    assert door.xmpp_addresses["kart"] == door.xmpp_addresses["kart-oppmaling"] == "kart-oppmaling"
