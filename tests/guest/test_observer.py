#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Is the accounting oracle right? It watches a process that moves pages as fast as it can, and one
page too many or too few must be found while a page in flight must not."""

import json
import os
import signal
import subprocess
import sys
import time

SKIP = 77


# One processor for each, so that pages do move while they are counted.
CPUS = sorted(os.sched_getaffinity(0))[:2]


def on_cpu(cpu):
    """What a child does to stay on one processor."""
    return lambda: os.sched_setaffinity(0, {cpu})


def run(observer, subject, fault):
    """Observes for a while, with `fault` done to the subject at the end of it; without one the
    subject ends while its pages move. Returns the report."""
    with subprocess.Popen([subject], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, preexec_fn=on_cpu(CPUS[-1])) as moving:
        first = moving.stdout.readline()
        if not first:
            if moving.wait() == SKIP:
                print("skipped: this kernel gives us no userfaultfd with UFFDIO_MOVE")
                sys.exit(SKIP)
            sys.exit("the subject did not start")
        pid, ram, cache, target = first.split()
        watching = subprocess.Popen([observer, "--hz", "200", "--pid", pid, "--ram", ram,
                                     "--cache", cache, "--target", target],
                                    stdout=subprocess.PIPE, text=True,
                                    preexec_fn=on_cpu(CPUS[0]))
        event = watching.stdout.readline()
        if not event and watching.wait() == SKIP:
            moving.kill()
            print("skipped: this kernel has no PAGEMAP_SCAN")
            sys.exit(SKIP)
        assert json.loads(event)["event"] == "first-sample", event
        time.sleep(1)
        if fault:
            moving.stdin.write(fault)
            moving.stdin.flush()
            assert moving.stdout.readline() == "done\n"
            # It takes one more sample after this.
            watching.send_signal(signal.SIGINT)
        else:
            moving.stdin.close()
        report = json.loads(watching.stdout.readline())
        status = watching.wait()
    print(json.dumps({key: value for key, value in report.items() if key != "details"}))
    assert status == (0 if report["good"] else 1), status
    return report


def main():
    observer, subject = sys.argv[1:3]

    print("nothing wrong:")
    settled = 0
    # Whether pages move while they are counted is up to the scheduler: it gets some chances.
    for _ in range(10):
        report = run(observer, subject, "")
        assert report["good"] and report["deviations"] == 0, report
        assert report["sum_min_pages"] == report["sum_max_pages"] == report["target_pages"]
        assert report["smaps_checks"] > 0, report
        settled += report["in_flight_reread"] + report["in_flight_stopped"]
        if settled > 0:
            break
    assert settled > 0 or len(CPUS) == 1, \
        "no page was ever seen in flight: the test does not test what it should"

    for name, fault, difference in (("one too many", "+", 1), ("one too few", "-", -1)):
        print(f"{name}:")
        report = run(observer, subject, fault)
        assert not report["good"] and report["deviations"] > 0, report
        detail = report["details"][0]
        assert detail["sum_pages"] - detail["target_pages"] == difference, detail
    return 0


if __name__ == "__main__":
    if not os.path.exists("/proc/self/pagemap"):
        print("skipped: no /proc/self/pagemap here")
        sys.exit(SKIP)
    sys.exit(main())
