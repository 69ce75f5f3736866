"""A headless Chromium, spoken to over a pipe in its own protocol: what a page looks like, and what it complains of."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Seen:
    """What happened while a page was loaded at one width.

    Attributes:
        complaints: errors and warnings of the console. requests: addresses other than the page itself.
        overflow: pixels by which the page is wider than the window.
        scrolled: pixels by which a table is wider than its frame, so that one would have to move it sideways.
        smallest: size of the smallest writing in a picture, in pixels of the screen.
    """

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    overflow: int = 0
    scrolled: int = 0
    smallest: float = 0.0
    screenshot: bytes = b""


class Browser:
    """Sends commands and gathers events until the answer comes."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = os.fdopen(write, "wb", buffering=0), os.fdopen(read, "rb")
        self._number, self._left, self.events = 0, b"", list[dict[str, Any]]()

    def close(self) -> None:
        self._write.close()
        self._read.close()

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._write.write(json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def wait_for(self, event: str) -> None:
        while not any(seen.get("method") == event for seen in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            part = os.read(self._read.fileno(), 65536)
            assert part, "the browser ended"
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def look(self, page: Path, width: int, *, dark: bool = False) -> Seen:
        """Load a file in a window of ``width`` CSS pixels."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask(
            "Emulation.setDeviceMetricsOverride", session, width=width, height=800, deviceScaleFactor=1, mobile=False
        )
        self.ask("Emulation.setScrollbarsHidden", session, hidden=True)  # a phone's take no room
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", session, features=scheme)
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.ask(f"{domain}.enable", session)
        self.events.clear()
        self.ask("Page.navigate", session, url=page.as_uri())
        self.wait_for("Page.loadEventFired")
        seen = Seen()
        seen.overflow = self._number_of(
            session, "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        seen.scrolled = self._number_of(
            session,
            "Math.max(0, ...[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth))",
        )
        seen.smallest = self._number_of(
            session,
            "Math.min(...[...document.querySelectorAll('svg text')].map("
            "t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a || 99))",
        )
        shot = self.ask("Page.captureScreenshot", session, captureBeyondViewport=True)
        seen.screenshot = base64.b64decode(shot["data"])
        for event in self.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Log.entryAdded":
                seen.complaints.append(parameters["entry"]["text"])
            elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                seen.complaints.append(json.dumps(parameters))
            elif method == "Network.requestWillBeSent" and parameters["request"]["url"] != page.as_uri():
                seen.requests.append(parameters["request"]["url"])
        self.ask("Target.closeTarget", targetId=target)
        return seen

    def _number_of(self, session: str, expression: str) -> Any:
        return self.ask("Runtime.evaluate", session, expression=expression)["result"]["value"]


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start one; skips the test where none is installed."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium here")
    from_us, to_us = os.pipe(), os.pipe()
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}")
    # Its end of the pipes must be the descriptors 3 and 4: a shell puts them there.
    shell = f'exec "$0" "$@" 3<&{from_us[0]} 4>&{to_us[1]}'
    process = subprocess.Popen(
        ["/bin/bash", "-c", shell, program, *flags],
        pass_fds=(from_us[0], to_us[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(from_us[0])
    os.close(to_us[1])
    browser = Browser(from_us[1], to_us[0])
    try:
        yield browser
    finally:
        process.terminate()
        process.wait(20)
        browser.close()
