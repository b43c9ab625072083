#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Nothing that the guest or a device writes is lost, and what the guest has not written is zero,
while pages come and go under them."""

import hashlib
import os

import lib


def test_churn(session):
    """data in memory stays while zeros are written all around it"""
    guest, report = lib.observed_boot(session, "1G", "160M",
                                      append="ballast.scenario=churn ballast.size=32")
    lib.check(guest.fact("churn data") == str(32 << 20), guest.account())
    lib.check("churn intact" in guest.said(), guest.account())
    lib.check(not any("not zero" in line for line in guest.said()), guest.account())
    lib.check(report["samples"] > 0, report)


def disk(aio):
    """The test function that reads a disk by one of QEMU's ways."""
    def test(session):
        image = session.folder / "disk"
        data = os.urandom(48 << 20)
        image.write_bytes(data)
        drive = f"file={image},format=raw,if=virtio,readonly=on,aio={aio}"
        guest, _ = lib.observed_boot(session, "1G", "192M", append="ballast.scenario=disk",
                                     extra=["-drive", drive])
        lib.check(guest.fact("disk") == hashlib.md5(data).hexdigest(),
                  f"the guest read something else: {guest.account()}")

    test.__doc__ = f"a disk of 48 MiB reads right into missing pages, aio={aio}"
    return test


lib.run_tests(test_churn, disk("threads"), disk("io_uring"))
