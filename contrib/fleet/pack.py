#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How many hosts do these VMs need, if each costs all of its memory, or a target? Packs a table of VM
sizes on hosts that are alike, prints tables in Markdown, and draws the hosts. docs/fleets.md explains
them; all that is assumed is an option here.

With one host's memory M after its reserve, and its VMs i with what QEMU itself takes, o:

  without PoD  sum(max_i + o) <= M
  with PoD     sum(target_i + o) + headroom <= M,  target_i = a share of max_i
  always       sum(cores_i) <= threads * ratio

A host is filled first fit, the largest VMs first. Memory is counted in whole MiB.
"""

import argparse
import csv
import dataclasses
import pathlib

GIB = 1024
HERE = pathlib.Path(__file__).resolve().parent
# No target is below what a Linux guest needs to come up (docs/howto/sizing.md), with a margin.
BOOT_MIB, BOOT_MIB_PER_GIB = 96, 20


@dataclasses.dataclass(frozen=True)
class Kind:
    """VMs of one size."""
    cores: int
    max_mib: int
    count: int

    def target_mib(self, share):
        """The target that is this share of max, in percent."""
        least = BOOT_MIB + BOOT_MIB_PER_GIB * self.max_mib // GIB
        return min(self.max_mib, max(-(-self.max_mib * share // 100), least))


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Hosts that are alike."""
    memory_mib: int  # without what is reserved for the host itself
    cores: int       # that VMs may have
    overhead_mib: int


# How much memory is left free for VMs that grow: a policy is given what its host has for VMs, and the
# most that one of them may grow.
POLICIES = {
    "none": lambda memory, largest: 0,
    "10 %": lambda memory, largest: memory // 10,
    "20 %": lambda memory, largest: memory // 5,
    "one": lambda memory, largest: largest,
}


class Host:
    """One host, and how many VMs of each kind it has."""

    def __init__(self, fleet, policy):
        self.fleet, self.policy = fleet, policy
        self.vms = {}
        self.used_mib = self.used_cores = 0
        self.largest_growth_mib = 0

    def headroom_mib(self, growth_mib=0):
        """What must be free, also if a VM that may grow so much is here."""
        largest = max(self.largest_growth_mib, growth_mib)
        return POLICIES[self.policy](self.fleet.memory_mib, largest)

    def place(self, kind, share, wanted):
        """Takes as many VMs of a kind as fit, at most those wanted. Returns how many."""
        target = kind.target_mib(share)
        growth = kind.max_mib - target
        room = self.fleet.memory_mib - self.headroom_mib(growth) - self.used_mib
        fitting = min(wanted, room // (target + self.fleet.overhead_mib),
                      (self.fleet.cores - self.used_cores) // kind.cores)
        if fitting <= 0:
            return 0
        self.vms[kind] = self.vms.get(kind, 0) + fitting
        self.used_mib += fitting * (target + self.fleet.overhead_mib)
        self.used_cores += fitting * kind.cores
        self.largest_growth_mib = max(self.largest_growth_mib, growth)
        return fitting

    def free_mib(self):
        """What nobody has: for growth."""
        return self.fleet.memory_mib - self.used_mib

    def grow(self, share, later):
        """All its VMs ask for a larger share at once, the smallest first; each gets all of that or
        nothing. Returns how many get it."""
        free, granted = self.free_mib(), 0
        for kind, count in sorted(self.vms.items(), key=lambda item: item[0].max_mib):
            more = kind.target_mib(later) - kind.target_mib(share)
            lucky = min(count, free // more) if more > 0 else count
            free -= lucky * more
            granted += lucky
        return granted


def pack(kinds, fleet, share=100, policy="none"):
    """Places all VMs; share 100 is a fleet without PoD. Returns the hosts. ValueError: a VM is larger
    than a host."""
    hosts = []
    for kind in sorted(kinds, key=lambda kind: (-kind.max_mib, -kind.cores)):
        left = kind.count
        for host in hosts:
            left -= host.place(kind, share, left)
        while left > 0:
            host = Host(fleet, policy)
            placed = host.place(kind, share, left)
            if placed == 0:
                raise ValueError(f"a VM of {kind.cores} cores and {kind.max_mib} MiB fits no host")
            left -= placed
            hosts.append(host)
    return hosts


def refused_percent(hosts, share, later):
    """How many of all VMs are refused if all ask for more at once."""
    total = sum(sum(host.vms.values()) for host in hosts)
    return 100 - 100 * sum(host.grow(share, later) for host in hosts) / total


def read_table(path, column):
    """The sizes in a table, and the number of VMs from one of its columns."""
    with open(path, encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return [Kind(int(row["cores"]), round(float(row["memory_gib"]) * GIB), int(row[column]))
                for row in rows if int(row[column]) > 0]


def row(*cells):
    """A line of a table in Markdown."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def report(kinds, fleet, shares):
    """The tables, as lines."""
    plain = len(pack(kinds, fleet))
    memory = sum(kind.count * kind.max_mib for kind in kinds)
    cores = sum(kind.count * kind.cores for kind in kinds)
    yield (f"{sum(kind.count for kind in kinds)} VMs with {memory // GIB} GiB and {cores} cores. "
           f"Without PoD: {plain} hosts. For their cores alone: {-(-cores // fleet.cores)}.")
    yield ""
    headings = [f"headroom {name}" if name != "one" else "headroom for one VM" for name in POLICIES]
    yield row("target", *headings)
    yield row(*["---"] * (1 + len(headings)))
    for share in shares:
        counts = [len(pack(kinds, fleet, share, policy)) for policy in POLICIES]
        yield row(f"{share} % of max", *(f"{count} ({100 * count / plain:.0f} %)" for count in counts))
    yield ""
    yield row("all grow at once", *headings)
    yield row(*["---"] * (1 + len(headings)))
    for share, later in [(share, later) for share in shares for later in (*shares, 100)
                         if later > share]:
        refused = [refused_percent(pack(kinds, fleet, share, policy), share, later)
                   for policy in POLICIES]
        yield row(f"{share} % to {later} % of max", *(f"{part:.0f} % refused" for part in refused))


WIDTH, BAND, MARGIN, TOP = 760, 110, 12, 34
# The colours that `ballast plot` has for populated and for PoD.
USED, FREE, INK = "#0072b2", "#c9d6e2", "#222222"


def columns(top, scale, heights):
    """A path with a column that stands on a band's ground for each height."""
    return "".join(f"M{MARGIN + index * scale:.1f} {top + BAND}v{-high:.1f}h{scale * 0.8:.1f}"
                   f"v{high:.1f}z" for index, high in enumerate(heights))


def band(top, scale, hosts, title):
    """The hosts of one way to pack them, as SVG."""
    used = [BAND * host.used_mib / host.fleet.memory_mib for host in hosts]
    yield f'<text x="{MARGIN}" y="{top - 8}" fill="{INK}">{title}</text>'
    yield f'<path fill="{FREE}" d="{columns(top, scale, [BAND] * len(hosts))}"/>'
    yield f'<path fill="{USED}" d="{columns(top, scale, used)}"/>'


def draw(kinds, fleet, share):
    """A picture: each column is a host, dark what its VMs have, light what nobody has."""
    packings = [(pack(kinds, fleet), "without PoD: every VM costs its max")]
    packings += [(pack(kinds, fleet, share, policy), f"target {share} % of max, headroom {words}")
                 for policy, words in (("20 %", "20 % of each host"), ("none", "none"))]
    scale = (WIDTH - 2 * MARGIN) / max(len(hosts) for hosts, _ in packings)
    height = len(packings) * (BAND + TOP) + MARGIN
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
           f'height="{height}" font-family="sans-serif" font-size="13">')
    yield f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    for index, (hosts, title) in enumerate(packings):
        yield from band(TOP + index * (BAND + TOP), scale, hosts, f"{len(hosts)} hosts: {title}")
    yield "</svg>"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", default=HERE / "azure-2017.csv",
                        help="CSV with cores, memory_gib and a column of counts (azure-2017.csv)")
    parser.add_argument("--count", default="running", help="that column's name (%(default)s)")
    parser.add_argument("--memory", type=int, default=512, help="of a host, GiB (%(default)s)")
    parser.add_argument("--reserve", type=int, default=16, help="of that for the host, GiB "
                        "(%(default)s)")
    parser.add_argument("--threads", type=int, default=128, help="of a host (%(default)s)")
    parser.add_argument("--ratio", type=int, default=4, help="VMs' cores a thread (%(default)s)")
    parser.add_argument("--overhead", type=int, default=128, help="what QEMU takes itself, MiB a VM "
                        "(%(default)s)")
    parser.add_argument("--share", type=int, nargs="+", default=[25, 50, 75],
                        help="targets, percent of max (25 50 75)")
    parser.add_argument("--svg", metavar="FILE", help="draw the hosts, with the middle one of the "
                        "shares")
    args = parser.parse_args()
    if not all(0 < share <= 100 for share in args.share):
        parser.error("a share is between 1 and 100 percent")
    fleet = Fleet((args.memory - args.reserve) * GIB, args.threads * args.ratio, args.overhead)
    try:
        kinds = read_table(args.table, args.count)
        lines = list(report(kinds, fleet, args.share))
    except (OSError, KeyError, ValueError) as error:
        parser.error(f"{args.table} cannot be packed: {error}; correct the table, or take larger hosts")
    print("\n".join(lines))
    if args.svg:
        share = sorted(args.share)[len(args.share) // 2]
        pathlib.Path(args.svg).write_text("\n".join(draw(kinds, fleet, share)) + "\n",
                                          encoding="utf-8")


if __name__ == "__main__":
    main()
