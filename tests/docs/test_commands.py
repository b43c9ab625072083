#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every command in the documents is run: those of the README, of docs/howto, of
docs/fleets.md and of the man pages' EXAMPLES. QEMU is a program that looks like it to the agent (tests/docs/qemu-system-x86_64); all else
is real.

How the documents are written for that:

  - In Markdown the commands are in blocks that begin with ```sh; what they print, and what is typed
    elsewhere, in blocks with another word there. There are no indented blocks. In a man page all
    literal blocks of EXAMPLES are commands, but for those that begin with "{".
  - The blocks of a document are run in their order, in one folder, as one script that ends at the
    first command that fails. A man page whose examples start no domain finds one that runs: vm1,
    max 4 GiB, target 256 MiB.
  - A domain in the foreground stays there: the commands after it come as if from another terminal.
    Commands that go on until Ctrl-C get that after a while.
  - <!-- not run: WHY --> before a block (in a man page "; not run: WHY") says that it is not run.
    <!-- before: COMMANDS --> (or "; before: COMMANDS") are run before it and not shown.

The build folder is $BALLAST_BUILD_DIR, which meson sets for the tests.
"""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("BALLAST_BUILD_DIR", SOURCE / "build"))
sys.path.insert(0, str(SOURCE / "tests/lib"))
import harness  # noqa: E402  pylint: disable=wrong-import-position
from harness import Failed, Skip, check  # noqa: E402  pylint: disable=wrong-import-position

LIMIT_S = 120
# They go on until they are told to stop.
FOLLOWERS = re.compile(r"ballast (events|record)\b")
ON_A_TERMINAL = re.compile(r"ballast top\b|watch ")
# Folders of a host, and what stands for them here.
FOLDERS = {"/run/ballast": "$BALLAST_RUNTIME_DIR", "/var/lib/prometheus/node-exporter": "."}
NEEDED = ("jq", "socat")

PRELUDE = r"""
set -eEuo pipefail
trap 'echo "failed with $?: $BASH_COMMAND" >&2' ERR
# Until the domain in the foreground runs: then there are more than before.
wait_for_domain() {
    while [ "$(ballast ls --json | grep -c '"state": "running"')" -le "$1" ]; do
        kill -0 "$2" || { cat foreground >&2; return 1; }
        sleep 0.05
    done
}
"""


class Block:
    """Some commands of a document, or what is run before some."""

    def __init__(self, text, why_not=None):
        self.text = text
        self.why_not = why_not


def markdown_blocks(path):
    """The commands of a Markdown file."""
    text = path.read_text()
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    check(not re.search(r"^\n {4}\S", plain, re.M), f"{path.name} has an indented block: use ```sh")
    blocks = []
    for found in re.finditer(r"(?:<!--(?P<note>[^>]*)-->\n\s*)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$",
                             text, re.M | re.S):
        if found["kind"] == "sh":
            blocks += noted(found["note"] or "", found["text"])
        else:
            check(not re.search(r"^ballast ", found["text"], re.M),
                  f"{path.name}: a command in a block that is not marked as sh: {found['text']}")
    return blocks


def man_blocks(path):
    """The commands of a man page's examples."""
    section = re.search(r"^# EXAMPLES\n(.*?)(?=^# |\Z)", path.read_text(), re.M | re.S)
    if not section:
        return []
    blocks = []
    for found in re.finditer(r"(?P<note>(?:^;.*\n)*)\n*^```\n(?P<text>.*?)^```$", section.group(1),
                             re.M | re.S):
        if not found["text"].startswith("{"):
            blocks += noted(re.sub("^;", "", found["note"], flags=re.M), found["text"])
    return blocks


def noted(note, text):
    """A block, with what a note before it says."""
    why_not = re.search(r"not run: *(.*\S)", " ".join(note.split()))
    before = re.sub(r"^\s*before:", "", note, flags=re.M)
    blocks = [Block(before)] if before != note else []
    return [*blocks, Block(text, why_not.group(1) if why_not else None)]


def split(text):
    """The commands of a block, those of more lines too."""
    command = ""
    for line in text.strip().splitlines():
        command += line.strip() + "\n"
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
        if done.returncode == 0 and not command.endswith("\\\n"):
            yield command.strip()
            command = ""
    check(not command, f"no shell command: {command}")


def script_of(command):
    """What runs a command of a document as a user does."""
    bare = re.sub(r"\s+#\s.*$", "", command)
    if bare.startswith("ballast run") and "-daemonize" not in bare:
        return ("running=$(ballast ls --json | grep -c '\"state\": \"running\"' || true)\n"
                f"{bare} </dev/null >foreground 2>&1 &\nwait_for_domain \"$running\" $!")
    if FOLLOWERS.match(bare):
        return f"timeout --foreground --preserve-status --signal=INT 1 {bare}"
    if ON_A_TERMINAL.match(bare):
        on_terminal = shlex.quote(f"timeout --foreground --signal=INT 1 {bare}")
        return f"script -qefc {on_terminal} /dev/null >/dev/null || [ $? = 124 ]"
    return bare


class Place:
    """A folder for the commands of one document, with the programs that they need."""

    def __enter__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="bl-"))
        programs = self.root / "bin"
        programs.mkdir()
        (programs / "ballast").symlink_to(BUILD / "tools/ballast")
        (programs / "qemu-system-x86_64").symlink_to(HERE / "qemu-system-x86_64")
        self.work = self.root / "work"
        self.work.mkdir()
        with open(self.work / "disk.img", "wb") as disk:
            disk.truncate(1 << 20)
        self.environment = dict(
            os.environ, BALLAST_RUNTIME_DIR=str(self.root / "run"), TERM="xterm", LC_ALL="C.UTF-8",
            FAKE_QEMU=str(BUILD / "tests/host/fake_qemu"), PATH=f"{programs}:{os.environ['PATH']}")
        for name in ("LD_PRELOAD", "BALLAST_AGENT", "BALLAST_AGENT_SO"):
            self.environment.pop(name, None)
        return self

    def __exit__(self, *_):
        for domain in (self.root / "run").glob("*"):
            subprocess.run([BUILD / "tools/ballast", "destroy", "--timeout", "1", domain.name],
                           env=self.environment, capture_output=True, check=False)
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, script):
        """Runs a script. Returns its exit status and all that it said."""
        with open(self.root / "output", "w+", encoding="utf-8") as output:
            # Not a pipe: a domain that is left in the background would keep it open.
            with subprocess.Popen(["bash", "-c", script], cwd=self.work, env=self.environment,
                                  stdin=subprocess.DEVNULL, stdout=output,
                                  stderr=subprocess.STDOUT, start_new_session=True) as process:
                try:
                    status = process.wait(harness.seconds(LIMIT_S))
                except subprocess.TimeoutExpired:
                    status = None
                    os.killpg(process.pid, signal.SIGKILL)
            output.seek(0)
            return status, output.read()


def require():
    """Raises Skip where `ballast run` does not work."""
    if not (BUILD / "tests/host/fake_qemu").exists():
        raise Skip("there is no fake_qemu: configure with -Dtests=enabled")
    with Place() as place:
        status, output = place.run(PRELUDE + "ballast run --target 16M qemu-system-x86_64 -daemonize")
    if status == 84 and re.search("kernel|userfaultfd", output):
        raise Skip(output.strip())


def run_document(place, blocks):
    """Runs the commands of a document."""
    script = PRELUDE
    count = 0
    if not any("ballast run" in block.text for block in blocks):
        script += "ballast run --name vm1 --target 256M -- qemu-system-x86_64 -m 4G -daemonize\n"
    for block in blocks:
        lacks = [tool for tool in NEEDED
                 if re.search(rf"\b{tool}\b", block.text) and not shutil.which(tool)]
        why_not = block.why_not or (f"there is no {lacks[0]} here" if lacks else None)
        if why_not:
            print(f"  not run: {why_not}: {block.text.strip().splitlines()[0]}")
            continue
        text = block.text
        for folder, ours in FOLDERS.items():
            text = text.replace(folder, ours)
        for command in split(text):
            script += script_of(command) + "\n"
            count += 1
    status, output = place.run(script)
    if status != 0:
        ended = "did not end" if status is None else f"ended with {status}"
        raise Failed(f"{ended}:\n{output}\nin:\n{script.removeprefix(PRELUDE)}")
    print(f"  {count} commands")


def test_of(path):
    """A test that runs the commands of a document."""
    def test(place):
        blocks = man_blocks(path) if path.suffix == ".scd" else markdown_blocks(path)
        if path.suffix == ".scd" or path == SOURCE / "README.md":
            check(blocks, f"{path.name} has no commands")
        run_document(place, blocks)
    test.__doc__ = str(path.relative_to(SOURCE))
    return test


def main():
    documents = [SOURCE / "README.md", SOURCE / "docs/fleets.md", *sorted((SOURCE / "docs/howto").glob("*.md")),
                 *sorted((SOURCE / "docs/man").glob("*.scd"))]
    wanted = sys.argv[1:]
    harness.run_tests([test_of(path) for path in documents
                       if not wanted or any(word in str(path) for word in wanted)],
                      lambda test: test.__doc__, require, Place)


main()
