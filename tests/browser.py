"""A real browser, and a page in it."""

import json
import shutil
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from conftest import wait
from serving_shop import Server

QUIET = ("disable-background-networking", "disable-component-update", "disable-sync", "disable-quic", "no-first-run")
NO_BROWSER = "chromium and chromedriver are needed; install them (Debian: apt-get install chromium chromium-driver)"


def open_chrome(profile: Path) -> Chrome:
    """Debian's Chromium with an empty profile, which asks nothing of its own and logs requests and errors."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.fail(NO_BROWSER)
    options = ChromeOptions()
    options.binary_location = browser
    for flag in ("headless=new", "no-sandbox", "disable-gpu", *QUIET, f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Chrome(options, ChromeService(driver))


class Page:
    """The page as a person uses it: by what is written on it."""

    def __init__(self, chrome: Chrome, server: Server):
        self.chrome, self.server = chrome, server

    def open(self, **state: str) -> "Page":
        self.chrome.get("about:blank")
        self.chrome.get(f"{self.server.url}#{'&'.join(f'{name}={quote(value)}' for name, value in state.items())}")
        return self.settle()

    def settle(self) -> "Page":
        wait(lambda: self.chrome.execute_script("return document.querySelector('main').ariaBusy === 'false'"))
        return self

    def all(self, selector: str) -> list[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [str(found.get_property("textContent")) for found in self.all(selector)]

    def text(self, selector: str) -> str:
        return self.chrome.find_element(By.CSS_SELECTOR, selector).text

    def click(self, selector: str) -> "Page":
        self.chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.all(selector)[0])
        self.all(selector)[0].click()
        return self.settle()

    def type(self, selector: str, text: str) -> "Page":
        field = self.all(selector)[0]
        field.clear()
        field.send_keys(text)
        return self.settle()

    def keys(self, *keys: str) -> "Page":
        for key in keys:
            self.chrome.switch_to.active_element.send_keys(key)
        return self.settle()

    def focused(self) -> str:
        return self.chrome.execute_script("return document.activeElement.id || document.activeElement.textContent")

    def choose(self, value: str) -> "Page":
        return self.click(f"#alternatives option[value='{value}']")


def asked(chrome: Chrome) -> set[str | None]:
    """Hosts of all requests."""
    messages = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    urls = [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {urlsplit(url).hostname for url in urls if not url.startswith(("data:", "about:"))}


def errors(chrome: Chrome, source: str = "") -> list[str]:
    return [entry["message"] for entry in chrome.get_log("browser") if entry["level"] == "SEVERE" and entry["source"] != source]
