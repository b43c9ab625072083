#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A guest moves while it runs, between Ballast and Ballast and between Ballast and plain QEMU: it
finds its memory as it left it, and each end keeps to its total."""

import lib
import pattern


class Stop:
    """Where a guest is on its journey: a process of QEMU, watched if it has a target."""

    def __init__(self, session, target, words, extra=()):
        self.session = session
        self.words = words
        self.guest = pattern.start(session, "512M", target, 48, append=words, extra=extra)
        self.guest.wait_up()
        self.observer = lib.Observer(session, self.guest.name) if target else None

    def leave(self):
        """Ends it, and sees whether the domain has kept its total."""
        if self.observer:
            pattern.check_good(self.observer.stop(), show=True)
            stat = self.guest.stat()
            lib.check(stat["total_pages"] == stat["target_pages"], stat)
            pattern.destroy(self.guest)
        else:
            self.guest.qmp().call("quit")
            lib.check(self.guest.wait() == 0, self.guest.account())

    def move(self, target):
        """Moves the guest to a new process, with this target or, if that is None, plain QEMU."""
        address = f"unix:{self.session.folder}/to{self.session.count}"
        there = Stop(self.session, target, self.words, ["-incoming", address])
        qmp = self.guest.qmp()
        qmp.call("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": 2000})
        qmp.call("migrate", uri=address)
        status = pattern.wait_migrated(qmp)
        lib.check(status == "completed", f"the migration {status}: {self.guest.account()} "
                  f"{there.guest.account()}")
        info = qmp.call("query-migrate")
        qmp.close()
        print(f"  {self.guest.target or 'plain'} -> {target or 'plain'}: {info['total-time']} ms, "
              f"{info['ram']['normal']} pages and {info['ram']['duplicate']} of zeros")
        pattern.wait_running(there.guest)
        self.leave()
        return there


def test_preballooned(session):
    """a guest without a balloon driver moves: Ballast, Ballast, plain QEMU, Ballast"""
    # With init_on_free what the guest has freed is zero: the only way to take it back.
    stop = Stop(session, "160M", "ballast.balloon=off init_on_free=1")
    for target in ("160M", None, "192M"):
        pattern.wait_rounds(stop.guest, 2)
        stat = stop.guest.stat() if stop.guest.target else None
        lib.check(stat is None or not stat["covered"], f"it should still be pre-ballooned: {stat}")
        stop = stop.move(target)
    pattern.wait_rounds(stop.guest, 2)
    stop.leave()


lib.run_tests(test_preballooned)
