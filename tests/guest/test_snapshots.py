#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Snapshots of a running guest, and what must be refused while it runs: it goes on as if nobody had
asked, and the total stays."""

import re
import shutil
import subprocess

import lib
import pattern


def start(session, extra=(), target="160M", append="ballast.balloon=off init_on_free=1"):
    """A guest that checks its memory, and what watches it."""
    guest = pattern.start(session, "512M", target, 48, append=append, extra=extra)
    guest.wait_up()
    return guest, lib.Observer(session, guest.name)


def finish(guest, observer):
    """The guest goes on, and the total has never moved."""
    pattern.wait_rounds(guest, 2)
    pattern.check_good(observer.stop(), show=True)
    pattern.destroy(guest)


def last_round(guest):
    return int(re.findall(r"intact (\d+) ", guest.serial)[-1])


def hmp(qmp, command):
    """A command of the human monitor, which says nothing if all is well."""
    said = qmp.call("human-monitor-command", **{"command-line": command})
    lib.check(said == "", f"{command}: {said}")


def refused(qmp, command, **arguments):
    """What QEMU says when it refuses."""
    try:
        qmp.call(command, **arguments)
    except lib.Failed as why:
        print(f"  {why}")
        return str(why)
    raise lib.Failed(f"{command} should be refused: {arguments}")


def capability(name):
    return {"capabilities": [{"capability": name, "state": True}]}


def test_savevm(session):
    """savevm and loadvm: the guest goes back to what it was, and the total stays"""
    if not shutil.which("qemu-img"):
        raise lib.Skip("there is no qemu-img: install qemu-utils")
    image = session.folder / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
    guest, observer = start(session, ["-drive", f"file={image},format=qcow2,if=virtio"])
    pattern.wait_rounds(guest, 10)
    qmp = guest.qmp()
    hmp(qmp, "savevm one")
    saved = last_round(guest)
    for _ in range(2):
        # Its data is in other places then than it was.
        pattern.wait_rounds(guest, 5)
        before = last_round(guest)
        hmp(qmp, "loadvm one")
        lib.check(guest.stat()["total_pages"] == lib.size_to_pages("160M"), guest.stat())
        pattern.wait_rounds(guest, 2)
        lib.check(saved <= last_round(guest) < before, f"it went from round {before} to "
                  f"{last_round(guest)}, and was saved in {saved}")
    hmp(qmp, "delvm one")
    qmp.close()
    finish(guest, observer)


def test_userfaultfd(session):
    """background snapshots, and postcopy to here, are refused, and the guest goes on"""
    guest, observer = start(session)
    pattern.wait_rounds(guest, 8)
    qmp = guest.qmp()
    said = refused(qmp, "migrate-set-capabilities", **capability("background-snapshot"))
    lib.check("not compatible with guest memory" in said, said)
    set_already = {c["capability"] for c in qmp.call("query-migrate-capabilities") if c["state"]}
    lib.check("background-snapshot" not in set_already, str(set_already))

    address = f"unix:{session.folder}/incoming"
    there, there_observer = start(session, ["-incoming", "defer"])
    there_qmp = there.qmp()
    said = refused(there_qmp, "migrate-set-capabilities", **capability("postcopy-ram"))
    lib.check("ostcopy" in said, said)
    # Which QEMU says what of it where: to the one who asked, or on standard error.
    said += there.stderr
    lib.check("migrate without postcopy-ram" in said, said)
    print(f"  {there.stderr.strip()}")
    there_qmp.call("migrate-incoming", uri=address)

    # A source that wants it all the same must find out before it has let the guest go.
    qmp.call("migrate-set-capabilities", **capability("postcopy-ram"))
    qmp.call("migrate", uri=address)  # it fails, or it would have to stop under TCG
    status = pattern.wait_migrated(qmp)
    print(f"  the migration {status}")
    if status == "failed":
        lib.check(qmp.call("query-status")["running"], "the guest should go on at its source")
    qmp.close()
    if status == "completed":
        pattern.check_good(observer.stop())
        pattern.let_run(there)
        guest, observer = there, there_observer
    finish(guest, observer)


def test_memory_devices(session):
    """memory other than DIMMs that is plugged in while the guest runs is refused, and it goes on"""
    guest, observer = start(session, ["-m", "512M,slots=2,maxmem=4G"])
    pattern.wait_rounds(guest, 8)
    qmp = guest.qmp()
    qmp.call("object-add", **{"qom-type": "memory-backend-ram", "id": "m1", "size": 256 << 20})
    for driver in ("nvdimm", "virtio-mem-pci"):
        said = refused(qmp, "device_add", driver=driver, id="d1", memdev="m1")
        lib.check("Ballast" in said and "ballast set" in said, said)
    lib.check(qmp.call("query-memory-devices") == [], "no device should be there")
    qmp.call("object-del", id="m1")
    # Other devices still come and go.
    qmp.call("device_add", driver="virtio-rng-pci", id="r1")
    qmp.close()
    finish(guest, observer)


lib.run_tests(test_savevm, test_userfaultfd, test_memory_devices)
