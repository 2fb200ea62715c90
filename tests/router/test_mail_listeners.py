"""What the settings and the doctor say about the listeners for mail and their certificate."""

from __future__ import annotations

import shutil

import pytest

from router.settings import load_settings
from rules.document import DocumentError
from tests.certificates import make
from tests.router.conftest import CONFIG
from tests.service import free_port

EMAIL = "SENTRALBORD_CHANNELS__EMAIL__"


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    if not shutil.which("openssl"):
        pytest.skip("openssl makes certificates")
    files = make(tmp_path, "mail")
    monkeypatch.setenv(f"{EMAIL}LISTEN__TLS__CERTIFICATE", str(files.certificate))
    monkeypatch.setenv(f"{EMAIL}LISTEN__TLS__KEY", str(files.key))
    return files


def with_tls(folder, tls: str):
    """Our configuration, with this certificate."""
    text = CONFIG.read_text(encoding="utf-8")
    path = folder / "config.yaml"
    shutil.copytree(CONFIG.parent / "rules" / "sorum", folder / "rules" / "sorum")
    [place] = [line for line in text.splitlines() if line.strip().startswith("# tls: {cert")]
    path.write_text(text.replace(place, f"      tls: {tls}"), encoding="utf-8")
    return path


def test_a_good_certificate_is_told_by_the_doctor(run, certificate, few_rules):
    assert run("migrate") == 0
    assert run("doctor") == 0
    assert f"STARTTLS with {certificate.certificate}." in run.out
    assert run("config", "check") == 0


def test_a_key_of_another_certificate_is_told(run, certificate, few_rules, tmp_path):
    shutil.copyfile(make(tmp_path, "other").key, certificate.key)
    assert run("migrate") == 0
    assert run("doctor") == 1
    [line] = [line for line in run.out.splitlines() if "listen.tls" in line]
    assert line.startswith("ERROR")
    assert "the key does not belong to the certificate" in line
    assert run("config", "check") == 1
    assert "the key does not belong to the certificate" in run.err


def test_files_that_are_not_there_are_told_with_file_and_line(run, tmp_path):
    path = with_tls(tmp_path, "{certificate: mail.pem, key: mail.key}")
    number = next(
        number
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip().startswith("tls: {cert")
    )
    for command in (("config", "check"), ("serve",)):
        assert run(*command, "--config", str(path)) == 1
        assert f"config.yaml:{number}" in run.err
        assert f"{tmp_path / 'mail.pem'} cannot be read" in run.err.replace("\n", " ")


def test_half_a_certificate_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="tls"):
        load_settings(with_tls(tmp_path, "{certificate: mail.pem}"), {})


@pytest.mark.parametrize(
    ("port", "other"), [("2525", "channels.email.listen.port"), ("8080", "web.port")]
)
def test_a_port_for_two_is_refused(port, other):
    environment = {f"{EMAIL}LMTP__ENABLED": "true", f"{EMAIL}LMTP__PORT": port}
    with pytest.raises(DocumentError) as caught:
        load_settings(CONFIG, environment)
    [problem] = caught.value.problems
    assert "lmtp" in problem.path
    assert other in problem.text("en")


def test_the_variable_that_takes_the_port_of_another_is_blamed():
    with pytest.raises(DocumentError) as caught:
        load_settings(CONFIG, {"SENTRALBORD_WEB__PORT": "2525"})
    [problem] = caught.value.problems
    assert problem.text("en") == (
        "SENTRALBORD_WEB__PORT: web.port: 2525 is channels.email.listen.port too; "
        "choose another for one of them"
    )


def test_lmtp_beyond_this_machine_is_warned_of(run, monkeypatch, few_rules):
    monkeypatch.setenv(f"{EMAIL}LMTP__ENABLED", "true")
    monkeypatch.setenv(f"{EMAIL}LMTP__HOST", "0.0.0.0")
    monkeypatch.setenv(f"{EMAIL}LMTP__PORT", str(free_port()))
    assert run("migrate") == 0
    run("doctor")
    assert "whoever reaches it is trusted" in run.out
