# SPDX-License-Identifier: MIT
"""ballast metrics, and what is made for its figures: alerts, dashboard, systemd units.

test_metrics.py BALLAST FAKE_DOMAIN CONTRIB SERVICE

CONTRIB is the source's folder, SERVICE the unit that meson made. Prometheus' own judgement is asked
for if its programs are there (promtool, Debian's python3-prometheus-client).
"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
from harness import Skip, check, run_tests  # noqa: E402  pylint: disable=wrong-import-position

BALLAST, FAKE_DOMAIN = (os.path.abspath(word) for word in sys.argv[1:3])
CONTRIB, SERVICE = pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
RULES = CONTRIB / "prometheus/ballast.rules.yml"
PATIENCE_S = 60
MIB = 1 << 20

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})\{{({LABEL}(?:,{LABEL})*)\}} (-?[0-9]+(?:\.[0-9]+)?)")


class Place:
    """Fake domains, and a folder for files."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.env = dict(os.environ, BALLAST_RUNTIME_DIR=str(self.folder / "run"))
        self.domains = {}

    def start(self, name, mode="normal"):
        process = subprocess.Popen([FAKE_DOMAIN, self.env["BALLAST_RUNTIME_DIR"], name, mode],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.domains[name] = process
        check(process.stdout.readline() == "ready\n", f"{name} did not start")

    def tell(self, name, line):
        process = self.domains[name]
        process.stdin.write(line + "\n")
        process.stdin.flush()
        check(process.stdout.readline() == "done\n", f"{name} did not obey {line}")

    def metrics(self, *words):
        return subprocess.run([BALLAST, "metrics", *words], env=self.env, text=True,
                              capture_output=True, timeout=PATIENCE_S, check=False)

    def text(self):
        """What it prints, if all went well."""
        result = self.metrics()
        check(result.returncode == 0, result)
        return result.stdout

    def file(self):
        """The path of a file it wrote."""
        path = self.folder / "ballast.prom"
        result = self.metrics("--textfile", str(path))
        check(result.returncode == 0 and result.stdout == "", result)
        return path


@contextlib.contextmanager
def new_place():
    with tempfile.TemporaryDirectory(prefix="ballast-metrics-") as folder:
        place = Place(folder)
        try:
            yield place
        finally:
            for process in place.domains.values():
                process.kill()
                process.communicate()


def parse(text, is_0_0_4=False):
    """The samples, {(name, labels): value}, of text that must be as the format has it."""
    samples, families, family = {}, {}, None
    lines = text.split("\n")
    check(lines.pop() == "", "the last line has no end")
    if not is_0_0_4:
        check(lines.pop() == "# EOF", "it does not end with # EOF")
    for line in lines:
        words = line.split(" ", 3)
        if words[0] == "#":
            if words[1] == "HELP":
                check(words[2] not in families, f"{words[2]} is there twice")
                family = families[words[2]] = {"name": words[2]}
            check(words[2] == family["name"] and words[1] not in family, line)
            check(words[1] in (("HELP", "TYPE") if is_0_0_4 else ("HELP", "TYPE", "UNIT")), line)
            family[words[1]] = " ".join(words[3:])
            continue
        found = SAMPLE.fullmatch(line)
        check(found, f"this is no sample: {line}")
        name, labels, value = found.groups()
        counts = family["TYPE"] == "counter"
        check(name == family["name"] + ("_total" if counts and not is_0_0_4 else ""), line)
        check(not counts or (name.endswith("_total") and "-" not in value), line)
        check("UNIT" not in family or family["name"].endswith("_" + family["UNIT"]), line)
        labels = tuple(sorted(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels)))
        check((name, labels) not in samples, f"twice: {line}")
        samples[name, labels] = float(value)
    for family in families.values():
        check(family["TYPE"] in ("gauge", "counter", "summary"), family)
        check(family["HELP"].endswith("."), family)
    return samples


def sample(samples, name, domain, **labels):
    return samples[f"ballast_domain_{name}", tuple(sorted({"domain": domain, **labels}.items()))]


def test_values(place):
    """base units, and every figure of query-domain that is one"""
    place.start("one")
    samples = parse(place.text())
    for name, value in (("up", 1), ("max_bytes", 1024 * MIB), ("target_bytes", 256 * MIB),
                        ("owned_bytes", 256 * MIB), ("populated_bytes", 64 * MIB),
                        ("cache_bytes", 192 * MIB), ("cache_superpages_bytes", 180 * MIB),
                        ("pod_entries_bytes", 960 * MIB), ("covered", 0), ("shrinking", 0),
                        ("faults_total", 77), ("populate_superpages_bytes_total", 64 * MIB),
                        ("populate_pages_bytes_total", 5 * 4096), ("ahead_bytes_total", 18 * MIB),
                        ("reclaim_superpages_bytes_total", 6 * MIB), ("sweeps_total", 1),
                        ("busy_skips_total", 4), ("given_up_bytes_total", 2 * MIB)):
        check(sample(samples, name, "one") == value, f"{name}: {sample(samples, name, 'one')}")
    for quantile, value in (("0.5", 50e-6), ("0.99", 130e-6), ("1", 2e-3)):
        check(sample(samples, "fault_seconds", "one", quantile=quantile) == value, quantile)
    # Addresses and ids are no figures; what else there is must not be forgotten.
    stat_of = subprocess.run([BALLAST, "stat", "--json", "one"], env=place.env, text=True,
                             capture_output=True, check=True)
    figures = [key for key, value in json.loads(stat_of.stdout).items()
               if not isinstance(value, str) and key not in (
                   "pid", "ram_start", "ram_bytes", "cache_start", "cache_bytes")]
    told = [key for key in samples if key[0] not in ("ballast_domain_up", "ballast_domain_state")]
    check(len(told) == len(figures), f"{len(told)} figures told of {len(figures)}: {figures}")


def test_states(place):
    """one state is 1, and what shrinks says so"""
    place.start("one")
    for state in ("building", "running", "exhausted", "dying"):
        place.tell("one", f"state {state}")
        samples = parse(place.text())
        states = {dict(labels)["state"]: value for (name, labels), value in samples.items()
                  if name == "ballast_domain_state"}
        check(len(states) == 4 and [s for s in states if states[s] == 1] == [state], states)
    place.tell("one", "total 70000")
    check(sample(parse(place.text()), "shrinking", "one") == 1, "it does not shrink")


def test_many(place):
    """all domains in each family, one after the other; what does not answer is told, and only that"""
    for number in range(5):
        place.start(f"good-{number}")
    for number, mode in enumerate(("deaf", "starting", "strange", "deaf")):
        place.start(f"bad-{number}", mode)
    result = place.metrics()
    samples = parse(result.stdout)
    check(result.returncode == 0, result)
    for number in range(5):
        check(sample(samples, "up", f"good-{number}") == 1, result.stdout)
        check(sample(samples, "faults_total", f"good-{number}") == 77, result.stdout)
    for number in range(4):
        check(sample(samples, "up", f"bad-{number}") == 0, result.stdout)
        check(len([s for s in samples if ("domain", f"bad-{number}") in s[1]]) == 1, samples)
        check(f"ballast: the domain 'bad-{number}' cannot be asked: " in result.stderr, result.stderr)
    check(result.stderr.count("\n") == 4, result.stderr)
    # The same in the older form.
    old = parse(place.file().read_text(), is_0_0_4=True)
    check(set(old) == set(samples), set(old) ^ set(samples))


def test_none(place):
    """no domain is no error"""
    check(parse(place.text()) == {}, "samples of no domain")
    check(parse(place.file().read_text(), is_0_0_4=True) == {}, "samples of no domain")


def test_textfile(place):
    """the file is whole at all times, for all to read, and alone"""
    place.start("one")
    path = place.file()
    check(stat.S_IMODE(path.stat().st_mode) == 0o644, oct(path.stat().st_mode))
    before = path.stat().st_ino
    with path.open(encoding="utf-8") as reader:
        text = path.read_text()
        place.file()
        check(path.stat().st_ino != before, "it was written in place")
        check(reader.read() == text, "who was reading saw a change")
    check(sorted(p.name for p in place.folder.iterdir()) == ["ballast.prom", "run"],
          list(place.folder.iterdir()))
    # What cannot be written changes nothing.
    for target, words in ((place.folder / "none/x.prom", "No such file"),
                          (place.folder / "run", "does not end in .prom"),
                          (place.folder / "folder.prom", "Is a directory")):
        (place.folder / "folder.prom").mkdir(exist_ok=True)
        result = place.metrics("--textfile", str(target))
        check(result.returncode in (1, 2) and words in result.stderr, result)
    check(sorted(p.name for p in place.folder.iterdir()) == ["ballast.prom", "folder.prom", "run"],
          list(place.folder.iterdir()))


def test_command_line(place):
    """what the command line must not say, and a full disk"""
    for words in (["x"], ["--frob"], ["--textfile"], ["--textfile", ".prom"], ["--textfile", "x"]):
        result = place.metrics(*words)
        check(result.returncode == 2 and result.stdout == "" and "--help" in result.stderr, result)
    full = subprocess.run(["sh", "-c", f"exec {BALLAST} metrics >/dev/full"], env=place.env,
                          capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    check(full.returncode == 1 and "could not be written" in full.stderr, full)


def test_python_client(place):
    """Prometheus' Python client reads it the same"""
    try:
        from prometheus_client import openmetrics, parser  # pylint: disable=all
        import prometheus_client.openmetrics.parser
    except ImportError:
        raise Skip("there is no python3-prometheus-client") from None
    place.start("one")
    place.start("two", "strange")
    text, old = place.text(), place.file().read_text()
    for ours, families in (
            (parse(text), openmetrics.parser.text_string_to_metric_families(text)),
            (parse(old, True), parser.text_string_to_metric_families(old))):
        theirs = {(s.name, tuple(sorted(s.labels.items()))): s.value
                  for family in families for s in family.samples}
        check(theirs == ours, set(theirs.items()) ^ set(ours.items()))


def promtool(*words, **more):
    """Runs Prometheus' own tool."""
    program = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if program is None:
        raise Skip("there is no promtool (Debian's package prometheus has it)")
    result = subprocess.run([program, *words], text=True, capture_output=True, check=False,
                            timeout=PATIENCE_S, **more)
    check(result.returncode == 0, f"{words}: {result.stdout}{result.stderr}")
    return result.stdout + result.stderr


def test_promtool_metrics(place):
    """promtool finds nothing to complain of in the file"""
    place.start("one")
    place.start("two", "strange")
    said = promtool("check", "metrics", input=place.file().read_text())
    check(said == "", said)


def test_promtool_rules(place):
    """promtool reads the alerts, and they fire when they should"""
    check("3 rules found" in promtool("check", "rules", str(RULES)), "not 3 rules")
    shutil.copy(RULES, place.folder)
    shutil.copy(HERE / "ballast.rules.test.yml", place.folder)
    promtool("test", "rules", str(place.folder / "ballast.rules.test.yml"))


def known_names(place):
    place.start("known")
    return {name for name, _ in parse(place.text())}


def test_alerts(place):
    """the alerts use figures that there are"""
    text = RULES.read_text()
    used = set(re.findall(r"ballast_\w+", re.sub(r"#.*", "", text)))
    check(used and used <= known_names(place), used)
    check(text.count("- alert: ") == 3, "there are not three alerts")


def test_dashboard(place):
    """the dashboard is JSON, its figures are there, and its panels do not overlap"""
    dashboard = json.loads((CONTRIB / "grafana/ballast.json").read_text())
    known = known_names(place)
    cells = set()
    for panel in dashboard["panels"]:
        check(panel["title"] and panel["description"], panel)
        for target in panel["targets"]:
            used = set(re.findall(r"ballast_\w+", target["expr"]))
            check(used and used <= known, f"{used - known} in {panel['title']}")
            check(target["expr"].count("(") == target["expr"].count(")"), target["expr"])
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])}
        check(not mine & cells and at["x"] + at["w"] <= 24, f"{panel['title']} overlaps")
        cells |= mine
    check(len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]), "ids")
    for variable in dashboard["templating"]["list"][1:]:
        used = set(re.findall(r"ballast_\w+", variable["query"]["query"]))
        check(used and used <= known, variable)


def test_dashboard_queries(place):
    """promtool can read the dashboard's queries"""
    expressions = [target["expr"] for panel in
                   json.loads((CONTRIB / "grafana/ballast.json").read_text())["panels"]
                   for target in panel["targets"]]
    # As rules, since that is what promtool checks; with what Grafana would put in.
    rules = [{"record": "x:y", "labels": {"number": str(number)},
              "expr": text.replace("$__rate_interval", "1m").replace("$instance", ".*").replace(
                  "$domain", ".*")} for number, text in enumerate(expressions)]
    path = place.folder / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "x", "rules": rules}]}))
    check(f"{len(rules)} rules found" in promtool("check", "rules", str(path)), "not all read")


def test_units(place):
    """systemd takes the service and the timer"""
    if shutil.which("systemd-analyze") is None:
        raise Skip("there is no systemd-analyze")
    text = SERVICE.read_text()
    command = re.search(r'^ExecStart="([^"]+)" (.*)$', text, re.M)
    check(pathlib.Path(command[1]).name == "ballast" and "@" not in text, text)
    # systemd wants to see the program that is to be run.
    service = place.folder / "ballast-metrics.service"
    service.write_text(text.replace(command[1], BALLAST))
    timer = shutil.copy(CONTRIB / "systemd/ballast-metrics.timer", place.folder)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(service), str(timer)],
                          text=True, capture_output=True, timeout=PATIENCE_S, check=False)
    said = [line for line in done.stderr.splitlines() if "ballast-metrics" in line]
    check(not said, said)
    # And what it runs works.
    place.start("one")
    target = place.folder / pathlib.Path(command[2].split()[-1]).name
    result = place.metrics(*command[2].split()[1:-1], str(target))
    check(result.returncode == 0 and target.exists(), result)


run_tests([test for name, test in list(globals().items()) if name.startswith("test_")],
          lambda test: test.__doc__, lambda: None, new_place)
