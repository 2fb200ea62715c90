"""How soon what is said stands on the other side's screen: `python -m tests.browser.chat_times`.

A resident's window and an operator's, in one Chromium; the clock runs from the Enter key in one to
the frame in which the other shows the line.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests import service as running
from tests.benchmarks.running import share
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.people import Visitors, employ

WATCH = """() => {
  window.pressed = [];
  window.seen = {};
  const now = () => performance.timeOrigin + performance.now();
  const field = document.getElementById("text");
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") window.pressed.push([field.value.trim(), now()]);
  }, { capture: true });
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) {
        const words = node.matches?.(".theirs") && node.querySelector(".said")?.textContent;
        if (words) requestAnimationFrame(() => { window.seen[words] ??= now(); });
      }
    }
  }).observe(document.getElementById("lines"), { childList: true });
}"""


def milliseconds(sender, receiver) -> list[float]:
    """From the key to the frame, for everything that one side said."""
    seen = receiver.evaluate("window.seen")
    return [seen[words] - at for words, at in sender.evaluate("window.pressed")]


def report(name: str, times: list[float]) -> None:
    print(
        f"{name}: {len(times)} messages, median {share(times, 50):.0f} ms,"
        f" p99 {share(times, 99):.0f} ms, longest {max(times):.0f} ms"
    )


def main(number: int) -> None:
    settings = {
        "CHANNELS__CHAT__HOURS__MON-SUN": "00:00-24:00",
        "CHANNELS__CHAT__MESSAGES_PER_MINUTE": "10000",
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        running.sink() as smarthost,
        running.service(Path(folder), smarthost.port, **settings) as service,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        visitors = Visitors(browser, service)
        operator = visitors.staff(employ(service))
        resident = visitors.resident()
        resident.goto("/chat")
        resident.get_by_label("Meldingen din").fill("Hei")
        resident.keyboard.press("Enter")
        operator.get_by_role("button", name="Ta den neste i chatten").click()
        expect(operator.locator("#say-keys")).not_to_be_empty()
        for page in (resident, operator):
            page.evaluate(WATCH)
        for turn in range(number):
            for page, other, word in (
                (operator, resident, "Svar"),
                (resident, operator, "Spørsmål"),
            ):
                page.get_by_label("Meldingen din").fill(f"{word} {turn}")
                page.keyboard.press("Enter")
                expect(other.locator(".theirs .said").last).to_have_text(f"{word} {turn}")
        report("resident to operator", milliseconds(resident, operator))
        report("operator to resident", milliseconds(operator, resident))
        visitors.close()
        browser.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
