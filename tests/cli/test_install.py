#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `meson install` makes: everything is below the prefix, and it works wherever it is put.

The build folder is $BALLAST_BUILD_DIR, which meson sets for the tests.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("BALLAST_BUILD_DIR", SOURCE / "build"))
sys.path.insert(0, str(SOURCE / "tests/lib"))
import harness  # noqa: E402  pylint: disable=wrong-import-position
from harness import Skip, check  # noqa: E402  pylint: disable=wrong-import-position

REFUSED = 84


def run(*words, **options):
    """Runs a program to its end."""
    return subprocess.run([str(word) for word in words], text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=120, check=False, **options)


class Place:
    """A folder for one test."""

    def __enter__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="bl-"))
        self.environment = dict(os.environ, BALLAST_RUNTIME_DIR=str(self.root / "run"))
        for name in ("LD_PRELOAD", "BALLAST_AGENT", "BALLAST_AGENT_SO", "DESTDIR"):
            self.environment.pop(name, None)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root, ignore_errors=True)

    def install(self):
        """Installs below our folder. Returns where the prefix is then."""
        if not shutil.which("meson"):
            raise Skip("there is no meson")
        stage = self.root / "stage"
        done = run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", stage,
                   env=self.environment)
        check(done.returncode == 0, done.stdout + done.stderr)
        options = json.loads(run("meson", "introspect", BUILD, "--buildoptions").stdout)
        prefix = next(option["value"] for option in options if option["name"] == "prefix")
        return stage / prefix.lstrip("/")

    def ballast(self, prefix, *words):
        """Runs the installed ballast."""
        return run(prefix / "bin/ballast", *words, env=self.environment)

    def run_domain(self, prefix, program, *words):
        """`ballast run` of the installed ballast."""
        done = self.ballast(prefix, "run", "--name", "vm1", "--no-balloon", "--target", "16M", "--",
                            program, *words)
        if done.returncode == REFUSED and re.search("userfaultfd|kernel", done.stderr):
            raise Skip(done.stderr.strip())
        return done


def commands(place, prefix):
    """The names of all commands, as --help lists them."""
    text = place.ballast(prefix, "--help").stdout
    return re.findall(r"^  ([a-z]+) ", text.split("Commands:")[1].split("Options:")[0], re.M)


def test_works_where_it_is_put(place):
    """an installation finds its own agent: under DESTDIR, and when it is moved as a whole"""
    staged = place.install()
    moved = place.root / "home/me/.local"
    moved.parent.mkdir(parents=True)
    show = place.root / "show"
    show.write_text('#!/bin/sh\necho "$LD_PRELOAD"\n')
    show.chmod(0o755)
    for prefix in (staged, moved):
        if prefix == moved:
            staged.rename(moved)
        done = place.run_domain(prefix, show)
        agent = pathlib.Path(done.stdout.strip())
        check(done.returncode == 0 and agent.is_file(), f"{done}")
        check(agent.is_relative_to(prefix.resolve()), f"{agent} is not in {prefix}")
    # Without it, ballast says where it looked.
    agent.unlink()
    done = place.run_domain(moved, show)
    if done.returncode == 0:
        # There is one under the prefix that was configured: this machine has Ballast installed.
        check(not pathlib.Path(done.stdout.strip()).is_relative_to(place.root), f"{done}")
    else:
        check(done.returncode == REFUSED and "the agent was not found" in done.stderr, f"{done}")


def test_serves_a_domain(place):
    """an installed ballast runs a domain with its installed agent"""
    prefix = place.install()
    fake_qemu = BUILD / "tests/host/fake_qemu"
    if not fake_qemu.exists():
        raise Skip("there is no fake_qemu: configure with -Dtests=enabled")
    done = place.run_domain(prefix, fake_qemu, "block", "pc.ram", "memory-backend-ram", "128",
                            "private", "machine", "touch", "0", "1000", "check", "0", "1000",
                            "exit", "7")
    check(done.returncode == 7 and done.stderr == "", f"{done}")


def test_man_pages(place):
    """each command has its man page, and ballast(1) names it"""
    prefix = place.install()
    if not (prefix / "share/man").exists():
        raise Skip("the build has no man pages: there was no scdoc")
    main = (prefix / "share/man/man1/ballast.1").read_text()
    for command in commands(place, prefix):
        check((prefix / f"share/man/man1/ballast-{command}.1").is_file(),
              f"there is no ballast-{command}.1")
        check(re.search(rf"ballast\\?-{command}", main), f"ballast.1 does not name {command}")


def test_pkg_config(place):
    """pkg-config finds the protocol's header and the agent"""
    prefix = place.install()
    if not shutil.which("pkg-config") or not shutil.which("cc"):
        raise Skip("there is no pkg-config or no cc")
    folder = next(prefix.rglob("ballast.pc")).parent
    stage = str(place.root / "stage")
    environment = dict(place.environment, PKG_CONFIG_LIBDIR=str(folder),
                       PKG_CONFIG_SYSROOT_DIR=stage)
    flags = run("pkg-config", "--cflags", "--libs", "ballast", env=environment)
    check(flags.returncode == 0, f"{flags}")
    check(not any(word.startswith("-l") for word in flags.stdout.split()), f"{flags}")
    # Where it is put, there is nothing else of ours to be found.
    program = place.root / "program.c"
    program.write_text("#include <ballast/protocol.h>\n#include <stdio.h>\n"
                       "int main(void) { puts(BALLAST_SOCKET_NAME); return 0; }\n")
    done = run("cc", *flags.stdout.split(), program, "-o", place.root / "program")
    check(done.returncode == 0, done.stderr)
    check(run(place.root / "program").stdout == "control.sock\n", "the program")
    agent = run("pkg-config", "--variable=agent", "ballast", env=environment).stdout.strip()
    staged = agent if agent.startswith(stage) else stage + agent
    check(pathlib.Path(staged).is_file(), f"there is no {staged}")
    check(run("pkg-config", "--modversion", "ballast", env=environment).stdout.strip() in
          place.ballast(prefix, "--version").stdout, "another version")


def build_with_library(place, compiler, source):
    """Builds a program of tests/library with the installed libballast, as its users would. Returns
    it, and the environment to run it in."""
    prefix = place.install()
    if not shutil.which("pkg-config") or not shutil.which(compiler):
        raise Skip(f"there is no pkg-config or no {compiler}")
    folder = next(prefix.rglob("libballast.pc")).parent
    environment = dict(place.environment, PKG_CONFIG_LIBDIR=str(folder),
                       PKG_CONFIG_SYSROOT_DIR=str(place.root / "stage"))
    flags = run("pkg-config", "--cflags", "--libs", "libballast", env=environment)
    check(flags.returncode == 0, f"{flags}")
    program = place.root / "program"
    done = run(compiler, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-D_GNU_SOURCE", "-pthread",
               SOURCE / "tests/library" / source, *flags.stdout.split(), "-o", program)
    check(done.returncode == 0, done.stderr)
    return program, dict(place.environment, LD_LIBRARY_PATH=str(folder.parent))


def use_library(place, compiler, source):
    """Builds such a program and runs it."""
    program, environment = build_with_library(place, compiler, source)
    done = run(program, env=environment)
    if done.returncode == 77:
        raise Skip(done.stdout.strip().removeprefix("skipped: "))
    check(done.returncode == 0 and done.stdout + done.stderr == "", f"{done}")


def test_library(place):
    """a program in C makes domains with the installed libballast: they do what its header says"""
    use_library(place, "cc", "domain.c")


def test_library_from_cpp(place):
    """so does one in C++"""
    use_library(place, "c++", "domain.cc")


def test_library_symbols(place):
    """libballast exports what its header declares, with a version, and nothing else"""
    if not shutil.which("nm"):
        raise Skip("there is no nm")
    prefix = place.install()
    header = (prefix / "include/ballast/ballast.h").read_text()
    declared = set(re.findall(r"^\w[\w *]*?\b(ballast_\w+)\(", header, re.M))
    check(len(declared) == 9, f"{declared}")
    library = next(prefix.rglob("libballast.so.0"))
    listed = run("nm", "-D", "--defined-only", library).stdout.split("\n")
    exported = {line.split()[2] for line in listed if line and " A " not in line}
    check(exported == {f"{name}@@LIBBALLAST_0.1" for name in declared}, f"{exported}")
    page = (SOURCE / "docs/man/libballast.3.scd").read_text()
    for name in declared:
        check(f"*{name}*" in page, f"libballast(3) does not explain {name}")
    # Needed by whoever links with it: what it says, and the C library.
    needed = re.findall(r"NEEDED\s+(\S+)", run("objdump", "-p", library).stdout)
    check(all(name.startswith(("libisal.", "libc.", "libpthread.", "ld-")) for name in needed),
          f"{needed}")


def test_udev_rule(place):
    """the udev rule is where udev reads it, says what doctor would, and udev can read it"""
    prefix = place.install()
    rule = prefix / "lib/udev/rules.d/60-ballast.rules"
    text = rule.read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    check(len(lines) == 1, text)
    source = (SOURCE / "tools/doctor_kernel.c").read_text()
    check(lines[0].replace('"', '\\"') in source, f"doctor --fix has another rule than {lines[0]}")
    verify = shutil.which("udevadm") and run("udevadm", "verify", "--help").returncode == 0
    if verify:
        done = run("udevadm", "verify", rule)
        check(done.returncode == 0, done.stdout + done.stderr)
    else:
        for key in ("KERNEL==", "SUBSYSTEM==", "GROUP=", "MODE="):
            check(lines[0].count(key) == 1, lines[0])


def test_completions(place):
    """the shells' completions are where they look"""
    prefix = place.install()
    for path in ("share/bash-completion/completions/ballast", "share/zsh/site-functions/_ballast"):
        check((prefix / path).is_file(), f"there is no {path}")


def test_libvirt(place):
    """the emulators for libvirt are beside the agent, and libvirt's hook runs ours"""
    prefix = place.install()
    if not (BUILD / "tools/ballast-emulator").exists():
        raise Skip("this build has nothing for libvirt: there was no expat")
    folder = next(prefix.rglob("ballast-agent.so")).parent
    for name in ("qemu-system-x86_64", "qemu-system-aarch64"):
        check((folder / name).resolve() == (folder / "ballast-emulator").resolve(), f"{name}")
    for program in ("ballast-emulator", "libvirt-hook"):
        done = run(folder / program, "--help")
        check(done.returncode == 0 and done.stdout.startswith("Usage: "), f"{done}")
        done = run(folder / program)
        check(done.returncode == 2 and len(done.stderr.splitlines()) == 1, f"{done}")
    hook = next((place.root / "stage").rglob("libvirt/hooks/qemu.d/ballast"))
    check(os.access(hook, os.X_OK), f"{hook} is not executable")
    check(f"hook=/{(folder / 'libvirt-hook').relative_to(place.root / 'stage')}\n" in hook.read_text(),
          hook.read_text())
    # What is installed elsewhere than it says, or not any more, is no error: libvirt runs on.
    check(run(hook, "web", "start", "begin", "-").returncode == 0, "the hook")


def test_apparmor(place):
    """AppArmor understands our rules for libvirt"""
    if not shutil.which("apparmor_parser"):
        raise Skip("there is no apparmor_parser: install apparmor")
    prefix = place.install()
    rules = sorted((prefix / "share/ballast/apparmor").glob("*"))
    check([path.name for path in rules] == ["libvirt-qemu", "libvirtd"], f"{rules}")
    for path in rules:
        profile = place.root / "profile"
        profile.write_text("include <tunables/global>\nprofile test-of-ballast {\n"
                           f'  include "{path}"\n}}\n')
        done = run("apparmor_parser", "--skip-kernel-load", "--skip-cache", profile)
        check(done.returncode == 0, done.stderr)


def test_all_below_the_prefix(place):
    """whatever the prefix is, nothing goes elsewhere"""
    if not shutil.which("meson"):
        raise Skip("there is no meson")
    prefix = place.root / "some where"
    build = place.root / "build"
    done = run("meson", "setup", build, SOURCE, f"--prefix={prefix}", "-Dtests=disabled",
               env=place.environment)
    check(done.returncode == 0, done.stdout + done.stderr)
    installed = json.loads(run("meson", "introspect", build, "--installed").stdout).values()
    check(len(installed) > 2, f"{installed}")
    for path in installed:
        check(pathlib.Path(path).is_relative_to(prefix), f"{path} is not below {prefix}")


harness.run_tests((test_works_where_it_is_put, test_serves_a_domain, test_man_pages,
                   test_pkg_config, test_library, test_library_from_cpp, test_library_symbols,
                   test_udev_rule, test_completions, test_libvirt, test_apparmor,
                   test_all_below_the_prefix),
                  lambda test: test.__doc__, lambda: None, Place)
