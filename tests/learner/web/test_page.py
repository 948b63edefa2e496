"""The web page in a real browser: live, by keyboard, on a phone, and safe from scripts in names."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from audit_traffic import Installation
from browser import NoBrowserError, chromium, set_screen
from learner_traffic import feedback, messages, outcome, selection
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from conduit_log import LogSettings, open_log
from conduit_schemas import Event

DEADLINE_S = 180.0
ODD = "default/<b>odd</b>"
POLICY = "default/chat"
TOKEN = "a-token-of-some-length"

# Every visible text, and its contrast with the background (WCAG 2).
CONTRASTS = """
const channel = (value) => { value /= 255; return value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color.length < 4 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const found = [];
for (const node of document.querySelectorAll("body *")) {
  const text = [...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data.trim()).join("");
  if (!text || !node.checkVisibility() || node.closest(".hidden, .skip, option")) continue;
  const style = getComputedStyle(node);
  const front = parse(node.namespaceURI.endsWith("svg") ? style.fill : style.color);
  const [one, other] = [light(front), light(behind(node))];
  found.push([(Math.max(one, other) + .05) / (Math.min(one, other) + .05), text.slice(0, 40)]);
}
return found.sort((one, other) => one[0] - other[0]).slice(0, 3);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    try:
        with chromium() as running:
            yield running
    except NoBrowserError as error:
        pytest.fail(str(error), pytrace=False)


class Dashboard:
    """``conduit dashboard`` on a log of its own."""

    def __init__(self, path: Path, **environment: str) -> None:
        self.path = path
        self._process = subprocess.Popen(
            [sys.executable, "-m", "conduit_learner", "dashboard", "--path", str(path), "--http", "127.0.0.1:0"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"the page is at (\S+)", line):
                self.url = found[1]
                return
        pytest.fail("the dashboard ended before it served")

    def append(self, *events: Event) -> None:
        settings = LogSettings(path=self.path)

        async def write() -> None:
            async with open_log(settings) as log:
                await log.append(settings.topics.events, messages(events))

        asyncio.run(write())

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=DEADLINE_S)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A log with one busy policy, and one whose names contain markup."""
    path = tmp_path_factory.mktemp("page")
    made = Installation().run(400)
    made.publish()
    # Until two hours ago: the last hour is empty, and nothing is old enough for the log to remove it.
    shift = int(time.time() * 1000) - 7_200_000 - made.log[-1].time_ms
    made.store(path, [message._replace(time_ms=message.time_ms + shift) for message in made.log])
    running = Dashboard(path)
    attack = "<img src=x onerror=alert(1)>"
    running.append(
        selection("<s>d1</s>", policy=ODD, arms=("<u>a</u>", "b"), models=(attack, "b"), chosen=0),
        outcome("<s>d1</s>", policy=ODD, status="error", error_class=attack),
        feedback("<s>d1</s>", 0.5, policy=ODD, source="<i>judge</i>"),
    )
    yield running
    running.stop()


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


def text_of(browser: Chrome, selector: str) -> str:
    return str(browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))


def texts(browser: Chrome, selector: str) -> list[str]:
    return list(browser.execute_script(_TEXTS, selector))


_TEXTS = "return [...document.querySelectorAll(arguments[0])].map((node) => node.innerText)"


def tiles(browser: Chrome) -> dict[str, str]:
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#tiles .tile')].map((tile) => "
        "[tile.querySelector('dt').textContent, tile.querySelector('.value').textContent])"
    )
    return dict(rows)


def opened(browser: Chrome, dashboard: Dashboard, *, width: int = 1200, scheme: str = "light") -> Chrome:
    """Load the page, and wait until it shows the busy policy."""
    browser.get_log("browser")
    set_screen(browser, width, 900, scheme=scheme)
    browser.get("about:blank")  # the old focus is gone
    browser.get(dashboard.url)
    until(lambda: tiles(browser).get("Requests") == "400")
    until(lambda: browser.execute_script("return document.querySelectorAll('#share path').length > 0"))
    return browser


def complaints(browser: Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if "favicon" not in entry["message"]]


class TestPage:
    def test_it_shows_what_the_log_holds(self, browser: Chrome, dashboard: Dashboard) -> None:
        page = opened(browser, dashboard)
        assert re.search(r"\d+ % saved compared with always using dear: \$\d", text_of(page, "#headline"))
        assert "95 % confidence" in text_of(page, "#subline")
        table = text_of(page, "#arm-table")
        for arm in ("dear", "cheap", "slow"):
            assert arm in table
        decisions = page.execute_script(
            "return [...document.querySelectorAll('#decision-list li')].map(li => li.innerText)"
        )
        assert len(decisions) == 60
        assert all(re.search(r"looked best of 3|was tried out|LiteLLM's own selection", told) for told in decisions)
        health = text_of(page, "#checks")
        assert "Learner: up to date" in health
        assert "Dead letters: none" in health
        assert "learns with contextual_thompson on eight" in text_of(page, "#change-list")
        assert complaints(page) == []

    def test_every_chart_has_words_and_a_table(self, browser: Chrome, dashboard: Dashboard) -> None:
        page = opened(browser, dashboard)
        labels = page.execute_script(
            "return [...document.querySelectorAll('figure > svg')].filter((svg) => !svg.hasAttribute('hidden'))"
            ".map((svg) => svg.getAttribute('role') + ' ' + svg.getAttribute('aria-label'))"
        )
        assert len(labels) == 11
        assert all(re.match(r"img \w.*\. .*\d", label) for label in labels)
        page.execute_script("for (const summary of document.querySelectorAll('figure summary')) summary.click()")
        rows = until(
            lambda: page.execute_script(
                "const rows = (details) => details.querySelectorAll('tbody tr').length;"
                "const counts = [...document.querySelectorAll('figure details')].map(rows);"
                "return counts.every((count) => count > 0) ? counts : null"
            )
        )
        assert len(rows) == 11
        heads = page.execute_script(
            "return [...document.querySelectorAll('#share thead th')].map((th) => th.innerText)"
        )
        assert heads == ["From", "dear", "cheap", "slow"]

    def test_new_events_appear_by_themselves(self, browser: Chrome, dashboard: Dashboard) -> None:
        page = opened(browser, dashboard)
        assert Select(page.find_element(By.ID, "policy")).first_selected_option.text == POLICY
        page.execute_script("window.untouched = true")
        dashboard.append(selection("fresh", policy="default/new"))
        until(lambda: "default/new" in texts(page, "#policy option"))
        assert texts(page, "#policy option") == sorted([ODD, POLICY, "default/new"])
        assert page.execute_script("return window.untouched")

    def test_ranges_and_policies_can_be_chosen(self, browser: Chrome, dashboard: Dashboard) -> None:
        page = opened(browser, dashboard)
        page.find_element(By.CSS_SELECTOR, "input[value=hour]").click()
        until(lambda: tiles(page)["Requests"] == "0")
        assert "No requests in this time." in text_of(page, "#share")
        page.find_element(By.CSS_SELECTOR, "input[value=all]").click()
        until(lambda: tiles(page)["Requests"] == "400")
        select = Select(page.find_element(By.ID, "which"))
        select.select_by_visible_text("rated")
        tags = texts(page, "#decision-list li")
        assert 0 < len(tags) < 60
        assert all("The answer was rated" in told for told in tags)

    def test_names_from_the_log_are_never_markup(self, browser: Chrome, dashboard: Dashboard) -> None:
        page = opened(browser, dashboard)
        Select(page.find_element(By.ID, "policy")).select_by_value(ODD)
        until(lambda: tiles(page)["Requests"] == "1")
        shown = text_of(page, "main")
        for name in ("<img src=x onerror=alert(1)>", "<i>judge</i>"):
            assert name in shown
        assert page.execute_script("return document.querySelectorAll('main img, main u, main s, main i i').length") == 0
        assert complaints(page) == []

    def test_the_keyboard_is_enough(self, browser: Chrome, dashboard: Dashboard) -> None:
        page = opened(browser, dashboard)

        def press(*keys: str) -> None:
            ActionChains(page).send_keys(*keys).perform()

        def focused() -> str:
            return str(page.execute_script("return document.activeElement.id || document.activeElement.className"))

        press(Keys.TAB)
        assert focused() == "skip"
        press(Keys.ENTER)
        until(lambda: focused() == "main")
        page.execute_script("document.querySelector('#share svg').focus()")
        newest = text_of(page, "#share .key")
        press(Keys.HOME)
        first = text_of(page, "#share .key")
        assert first != newest
        press(Keys.ARROW_RIGHT)
        assert text_of(page, "#share .key") != first
        assert page.execute_script("return document.querySelector('#share .key').getAttribute('aria-live')") == "polite"
        wanted = {"A", "svg", "SUMMARY", "DIV"}  # a DIV is a table that scrolls
        reached: set[str] = set()
        for _ in range(400):  # the sixty decisions alone are that many steps, and live ones are added
            press(Keys.TAB)
            reached.add(page.execute_script("return document.activeElement.tagName"))
            if wanted <= reached:
                break
        assert wanted <= reached

    def test_it_has_landmarks_and_names_for_everything(self, browser: Chrome, dashboard: Dashboard) -> None:
        page = opened(browser, dashboard)
        counts = page.execute_script(
            "return Object.fromEntries(['main', 'header', 'footer', 'nav', 'h1'].map((name) => "
            "[name, document.querySelectorAll(name).length]))"
        )
        assert counts == {"main": 1, "header": 1, "footer": 1, "nav": 1, "h1": 1}
        nameless = page.execute_script(
            "const all = document.querySelectorAll('button, select, input, a, [tabindex=\"0\"], section');"
            "return [...all].filter((node) => "
            "!(node.getAttribute('aria-label') || node.getAttribute('aria-labelledby') || node.labels?.length || "
            "node.innerText?.trim())).map((node) => node.outerHTML.slice(0, 80))"
        )
        assert nameless == []
        skipped = page.execute_script(
            "const levels = [...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]));"
            "return levels.filter((level, index) => index && level > levels[index - 1] + 1)"
        )
        assert skipped == []

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_can_be_read(self, browser: Chrome, dashboard: Dashboard, scheme: str) -> None:
        page = opened(browser, dashboard, scheme=scheme)
        background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (int(re.findall(r"\d+", background)[0]) < 60) is (scheme == "dark")
        for contrast, text in page.execute_script(CONTRASTS):
            assert contrast >= 4.5, text

    def test_the_colours_can_be_chosen_and_stay(self, browser: Chrome, dashboard: Dashboard) -> None:
        page = opened(browser, dashboard)
        for wanted in ("light", "dark"):
            page.find_element(By.ID, "theme").click()
            assert page.find_element(By.ID, "theme").get_attribute("aria-label") == f"Colours: {wanted}"
        page.refresh()
        until(lambda: page.execute_script("return document.documentElement.dataset.theme") == "dark")
        page.find_element(By.ID, "theme").click()
        assert page.execute_script("return document.documentElement.dataset.theme ?? 'system'") == "system"

    @pytest.mark.parametrize("width", [340, 800])
    def test_it_fits_a_small_screen(self, browser: Chrome, dashboard: Dashboard, width: int) -> None:
        page = opened(browser, dashboard, width=width)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        outside = page.execute_script(
            "return [...document.querySelectorAll('figure, .tile, h1, #checks li')].filter((node) => "
            "node.checkVisibility() && node.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert outside == 0


def change_by_hand(browser: Chrome) -> None:
    modes, presets = (Select(browser.find_element(By.ID, name)) for name in ("mode", "wanted"))
    assert [option.text for option in modes.options] == ["unchanged", "off", "shadow", "canary", "active"]
    assert [option.text for option in presets.options] == ["unchanged", "quality", "balanced", "cost", "speed"]
    assert browser.find_element(By.ID, "canary").get_attribute("value") == "0.05"
    modes.select_by_visible_text("shadow")
    for field, typed in (("by", "ann"), ("token", "wrong")):
        browser.find_element(By.ID, field).send_keys(typed)
    browser.find_element(By.CSS_SELECTOR, "#control button").click()
    until(lambda: text_of(browser, "#control-said") == "wrong token")
    browser.find_element(By.ID, "token").clear()
    browser.find_element(By.ID, "token").send_keys(TOKEN)
    browser.find_element(By.CSS_SELECTOR, "#control button").click()
    until(lambda: "routing, by ann, on the web page" in text_of(browser, "#change-list"))
    assert "LiteLLM chooses; Conduit logs what it would have chosen (shadow)." in text_of(browser, "#change-list")


def test_an_empty_log_says_what_to_do_and_a_lost_server_is_noticed(browser: Chrome, tmp_path: Path) -> None:
    Installation().store(tmp_path / "log", [])
    running = Dashboard(tmp_path / "log", CONDUIT_WEB_TOKEN=TOKEN)
    try:
        set_screen(browser, 1200, 900)
        browser.get(running.url)
        until(lambda: "No decisions yet" in text_of(browser, "#empty"))
        running.append(selection("d1"))
        until(lambda: tiles(browser).get("Requests") == "1")
        change_by_hand(browser)
    finally:
        running.stop()
    until(lambda: "does not answer" in text_of(browser, "#notices"))
    assert text_of(browser, "#live") == "no answer"
    assert tiles(browser)["Requests"] == "1"


def test_only_numbers_and_names_travel(browser: Chrome, dashboard: Dashboard) -> None:
    page = opened(browser, dashboard)
    urls = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(url.startswith(dashboard.url) for url in urls)
    stored = json.loads(page.execute_script("return JSON.stringify(Object.keys(localStorage))"))
    assert stored == ["conduit-theme"]
    assert page.get_cookies() == []
