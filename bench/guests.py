# SPDX-License-Identifier: MIT
"""What the benchmarks with guests share: a guest's peak memory, a cgroup around it, and how much of its
memory is mapped in huge pages."""

import array
import contextlib
import lzma
import os
import pathlib
import re
import resource
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/guest"))
import lib  # noqa: E402  pylint: disable=wrong-import-position

SUPERPAGE_PAGES = 512
MIB = 1 << 20


def mib(text):
    """MiB of a size such as 96M or 4G."""
    return lib.size_to_pages(text) * lib.PAGE // MIB


class Peak:
    """Watches the most resident memory that a process has had (VmHWM), until its end."""

    def __init__(self, pid):
        self.mib = 0
        self.pid = pid
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def look(self):
        """One look; nothing if the process or its memory is gone."""
        with contextlib.suppress(OSError, AttributeError):
            status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
            self.mib = int(re.search(r"^VmHWM:\s*(\d+) kB", status, re.M).group(1)) >> 10

    def watch(self):
        """The thread."""
        while not self.ended.wait(0.02):
            self.look()

    def stop(self):
        """Ends it. Returns the peak in MiB."""
        self.ended.set()
        self.thread.join()
        return self.mib


class Cgroup:
    """A memory cgroup, version 1 or 2, below the one that this process is in."""

    def __init__(self):
        self.path = None
        own = dict(line.split(":", 2)[1:] for line in
                   pathlib.Path("/proc/self/cgroup").read_text().splitlines())
        places = [(2, "/sys/fs/cgroup", own.get("")), (2, "/sys/fs/cgroup/unified", own.get("")),
                  (1, "/sys/fs/cgroup/memory", own.get("memory"))]
        for version, mount, group in places:
            self.version = version
            while group:
                with contextlib.suppress(OSError):
                    path = pathlib.Path(mount + group) / f"ballast-bench-{os.getpid()}"
                    path.mkdir()
                    if (path / self.names()["limit"]).exists():
                        self.path = path
                        return
                    path.rmdir()
                group = group.rpartition("/")[0] or ("/" if group != "/" else "")
        raise lib.Skip("no memory cgroup can be made here")

    def names(self):
        """The files' names."""
        if self.version == 2:
            return {"limit": "memory.max", "peak": "memory.peak", "swap": "memory.swap.max"}
        return {"limit": "memory.limit_in_bytes", "peak": "memory.max_usage_in_bytes",
                "swap": "memory.memsw.limit_in_bytes"}

    def limit(self, limit_bytes, swap):
        """What may be used, and whether swap may be used beyond it."""
        (self.path / self.names()["limit"]).write_text(str(limit_bytes))
        beyond = self.path / self.names()["swap"]
        if not swap and beyond.exists():
            beyond.write_text("0" if self.version == 2 else str(limit_bytes))

    def prefix(self):
        """A command's first words that put it in here."""
        return ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.path]

    def peak_mib(self):
        """The most that was used at once, or nothing where the kernel does not say."""
        with contextlib.suppress(OSError):
            return int((self.path / self.names()["peak"]).read_text()) // MIB
        return None

    def remove(self):
        """Removes it; the kernel may still be taking a process apart."""
        for _ in range(100):
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.01)


@contextlib.contextmanager
def cgroup(limit_bytes, swap):
    """A cgroup for one run."""
    group = Cgroup()
    try:
        group.limit(limit_bytes, swap)
        yield group
    finally:
        group.remove()


def kernel_seconds():
    """The kernel's CPU time for our children that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_stime


def ends_soon(guest):
    """Whether QEMU is ending just now."""
    with contextlib.suppress(lib.Failed):
        guest.wait(5)
        return True
    return False


def run_to_end(start, limit_s=lib.BOOT_LIMIT_S, until=None):
    """Runs the guest that start() starts: to its power-off, or until until(guest) returns.
    {"survived", "status", "account", "wall_s", "kernel_s", "peak_mib", "memtotal_mib"}"""
    before = kernel_seconds()
    started = time.monotonic()
    guest = start()
    peak = Peak(guest.process.pid)
    survived = True
    try:
        if until is not None:
            until(guest)
        else:
            survived = guest.wait(limit_s) == 0 and "done" in guest.said()
    except (lib.Failed, ConnectionError):
        # A guest that the balloon leaves too little ends, and its monitor with it.
        if until is not None and guest.alive() and not ends_soon(guest):
            raise
        survived = False
    wall = time.monotonic() - started
    if guest.alive():
        peak.look()
        guest.process.kill()
    guest.process.wait()
    memtotal = re.search(r"^MemTotal (\d+) kB", "\n".join(guest.said()), re.M)
    return {"survived": survived, "status": guest.process.returncode, "account": guest.account(),
            "wall_s": wall, "kernel_s": kernel_seconds() - before,
            "peak_mib": peak.stop(), "memtotal_mib": int(memtotal.group(1)) >> 10 if memtotal
            else None}


def settle(qmp, guest, target_bytes, limit_s):
    """Waits until a guest's balloon is where it was asked to be."""
    def settled():
        lib.check(guest.alive(), f"QEMU ended: {guest.account()}")
        return qmp.call("query-balloon")["actual"] == target_bytes
    lib.until(settled, limit_s, "the balloon should settle", 0.02)


def uncompressed_kernel(folder):
    """Debian's kernel as an ELF file, which QEMU enters directly (PVH); made in `folder`."""
    packed = pathlib.Path(lib.guest_kit()["kernel"]).read_bytes()
    at = packed.find(b"\xfd7zXZ\0")
    if at < 0:
        raise lib.Skip("the kernel is not packed with xz: no way here to unpack it")
    path = pathlib.Path(folder) / "vmlinux"
    if not path.exists():
        path.write_bytes(lzma.LZMADecompressor().decompress(packed[at:]))
    return path


def bare_initramfs(folder):
    """The guest's initramfs without the tests' programs and modules; made in `folder`."""
    kit = lib.guest_kit()
    path = pathlib.Path(folder) / "initramfs"
    if not path.exists():
        busybox = pathlib.Path(kit["kernel"]).parent / "busybox"
        script = ('mkdir "$1" && cd "$1" && zcat "$2" | "$3" cpio -i 2>/dev/null && '
                  'find init bin | "$3" cpio -o -H newc 2>/dev/null | gzip -9 >"$1.part" && '
                  'mv "$1.part" "$4"')
        subprocess.run(["sh", "-ec", script, "sh", path.with_suffix(".tree"), kit["initramfs"],
                        busybox, path], check=True)
    return path


def ram_of(guest, maximum):
    """Where guest RAM is in its process: (address, bytes)."""
    if guest.target is not None:
        stat = guest.stat()
        return stat["ram_start"], stat["ram_bytes"]
    # QEMU aligns it to 2 MiB; nothing else of that size is mapped.
    size = lib.size_to_pages(maximum) * lib.PAGE
    for line in pathlib.Path(f"/proc/{guest.process.pid}/maps").read_text().splitlines():
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        if last - first == size:
            return first, size
    raise lib.Failed(f"no mapping of {maximum} in QEMU")


def smaps_pages(pid, start, size, key):
    """Sum of a line of smaps over the mappings that lie in a range, in pages."""
    total, inside = 0, False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if head:
            inside = start <= int(head.group(1), 16) < start + size
        elif inside and line.startswith(key + ":"):
            total += int(line.split()[1]) * 1024 // lib.PAGE
    return total


def coverage(guest, maximum):
    """How guest RAM is mapped, in pages: {"resident", "huge", "full": in superpages that are
    populated throughout}"""
    start, size = ram_of(guest, maximum)
    pid = guest.process.pid
    with open(f"/proc/{pid}/pagemap", "rb") as pagemap:
        pagemap.seek(start // lib.PAGE * 8)
        words = array.array("Q", pagemap.read(size // lib.PAGE * 8))
    present = [word >> 63 for word in words]
    full = sum(sum(present[at:at + SUPERPAGE_PAGES]) == SUPERPAGE_PAGES
               for at in range(0, len(present), SUPERPAGE_PAGES))
    return {"resident": sum(present), "full": full * SUPERPAGE_PAGES,
            "huge": smaps_pages(pid, start, size, "AnonHugePages")}
