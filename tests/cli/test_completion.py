# SPDX-License-Identifier: MIT
"""Completion of ballast's command lines, in bash by its function, and in bash and zsh by the tab key.

test_completion.py BALLAST FAKE_DOMAIN FOLDER-WITH-THE-COMPLETIONS
"""
import contextlib
import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from harness import Failed, Skip, check, run_tests, seconds  # noqa: E402  pylint: disable=wrong-import-position

BALLAST, FAKE_DOMAIN = (os.path.abspath(word) for word in sys.argv[1:3])
FOLDER = pathlib.Path(sys.argv[3]).resolve()
PATIENCE_S = 60


class Place:
    """A folder with files, and fake domains."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.env = dict(os.environ, BALLAST_RUNTIME_DIR=str(self.folder / "run"), TERM="dumb",
                        PATH=f"{pathlib.Path(BALLAST).parent}:{os.environ['PATH']}",
                        ZDOTDIR=folder, HISTFILE="/dev/null", LC_ALL="C")
        self.domains = []
        (self.folder / "files").mkdir()
        for name in ("one.trace", "one.svg", "two words.trace"):
            (self.folder / "files" / name).write_text("")

    def start(self, name, mode="normal"):
        process = subprocess.Popen([FAKE_DOMAIN, self.env["BALLAST_RUNTIME_DIR"], name, mode],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.domains.append(process)
        check(process.stdout.readline() == "ready\n", f"{name} did not start")

    def complete(self, *words):
        """What bash offers for the last word, with the words as bash splits them."""
        script = (f"source {shlex.quote(str(FOLDER / 'ballast.bash'))} || exit 1\n"
                  f"COMP_WORDS=(ballast {' '.join(shlex.quote(w) for w in words)})\n"
                  f"COMP_CWORD={len(words)}\n_ballast\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n")
        result = subprocess.run(["bash", "--norc", "-c", script], env=self.env, text=True,
                                cwd=self.folder / "files", capture_output=True,
                                timeout=PATIENCE_S, check=False)
        check(result.returncode == 0 and result.stderr == "", result)
        return {line for line in result.stdout.split("\n") if line}

    def ballast(self, *words):
        return subprocess.run([BALLAST, *words], env=self.env, text=True, capture_output=True,
                              timeout=PATIENCE_S, check=True).stdout


@contextlib.contextmanager
def new_place():
    with tempfile.TemporaryDirectory(prefix="ballast-completion-") as folder:
        place = Place(folder)
        try:
            yield place
        finally:
            for process in place.domains:
                process.kill()
                process.communicate()


def commands(place):
    return set(re.findall(r"^  ([a-z-]+) ", place.ballast("--help").split("Commands:")[1].split(
        "Options:")[0], re.M))


def test_commands(place):
    """all commands, and those that begin so"""
    known = commands(place)
    check({"run", "ls", "doctor", "metrics"} <= known, known)
    check(place.complete("") == known | {"--help", "--version"}, place.complete(""))
    check(place.complete("re") == {name for name in known if name.startswith("re")}, "re")
    check(place.complete("--v") == {"--version"}, "--v")
    check(place.complete("frob") == set(), "frob")


def test_options(place):
    """all options of each command that its usage names, and --help"""
    for command in commands(place):
        usage = place.ballast(command, "--help").split("\n\n")[0]
        named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage))
        offered = place.complete(command, "-")
        check(named <= offered and "--help" in offered, f"{command}: {named - offered}")
    check(place.complete("run", "--no-") == {"--no-reserve", "--no-balloon"}, "--no-")
    check(place.complete("set", "vm1", "1G", "--w") == {"--wait"}, "--w")
    check(place.complete("record", "vm1", "-") >= {"-o", "--interval"}, "record")


def test_values(place):
    """what an option takes: one of some words, or a file, or nothing that we know"""
    both = {"crash", "pause"}
    check(place.complete("run", "--on-exhaustion", "") == both, "after a space")
    check(place.complete("run", "--target", "1G", "--on-exhaustion", "p") == {"pause"}, "p")
    check(place.complete("run", "--on-exhaustion", "=") == both, "after =")
    check(place.complete("run", "--on-exhaustion", "=", "c") == {"crash"}, "=c")
    check(place.complete("run", "--target", "") == set(), "a size")
    check(place.complete("plot", "x", "-o", "one.s") == {"one.svg"}, "a picture")
    check(place.complete("record", "vm1", "-o", "") >= {"one.trace", "one.svg"}, "a trace")
    check(place.complete("metrics", "--textfile", "one.s") == {"one.svg"}, "a path")


def test_names(place):
    """the running domains, also those that do not answer, and none a second time"""
    check(place.complete("stat", "") == set(), "there is none")
    place.start("web")
    place.start("db-1")
    place.start("mute", "deaf")
    everyone = {"web", "db-1", "mute"}
    for command in ("stat", "set", "events", "destroy", "record", "map"):
        check(place.complete(command, "") == everyone, f"{command}: {place.complete(command, '')}")
    check(place.complete("stat", "d") == {"db-1"}, "d")
    check(place.complete("stat", "--json", "w") == {"web"}, "after an option")
    check(place.complete("destroy", "--timeout", "5", "w") == {"web"}, "after a value")
    check(place.complete("destroy", "--timeout", "=", "5", "w") == {"web"}, "after =5")
    check(place.complete("set", "web", "") == set(), "a size")
    for command in ("ls", "doctor", "metrics", "plot"):
        check(not place.complete(command, "") & everyone, command)
    check(place.complete("plot", "o") == {"one.trace", "one.svg"}, "plot")


def test_names_option(place):
    """ballast ls --names asks nobody"""
    check(place.ballast("ls", "--names") == "", "there is none")
    place.start("web")
    place.start("mute", "deaf")
    check(place.ballast("ls", "--names") == "mute\nweb\n", place.ballast("ls", "--names"))
    both = subprocess.run([BALLAST, "ls", "--names", "--json"], env=place.env, text=True,
                          capture_output=True, check=False)
    check(both.returncode == 2 and "exclude" in both.stderr, both)


def test_qemu(place):
    """what is run, and its own arguments"""
    check("bash" in place.complete("run", "--target", "1G", "bas"), "a program")
    check("bash" in place.complete("run", "--target", "1G", "--", "bas"), "after --")
    check(place.complete("run", "--target", "1G", "bash", "one.t") == {"one.trace"}, "a file")
    check(place.complete("run", "--target", "1G", "--", "bash", "one.t") == {"one.trace"}, "a file")
    # -m is QEMU's, not ours.
    check(place.complete("run", "--target", "1G", "bash", "--tar") == set(), "an option of QEMU")
    check(place.complete("run", "--", "bash", "-x", "--tar") == set(), "an option of QEMU")


def press(place, shell, before, keys, wanted):
    """Types keys into a shell, after it read the lines before, until what it shows has `wanted`."""
    child, fd = pty.fork()
    if child == 0:
        os.chdir(place.folder / "files")
        os.execvpe(shell[0], shell, place.env)
    shown = ""
    try:
        # The lines say when they are done, in a word that typing them does not show.
        os.write(fd, "".join(line + "\n" for line in [*before, "echo rea''dy"]).encode())
        deadline = time.monotonic() + seconds(PATIENCE_S)
        typed = False
        while wanted not in shown.split("ready\r", 1)[-1] or not typed:
            ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise Failed(f"{keys!r} should bring {wanted!r}, and shows {shown!r}")
            shown += os.read(fd, 4096).decode(errors="replace")
            if not typed and "ready\r" in shown:
                os.write(fd, keys.encode())
                typed = True
    finally:
        os.close(fd)
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_tab_in_bash(place):
    """the tab key in bash"""
    shell, before = ["bash", "--norc", "-i"], [f"source {shlex.quote(str(FOLDER))}/ballast.bash"]
    place.start("web")
    press(place, shell, before, "ballast doc\t", "ballast doctor ")
    press(place, shell, before, "ballast stat --json w\t", "--json web ")
    press(place, shell, before, "ballast run --on-exhaustion=p\t", "--on-exhaustion=pause ")
    press(place, shell, before, "ballast plot two\t", "plot two\\ words.trace ")


def test_tab_in_zsh(place):
    """the tab key in zsh"""
    if not shutil.which("zsh"):
        raise Skip("there is no zsh")
    shell = ["zsh", "-f", "-i"]
    before = [f"fpath=({shlex.quote(str(FOLDER))} $fpath)", "autoload -U compinit", f"compinit -u -d {place.folder}/dump"]
    place.start("web")
    press(place, shell, before, "ballast doc\t", "doctor ")
    press(place, shell, before, "ballast stat --js\t", "--json ")
    press(place, shell, before, "ballast stat --json w\t", "web ")
    press(place, shell, before, "ballast run --on-exhaustion p\t", "pause ")
    press(place, shell, before, "ballast run --target 1G -- bas\t", "bash")
    press(place, shell, before, "ballast plot two\t", "two\\ words.trace")
    # A list, with what each does.
    press(place, shell, before, "ballast s\t\t", "give a running domain more or less memory")


run_tests([test for name, test in list(globals().items()) if name.startswith("test_")],
          lambda test: test.__doc__, lambda: None, new_place)
