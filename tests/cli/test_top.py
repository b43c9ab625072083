# SPDX-License-Identifier: MIT
"""ballast top on a terminal, as a person uses it: keys, sizes, what the screen shows, and what it
leaves behind. The terminal is tmux, the domains are fake_domain processes.

test_top.py BALLAST FAKE_DOMAIN [PART_OF_A_TEST'S_NAME...]

Exit status 77 where there is no tmux, or ballast has no screen.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

BALLAST, FAKE_DOMAIN = (os.path.abspath(p) for p in sys.argv[1:3])
# No test waits this long unless something hangs.
LIMIT_S = 60


def check(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what))


class Place:
    """A folder for one test with a BASE in it, the domains in that, and a terminal."""

    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="bl-")
        self.base = os.path.join(self.root, "run")
        self.domains = {}
        self.terminals = 0
        self.env = dict(os.environ, BALLAST_RUNTIME_DIR=self.base)
        for name in ("NO_COLOR", "COLORTERM", "TMUX"):
            self.env.pop(name, None)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.tmux("kill-server", fine=True)
        for process in self.domains.values():
            process.kill()
            process.communicate()
        shutil.rmtree(self.root, ignore_errors=True)

    def domain(self, name, mode="normal", *lines):
        process = subprocess.Popen([FAKE_DOMAIN, self.base, name, mode], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        self.domains[name] = process
        check(process.stdout.readline() == "ready\n", name)
        for line in lines:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            check(process.stdout.readline() == "done\n", line)

    def end(self, name):
        process = self.domains.pop(name)
        process.kill()
        process.communicate()

    def tmux(self, *words, fine=False):
        done = subprocess.run(["tmux", "-S", f"{self.root}/tmux{self.terminals}", "-f", "/dev/null",
                               *words], env=self.env, capture_output=True, text=True,
                              timeout=LIMIT_S, check=False)
        check(fine or done.returncode == 0, words, done.stderr)
        return done.stdout

    def start(self, words, columns=80, rows=24, variables=""):
        """Runs ballast top in a new terminal; the shell says how it ended."""
        self.new_terminal()
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows),
                  f"stty -a >{self.root}/before; {variables} {BALLAST} top --delay 0.1 {words}; "
                  f"echo ended with $?; stty -a >{self.root}/now; mv {self.root}/now {self.root}/after; "
                  f"sleep {LIMIT_S}")

    def new_terminal(self):
        """Each has a server of its own: one that ends takes its time."""
        if self.terminals:
            self.tmux("kill-server", fine=True)
        self.terminals += 1
        for name in ("before", "after"):
            if os.path.exists(f"{self.root}/{name}"):
                os.unlink(f"{self.root}/{name}")

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def screen(self, *options):
        return self.tmux("capture-pane", "-p", *options)

    def wait(self, *pieces, without=()):
        """Until the screen has all of these and none of those."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            screen = self.screen()
            if all(p in screen for p in pieces) and not any(p in screen for p in without):
                return screen
            check(time.monotonic() < deadline, pieces, "and not", without, "in:\n" + screen)
            time.sleep(0.05)

    def wait_rows(self, rows, *pieces, without=()):
        """The same, and its domains are these: a screen may be seen half drawn."""
        deadline = time.monotonic() + LIMIT_S
        while rows_of(screen := self.wait(*pieces, without=without)) != rows:
            check(time.monotonic() < deadline, rows, "are not the domains in:\n" + screen)
            time.sleep(0.05)
        return screen

    def check_clean(self):
        """It has ended, and the terminal is as it was."""
        self.wait("ended with 0", without=["NAME", "COV"])
        deadline = time.monotonic() + LIMIT_S
        while not os.path.exists(self.root + "/after"):
            check(time.monotonic() < deadline, "the shell hangs")
            time.sleep(0.05)
        with open(self.root + "/before", encoding="utf-8") as before, \
                open(self.root + "/after", encoding="utf-8") as after:
            check(before.read() == after.read(), "the terminal is not as it was")
        check(self.tmux("display-message", "-p", "#{cursor_flag}").strip() == "1", "no cursor")


def rows_of(screen):
    """The domains on a screen, in their order."""
    lines = screen.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("NAME")), len(lines))
    return [line.split()[0] for line in lines[first + 1:-1] if line]


def test_list_sort_and_filter(place):
    place.domain("web1", "normal", "total 100000")
    place.domain("db", "normal", "total 200000")
    place.domain("web2", "normal", "total 150000")
    place.start("")
    screen = place.wait_rows(["db", "web1", "web2"], "3 domains", without=["asking"])
    check("shrinking     1G" in screen and "130us" in screen, screen)
    place.keys("r")
    place.wait_rows(["web2", "web1", "db"], "reversed")
    place.keys("r", "s", "s", "s", "s")  # max, target, populated, cache
    place.wait_rows(["db", "web2", "web1"], "by cache", without=["reversed"])
    place.keys("/", "w", "e", "b")
    place.wait_rows(["web2", "web1"], "filter: web_", "2 shown")
    place.keys("Enter")
    place.wait("filter: web", without=["web_"])
    place.keys("Escape")
    place.wait("q quit", "db", without=["shown"])
    place.keys("q")
    place.check_clean()


def test_details(place):
    place.domain("vm1", "normal", "map H30R2OG1i3bq5P200O40H10y3t2P202 500")
    place.domain("vm2")
    place.start("")
    place.wait("2 domains")
    place.keys("Enter")
    screen = place.wait("vm1: running, pid", "map: a cell is 2M")
    check("        0 " + "H" * 30 + "RRog888100000" + "." * 21 in screen, screen)
    check("PoD entries   960M" in screen and "exceed the cache by 768M" in screen, screen)
    place.keys("Down")
    place.wait("vm2: running", "  896 MiB " + "." * 64)
    place.end("vm2")
    place.wait("vm2 is gone")
    place.keys("h")
    place.wait("Any key goes back.")
    place.keys("x")
    place.wait("vm2 is gone")
    place.keys("q")
    place.wait("1 domain ", "vm1", without=["vm2"])
    place.keys("q")
    place.check_clean()


def test_resize(place):
    for i in range(30):
        place.domain(f"vm{i:02}")
    place.start("")
    place.wait("30 domains", "vm19", without=["vm20"])
    place.keys("End")
    place.wait("vm29", without=["vm09 "])
    place.tmux("resize-window", "-x", "150", "-y", "40")
    screen = place.wait("vm00", "vm29", "RECL/S", "#" * 4 + "=" * 12)
    place.tmux("resize-window", "-x", "30", "-y", "5")
    screen = place.wait("vm29", without=["vm26", "RECL/S"])
    check(all(len(line) <= 30 for line in screen.splitlines()), screen)
    place.keys("Enter")
    place.wait("vm29: running")
    place.tmux("resize-window", "-x", "1", "-y", "1")
    time.sleep(0.3)
    place.tmux("resize-window", "-x", "80", "-y", "24")
    place.wait("vm29: running", "map: a cell is 2M")
    place.keys("q", "q")
    place.check_clean()


def test_one_that_hangs(place):
    """A domain that does not answer holds up no other; nor does one that ends."""
    place.domain("vm1")
    place.domain("hung", "deaf")
    place.start("")
    place.wait("hung asking", "vm1  running")
    place.domain("vm2")
    place.wait("vm2  running", "hung")
    place.wait("hung silent", "1 silent")
    place.wait("hung: it did not answer for 2000 ms")
    place.domain("vm3")
    place.wait("vm3  running", "4 domains")
    place.end("vm1")
    place.wait("3 domains", without=["vm1"])
    place.end("hung")
    place.wait("2 domains", without=["hung"])
    place.domain("vm3b")
    place.wait("vm3b running")
    place.keys("C-c")
    place.check_clean()


def test_signals(place):
    place.domain("vm1")
    for number in (signal.SIGTERM, signal.SIGHUP):
        place.start("")
        place.wait("vm1")
        pid = int(subprocess.run(["pgrep", "-P", place.tmux("display-message", "-p",
                                                            "#{pane_pid}").strip()],
                                 capture_output=True, text=True, check=True).stdout.split()[0])
        os.kill(pid, number)
        place.check_clean()


def test_suspended(place):
    """Ctrl-Z and back, in a shell with job control."""
    place.domain("vm1")
    place.new_terminal()
    place.tmux("new-session", "-d", "-x", "80", "-y", "24", "env PS1='ready> ' sh -i")
    place.wait("ready>")
    place.keys(f"{BALLAST} top --delay 0.1", "Enter")
    place.wait("1 domain", "vm1")
    place.keys("C-z")
    place.wait("ready>", without=["COV"])
    place.keys("fg", "Enter")
    place.wait("1 domain", "vm1", "COV")
    place.keys("q")
    place.wait("ready>", without=["COV"])


def test_colours(place):
    place.domain("vm1", "normal", "map HRi3P507 512")
    place.start("")
    place.wait("vm1")
    place.keys("Enter")
    place.wait("HR888...")
    check("\033[" in place.screen("-e") and "8;5;25m" in place.screen("-e"), place.screen("-e"))
    place.keys("q", "q")
    place.check_clean()
    place.start("", variables="NO_COLOR=1")
    place.wait("vm1")
    place.keys("Enter")
    place.wait("HR888...")
    check(not re.search("\033\\[[0-9;]*[34][0-8]", place.screen("-e")), place.screen("-e"))
    place.keys("C-c")
    place.check_clean()


def test_poor_terminals(place):
    """One that cannot place its cursor, or is unknown, gets what --batch prints."""
    place.domain("vm1")
    for name in ("dumb", "no-such-terminal"):
        place.start("--iterations 2", variables=f"TERM={name}")
        place.wait("ended with 0", "vm1  running", "RECL/S")
        check(place.screen().count("vm1  running") == 2, place.screen())
    place.start("--iterations 5", variables="TERM=vt100")
    place.wait("ended with 0")


def run_batch(place, *words):
    return subprocess.run([BALLAST, "top", *words], env=place.env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_batch(place):
    place.domain("vm1", "normal", "total 100000")
    place.domain("vm2")
    done = run_batch(place, "--batch", "--iterations", "3", "--delay", "0.1", "--sort", "cache")
    check(done.returncode == 0 and done.stderr == "", done)
    tables = done.stdout.split("\n\n")
    check(len(tables) == 3, done.stdout)
    for i, table in enumerate(tables):
        lines = table.splitlines()
        check(lines[0].split()[0] == "NAME" and lines[0].split()[-1] == "P99", lines)
        check([line.split()[0] for line in lines[1:]] == ["vm1", "vm2"], lines)
        # There is no rate before the second answer.
        check(lines[2].split()[8:10] == (["-", "-"] if i == 0 else ["0", "0"]), lines)
    check("vm2" not in run_batch(place, "--batch", "--iterations", "1", "--filter", "M1").stdout)
    # Whatever is no terminal gets it too.
    check(run_batch(place, "--iterations", "1").stdout.startswith("NAME"), "no table")


def test_json(place):
    place.domain("vm1")
    place.domain("hung", "deaf")
    done = run_batch(place, "--json", "--iterations", "2", "--delay", "0.1")
    check(done.returncode == 0 and done.stderr == "", done)
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    hung, vm1 = second["domains"]
    check(vm1["name"] == "vm1" and vm1["faults_per_second"] == 0 and vm1["pid"] > 0, vm1)
    check(first["domains"][1]["faults_per_second"] is None, first)
    check(hung["name"] == "hung" and "error" in hung, hung)
    check(second["time"] >= first["time"] > 1e9, first["time"])


def test_bad_command_lines(place):
    for words, piece in ((["vm1"], "'vm1'"), (["--delay", "0.01"], "0.1"), (["--delay", "x"], "'x'"),
                         (["--iterations", "0"], "'0'"), (["--sort", "size"], "'size'"),
                         (["--filter", "x" * 64], "63")):
        done = run_batch(place, *words)
        check(done.returncode == 2 and done.stdout == "" and piece in done.stderr
              and "--help" in done.stderr and done.stderr.count("\n") == 1, done)


def main():
    with Place() as place:
        without = subprocess.run([BALLAST, "top", "--iterations", "1"], env=place.env, text=True,
                                 stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if "built without ncurses" in without.stderr:
        print("skipped: ballast was built without ncurses")
        return 77
    tests = [(n, f) for n, f in sorted(globals().items())
             if n.startswith("test_") and all(word in n for word in sys.argv[3:])]
    if not shutil.which("tmux"):
        print("skipped, but for what needs no terminal: there is no tmux")
        tests = [(n, f) for n, f in tests if n in ("test_batch", "test_json",
                                                   "test_bad_command_lines")]
    failed = []
    for name, function in tests:
        try:
            with Place() as place:
                function(place)
            print("ok      ", name)
        except Exception:  # pylint: disable=broad-except
            failed.append(name)
            print("FAILED  ", name)
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    print(f"{len(tests)} tests, {len(failed)} failed")
    return 1 if failed else 0 if shutil.which("tmux") else 77


if __name__ == "__main__":
    sys.exit(main())
