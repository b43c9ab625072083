#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""contrib/fleet/pack.py: what must hold of every packing, held against counts of our own; and that
docs/fleets.md and its picture are what it prints and draws. With --write they are made anew."""

import importlib.util
import itertools
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPT = SOURCE / "contrib/fleet/pack.py"
DOCUMENT = SOURCE / "docs/fleets.md"
PICTURE = SOURCE / "docs/pictures/fleet.svg"
PRINTED = re.compile(r"(?<=pack\.py begins -->\n).*?(?=<!-- and ends)", re.S)


def load():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("pack", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = module
    spec.loader.exec_module(module)
    return module


pack = load()


def run(*words):
    return subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True,
                          check=False)


def check_packing(kinds, fleet, share, policy):
    """No host has too much, and every VM is on one host."""
    hosts = pack.pack(kinds, fleet, share, policy)
    keep = {"none": lambda grow: 0, "10 %": lambda grow: fleet.memory_mib // 10,
            "20 %": lambda grow: fleet.memory_mib // 5, "one": max}[policy]
    for host in hosts:
        vms = list(itertools.chain(*([kind] * count for kind, count in host.vms.items())))
        assert vms, "a host without a VM"
        targets = [kind.target_mib(share) for kind in vms]
        growths = [kind.max_mib - target for kind, target in zip(vms, targets)]
        assert all(0 < target <= kind.max_mib for kind, target in zip(vms, targets))
        used = sum(targets) + len(vms) * fleet.overhead_mib
        assert used + keep(growths) <= fleet.memory_mib, (share, policy, used, host.vms)
        assert used == host.used_mib and host.free_mib() == fleet.memory_mib - used
        assert sum(kind.cores for kind in vms) <= fleet.cores, (share, policy, host.vms)
        # One after the other they get more, and the host has that.
        for later in ((share + 100) // 2, 100):
            free, granted = host.free_mib(), 0
            for kind in sorted(vms, key=lambda kind: kind.max_mib):
                more = kind.target_mib(later) - kind.target_mib(share)
                if more <= free:
                    free, granted = free - more, granted + 1
            assert host.grow(share, later) == granted, (share, later, policy, host.vms)
        assert policy != "one" or host.grow(share, 100) >= 1
    for kind in kinds:
        placed = sum(host.vms.get(kind, 0) for host in hosts)
        assert placed == kind.count, f"{placed} of {kind}"
    return len(hosts)


def test_packings():
    """every packing holds, and more headroom or larger targets never need fewer hosts"""
    fleet = pack.Fleet(496 * 1024, 512, 128)
    kinds = pack.read_table(SOURCE / "contrib/fleet/azure-2017.csv", "running")
    assert sum(kind.count for kind in kinds) == 23311
    plain = check_packing(kinds, fleet, 100, "none")
    memory = sum(kind.count * (kind.max_mib + fleet.overhead_mib) for kind in kinds)
    assert plain >= memory / fleet.memory_mib
    last = 0
    for share in (1, 50, 100):
        counts = {policy: check_packing(kinds, fleet, share, policy) for policy in pack.POLICIES}
        assert counts["none"] <= counts["10 %"] <= counts["20 %"], counts
        assert counts["none"] >= last, counts
        last = counts["none"]
    assert last == plain


def test_small():
    """by hand: hosts of 10 GiB, VMs of 4 GiB"""
    kinds = [pack.Kind(1, 4096, 5)]
    for share, policy, cores, expected in [
            (100, "none", 9, 3), (50, "none", 9, 1), (50, "10 %", 9, 2), (50, "one", 9, 2),
            (25, "none", 9, 1), (25, "none", 2, 3)]:
        fleet = pack.Fleet(10 * 1024, cores, 0)
        hosts = check_packing(kinds, fleet, share, policy)
        assert hosts == expected, (share, policy, cores, hosts)
    # Two of five on a full host of 10 GiB, none of which may grow; one of four where 2 GiB are kept.
    fleet = pack.Fleet(10 * 1024, 9, 0)
    assert pack.refused_percent(pack.pack(kinds, fleet, 50, "none"), 50, 100) == 100
    assert pack.refused_percent(pack.pack([pack.Kind(1, 4096, 4)], fleet, 50, "20 %"), 50, 100) == 75
    try:
        pack.pack([pack.Kind(1, 20480, 1)], fleet)
    except ValueError as error:
        assert "fits no host" in str(error)
    else:
        raise AssertionError("a VM that is larger than a host was placed")


def test_page():
    """the page has what the script prints, and the picture is what it draws"""
    with tempfile.TemporaryDirectory(prefix="bl-") as folder:
        picture = pathlib.Path(folder) / "fleet.svg"
        done = run("--svg", picture)
        assert done.returncode == 0, done.stderr
        drawn = picture.read_text(encoding="utf-8")
        printed = f"\n{done.stdout}\n"
        if "--write" in sys.argv:
            PICTURE.write_text(drawn, encoding="utf-8")
            text = PRINTED.sub(lambda _: printed, DOCUMENT.read_text(encoding="utf-8"))
            DOCUMENT.write_text(text, encoding="utf-8")
        text = DOCUMENT.read_text(encoding="utf-8")
        assert PRINTED.search(text)[0] == printed, "docs/fleets.md is old: run this with --write"
        assert PICTURE.read_text(encoding="utf-8") == drawn, "the picture is old: run this with --write"
        xml.etree.ElementTree.fromstring(drawn)
        # What the page says in words.
        hosts = re.findall(r">(\d+) hosts:", drawn)
        assert f"![{hosts[0]} hosts without PoD, {hosts[1]} with" in text, hosts
        assert f"20 % of each host kept, {hosts[2]} with nothing kept" in text, hosts


def test_own_table():
    """the example of one's own fleet, and tables that cannot be used"""
    with tempfile.TemporaryDirectory(prefix="bl-") as folder:
        table, picture = pathlib.Path(folder) / "my.csv", pathlib.Path(folder) / "my.svg"
        table.write_text("cores,memory_gib,vms\n2,8,100\n4,16,0\n")
        done = run(table, "--count", "vms", "--memory", 768, "--share", 40, 60, "--svg", picture)
        assert done.returncode == 0 and "100 VMs with 800 GiB" in done.stdout, done.stdout + done.stderr
        xml.etree.ElementTree.parse(picture)
        for words in [("--count", "nothing"), ("--memory", 17), ("--share", 0)]:
            done = run(table, "--count", "vms", *words)
            assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr


def main():
    for test in (test_packings, test_small, test_page, test_own_table):
        print(f"{test.__doc__.splitlines()[0]}:")
        test()
        print("  passed")


main()
