"""A headless Chromium for tests of pages: cut off from every network, driven over a pipe in its DevTools protocol."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LATER = (  # waits for what an expression says, once it is something
    "new Promise(done => {{ const timer = setInterval(() => {{ const found = {};"
    " if (found) {{ clearInterval(timer); done(found) }} }}, 20) }})"
)


class Browser:
    """A headless Chromium, spoken to over a pipe in its DevTools protocol; every host name leads nowhere."""

    def __init__(self, profile: Path) -> None:
        out, self._write = os.pipe()
        self._read, back = os.pipe()
        switches = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ]
        switches += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        shell = f'exec "$0" "$@" 3<&{out} 4>&{back}'  # the protocol's pipes are 3 and 4
        command = ["bash", "-c", shell, CHROMIUM, *switches, "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=(out, back), **quiet)
        os.close(out), os.close(back)
        self.number, self.rest, self.events, self.session = 0, b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for room in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{room}.enable")

    def call(self, method: str, **params) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict:
        while b"\0" not in self.rest:
            part = os.read(self._read, 2**20)
            assert part, "the browser has gone"
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, address: str) -> None:
        """Load a page anew and wait until it shows its answers."""
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.run(LATER.format("document.querySelector('#page:not([hidden]), #trouble:not([hidden])') !== null"))

    def run(self, script: str):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def inside_frame(self, script: str):
        """The value of an expression in the one frame of the page, which is a target of its own."""
        own, self.session, frames = self.session, None, []
        try:
            for _ in range(2400):  # until it is there, two minutes at most
                frames = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "iframe"]
                if frames:
                    break
                time.sleep(0.05)
            self.session = self.call("Target.attachToTarget", targetId=frames[0]["targetId"], flatten=True)["sessionId"]
            return self.run(script)
        finally:
            self.session = own

    def press(self, key: str, shift: bool = False) -> None:
        how = {"key": key, "code": "Space" if key == " " else key, "modifiers": 8 * shift}
        how |= {"text": " "} if key == " " else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **how)
        self.call("Input.dispatchKeyEvent", type="keyUp", **how)

    def mouse(self, kind: str, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def click(self, selector: str) -> None:
        """Press the middle of an element with the mouse."""
        one = f"document.querySelector('{selector}')"
        self.run(f"{one}.scrollIntoView({{block: 'center'}})")
        place = self.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({one}.getBoundingClientRect())")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, *place)

    def choose(self, name: str, value: str) -> None:
        """Choose an option of a list."""
        self.run(
            f"(s => {{ s.value = '{value}'; s.dispatchEvent(new Event('change')) }})(document.getElementById('{name}'))"
        )

    def named(self, method: str) -> list[dict]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def complaints(self) -> list:
        """Exceptions, and errors and warnings on the console."""
        self.run("1")  # what was said before it has arrived
        said = [entry for entry in self.named("Runtime.consoleAPICalled") if entry["type"] in ("error", "warning")]
        return self.named("Runtime.exceptionThrown") + self.named("Log.entryAdded") + said

    def screen(self, width: int, height: int = 900, dark: bool = False, still: bool = False) -> None:
        """A screen of this size, a phone's if it is narrow, and what its owner prefers: `still` is reduced motion."""
        phone = width < 600
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **sizes)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        wished = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if still else "no-preference",
        }
        media = [{"name": name, "value": value} for name, value in wished.items()]
        self.call("Emulation.setEmulatedMedia", features=media)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._write), os.close(self._read)
