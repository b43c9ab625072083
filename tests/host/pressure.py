# SPDX-License-Identifier: MIT
"""Hosts under pressure, for tests: memory cgroups that stand for a small host, swap on a file, and a
setting of the kernel's for a while. Each raises Skip where the machine forbids it."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from fake import MIB, PAGE, Skip


def write(path, text):
    """Writes to a file that is there: an open with O_CREAT would make one in a plain folder."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(text).encode())
    finally:
        os.close(fd)


class Version:
    """Where a version of cgroups keeps what."""

    def __init__(self, mount, controllers, limit, usage, kills):
        self.mount, self.controllers = pathlib.Path(mount), controllers
        self.limit, self.usage, self.kills = limit, usage, kills


V2 = ("memory.max", "memory.current", "memory.events")
VERSIONS = (Version("/sys/fs/cgroup", "", *V2), Version("/sys/fs/cgroup/unified", "", *V2),
            Version("/sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes",
                    "memory.usage_in_bytes", "memory.oom_control"))


def own_groups(version):
    """Our cgroup in that hierarchy, and all above it, as folders."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == version.controllers:
            group = version.mount / path.strip("/")
            yield group
            while group != version.mount:
                group = group.parent
                yield group


class Cgroup:
    """A memory cgroup, as a context: a host with so much memory. Pass `enter` as before= to what
    starts a process in it."""

    def __init__(self, limit_mib):
        for version in VERSIONS:
            for parent in own_groups(version):
                self.version, self.path = version, parent / f"ballast-hostile-{os.getpid()}"
                with contextlib.suppress(OSError):
                    self.path.mkdir()
                    try:
                        self.limit(limit_mib)
                        return
                    except OSError:
                        self.path.rmdir()
        raise Skip("no memory cgroup could be made (it takes root, or a delegated one)")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in (self.path / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)  # of a test that failed
        for _ in range(100):  # the kernel may still be taking a process apart
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.05)

    def enter(self):
        """The process that calls this is in it from now on."""
        write(self.path / "cgroup.procs", 0)

    def limit(self, mib):
        """Sets the limit; the kernel pushes out what is above it."""
        write(self.path / self.version.limit, int(mib * MIB))

    def squeeze(self, mib):
        """Has the kernel push out what is above that, as far as it can, without killing anybody, and
        lets it have what it may have again. Returns how many bytes were left."""
        file = self.path / ("memory.high" if self.version.limit == V2[0] else self.version.limit)
        before = file.read_text()
        with contextlib.suppress(OSError):  # what is locked stays
            write(file, int(mib * MIB))
        left = self.used()
        write(file, before)
        return left

    def used(self):
        """Bytes."""
        return int((self.path / self.version.usage).read_text())

    def killed(self):
        """How many processes the kernel has killed for want of memory here."""
        lines = (self.path / self.version.kills).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.split()[0] == "oom_kill")


def has_swap():
    """Whether there is any."""
    return len(pathlib.Path("/proc/swaps").read_text().splitlines()) > 1


@contextlib.contextmanager
def undoing(script, *arguments):
    """Runs a shell script at the end, whatever that is: a process of its own waits for the end of a
    pipe that this one holds, so that SIGKILL, or of a whole process group, leaves nothing behind."""
    with subprocess.Popen(["sh", "-c", f"trap '' HUP INT TERM; read -r _; {script}", "undo",
                           *map(str, arguments)], stdin=subprocess.PIPE, start_new_session=True):
        yield


@contextlib.contextmanager
def swap(mib):
    """There is swap: the machine's own, or a file for a while."""
    if has_swap():
        yield
        return
    if not all(map(shutil.which, ("mkswap", "swapon", "swapoff"))):
        raise Skip("there is no swap, and no swapon to make some")
    folder = tempfile.mkdtemp(prefix="ballast-swap-", dir="/var/tmp")
    with undoing('swapoff "$1/swap" 2>/dev/null; rm -r "$1"', folder):
        path = pathlib.Path(folder) / "swap"
        path.touch(0o600)
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, mib * MIB)
        for words in (["mkswap", path], ["swapon", path]):
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Skip(f"no swap can be had here: {done.stderr.strip()}")
        yield


@contextlib.contextmanager
def setting(path, value):
    """A file of the kernel's holds that for a while."""
    path = pathlib.Path(path)
    try:
        before = path.read_text()
        write(path, before)
    except OSError as why:
        raise Skip(f"{path} cannot be set: {why.strerror}") from None
    with undoing('printf %s "$2" >"$1"', path, before):
        write(path, value)
        yield


def anonymous_pages(domain, described):
    """What it has in guest RAM and cache, in memory and in swap, by smaps; zero pages that the kernel
    has put there in the place of its own do not count."""
    count = inside = 0
    for line in pathlib.Path(f"/proc/{domain.process.pid}/smaps").read_text().splitlines():
        at = re.match("([0-9a-f]+)-[0-9a-f]+ ", line)
        if at:
            inside = any(0 <= int(at[1], 16) - described[f"{what}_start"] < described[f"{what}_bytes"]
                         for what in ("ram", "cache"))
        elif inside and line.startswith(("Anonymous:", "Swap:")):
            count += int(line.split()[1]) * 1024 // PAGE
    return count
