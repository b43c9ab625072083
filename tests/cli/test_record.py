# SPDX-License-Identifier: MIT
"""ballast record and ballast plot, as an operator uses them, on domains that are made up.

test_record.py BALLAST FAKE_DOMAIN AGENT [PART_OF_A_TEST'S_NAME...]
"""
import json
import os
import signal
import sys
import time

from test_cli import LIMIT_S, USAGE, Place, Skip, check, check_failed, run_all, tell

INTERRUPTED = 130
OPTIONS = ("--interval", "10", "--map-interval", "10")


def start(place, name, *words):
    """Starts a recorder; returns it and the trace's path."""
    path = os.path.join(place.root, f"{name}.trace")
    if os.path.exists(path):
        os.unlink(path)
    command = [place.ballast_path, "record", name, "-o", path, *OPTIONS, *words]
    return place.start(*command), path


def lines(path):
    """The whole lines of a trace so far."""
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []


def wait_for(path, wanted, what):
    """Waits until wanted(lines) is true."""
    deadline = time.monotonic() + LIMIT_S
    while not wanted(lines(path)):
        check(time.monotonic() < deadline, "waited in vain:", what, lines(path)[-3:])
        time.sleep(0.01)


def of_kind(trace, kind):
    return [line for line in trace[1:] if line.get("kind", "sample") == kind]


def end(recorder):
    """Waits for a recorder: its status and what it said."""
    _, said = recorder.communicate(timeout=LIMIT_S)
    return recorder.returncode, said


def test_until_the_domain_is_gone(place):
    domain = place.domain("vm1")
    recorder, path = start(place, "vm1")
    wait_for(path, lambda trace: len(of_kind(trace, "sample")) > 3, "samples")
    tell(domain, "event LOW_CACHE")
    tell(domain, "event EXHAUSTED")
    wait_for(path, lambda trace: len(of_kind(trace, "event")) == 2, "events")
    check(place.ballast("destroy", "vm1").returncode == 0, "destroy")
    domain.wait(LIMIT_S)
    status, said = end(recorder)
    check(status == 0 and "2 events" in said and "it is gone" in said, said)
    trace = lines(path)
    check(trace[0]["ballast-trace"] == 2 and trace[0]["name"] == "vm1", trace[0])
    events = of_kind(trace, "event")
    check([event["event"] for event in events] == ["LOW_CACHE", "EXHAUSTED"], events)
    check(events[0]["data"]["target_pages"] == 65536, events[0])
    samples = of_kind(trace, "sample")
    check(0 <= events[0]["t_ns"] <= events[1]["t_ns"] <= samples[-1]["t_ns"] + 10**9, events)
    check(samples[0]["populated_pages"] == 16384 and samples[0]["state"] == "running", samples[0])
    last = trace[-1]
    check(last["kind"] == "end" and last["end"] == "gone", last)
    # Linux tells the status of processes that are not one's own from 6.15 on.
    check(last.get("exit_status", 82) == 82, last)


def test_what_happened_before(place):
    domain = place.domain("vm1")
    tell(domain, "event BUILT")
    recorder, path = start(place, "vm1")
    wait_for(path, lambda trace: of_kind(trace, "event"), "the past")
    recorder.send_signal(signal.SIGINT)
    check(end(recorder)[0] == 0, "status")
    check(of_kind(lines(path), "event")[0]["t_ns"] < 0, of_kind(lines(path), "event"))


def test_interrupted(place):
    """Ctrl-C, kill and a closed terminal: the trace is whole."""
    place.domain("vm1")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # An interval that would keep it waiting for a minute.
        recorder, path = start(place, "vm1", "--interval", "60000")
        wait_for(path, lambda trace: len(trace) > 1, "a sample")
        recorder.send_signal(number)
        status, said = end(recorder)
        check(status == 0 and "1 samples" in said and "gone" not in said, status, said)
        with open(path, encoding="utf-8") as file:
            check(file.read().endswith("}\n"), "the last line is cut")
        trace = lines(path)
        check(trace[-1]["kind"] == "end" and trace[-1]["end"] == "stopped", trace[-1])
        for ending in ("svg", "png", "html"):
            result = place.ballast("plot", path, "-o", os.path.join(place.root, f"p.{ending}"))
            if "without cairo" not in result.stderr:
                check(result.returncode == 0, result)


def test_a_domain_that_ends_in_a_long_interval(place):
    domain = place.domain("vm1")
    recorder, path = start(place, "vm1", "--interval", "60000")
    wait_for(path, lambda trace: len(trace) > 1, "a sample")
    domain.kill()
    domain.wait(LIMIT_S)
    check(end(recorder)[0] == 0, "status")
    last = lines(path)[-1]
    check(last["end"] == "gone" and last.get("exit_status", 137) == 137, last)


def test_map(place):
    domain = place.domain("vm1")
    tell(domain, "map H2P2 4")
    recorder, path = start(place, "vm1")
    wait_for(path, lambda trace: of_kind(trace, "map"), "a map")
    wait_for(path, lambda trace: len(of_kind(trace, "sample")) > 10, "samples")
    tell(domain, "map HdO2 4")
    wait_for(path, lambda trace: len(of_kind(trace, "map")) > 1, "another map")
    recorder.send_signal(signal.SIGINT)
    check(end(recorder)[0] == 0, "status")
    maps = of_kind(lines(path), "map")
    check([m["map"] for m in maps] == ["HHPP", "HdOO"], maps)
    check(all(m["superpages"] == 4 for m in maps), maps)
    recorder, path = start(place, "vm1", "--map-interval", "0")
    wait_for(path, lambda trace: len(of_kind(trace, "sample")) > 5, "samples")
    recorder.send_signal(signal.SIGINT)
    check(end(recorder)[0] == 0, "status")
    check(not of_kind(lines(path), "map"), "maps though none were wanted")


def test_waiting(place):
    """--wait records from the beginning; without it a domain must be there, but need not listen."""
    result = place.ballast("record", "vm1", "-o", os.path.join(place.root, "t"))
    check_failed(result, 1, "no domain 'vm1'")
    check(not os.path.exists(os.path.join(place.root, "t")), "a trace of nothing")
    recorder, path = start(place, "vm1", "--wait")
    time.sleep(0.2)
    check(recorder.poll() is None and not os.path.exists(path), "it did not wait")
    domain = place.domain("vm1", "starting")
    tell(domain, "event BUILT")
    time.sleep(0.2)
    check(recorder.poll() is None and not os.path.exists(path), "it did not wait")
    tell(domain, "listen")
    wait_for(path, lambda trace: of_kind(trace, "event"), "BUILT")
    recorder.send_signal(signal.SIGINT)
    check(end(recorder)[0] == 0, "status")
    domain = place.domain("vm2", "starting")
    recorder, path = start(place, "vm2")
    time.sleep(0.2)
    tell(domain, "listen")
    wait_for(path, lambda trace: of_kind(trace, "sample"), "a sample")
    recorder.send_signal(signal.SIGINT)
    check(end(recorder)[0] == 0, "status")


def test_waiting_in_vain(place):
    recorder, path = start(place, "vm1", "--wait")
    time.sleep(0.2)
    recorder.send_signal(signal.SIGINT)
    status, said = end(recorder)
    check(status == INTERRUPTED and "nothing was recorded" in said, status, said)
    check(not os.path.exists(path), "a trace of nothing")


def test_bad_words(place):
    place.domain("vm1")
    trace = os.path.join(place.root, "t")
    for words, piece in (
            (["record", "vm1"], "-o"),
            (["record", "vm1", "-o", trace, "--interval", "0"], "'0' is no interval"),
            (["record", "vm1", "-o", trace, "--map-interval", "-1"], "0 to 60000"),
            (["record", "-o", trace], "name"),
            (["plot", trace], "-o"),
            (["plot", trace, "-o", "picture.pdf"], ".html, .svg and .png")):
        check_failed(place.ballast(*words), USAGE, piece)
    check_failed(place.ballast("record", "vm1", "-o", "/nowhere/t"), 1, "cannot be written")
    check_failed(place.ballast("plot", trace, "-o", trace + ".html"), 1, "cannot be read")


def test_full_disk(place):
    place.domain("vm1")
    if not os.path.exists("/dev/full"):
        raise Skip("there is no /dev/full")
    recorder = place.start(place.ballast_path, "record", "vm1", "-o", "/dev/full")
    status, said = end(recorder)
    check(status == 1 and "could not be written" in said and said.count("\n") == 1, status, said)


def test_plot_leaves_nothing_half_done(place):
    recording = place.file("t", json.dumps({"ballast-trace": 2, "name": "vm1"}) + "\n")
    page = os.path.join(place.root, "p.html")
    result = place.ballast("plot", recording, "-o", page)
    check_failed(result, 1, "no samples")
    check(not os.path.exists(page), "a page of nothing")
    result = place.ballast("plot", recording, "-o", "/nowhere/p.html")
    check_failed(result, 1)


if __name__ == "__main__":
    sys.exit(run_all(globals()))
