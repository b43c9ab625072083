#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A guest moves, between Ballast and Ballast and between Ballast and plain QEMU: it finds its memory
as it left it, and each end keeps to its total.

Under KVM it runs while it moves. Under TCG it is stopped meanwhile, because there QEMU 7.2 itself
now and then does not see that a guest has written to a page that was sent already."""

import lib
import pattern


class Stop:
    """Where a guest is on its journey: a process of QEMU, watched if it has a target."""

    def __init__(self, session, target, words, extra=()):
        self.session = session
        self.words = words
        self.guest = pattern.start(session, "512M", target, 48, append=words, extra=extra,
                                   accel=pattern.accel())
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

    def move(self, target, postcopy=False):
        """Moves the guest to a new process, with this target or, if that is None, plain QEMU.
        Postcopy: it runs there before all of its memory is there."""
        there = Stop(self.session, target, self.words, ["-incoming", "defer"])
        address = f"unix:{self.session.folder}/to{self.session.count}"
        here_qmp, there_qmp = self.guest.qmp(), there.guest.qmp()
        for qmp in (there_qmp, here_qmp):
            qmp.call("migrate-set-capabilities",
                     capabilities=[{"capability": "postcopy-ram", "state": postcopy}])
        there_qmp.call("migrate-incoming", uri=address)
        # Slow enough for postcopy to begin before all is there.
        here_qmp.call("migrate-set-parameters", **{"max-bandwidth": 64 << 20 if postcopy else 0,
                                                   "downtime-limit": 1 if postcopy else 2000})
        pattern.stop_under_tcg(here_qmp)
        here_qmp.call("migrate", uri=address)
        if postcopy:
            lib.until(lambda: here_qmp.call("query-migrate").get("status") == "active", 60,
                      "the migration should begin")
            here_qmp.call("migrate-start-postcopy")
        status = pattern.wait_migrated(here_qmp)
        lib.check(status == "completed", f"the migration {status}: {self.guest.account()} "
                  f"{there.guest.account()}")
        info = here_qmp.call("query-migrate")
        print(f"  {self.guest.target or 'plain'} -> {target or 'plain'}"
              f"{', postcopy' if postcopy else ''}: {info['total-time']} ms, {info['ram']['normal']} "
              f"pages and {info['ram']['duplicate']} of zeros")
        lib.check(not postcopy or info["ram"]["postcopy-bytes"] > 0, f"that was no postcopy: {info}")
        here_qmp.close()
        there_qmp.close()
        pattern.let_run(there.guest)
        self.leave()
        return there


def test_preballooned(session):
    """a guest without a balloon driver moves: Ballast, Ballast, plain QEMU by postcopy, Ballast"""
    # With init_on_free what the guest has freed is zero: the only way to take it back.
    stop = Stop(session, "160M", "ballast.balloon=off init_on_free=1")
    for target, postcopy in (("160M", False), (None, True), ("192M", False)):
        pattern.wait_rounds(stop.guest, 2)
        stat = stop.guest.stat() if stop.guest.target else None
        lib.check(stat is None or not stat["covered"], f"it should still be pre-ballooned: {stat}")
        stop = stop.move(target, postcopy)
    pattern.wait_rounds(stop.guest, 2)
    stop.leave()


lib.run_tests(test_preballooned)
