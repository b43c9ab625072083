# SPDX-License-Identifier: MIT
"""The page of `ballast plot -o NAME.html`, in a real browser: Debian's Chromium, headless.

test_page.py BALLAST [SCREENSHOT_FOLDER]

The recording is made up here, so that the values the page must show are known. With a folder,
pictures of the page in both colour schemes and on a phone are left there, to be looked at.
"""
import atexit
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from browser import Browser, find  # noqa: E402  pylint: disable=wrong-import-position
from harness import check, run_tests, until  # noqa: E402  pylint: disable=wrong-import-position

BALLAST = pathlib.Path(sys.argv[1]).resolve()
SHOTS = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None

MIB = 256  # pages
MAX, TARGET, LATER_TARGET = 1024 * MIB, 128 * MIB, 256 * MIB
SAMPLES, INTERVAL_S, SUPERPAGES = 201, 0.1, 512
# A name that would do harm if it were taken for HTML.
NAME = "</script><img src=x onerror=document.title='hit'>&amp;"
WIDE, PHONE, SMALL_PHONE = (1400, 1000), (390, 844), (320, 640)


def populated_at(i):
    """Grows to 100 MiB, and then stays."""
    return min(i, 100) * MIB


def state_at(i):
    """Waits for memory from the 140th sample on, until the target is raised."""
    return "exhausted" if 140 <= i < 150 else "running"


def sample(i):
    target = TARGET if i < 150 else LATER_TARGET
    populated = populated_at(i)
    return {"t_ns": int(i * INTERVAL_S * 1e9), "state": state_at(i), "max_pages": MAX,
            "target_pages": target, "total_pages": target, "populated_pages": populated,
            "cache_pages": target - populated, "pod_entries_pages": MAX - populated, "out_pages": 0,
            "faults": 10 * i, "reclaimed_2m": i, "reclaimed_4k": i, "fault_p50_ns": 20000,
            "fault_p99_ns": 300000, "host_anon_pages": target + 30 * MIB}


def event(i, name):
    return {"t_ns": int(i * INTERVAL_S * 1e9), "kind": "event", "event": name,
            "data": {"name": NAME, "target_pages": TARGET, "total_pages": TARGET,
                     "cache_pages": TARGET, "pod_entries_pages": MAX}}


def lines():
    """The recording: maps fill from below, a superpage every two samples."""
    yield {"ballast-trace": 2, "name": NAME, "pid": 1, "started": 1763900000, "interval_ms": 100,
           "page_bytes": 4096, "max_pages": MAX, "target_pages": TARGET}
    yield event(-0.5, "BUILT")
    for i in range(SAMPLES):
        yield sample(i)
        if i % 10 == 0:
            huge = min(i, 100) // 2
            yield {"t_ns": int(i * INTERVAL_S * 1e9), "kind": "map", "superpages": SUPERPAGES,
                   "map": (f"H{huge}" if huge else "") + f"P{SUPERPAGES - huge}"}
        if i in (60, 62, 64):
            yield event(i, "LOW_CACHE")
        if i == 150:
            yield event(i, "TARGET_CHANGED")
    yield {"t_ns": int(SAMPLES * INTERVAL_S * 1e9), "kind": "end", "end": "gone", "exit_status": 86}


BROWSERS = []  # one, once a page was wanted


def browser():
    """The browser that all tests share."""
    if not BROWSERS:
        BROWSERS.append(Browser())
        atexit.register(BROWSERS[0].close)
    return BROWSERS[0]


class Page:
    """A page in the browser."""

    def __init__(self, recording=None):
        self.folder = tempfile.TemporaryDirectory(prefix="ballast-page-")
        trace, page = (pathlib.Path(self.folder.name) / name for name in ("trace", "page.html"))
        trace.write_text("".join(json.dumps(line) + "\n" for line in recording or lines()))
        done = subprocess.run([BALLAST, "plot", trace, "-o", page], text=True, capture_output=True,
                              check=False)
        check(done.returncode == 0 and done.stderr == "", f"plot failed: {done}")
        self.url = page.as_uri()
        self.browser = browser()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.folder.cleanup()

    def open(self, size=WIDE, **more):
        """Loads the page; nothing may go wrong or be asked for meanwhile."""
        self.browser.look(*size, **more)
        self.browser.open(self.url)
        self.check_clean([self.url])

    def check_clean(self, requests=()):
        said = self.browser.log("browser")
        check(not said, f"the console says {said}")
        asked = self.browser.requests()
        check(asked == list(requests), f"the page asked for {asked}")

    def js(self, script, *arguments):
        return self.browser.run(script, *arguments)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def value(self, panel, label):
        """What the legend of a panel (its title's beginning) says of a series."""
        return self.js("""
            const panel = [...document.querySelectorAll('#charts section')].find(
              (section) => section.querySelector('h2').textContent.startsWith(arguments[0]));
            const item = [...panel.querySelectorAll('.legend li')].find(
              (li) => li.textContent.startsWith(arguments[1]));
            return item.querySelector('.value').textContent;""", panel, label)

    def point_of(self, i, panel=1):
        """Where a sample is in a panel, in the window."""
        box = self.js("""
            const plot = document.querySelectorAll('.plot')[arguments[0]];
            plot.scrollIntoView({block: 'center'});
            const axis = plot.querySelector('.axis').getBoundingClientRect();
            return [axis.left, axis.right, axis.top + axis.height / 2];""", panel)
        return box[0] + (box[1] - box[0]) * i / (SAMPLES - 1), box[2]

    def grid(self):
        """How many superpages the map says are populated, and a fingerprint of its picture."""
        return self.js("""
            const item = [...document.querySelectorAll('#map-legend li')][0];
            return [Number(item.querySelector('.value').textContent),
                    document.getElementById('map').toDataURL()];""")

    def shot(self, name):
        if SHOTS:
            height = self.js("return document.documentElement.scrollHeight")
            size = self.js("return innerWidth")
            self.browser.devtools("Emulation.setDeviceMetricsOverride", width=size, height=height,
                                  deviceScaleFactor=1, mobile=size < 500)
            SHOTS.mkdir(parents=True, exist_ok=True)
            self.browser.screenshot(SHOTS / f"{name}.png")


def test_loads(page):
    """loads without errors or requests; a name is text; the figures are right"""
    page.open()
    check(page.text("h1") == f"Memory of domain “{NAME}”", page.text("h1"))
    check("hit" not in page.js("return document.title")[:3], "a name was taken for HTML")
    check(page.js("return document.querySelectorAll('img').length") == 0, "a name made an element")
    tiles = page.text("#tiles")
    for figure in ("1 GiB", "128 to 256 MiB", "100 MiB", "286 MiB", "2,000", "400", "20 µs",
                   "300 µs"):
        check(figure in tiles, f"{figure} is not in {tiles}")
    rows = page.js("""return [...document.querySelectorAll('#figures tbody tr')].map(
        (row) => [...row.children].slice(0, 5).map((cell) => cell.textContent));""")
    check(["populated", "0", "0", "100 MiB", "100 MiB"] in rows, rows)
    check(["target", "128 MiB", "128 MiB", "256 MiB", "256 MiB"] in rows, rows)
    check("exit status 86, it ran out of memory" in page.text("#subtitle"), page.text("#subtitle"))
    policy = page.js("return document.querySelector('meta[http-equiv]').content")
    check("default-src 'none'" in policy and "unsafe" not in policy, policy)
    page.shot("light")


def test_policy_holds(page):
    """the page's own policy lets no other script, style or picture in"""
    page.open()
    page.js("""
        const script = document.createElement('script');
        script.textContent = "document.title = 'injected'";
        document.body.append(script);
        const image = document.createElement('img');
        image.src = 'http://127.0.0.1:9/x.png';
        document.body.append(image);""")
    refused = []

    def both_refused():
        refused.extend(entry["message"] for entry in page.browser.log("browser"))
        return len(refused) >= 2
    until(both_refused, 10, "the browser should refuse a script and a picture")
    check(all("Content Security Policy" in text for text in refused), refused)
    check(page.js("return document.title") != "injected", "a foreign script ran")
    page.browser.requests()  # what was refused is not for the next test


def test_pointing(page):
    """pointing at a chart tells the values of that time"""
    page.open()
    for i in (20, 80, 170):
        page.browser.pointer("mouse", ("move", *page.point_of(i)))
        check(page.text("#time") == f"{i * INTERVAL_S:.2f} s", f"{page.text('#time')} at sample {i}")
        populated = min(i, 100)
        target = 128 if i < 150 else 256
        check(page.value("What the guest", "populated") == f"{populated} MiB",
              page.value("What the guest", "populated"))
        check(page.value("What it costs", "cache") == f"{target - populated} MiB",
              page.value("What it costs", "cache"))
        check(page.value("What the guest", "target") == f"{target} MiB", "target")
        check(page.value("Faults", "faults") == "100 /s", page.value("Faults", "faults"))
        check(page.value("How long", "99%") == "300 µs", page.value("How long", "99%"))
        check(page.grid()[0] == min(i, 100) // 10 * 10 // 2, page.grid()[0])
    page.check_clean()


def test_slider(page):
    """the slider, by keyboard, moves through the samples and the maps"""
    page.open()
    page.browser.press("#slider", "\ue011")  # Home
    check(page.text("#time") == "0.00 s", page.text("#time"))
    first = page.grid()
    check(first[0] == 0, first[0])
    page.browser.press("#slider", "\ue014" * 3)  # to the right
    check(page.text("#time") == "0.30 s", page.text("#time"))
    check(page.grid() == first, "the map changed between two maps")
    page.browser.press("#slider", "\ue010")  # End
    check(page.text("#time") == "20.00 s", page.text("#time"))
    last = page.grid()
    check(last[0] == 50 and last[1] != first[1], "the map did not change with the slider")
    spoken = page.js("return document.getElementById('slider').getAttribute('aria-valuetext')")
    for piece in ("20.00 s", "populated 100 MiB", "cache 156 MiB", "target 256 MiB"):
        check(piece in spoken, spoken)
    page.check_clean()


def shown(page):
    """The range that the slider covers, in samples."""
    return page.js("const s = document.getElementById('slider'); return [+s.min, +s.max];")


def test_zoom(page):
    """dragging over a chart shows that range, and All shows everything again"""
    page.open()
    whole = shown(page)
    (x, y), (to, _) = page.point_of(50), page.point_of(100)
    page.browser.pointer("mouse", ("move", x, y), ("down",), ("move", (x + to) / 2, y),
                         ("move", to, y), ("up",))
    low, high = shown(page)
    check(abs(low - 5e6) < 1e5 and abs(high - 10e6) < 1e5, f"{low} to {high} is shown")
    ticks = page.js("""return [...document.querySelectorAll('.plot')[1].querySelectorAll(
        'text[text-anchor=middle]')].map((text) => text.textContent)""")
    check("7 s" in ticks and "0 s" not in ticks, ticks)
    page.browser.click("#later")
    check(abs(shown(page)[0] - 7.5e6) < 2e5, shown(page))
    page.browser.click("#zoom-out")
    check(abs(shown(page)[1] - shown(page)[0] - 10e6) < 2e5, shown(page))
    page.browser.click("#all")
    check(shown(page) == whole, shown(page))
    page.browser.press("#slider", "+")
    check(shown(page)[1] - shown(page)[0] == (whole[1] - whole[0]) / 2, shown(page))
    page.browser.press("#slider", "0")
    check(shown(page) == whole, shown(page))
    page.check_clean()


def test_events(page):
    """events are listed, those of one kind in a row as one, and lead to their time"""
    page.open()
    names = page.js("return [...document.querySelectorAll('#events .name')].map((n) => n.textContent)")
    check(names == ["built", "low cache", "target changed"], names)
    check("3 times" in page.text("#events li:nth-child(2)"), page.text("#events"))
    check("ran out of memory" in page.text("#events li:last-child"), page.text("#events"))
    labels = page.js("return [...document.querySelectorAll('.mark-label')].map((n) => n.textContent)")
    check(labels == ["low cache ×3", "target changed"], labels)
    check(page.text("#events .when") == "0.05 s before", page.text("#events .when"))
    page.browser.click("#events li:nth-child(3) button")
    check(page.text("#time") == "15.00 s", page.text("#time"))
    check("target changed" in page.text("#moment"), page.text("#moment"))
    page.check_clean()


CONTRASTS = """
    const luminance = (rgb) => {
      const part = (c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
      return 0.2126 * part(rgb[0]) + 0.7152 * part(rgb[1]) + 0.0722 * part(rgb[2]);
    };
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const behind = (node) => {
      for (let at = node; at; at = at.parentElement) {
        const rgb = parse(getComputedStyle(at).backgroundColor);
        if (rgb.length === 3 || rgb[3] > 0) {
          return rgb;
        }
      }
      return [255, 255, 255];
    };
    const ratio = (a, b) => {
      const [low, high] = [luminance(a), luminance(b)].sort((p, q) => p - q);
      return (high + 0.05) / (low + 0.05);
    };
    const found = [];
    for (const node of document.querySelectorAll('body *')) {
      const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
      const style = getComputedStyle(node);
      const isText = own && !['SCRIPT', 'NOSCRIPT'].includes(node.tagName) && !node.disabled;
      const isLine = node.classList.contains('line') || node.classList.contains('mark');
      if (isText || isLine) {
        const colour = node instanceof SVGElement ? (isLine ? style.stroke : style.fill) : style.color;
        found.push([isText ? 'text' : 'line', node.textContent.slice(0, 30) || node.getAttribute('class'),
                    ratio(parse(colour), behind(node))]);
      }
    }
    return found;"""


def test_waiting_for_memory(page):
    """the time in which the guest waited for memory is shaded and told"""
    page.open()
    left, right = page.js("""
        const box = (node) => node.getBoundingClientRect();
        const [axis, wait] = ['.axis', '.wait'].map((name) => box(document.querySelectorAll('.plot')[1].querySelector(name)));
        return [(wait.left - axis.left) / axis.width, (wait.right - axis.left) / axis.width];""")
    check(abs(left - 0.7) < 0.01 and abs(right - 0.75) < 0.01, f"shaded from {left} to {right}")
    page.browser.pointer("mouse", ("move", *page.point_of(145)))
    check(page.text("#moment").startswith("exhausted"), page.text("#moment"))
    page.check_clean()


def test_colour_schemes(page):
    """light and dark, each with enough contrast"""
    backgrounds = set()
    maps = set()
    for dark in (False, True):
        page.open(dark=dark)
        backgrounds.add(page.js("return getComputedStyle(document.body).backgroundColor"))
        maps.add(page.grid()[1])
        found = page.js(CONTRASTS)
        check(len(found) > 100, f"only {len(found)} texts and lines")
        for kind, what, ratio in found:
            check(ratio >= (4.5 if kind == "text" else 3),
                  f"{'dark' if dark else 'light'}: {kind} '{what}' has contrast {ratio:.2f}")
    check(len(backgrounds) == 2 and len(maps) == 2, "both schemes look the same")
    # The scheme may change while the page is open.
    page.browser.look(*WIDE, dark=False)
    until(lambda: page.grid()[1] in maps and page.js(
        "return getComputedStyle(document.body).backgroundColor") in backgrounds, 10,
        "the page should follow the scheme")
    page.browser.look(*WIDE, dark=True)
    page.shot("dark")


def test_phone(page):
    """on a phone nothing is wider than the screen, and tapping works"""
    for size in (SMALL_PHONE, PHONE):
        page.open(size, phone=True)
        width, window = page.js("return [document.documentElement.scrollWidth, innerWidth]")
        check(window == size[0] and width == window, f"{width} wide on a screen of {window}")
        cut = page.js("""return [...document.querySelectorAll('h1, h2, .tiles div, .legend li, .bar, button')]
            .filter((n) => n.getClientRects().length && n.getBoundingClientRect().right > innerWidth + 0.5)
            .map((n) => n.textContent)""")
        check(not cut, f"beyond the edge: {cut}")
        small = page.js("""return [...document.querySelectorAll('.bar button')].filter(
            (n) => n.offsetHeight < 32 || n.offsetWidth < 32).map((n) => n.id)""")
        check(not small, f"too small for a finger: {small}")
    page.browser.pointer("touch", ("move", *page.point_of(60)), ("down",), ("up",))
    check(page.text("#time") == "6.00 s", page.text("#time"))
    check(page.value("What the guest", "populated") == "60 MiB", "values after a tap")
    bar = page.js("return document.getElementById('bar').getBoundingClientRect().top")
    check(bar == 0, f"the slider is not at the top after scrolling but at {bar}")
    page.check_clean()
    page.shot("phone")


def test_for_readers_of_the_screen(page):
    """what is drawn has a text, and controls have names"""
    page.open()
    nameless = page.js("""return [...document.querySelectorAll('button, input, [role=img]')].filter(
        (n) => !n.closest('[aria-hidden=true]') && n.getAttribute('aria-hidden') !== 'true' &&
               !n.getAttribute('aria-label') && !n.textContent.trim()).map((n) => n.outerHTML)""")
    check(not nameless, nameless)
    check(page.js("return document.documentElement.lang") == "en", "no language")
    headings = page.js("return [...document.querySelectorAll('h1, h2')].map((n) => n.tagName)")
    check(headings[0] == "H1" and headings.count("H1") == 1, headings)
    check("cells" in page.js("return document.getElementById('map').getAttribute('aria-label')"),
          "the map has no text")


def test_old_recording(page):
    """a recording without events, maps and latencies, made by the first version"""
    del page
    old = [dict(line) for line in lines() if "kind" not in line]
    old[0]["ballast-trace"] = 1
    for line in old:
        for key in ("fault_p50_ns", "fault_p99_ns", "host_anon_pages", "state"):
            line.pop(key, None)
    for recording in (old, old[:2]):
        with Page(recording) as second:
            second.open()
            check(second.js("return document.getElementById('map-card').hidden"), "a map of nothing")
            check("no events" in second.text("#events"), second.text("#events"))
            check(second.js("return document.querySelectorAll('#charts section').length") == 4,
                  "charts are missing")
            second.browser.press("#slider", "\ue010")
            second.check_clean()


if __name__ == "__main__":
    run_tests((test_loads, test_policy_holds, test_pointing, test_slider, test_zoom, test_events,
               test_waiting_for_memory, test_colour_schemes, test_phone, test_for_readers_of_the_screen, test_old_recording),
              lambda test: test.__doc__, find, Page)
