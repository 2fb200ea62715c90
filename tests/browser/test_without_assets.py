"""A checkout whose front-end files nobody has built: plainer clothes, the same work."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import expect

from tests import service as running
from tests.browser.people import announced, row, write_in


@pytest.fixture(scope="module")
def service(smarthost, tmp_path_factory):
    copy = tmp_path_factory.mktemp("checkout")
    left_out = shutil.ignore_patterns("vendor", "__pycache__")
    for room in ("router", "channels", "rules"):
        shutil.copytree(running.REPOSITORY / room, copy / room, ignore=left_out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "REPOSITORY", copy)
        with running.service(copy / "installation", smarthost.port) as opened:
            yield opened


def test_the_desk_and_the_form_work(visitors, service, smarthost):
    page = visitors.staff()
    assert page.evaluate("typeof window.htmx") == "undefined"
    subject = write_in(service)
    expect(row(page, subject)).to_contain_text("Vei")
    row(page, subject).get_by_role("button", name="Ta").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(subject)
    announced(page, "Du har tatt henvendelsen.")
    page.get_by_role("textbox", name="Svar til").fill("Vi kommer.")
    page.get_by_role("button", name="Send svar og lukk").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Kø")

    page.goto("/")
    page.get_by_label("Hva gjelder det?").fill("Gatelyset er mørkt.")
    page.get_by_label("Telefon").fill("900 00 000")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_contain_text("Takk.")
