# SPDX-License-Identifier: MIT
"""A headless Chromium for tests, driven through chromedriver's WebDriver protocol, which is JSON
over HTTP on this machine. Its profile is a folder of its own, and it can reach no other machine."""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

from harness import Failed, Skip, seconds

# Without its sandbox, which root and many containers cannot have: it shows only what tests made.
ARGUMENTS = ["--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu",
             "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--hide-scrollbars",
             "--host-resolver-rules=MAP * ~NOTFOUND"]


def find():
    """The browser and its driver; Skip if one is missing."""
    paths = [shutil.which("chromium"), shutil.which("chromedriver")]
    if not all(paths):
        raise Skip("there is no Chromium to try the page in: apt-get install chromium chromium-driver")
    return paths


class Browser:
    """One browser with one window."""

    def __init__(self):
        binary, driver = find()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ballast-browser-"))
        self.session = None
        environment = dict(os.environ, HOME=str(self.folder), TMPDIR=str(self.folder))
        self.driver = subprocess.Popen([driver, "--port=0"], env=environment, text=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT)
        try:
            self.address = f"http://127.0.0.1:{self.read_port()}"
            made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": {
                "goog:chromeOptions": {"binary": binary, "args": ARGUMENTS},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}})
            self.session = f"/session/{made['sessionId']}"
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def read_port(self):
        """What the driver says when it listens."""
        said = ""
        for line in self.driver.stdout:
            said += line
            found = re.search(r"started successfully on port (\d+)", line)
            if found:
                return int(found.group(1))
        raise Failed(f"chromedriver did not start: {said}")

    def ask(self, method, path, body=None):
        """One request of the protocol; its value."""
        request = urllib.request.Request(
            self.address + path, method=method, headers={"Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=seconds(60)) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as why:
            raise Failed(f"the browser refused {path}: "
                         f"{json.load(why)['value'].get('message', '')[:500]}") from None

    def call(self, path, **body):
        return self.ask("POST", self.session + path, body)

    def devtools(self, command, **parameters):
        """A command of the DevTools protocol."""
        return self.call("/goog/cdp/execute", cmd=command, params=parameters)

    def open(self, url):
        self.call("/url", url=url)

    def run(self, script, *arguments):
        """Runs the body of a JavaScript function in the page; what it returns."""
        return self.call("/execute/sync", script=script, args=list(arguments))

    def log(self, kind):
        """What has come since the last time: 'browser' (the console) or 'performance'."""
        return self.call("/se/log", type=kind)

    def requests(self):
        """The addresses that were asked for since the last time, but for what the page contains."""
        messages = (json.loads(entry["message"])["message"] for entry in self.log("performance"))
        urls = [message["params"]["request"]["url"] for message in messages
                if message["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")]

    def look(self, width, height, dark=False, phone=False):
        """Sets the window's inner size and the colour scheme."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height,
                      deviceScaleFactor=2 if phone else 1, mobile=phone)
        self.devtools("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.devtools("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def find_element(self, selector):
        found = self.call("/element", using="css selector", value=selector)
        return next(iter(found.values()))

    def press(self, selector, keys):
        """Types into an element."""
        self.call(f"/element/{self.find_element(selector)}/value", text=keys)

    def click(self, selector):
        self.call(f"/element/{self.find_element(selector)}/click")

    def pointer(self, kind, *steps):
        """Moves, presses and releases a 'mouse' or 'touch': steps are ("move", x, y) in the
        window, ("down",), ("up",)."""
        actions = []
        for step in steps:
            if step[0] == "move":
                actions.append({"type": "pointerMove", "duration": 50, "x": round(step[1]),
                                "y": round(step[2])})
            else:
                actions.append({"type": f"pointer{step[0].capitalize()}", "button": 0})
        self.call("/actions", actions=[{"type": "pointer", "id": kind, "actions": actions,
                                        "parameters": {"pointerType": kind}}])

    def screenshot(self, path, whole=False):
        """A PNG of the window, or of the whole page."""
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        pathlib.Path(path).write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        """Ends the browser and removes its profile."""
        if self.session:
            try:
                self.ask("DELETE", self.session)
            except (OSError, Failed):
                pass
        self.driver.terminate()
        try:
            self.driver.wait(10)
        except subprocess.TimeoutExpired:
            self.driver.kill()
            self.driver.wait()
        self.driver.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)
