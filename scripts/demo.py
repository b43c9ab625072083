# SPDX-License-Identifier: MIT
"""The part of ./demo that boots the guest and shows it. ./demo prepares and calls this."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
BALLAST = SOURCE / "build/tools/ballast"
OUT = SOURCE / "demo-out"
PAGE = 4096
NAME = "demo"
LIMIT_S = 300
REFRESH_S = 0.1
LINE_EVERY_S = 1.0  # where there is no terminal

# What the console shows, and what the guest is doing then; the last that was seen counts.
STAGES = [
    (r"", "firmware, kernel unpacks itself"),
    (r"Linux version", "kernel starts"),
    (r"early_memtest", "kernel scrubs all memory"),
    (r"Memory: .* available", "kernel sets up memory"),
    (r"smp: Brought up", "kernel starts drivers"),
    (r"Run /init", "user space starts"),
    (r"ballast-guest: up", "guest is up"),
    (r"ballast-guest: done", "guest is up and done"),
    (r"reboot: Power down", "powered off"),
]


class Trouble(Exception):
    """What went wrong, for people."""


def mib(pages):
    return pages * PAGE / (1 << 20)


def size(byte_count):
    """A size for people."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if byte_count >= unit:
            return f"{byte_count / unit:.4g} {name}"
    return f"{byte_count} bytes"


def host_pages(pid):
    """The process's anonymous memory, as the kernel counts it for anybody who asks."""
    with contextlib.suppress(OSError):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"^RssAnon:\s*(\d+) kB", status, re.M)
        if found:
            return int(found.group(1)) * 1024 // PAGE
    return None


class Control:
    """The domain's control socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(str(path))
        self.stream = self.socket.makefile("rw")
        self.stream.readline()

    def query(self):
        """The domain's state, or None if it is gone."""
        try:
            self.stream.write('{"execute": "query-domain"}\n')
            self.stream.flush()
            return json.loads(self.stream.readline())["return"]
        except (OSError, ValueError, KeyError):
            return None


def bar(width, parts):
    """A line of blocks: parts are (share, letter), the rest is dots."""
    text = ""
    filled = 0.0
    for share, letter in parts:
        filled += share
        text += letter * (round(filled * width) - len(text))
    return text.ljust(width, "·")[:width]


class Display:
    """A block of lines that is written over on a terminal, and now and then a line elsewhere."""

    def __init__(self):
        self.terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.height = 0
        self.last_line = 0.0
        self.last_stage = None

    def show(self, elapsed, stage, state, host):
        """Shows the moment."""
        if not self.terminal:
            if stage == self.last_stage and elapsed - self.last_line < LINE_EVERY_S:
                return
            self.last_stage, self.last_line = stage, elapsed
            print(f"{elapsed:6.1f} s  {stage:<31} populated {mib(state['populated_pages']):6.1f}  "
                  f"cache {mib(state['cache_pages']):6.1f}  "
                  f"PoD entries {mib(state['pod_entries_pages']):7.1f}  "
                  f"target {mib(state['target_pages']):.0f}  QEMU in all {mib(host):6.1f} MiB",
                  flush=True)
            return
        width = max(20, min(60, shutil.get_terminal_size().columns - 40))
        maximum, target = state["max_pages"], state["target_pages"]
        lines = [
            f"{elapsed:6.1f} s  {stage}",
            f"  guest believes {mib(maximum):7.0f} MiB  "
            f"[{bar(width, [(state['populated_pages'] / maximum, '#')])}]",
            f"  host gives     {mib(target):7.0f} MiB  "
            f"[{bar(width, [(state['populated_pages'] / target, '#'), (state['cache_pages'] / target, '=')])}]",
            f"  # populated {mib(state['populated_pages']):6.1f} MiB   "
            f"= cache {mib(state['cache_pages']):6.1f} MiB   "
            f"· PoD entries {mib(state['pod_entries_pages']):7.1f} MiB",
            f"  populated + cache {mib(state['populated_pages'] + state['cache_pages']):.1f} MiB, "
            f"target {mib(target):.1f} MiB; QEMU in all, seen from outside: {mib(host):.1f} MiB",
            f"  {state['faults']} faults served; taken back because they held only zeros: "
            f"{state['reclaimed_2m']} superpages, {state['reclaimed_4k']} pages",
        ]
        back = f"\x1b[{self.height}A" if self.height else ""
        sys.stdout.write(back + "".join(f"\r\x1b[K{line[:shutil.get_terminal_size().columns - 1]}\n"
                                        for line in lines))
        sys.stdout.flush()
        self.height = len(lines)


def stage_of(console):
    """What the guest is doing, by what its console shows."""
    for pattern, name in reversed(STAGES):
        if re.search(pattern, console):
            return name
    return STAGES[0][1]


class Demo:
    """One run, and all that it started."""

    def __init__(self, options):
        self.options = options
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ballast-demo-"))
        self.environment = dict(os.environ, BALLAST_RUNTIME_DIR=str(self.folder))
        self.kit = dict(line.split(" ", 1) for line in os.environ["BALLAST_KIT"].splitlines())
        self.qemu = None
        self.recorder = None
        self.host_peak = 0
        self.total_seen = set()

    def clean_up(self):
        """Ends what still runs and removes what was made aside from demo-out/."""
        for process in (self.qemu, self.recorder):
            if process and process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        """Starts the guest, held before its first instruction, and the recorder."""
        options = self.options
        command = [BALLAST, "run", "--name", NAME, "--target", options.target, "--",
                   "qemu-system-x86_64", "-accel", options.accel, "-m", options.max,
                   "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                   "-serial", f"file:{self.folder}/console", "-S",
                   "-qmp", f"unix:{self.folder}/qmp,server=on,wait=off",
                   "-kernel", self.kit["kernel"], "-initrd", self.kit["initramfs"],
                   "-append", f"console=ttyS0 earlyprintk=serial panic=-1{'' if options.no_scrub else ' memtest=1'}"]
        print(f"$ ballast run --target {options.target} -- qemu-system-x86_64 -m {options.max} "
              f"-accel {options.accel} ...", flush=True)
        with open(self.folder / "stderr", "wb") as stderr:
            self.qemu = subprocess.Popen([str(word) for word in command], env=self.environment,
                                         stdin=subprocess.DEVNULL, stderr=stderr)
        path = self.folder / NAME / "control.sock"
        deadline = time.monotonic() + 60
        while True:
            if self.qemu.poll() is not None:
                raise Trouble(f"QEMU did not start (exit status {self.qemu.returncode}): "
                              f"{self.stderr() or 'it said nothing'}")
            with contextlib.suppress(OSError):
                control = Control(path)
                break
            if time.monotonic() > deadline:
                raise Trouble("the domain did not answer for 60 s")
            time.sleep(0.02)
        self.recorder = subprocess.Popen(
            [str(BALLAST), "record", NAME, "-o", str(OUT / "memory.trace"), "--interval", "50",
             "--map-interval", "100"],
            env=self.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return control

    def stderr(self):
        return (self.folder / "stderr").read_text(errors="replace").strip()

    def let_go(self):
        """Lets the guest run its first instruction."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(30)
            deadline = time.monotonic() + 30
            while True:
                try:
                    monitor.connect(str(self.folder / "qmp"))
                    break
                except OSError as why:
                    if time.monotonic() > deadline:
                        raise Trouble(f"QEMU's monitor cannot be reached: {why}") from None
                    time.sleep(0.02)
            with monitor.makefile("rw") as stream:
                stream.readline()
                for command in ("qmp_capabilities", "cont"):
                    stream.write(json.dumps({"execute": command}) + "\n")
                    stream.flush()
                    if "error" in stream.readline():
                        raise Trouble(f"QEMU refused '{command}'")

    def console(self):
        with contextlib.suppress(OSError):
            return (self.folder / "console").read_text(errors="replace")
        return ""

    def watch(self, control):
        """Shows the guest until it ends. Returns the last state and the time it took."""
        display = Display()
        last = first = control.query()
        started = time.monotonic()
        self.let_go()
        while self.qemu.poll() is None:
            elapsed = time.monotonic() - started
            if elapsed > LIMIT_S:
                raise Trouble(f"the guest did not power off within {LIMIT_S} s")
            state = control.query()
            host = host_pages(self.qemu.pid)
            if state and host is not None:
                last = state
                self.host_peak = max(self.host_peak, host)
                self.total_seen.add(state["populated_pages"] + state["cache_pages"])
                display.show(elapsed, stage_of(self.console()), state, host)
            time.sleep(REFRESH_S)
        if last is None:
            raise Trouble(f"the domain was gone before it answered: {self.stderr()}")
        elapsed = time.monotonic() - started
        display.last_stage = None
        if last is not first:
            display.show(elapsed, stage_of(self.console()), last, self.host_peak)
        return last, elapsed

    def summary(self, state, elapsed):
        """Says in words and numbers how it went."""
        status = self.qemu.returncode
        console = self.console()
        if status != 0 or "ballast-guest: done" not in console:
            tail = "\n".join(console.splitlines()[-8:])
            raise Trouble(f"the guest did not get through (QEMU's exit status {status}): "
                          f"{self.stderr() or 'no message'}\nits console ends in:\n{tail}")
        self.recorder.wait(10)
        for picture in ("memory.html", "memory.svg", "memory.png"):
            drawn = subprocess.run([str(BALLAST), "plot", str(OUT / "memory.trace"), "-o",
                                    str(OUT / picture)], text=True, capture_output=True,
                                   check=False)
            if drawn.returncode != 0:
                raise Trouble(f"the picture could not be drawn: {drawn.stderr.strip()}")
        memtotal = int(re.search(r"ballast-guest: MemTotal (\d+)", console).group(1)) * 1024
        maximum, target = state["max_pages"] * PAGE, state["target_pages"] * PAGE
        scrubbed = "early_memtest" in console
        totals = sorted(self.total_seen)
        held = totals == [state["target_pages"]]
        reclaims = state["reclaimed_2m"] + state["reclaimed_4k"]
        print(f"""
The guest was given max {size(maximum)} and saw it: its kernel reports {size(memtotal)} of usable memory,
{'scrubbed all of it at boot, ' if scrubbed else ''}booted, and powered off after {elapsed:.1f} s ({self.options.accel.upper()}).

The host gave it {size(target)}, and {'never more or less' if held else 'NOT CONSTANTLY SO'}: populated + cache was {' to '.join(size(pages * PAGE) for pages in (totals if len(totals) == 1 else (totals[0], totals[-1])))}
at each of our looks. The whole QEMU process never had more than {size(self.host_peak * PAGE)} of memory of its own,
{size(max(0, self.host_peak * PAGE - target))} of which is QEMU itself{' (with the code that TCG translates)' if self.options.accel == 'tcg' else ''}.

  faults served                        {state['faults']:>8}   half within {state['fault_p50_ns'] / 1e3:.0f} us, 99% within {state['fault_p99_ns'] / 1e3:.0f} us
  handed to the guest                  {state['populated_2m']:>8} superpages (2 MiB), {state['populated_4k']} single pages (4 KiB)
  taken back, for they held only zeros {state['reclaimed_2m']:>8} superpages, {state['reclaimed_4k']} single pages{'' if reclaims else ' (none was needed)'}
  never touched, or zero again         {size(state['pod_entries_pages'] * PAGE):>12} of PoD entries at the end

The whole life of the domain, to look around in: open demo-out/memory.html in a browser
  file://{OUT}/memory.html
The same as a picture: demo-out/memory.svg (and .png); the trace behind them: demo-out/memory.trace""")
        if not held:
            raise Trouble("the total was not the target all the time: this is a bug in Ballast")


def main():
    parser = argparse.ArgumentParser(prog="./demo")
    parser.add_argument("--accel", choices=["kvm", "tcg"], required=True, action="store")
    parser.add_argument("--max", default="2G")
    parser.add_argument("--target", default="256M")
    parser.add_argument("--no-scrub", action="store_true")
    options = parser.parse_args()

    # Ctrl-C, kill and a closed terminal all clean up.
    def interrupted(number, _):
        raise KeyboardInterrupt(number)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)

    OUT.mkdir(exist_ok=True)
    demo = Demo(options)
    try:
        control = demo.start()
        state, elapsed = demo.watch(control)
        demo.summary(state, elapsed)
    except Trouble as why:
        print(f"demo: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as why:
        print("\ndemo: interrupted; the guest is gone and nothing is left behind", file=sys.stderr)
        return 128 + (why.args[0] if why.args else signal.SIGINT)
    finally:
        demo.clean_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())
