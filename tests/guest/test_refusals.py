#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What Ballast cannot serve does not start: one line says why, and the guest never runs."""

import lib
import results


def check_refused(session, guest, words):
    """Holds the end of a QEMU that should not have started against how that must look."""
    status = guest.wait(30)
    lib.check(status in (lib.EXIT_REFUSED, lib.EXIT_USAGE),
              f"the exit status should be {lib.EXIT_REFUSED} or {lib.EXIT_USAGE}: "
              f"{guest.account()}")
    lines = guest.stderr.splitlines()
    lib.check(len(lines) == 1, f"there should be one line on standard error: {lines}")
    print(f"  {lines[0]}")
    lib.check(lines[0].startswith("ballast: ") and "; " in lines[0],
              f"the line should say what is wrong and what to do: {lines[0]}")
    for word in words:
        lib.check(word in lines[0], f"the line should speak of '{word}': {lines[0]}")
    lib.check(guest.serial == "", f"the guest has run: {guest.serial[:200]!r}")
    lib.check(session.nothing_left(guest.name), "the domain's folder is still there")
    lib.check(not list(session.domain_pids()), "something still holds the domain's lock")


def refusal(what, extra, *words, maximum="512M", target="64M", readconfig=None):
    """The test function of a refusal. What is given by readconfig gets past `ballast run`, which
    does not read such files, to the agent."""
    def test(session):
        arguments = list(extra)
        if readconfig is not None:
            config = session.folder / "config"
            config.write_text(readconfig)
            arguments += ["-readconfig", config]
        guest = session.start_guest(maximum, target, extra=arguments)
        check_refused(session, guest, words)
        if readconfig is None:
            results.keep("refusals", {"what": what},
                         {"said": guest.stderr.splitlines()[0].removeprefix("ballast: ")})

    test.__doc__ = what
    return test


def disk_on_nfs(session):
    """a disk on NFS past the page cache (docs/references.md)"""
    image = session.folder / "disk"
    image.write_bytes(bytes(1 << 20))
    session.environment["LD_PRELOAD"] = str(lib.build_dir() / "tests/guest/pretend-nfs.so")
    for cache, works in (("none", False), ("directsync", False), ("writeback", True)):
        drive = f"file={image},format=raw,if=virtio,cache={cache}"
        guest = session.start_guest("512M", "64M", held=True, extra=["-drive", drive])
        if works:
            guest.wait_up()
            lib.check(guest.stderr == "", f"there is nothing to say: {guest.account()}")
            continue
        lib.check(guest.wait(30) != 0 and "O_DIRECT" in guest.stderr, guest.account())
        lines = guest.stderr.splitlines()
        lib.check(lines[0].startswith("ballast: a disk on NFS"), guest.account())
        lib.check(sum("ballast:" in line for line in lines) == 1, guest.account())
        lib.check(session.nothing_left(guest.name), "the domain's folder is still there")


def main():
    """The list of refusals."""
    backend = ["-machine", "memory-backend=m"]
    lib.run_tests(
        refusal("RAM in a file", ["-object", "memory-backend-file,id=m,size=512M,"
                                  "mem-path=@FOLDER@/ram", *backend], "memory-backend-file"),
        refusal("RAM in a memfd", ["-object", "memory-backend-memfd,id=m,size=512M", *backend],
                "memory-backend-memfd"),
        refusal("RAM in huge pages", ["-object", "memory-backend-memfd,hugetlb=on,id=m,size=512M",
                                      *backend], "memory-backend-memfd"),
        refusal("RAM that is shared", ["-object", "memory-backend-ram,share=on,id=m,size=512M",
                                       *backend], "share=on"),
        refusal("RAM at a path", ["-mem-path", "@FOLDER@"], "-mem-path"),
        refusal("a VFIO device", ["-device", "vfio-pci,host=0000:00:00.0"], "vfio-pci"),
        refusal("vhost-scsi", ["-device", "vhost-scsi-pci,wwpn=naa.5000c50000000001"],
                "vhost-scsi-pci"),
        refusal("virtio-mem", ["-object", "memory-backend-ram,id=v,size=256M", "-device",
                               "virtio-mem-pci,memdev=v"], "virtio-mem-pci"),
        refusal("an NVDIMM", ["-object", "memory-backend-ram,id=v,size=256M", "-device",
                              "nvdimm,memdev=v"], "nvdimm"),
        refusal("RAM in blocks that cut superpages short",
                ["-object", "memory-backend-ram,id=m0,size=255M", "-numa", "node,memdev=m0",
                 "-object", "memory-backend-ram,id=m1,size=257M", "-numa", "node,memdev=m1"],
                "'m1'", "multiple of 2 MiB"),
        refusal("RAM in a memfd, said in a file", backend, "memory-backend-memfd",
                readconfig='[object "m"]\n  qom-type = "memory-backend-memfd"\n'
                           '  size = "512M"\n'),
        refusal("shared RAM, said in a file", backend, "share",
                readconfig='[object "m"]\n  qom-type = "memory-backend-ram"\n  size = "512M"\n'
                           '  share = "on"\n'),
        refusal("a shared block of two, said in a file", [], "m1", "share",
                readconfig='[object "m0"]\n  qom-type = "memory-backend-ram"\n  size = "256M"\n'
                           '[object "m1"]\n  qom-type = "memory-backend-ram"\n  size = "256M"\n'
                           '  share = "on"\n'
                           '[numa]\n  type = "node"\n  nodeid = "0"\n  memdev = "m0"\n'
                           '[numa]\n  type = "node"\n  nodeid = "1"\n  memdev = "m1"\n'),
        refusal("more than the host has", [], "host", maximum="8192G", target="4096G"),
        refusal("a target above max", [], "target", target="1G"),
        refusal("a target of nothing", [], "target", target="0M"),
        refusal("a target without a unit", [], "unit", target="64"),
        disk_on_nfs,
        refusal("a target that holds no superpage", [], "target", target="1M"),
    )


main()
