# SPDX-License-Identifier: MIT
"""What the benchmarks share: how they are called, how they take turns, what they print.

A benchmark is a program whose docstring states its question, its method, its noise and its time. It
calls main() with two functions: one that adds its options, and one that measures. What is measured
goes into tables; what was set as a goal is put beside it with judge(). Figures are ratios of what was
done in turn within one run: in_turn() does that, and spread() makes them a median and a range.

The build folder is build/, or $BALLAST_BUILD_DIR.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/guest"))
import lib  # noqa: E402  pylint: disable=wrong-import-position

MIB = 1 << 20


def first_line(command):
    """The first line that a program prints, or nothing."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    return done.stdout.split("\n")[0]


def meminfo_mib(key):
    """A line of /proc/meminfo."""
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(rf"^{key}:\s*(\d+) kB", text, re.M).group(1)) >> 10


def machine():
    """What one must know of the machine to read the figures."""
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)", cpuinfo, re.M)
    huge = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "cpus": os.cpu_count(),
        "cpu": model.group(1) if model else platform.machine(),
        "virtual": bool(re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.M)),
        "memory_mib": meminfo_mib("MemTotal"),
        "available_mib": meminfo_mib("MemAvailable"),
        "swap_mib": meminfo_mib("SwapTotal"),
        "kernel": platform.release(),
        "huge_pages": re.search(r"\[(\w+)\]", huge.read_text()).group(1) if huge.exists() else "no",
        "qemu": first_line([lib.QEMU, "--version"]),
        "load": os.getloadavg()[0],
    }


def spread(values):
    """The median of some figures, the least and the most."""
    values = sorted(values)
    return {"median": statistics.median(values), "least": values[0], "most": values[-1],
            "count": len(values)}


def in_turn(rounds, runs, warm_up=False):
    """Does each of `runs` (a function by name) once a round, the first of each round taking turns.
    Returns a list of rounds: what each returned, by name. A warm-up round is not counted."""
    names = list(runs)
    results = []
    for number in range(-1 if warm_up else 0, rounds):
        first = number % len(names)
        result = {name: runs[name]() for name in names[first:] + names[:first]}
        if number >= 0:
            results.append(result)
        progress()
    return results


def ratios(rounds, above, below, value):
    """spread() of value(result) of one to that of another, round by round."""
    return spread([value(each[above]) / value(each[below]) for each in rounds])


def progress():
    """A dot for whoever waits at a terminal."""
    if sys.stderr.isatty():
        print(".", end="", file=sys.stderr, flush=True)


def helper(name, *arguments):
    """Runs one of the benchmarks' programs in C, and returns the JSON that it prints."""
    program = lib.build_dir() / "bench" / name
    if not program.exists():
        raise lib.Failed(f"there is no {program}: build it, or set BALLAST_BUILD_DIR")
    done = subprocess.run([str(word) for word in (program, *arguments)], text=True,
                          stdout=subprocess.PIPE, check=False)
    if done.returncode == lib.SKIP:
        raise lib.Skip(done.stdout.strip())
    if done.returncode != 0:
        raise lib.Failed(f"{name} {' '.join(map(str, arguments))}: exit status {done.returncode}")
    return json.loads(done.stdout)


def show(value):
    """A figure in a table."""
    if isinstance(value, dict):
        return f"{show(value['median'])} ({show(value['least'])}-{show(value['most'])})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 2 else 3
        return f"{value:.{digits}f}"
    return "-" if value is None else str(value)


class Bench:
    """One run of a benchmark: its options, and what it has found."""

    def __init__(self, name, options):
        self.name = name
        self.options = options
        self.tables = []
        self.goals = []
        self.details = {}

    def table(self, title, rows):
        """Adds a table: rows are dictionaries with the same keys, which head the columns. Figures
        may be spreads. It is printed at once, unless JSON was asked for."""
        self.tables.append({"title": title, "rows": rows})
        if self.options.json or not rows:
            return
        if sys.stderr.isatty():
            print("\r", end="", file=sys.stderr)
        cells = [list(rows[0])] + [[show(value) for value in row.values()] for row in rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        print(f"\n{title}\n")
        for row in cells:
            print("  " + "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                                   for column, (cell, width) in enumerate(zip(row, widths))))
        sys.stdout.flush()

    def judge(self, what, goal, measured, met):
        """Puts a figure beside the goal that was set for it; not with --quick, whose figures say
        nothing."""
        if self.options.quick:
            return
        self.goals.append({"what": what, "goal": goal, "measured": measured, "met": bool(met)})

    def report(self, seconds, facts):
        """Everything, for JSON."""
        options = {key: value for key, value in vars(self.options).items()
                   if key not in ("json", "save")}
        return {"benchmark": self.name, "seconds": round(seconds, 1), "machine": facts,
                "options": options, "tables": self.tables, "goals": self.goals,
                "details": self.details}


def describe_machine(facts):
    """The machine in one line."""
    kind = "virtual machine" if facts["virtual"] else "machine"
    return (f"{kind} with {facts['cpus']} CPUs ({facts['cpu']}), {facts['memory_mib']} MiB, swap "
            f"{facts['swap_mib']} MiB, Linux {facts['kernel']}, huge pages: {facts['huge_pages']}, "
            f"{facts['qemu'] or 'no QEMU'}, load {facts['load']:.1f}")


def print_goals(goals, prefix=""):
    """What was to be reached, and what was."""
    if goals:
        print()
    for goal in goals:
        verdict = "met" if goal["met"] else "NOT met"
        print(f"  {verdict:<8} {prefix}{goal['what']}: {show(goal['measured'])}; required {goal['goal']}")


def main(doc, add_options, run, quick=None, guests=False):
    """The program of a benchmark. `quick`: options' values with --quick, which is to see that it
    works and not to measure. `guests`: it needs what guests need."""
    name = pathlib.Path(sys.argv[0]).name
    parser = argparse.ArgumentParser(prog=f"bench/{name}", description=doc, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    if guests:
        parser.add_argument("--accel", choices=["tcg", "kvm"], default="tcg")
    parser.add_argument("--quick", action="store_true",
                        help="only to see that it works: small, few, no figure to be quoted")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--save", metavar="FILE", help="write the JSON there as well")
    if "--quick" in sys.argv:
        parser.set_defaults(**(quick or {}))
    options = parser.parse_args()

    bench = Bench(name, options)
    facts = machine()
    started = time.monotonic()
    try:
        if guests:
            lib.require_host()
            facts["guest_kernel"] = lib.guest_kit()["release"]
            if options.accel == "kvm":
                lib.require_kvm()
        if not options.json:
            print(f"{doc.splitlines()[0]}\n{describe_machine(facts)}")
        run(bench)
    except lib.Skip as why:
        print(f"skipped: {why}")
        sys.exit(lib.SKIP)
    except lib.Failed as why:
        sys.exit(f"bench/{name}: {why}")
    except KeyboardInterrupt:
        sys.exit(130)
    report = bench.report(time.monotonic() - started, facts)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print_goals(bench.goals)
        print(f"\n{report['seconds']:.0f} s")
    if options.save:
        pathlib.Path(options.save).write_text(json.dumps(report, indent=2) + "\n")


def positive(text):
    """An option's number, at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
