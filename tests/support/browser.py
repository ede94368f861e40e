"""A headless Chromium for pages that we write: Debian's packages chromium and chromium-driver, nothing downloaded.

`TICKETROUTER_REQUIRE_BROWSER` makes a failure of its absence.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PHONE, DESKTOP = 390, 1280
_PATIENCE = 30
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)


_LOADED = "document.readyState === 'complete'"
_HARD_TO_READ = """
const channels = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
const light = colour => {
  const [r, g, b] = channels(colour).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const opaque = colour => { const c = channels(colour); return c.length === 3 || c[3] === 1; };
const behind = element => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (opaque(colour)) return colour;
  }
  return getComputedStyle(document.documentElement).colorScheme === 'dark' ? 'rgb(18, 18, 18)' : 'rgb(255, 255, 255)';
};
const found = [];
for (const element of document.body.querySelectorAll('*')) {
  const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (!own || !element.getClientRects().length || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(element.tagName)) continue;
  const style = getComputedStyle(element);
  const ink = element instanceof SVGElement ? style.fill : style.color;
  const [dark, bright] = [light(ink), light(behind(element))].sort((a, b) => a - b);
  const contrast = (bright + 0.05) / (dark + 0.05);
  if (contrast < 4.5) found.push(`${contrast.toFixed(1)}: ${element.textContent.trim().slice(0, 40)}`);
}
return found;
"""


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def show(self, page: Path, *, width: int = DESKTOP, dark: bool = False, draws: bool = True) -> None:
        """Open a page of ours, and wait until it has drawn itself, if it has a script to do so."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self._driver.get(page.as_uri())
        self.wait("document.documentElement.dataset.drawn === 'yes'" if draws else _LOADED)

    def ask(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        return self._driver.execute_script(f"return {expression}")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + _PATIENCE
        while not self.ask(condition):
            assert time.monotonic() < end, f"{condition}: {self.complaints()}"
            time.sleep(0.05)

    def hard_to_read(self) -> list[str]:
        """Return every piece of text whose contrast is under what WCAG asks for, 4.5 to 1, and what it is."""
        found: list[str] = self._driver.execute_script(_HARD_TO_READ)
        return found

    def photograph(self, selector: str, picture: Path) -> None:
        """Save what an element looks like as a PNG."""
        box = self.ask(
            f"(r => [r.x + scrollX, r.y + scrollY, r.width, r.height])"
            f"(document.querySelector('{selector}').getBoundingClientRect())"
        )
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=1)
        found = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True}
        )
        picture.write_bytes(base64.b64decode(found["data"]))

    def _log(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._driver.get_log(name)  # type: ignore[no-untyped-call]
        return found

    def complaints(self) -> list[str]:
        """What the console says: errors, warnings, and what the page's security policy has refused."""
        return [entry["message"] for entry in self._log("browser")]

    def requested(self) -> list[str]:
        """Every address that was asked for, the page's own among them."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [
            each["params"]["request"]["url"]
            for each in messages
            if each["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def browser() -> Generator[Browser, None, None]:
    """Open a browser; skip the test where the machine has none."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        reason = "no browser: install Debian's packages chromium and chromium-driver"
        if os.environ.get("TICKETROUTER_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for option in _OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(programs[1])))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
