"""A real browser for the tests: headless Chromium with its own driver, or a clear message why there is none."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class NoBrowserError(Exception):
    """Raised when this machine has no browser for the tests. The message says how to get one."""


def browser_paths() -> tuple[str, str]:
    """Return where the browser and its driver are."""
    browser = os.environ.get("CONDUIT_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = os.environ.get("CONDUIT_TEST_CHROMEDRIVER") or shutil.which("chromedriver")
    if browser is None or driver is None:
        raise NoBrowserError(
            "the tests of the web page need Chromium and its driver: run `make needs` (Debian, as root), or name "
            "them with CONDUIT_TEST_BROWSER and CONDUIT_TEST_CHROMEDRIVER"
        )
    return browser, driver


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Start a browser with a fresh profile."""
    browser, driver = browser_paths()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--disk-cache-dir={Path(profile) / 'cache'}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        running = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield running
        finally:
            running.quit()


def set_screen(browser: webdriver.Chrome, width: int, height: int, *, scheme: str = "light") -> None:
    """Set the page's size and the user's preferred colour scheme."""
    metrics: dict[str, Any] = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    # Without smooth scrolling, because a click must not happen while the page moves.
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
