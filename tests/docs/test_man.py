#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The man pages: each command has one, they say what --help says, name only pages that exist, and
mandoc and groff find nothing wrong with them.

The build folder is $BALLAST_BUILD_DIR, which meson sets for the tests.
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("BALLAST_BUILD_DIR", SOURCE / "build"))
sys.path.insert(0, str(SOURCE / "tests/lib"))
import harness  # noqa: E402  pylint: disable=wrong-import-position
from harness import Skip, check  # noqa: E402  pylint: disable=wrong-import-position

# What mandoc says of the way in which scdoc writes pages, and not of the pages.
OF_SCDOC = re.compile("skipping paragraph macro|lower case character in document title|"
                      "input text line longer than 80 bytes")
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]


def sources():
    """The pages' sources by name: ballast-run.1 and so on."""
    return {path.name.removesuffix(".scd"): path.read_text()
            for path in sorted((SOURCE / "docs/man").glob("*.scd"))}


def section(text, title):
    """A section of a page's source, "" if it has none."""
    found = re.search(rf"^# {title}\n(.*?)(?=^# |\Z)", text, re.M | re.S)
    return found.group(1) if found else ""


def ballast(*words):
    """What ballast prints."""
    return subprocess.run([BUILD / "tools/ballast", *words], text=True, capture_output=True,
                          check=True).stdout


def commands():
    """All commands, as --help lists them."""
    listed = ballast("--help").split("Commands:")[1].split("Options:")[0]
    return re.findall(r"^  ([a-z]+) ", listed, re.M)


def options_of_help(text):
    """The options that a --help explains."""
    listed = re.search(r"^Options:\n(.*?)(?=^\S|\Z)", text, re.M | re.S)
    return set(re.findall(r"^  (--?[a-z][a-z-]*)", listed.group(1) if listed else "", re.M))


def test_each_command_has_a_page(_):
    """each command has its page, and ballast(1) lists it"""
    pages = sources()
    check(len(commands()) >= 8, f"--help lists {commands()}")
    for command in commands():
        check(f"ballast-{command}.1" in pages, f"there is no docs/man/ballast-{command}.1.scd")
        check(f"*ballast-{command}*(1)" in section(pages["ballast.1"], "COMMANDS"),
              f"ballast(1) does not list {command}")


def test_options(_):
    """the page and --help explain the same options, and the synopsis has no others"""
    pages = sources()
    for command in commands():
        page = pages[f"ballast-{command}.1"]
        explained = set(re.findall(r"^\*(--?[a-z][a-z-]*)\*", section(page, "OPTIONS"), re.M))
        text = ballast(command, "--help")
        shown = options_of_help(text)
        check(explained == shown, f"{command}: the page has {sorted(explained - shown)}, and "
              f"--help {sorted(shown - explained)}, that the other has not")
        for where, used in (("the synopsis", section(page, "SYNOPSIS")),
                            ("the usage", text.split("\n\n")[0])):
            used = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)(?![\w-])", used))
            check(used <= explained, f"{command}: {where} has {sorted(used - explained)}, which is "
                  "not explained")


def test_help_is_readable(_):
    """each --help begins with the usage, has examples and fits 80 columns"""
    for words in [[], *[[command] for command in commands()]]:
        text = ballast(*words, "--help")
        check(text.startswith("Usage: ballast") and "\nExamples:\n" in text, f"{words}: {text}")
        for line in text.splitlines():
            check(len(line) <= 80, f"{words}: too long: {line}")


def test_sections(_):
    """the pages have the sections that a reader looks for, in their order"""
    for name, page in sources().items():
        titles = re.findall(r"^# (.*)$", page, re.M)
        wanted = [title for title in SECTIONS
                  if name.endswith(".1") or title not in ("SYNOPSIS", "EXIT STATUS")]
        check([title for title in titles if title in wanted] == wanted, f"{name} has {titles}")


def test_references(_):
    """no page names a page of ours that does not exist"""
    pages = sources()
    for name, page in pages.items():
        for other, number in re.findall(r"\*(ballast[a-z-]*)\*\((\d)\)", page):
            check(f"{other}.{number}" in pages, f"{name} names {other}({number})")


def test_installed(_):
    """each page is built and installed"""
    listed = (SOURCE / "docs/meson.build").read_text()
    for name in sources():
        check(f"'{name}'" in listed, f"docs/meson.build does not list {name}")


def test_lint(_):
    """mandoc and groff find nothing wrong"""
    if not (BUILD / "docs/ballast.1").exists():
        raise Skip("the build has no man pages: there was no scdoc")
    tools = []
    if shutil.which("mandoc"):
        tools.append(["mandoc", "-T", "lint", "-W", "all"])
    if shutil.which("groff"):
        tools.append(["groff", "-ww", "-man", "-Tutf8", "-z"])
    if not tools:
        raise Skip("there is neither mandoc nor groff")
    for page in sorted(BUILD / "docs" / name for name in sources()):
        for tool in tools:
            done = subprocess.run([*tool, page], text=True, capture_output=True, check=False)
            said = [line for line in (done.stdout + done.stderr).splitlines()
                    if not OF_SCDOC.search(line)]
            check(not said, f"{tool[0]} of {page.name}: " + "; ".join(said))


harness.run_tests((test_each_command_has_a_page, test_options, test_help_is_readable, test_sections,
                   test_references, test_installed, test_lint),
                  lambda test: test.__doc__, lambda: None, contextlib.nullcontext)
