# SPDX-License-Identifier: MIT
"""The part of ./check that builds, runs the tests and writes the table."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
COMPILERS = (("gcc", "build"), ("clang", "build-clang"))
STRICT = ["-Dtests=enabled", "--werror"]


class Table:
    """What ran, and how it ended."""

    def __init__(self):
        self.rows = []

    def add(self, name, outcome, seconds, why=""):
        """Adds a row and shows it at once: outcome is passed, failed or skipped."""
        self.rows.append((name, outcome, seconds, why))
        print(f"  {outcome:<8} {seconds:6.1f} s  {name}{': ' + why if why else ''}", flush=True)

    def count(self, outcome):
        return sum(row[1] == outcome for row in self.rows)

    def finish(self):
        """Prints what needs attention and the last line. Returns the exit status."""
        for outcome in ("skipped", "failed"):
            rows = [row for row in self.rows if row[1] == outcome]
            if rows:
                print(f"\n{outcome}:")
            for name, _, _, why in rows:
                print(f"  {name}: {why}")
        print(f"\n{self.count('passed')} passed, {self.count('failed')} failed, "
              f"{self.count('skipped')} skipped")
        return 0 if self.count("failed") == 0 and self.count("passed") > 0 else 1


def build(compiler, folder, table):
    """Builds with a compiler, warnings being errors. True if there is something to test then."""
    name = f"build with {compiler}, warnings are errors"
    if not shutil.which(compiler):
        table.add(name, "skipped", 0, f"there is no {compiler}")
        return False
    started = time.monotonic()
    path = SOURCE / folder
    environment = dict(os.environ, CC=compiler)
    done = None
    if (path / "build.ninja").exists():
        # A folder that ./demo or a developer made may lack the strictness.
        done = subprocess.run(["meson", "configure", str(path), "-Dtests=enabled", "-Dwerror=true"],
                              text=True, capture_output=True, check=False)
    if done is None or done.returncode == 0:
        done = subprocess.run([SOURCE / "scripts/build", folder, *STRICT], env=environment,
                              cwd=SOURCE, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        print(done.stdout + done.stderr)
    table.add(name, "passed" if done.returncode == 0 else "failed", time.monotonic() - started,
              "" if done.returncode == 0 else "see above")
    return done.returncode == 0


def reason(result):
    """Why a test was skipped, by its own words."""
    output = (result.get("stdout") or "") + (result.get("stderr") or "")
    found = re.findall(r"^\s*(?:\[\s*SKIPPED\s*\]\s*|skipped:\s*|SKIP:?\s*)(.*)$", output,
                       re.M | re.I)
    return found[0].strip() if found and found[0].strip() else "it gave no reason"


def parts_skipped(result):
    """The reasons of parts that a test skipped though the rest of it ran."""
    return re.findall(r"^\s+skipped: (.*)$", result.get("stdout") or "", re.M)


def add_result(result, table, label):
    """A row for what meson says of one test."""
    name = label + result["name"].removeprefix("ballast:")
    kind = result["result"]
    if kind in ("OK", "EXPECTEDFAIL"):
        table.add(name, "passed", result["duration"])
        for why in parts_skipped(result):
            table.add(f"{name} (a part)", "skipped", 0, why)
    elif kind == "SKIP":
        table.add(name, "skipped", result["duration"], reason(result))
    else:
        print((result.get("stdout") or "")[-6000:] + (result.get("stderr") or "")[-3000:])
        table.add(name, "failed", result["duration"], kind.lower())


def may_serve_faults():
    """May this user serve page faults that the kernel takes on a guest's memory?"""
    with contextlib.suppress(OSError):
        if pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() == "1":
            return True
    return os.geteuid() == 0 or os.access("/dev/userfaultfd", os.R_OK | os.W_OK)


def through_sudo():
    """The words before a command that needs root, and where meson's log goes then. None of either
    if it is not needed or cannot be had: the tests skip and say why."""
    if may_serve_faults() or not shutil.which("sudo"):
        return [], "testlog"
    cache = os.environ.get("BALLAST_CACHE_DIR")
    if not cache:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        cache = os.path.join(home, "ballast")
    ours = [f"{name}={value}" for name, value in os.environ.items()
            if name.startswith("BALLAST_") and name != "BALLAST_CACHE_DIR"]
    return ["sudo", "--", "env", f"BALLAST_CACHE_DIR={cache}", *ours], "testlog-root"


def run_tests(folder, suites, table, label, privileged=False):
    """Runs meson's tests of some suites, with a row for each as it ends."""
    before, log_name = through_sudo() if privileged else ([], "testlog")
    log = SOURCE / folder / f"meson-logs/{log_name}.json"
    log.unlink(missing_ok=True)
    command = [*before, "meson", "test", "-C", folder, "--no-rebuild", "--logbase", log_name]
    command += [word for suite in suites for word in ("--suite", suite)]
    if os.environ.get("BALLAST_TIME_FACTOR"):
        command += ["--timeout-multiplier", os.environ["BALLAST_TIME_FACTOR"]]
    seen = 0
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(command, cwd=SOURCE, stdout=output, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL) as process:
            running = True
            while running:
                # What meson had written before it ended is read after it did.
                running = process.poll() is None
                lines = log.read_text().splitlines(True) if log.exists() else []
                whole = [line for line in lines if line.endswith("\n")]
                for line in whole[seen:]:
                    add_result(json.loads(line), table, label)
                seen = len(whole)
                time.sleep(0.2 if running else 0)
        if seen == 0:
            output.seek(0)
            print(output.read()[-3000:])
            table.add(f"{label}tests of {', '.join(suites)}", "failed", 0, "meson ran none")


def prepare_guest_kit():
    """Fetches what guests boot. What fails is told by the tests that skip then."""
    done = subprocess.run([SOURCE / "scripts/guest-kit"], text=True, capture_output=True,
                          check=False)
    if done.returncode != 0:
        print(done.stderr.strip())


def main():
    parser = argparse.ArgumentParser(prog="./check")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    table = Table()

    print("building and testing; a line for each as it ends", flush=True)
    if not shutil.which("meson") or not shutil.which("ninja"):
        table.add("build", "failed", 0, "there is no meson or no ninja: run scripts/packages")
        return table.finish()
    quick_suites = ["unit", "model", "fuzz", "cli", "docs"]
    for compiler, folder in COMPILERS:
        if build(compiler, folder, table):
            if compiler == "gcc":
                run_tests(folder, known(folder, quick_suites), table, "")
                run_tests(folder, known(folder, ["host", "bench"]), table, "", privileged=True)
            else:
                # What depends on the compiler shows here; the rest would only take time again.
                run_tests(folder, known(folder, ["unit"]), table, f"{compiler}: ")
    if options.quick:
        table.add("guest and package tests", "skipped", 0, "--quick")
    elif (SOURCE / "build/build.ninja").exists() and table.rows[0][1] == "passed":
        prepare_guest_kit()
        run_tests("build", known("build", ["guest", "libvirt"]), table, "", privileged=True)
        run_tests("build", ["package"], table, "")
    return table.finish()


def known(folder, suites):
    """Those suites that have tests."""
    listed = subprocess.run(["meson", "test", "-C", folder, "--list"], cwd=SOURCE, text=True,
                            capture_output=True, check=False).stdout
    return [suite for suite in suites if re.search(rf"^ballast:\S*\b{suite}\b", listed, re.M)]


if __name__ == "__main__":
    sys.exit(main())
