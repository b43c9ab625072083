#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A QEMU that exports nothing, as one built without modules: it is refused, and served once the file
with its symbols is where its -dbgsym package puts it. Arguments: the agent, and fake_qemu as such a
build. /usr/lib/debug is another one meanwhile, which nobody else sees."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import fake
from fake import BUILD, Skip, check

AGENT, PROGRAM = map(pathlib.Path, sys.argv[1:3])
DEBUG = pathlib.Path("/usr/lib/debug")
GUEST = ["daemonize", "block", "pc.ram", "memory-backend-ram", "128", "private", "machine", "run",
         "touch", "0", "100", "background", "driver"]


class Place:
    """A folder with the program as a distribution would ship it, and its symbols beside it."""

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bl-"))
        self.qemu = self.folder / "qemu-system-x86_64"
        self.run("objcopy", "--strip-all", PROGRAM, self.qemu)
        notes = self.run("readelf", "-n", PROGRAM).stdout
        found = re.search(r"Build ID: (..)(\w+)", notes)
        if not found:
            raise Skip("the compiler gives programs no build id")
        self.symbols = self.folder / f"debug/.build-id/{found[1]}/{found[2]}.debug"
        self.symbols.parent.mkdir(parents=True)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *words, **environment):
        """Runs a program to its end."""
        return subprocess.run([str(word) for word in words], text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=fake.PATIENCE_S, check=False,
                              env=dict(os.environ, BALLAST_RUNTIME_DIR=str(self.folder / "run"),
                                       **environment))

    def served(self, *words, **environment):
        """The same with our folder as /usr/lib/debug."""
        return self.run("unshare", "--mount", "sh", "-c",
                        f"mount --bind {self.folder}/debug {DEBUG} && exec \"$@\"", "sh", *words,
                        **environment)


def require():
    fake.require_userfaultfd()
    if os.geteuid() != 0 or not DEBUG.is_dir():
        raise Skip(f"needs root, and {DEBUG} to put something in its place")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        raise Skip("no mount namespace can be made")
    for tool in ("objcopy", "readelf"):
        if not shutil.which(tool):
            raise Skip(f"there is no {tool}")


def test_served(place):
    """refused without the file, served with it"""
    ballast = BUILD / "tools/ballast"
    start = [ballast, "run", "--name", "vm1", "--target", "16M", "--", place.qemu, *GUEST]
    probe = {"LD_PRELOAD": str(AGENT), "BALLAST_AGENT_PROBE": "1"}
    done = place.served(*start)
    check(done.returncode == 84 and "debug symbols" in done.stderr, done)
    check("lacks memory_region_from_host " in place.served(place.qemu, "--version", **probe).stderr,
          "the probe should miss all")
    place.run("objcopy", "--only-keep-debug", PROGRAM, place.symbols)
    check("ballast-agent: serves" in place.served(place.qemu, "--version", **probe).stderr,
          "the probe should find all")
    done = place.served(*start)
    check(done.returncode == 0, done)
    stat = place.run(ballast, "stat", "--json", "vm1")
    check(stat.returncode == 0 and '"target_pages": 4096' in stat.stdout, stat)
    check(place.run(ballast, "destroy", "vm1").returncode == 0, "destroy")


fake.harness.run_tests([test_served], lambda test: test.__doc__, require, Place)
