# SPDX-License-Identifier: MIT
"""ballast doctor on the host as it is, with QEMUs of our own in PATH.

test_doctor.py BALLAST AGENT FAKE_QEMU

Hosts that are made up are in tests/unit/doctor.c.
"""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from harness import check, run_tests  # noqa: E402  pylint: disable=wrong-import-position

BALLAST, AGENT, FAKE_QEMU = (os.path.abspath(word) for word in sys.argv[1:4])
# A host has many QEMUs, and a slow one takes its time.
PATIENCE_S = 120

IDS = {"kernel", "page-size", "uffdio-move", "userfaultfd", "runtime-folder", "memory", "cgroup",
       "cgroup-high", "overcommit", "address-space", "huge-pages", "defrag", "ksm", "swap",
       "zero-pages", "kvm", "agent", "qemu", "no-qemu", "libvirt-hook", "libvirt-device"}
ALWAYS = {"kernel", "uffdio-move", "userfaultfd", "runtime-folder", "memory", "overcommit",
          "huge-pages", "ksm", "swap", "zero-pages", "kvm", "agent"}


class Place:
    """A folder in PATH, for QEMUs, and one for domains."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.env = dict(os.environ, BALLAST_RUNTIME_DIR=str(self.folder / "run"),
                        PATH=f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin", BALLAST_AGENT_SO=AGENT)

    def doctor(self, *words, **env):
        return subprocess.run([BALLAST, "doctor", *words], env=dict(self.env, **env), text=True,
                              capture_output=True, timeout=PATIENCE_S, check=False)

    def findings(self, **env):
        """The findings by --json, and what must be true of all of them."""
        result = self.doctor("--json", **env)
        report = json.loads(result.stdout)
        check(set(report) == {"fit", "findings"}, report.keys())
        for finding in report["findings"]:
            check(set(finding) == {"id", "level", "what", "advice", "fix"}, finding)
            check(finding["id"] in IDS, finding)
            check(finding["level"] in ("ok", "note", "problem"), finding)
            check(finding["what"] and (finding["level"] != "ok" or not finding["advice"]), finding)
        bad = [f for f in report["findings"] if f["level"] == "problem"]
        check(report["fit"] == (not bad), f"fit is {report['fit']} with {bad}")
        check(result.returncode == (1 if bad else 0), f"status {result.returncode} with {bad}")
        check(result.stderr == "", result.stderr)
        return report["findings"]

    def program(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path


@contextlib.contextmanager
def new_place():
    with tempfile.TemporaryDirectory(prefix="ballast-doctor-") as folder:
        yield Place(folder)


def test_this_host(place):
    """each thing is looked at, once"""
    found = [finding["id"] for finding in place.findings()]
    for word in ALWAYS:
        check(found.count(word) == 1, f"{word} is there {found.count(word)} times")


def test_text_and_json_agree(place):
    """the text has all that the JSON has"""
    result = place.doctor()
    for finding in place.findings():
        # What is available may have changed meanwhile.
        if finding["id"] not in ("memory", "cgroup"):
            check(finding["what"] in result.stdout, f"{finding} is not in {result.stdout}")
        check(f"{finding['level']:<8} {finding['id']:<15} " in result.stdout, finding)


def test_programs_in_path(place):
    """what is in PATH is run with the agent, and the agent says whether it serves"""
    good = place.folder / "qemu-system-good"
    shutil.copy(FAKE_QEMU, good)
    # The shell itself exports nothing; and a script that becomes QEMU is what it becomes.
    lacks = place.program("qemu-system-lacks", "#!/bin/sh\necho QEMU emulator version 9.0.0\n")
    wrapper = place.program("qemu-system-wrapper", f"#!/bin/sh\nexec {good} \"$@\"\n")
    hangs = place.program("qemu-system-silent", "#!/bin/sh\necho nothing\n")
    what = {path: finding for finding in place.findings() if finding["id"] == "qemu"
            for path in (good, lacks, wrapper, hangs) if finding["what"].startswith(str(path))}
    check(set(what) == {good, lacks, wrapper, hangs}, what)
    check("7.2.0, can be served" in what[good]["what"] and what[good]["level"] == "ok", what[good])
    check("can be served" in what[wrapper]["what"], what[wrapper])
    check("does not export memory_region_from_host and others" in what[lacks]["what"], what[lacks])
    check(what[lacks]["level"] == "note" and "modules" in what[lacks]["advice"], what[lacks])
    check("does not tell QEMU's version" in what[hangs]["what"], what[hangs])


def test_no_agent(place):
    """without the agent the host is not fit, and --fix says nothing of it"""
    found = {f["id"]: f for f in place.findings(BALLAST_AGENT_SO="/no/such/agent.so")}
    check(found["agent"]["level"] == "problem", found["agent"])
    check("BALLAST_AGENT_SO" in found["agent"]["what"], found["agent"])
    result = place.doctor("--fix", BALLAST_AGENT_SO="/no/such/agent.so")
    check(result.returncode == 1, result)


def test_no_runtime_folder(place):
    """a folder for domains that cannot be made is a problem"""
    for value, word in (("relative", "problem"), ("/proc/no/such", "problem"),
                        (str(place.folder), "ok")):
        found = {f["id"]: f for f in place.findings(BALLAST_RUNTIME_DIR=value)}
        check(found["runtime-folder"]["level"] == word, found["runtime-folder"])


def test_limits(place):
    """a limit on address space is told"""
    result = subprocess.run(["sh", "-c", f"ulimit -v 8388608; exec {BALLAST} doctor --json"],
                            env=place.env, capture_output=True, text=True, timeout=PATIENCE_S,
                            check=False)
    found = {f["id"]: f for f in json.loads(result.stdout)["findings"]}
    check("8 GiB" in found["address-space"]["what"], found.get("address-space"))


def test_fixes_are_shell(place):
    """what --fix prints is a script, and it was not run"""
    result = place.doctor("--fix")
    check(result.stdout.startswith("# "), result.stdout)
    done = subprocess.run(["sh", "-n"], input=result.stdout, text=True, capture_output=True,
                          check=False)
    check(done.returncode == 0, done.stderr)
    fixes = [line for finding in place.findings() for line in finding["fix"]]
    printed = [line for line in result.stdout.splitlines() if line and line[0] != "#"]
    check(fixes == printed, f"{fixes} is not {printed}")


def test_command_line(place):
    """what the command line must not say"""
    for words in (["x"], ["--frob"], ["--json", "--fix"], ["--json=1"]):
        result = place.doctor(*words)
        check(result.returncode == 2 and result.stdout == "" and "--help" in result.stderr, result)
    full = subprocess.run(["sh", "-c", f"exec {BALLAST} doctor >/dev/full"], env=place.env,
                          capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    check(full.returncode == 1 and "could not be written" in full.stderr, full)


run_tests([test_this_host, test_text_and_json_agree, test_programs_in_path, test_no_agent,
           test_no_runtime_folder, test_limits, test_fixes_are_shell, test_command_line],
          lambda test: test.__doc__, lambda: None, new_place)
