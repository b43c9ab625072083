#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""docs/hostile.md: each row has an outcome and names tests, each of which is there and is run; and
each test of the two programs that exist for that document is named in it."""

import pathlib
import re
import sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SOURCE / "tests/lib"))
import harness  # noqa: E402  pylint: disable=wrong-import-position
from harness import check  # noqa: E402  pylint: disable=wrong-import-position

DOCUMENT = SOURCE / "docs/hostile.md"
PROGRAMS = ("tests/host/test_hostile.py", "tests/host/test_short_host.py")


def named_tests():
    """(file, function) of all rows."""
    tests = []
    for line in DOCUMENT.read_text().splitlines():
        if not line.startswith("|") or line.startswith("|---") or line.endswith("| test |"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        check(len(cells) == 3 and all(cells), f"a row without outcome or test: {line}")
        found = re.findall(r"`(tests/[\w/.]+): (\w+)`", cells[2])
        check(found and cells[2].count("`") == 2 * len(found), f"a row whose test is none: {line}")
        tests += found
    check(tests, f"{DOCUMENT} has no table")
    return tests


def is_run(text, suffix, name):
    """Whether a program defines that function, and uses it a second time, or all that it has."""
    defines = rf"^def {name}\(" if suffix == ".py" else rf"^(static void|int) {name}\("
    uses_all = "globals()" in text or name == "LLVMFuzzerTestOneInput"
    return re.search(defines, text, re.M) and (
        uses_all or len(re.findall(rf"\b{name}\b", text)) > 1)


def test_named_tests_exist(_):
    """each test that it names is there, and is run"""
    for path, name in named_tests():
        check((SOURCE / path).exists(), f"there is no {path}")
        check(is_run((SOURCE / path).read_text(), pathlib.Path(path).suffix, name),
              f"{path} has no {name}, or does not run it")


def test_all_tests_are_named(_):
    """each test of its own programs is named"""
    named = set(named_tests())
    for path in PROGRAMS:
        for name in re.findall(r"^def (test_\w+)", (SOURCE / path).read_text(), re.M):
            check((path, name) in named, f"{path}: {name} stands in no row")


class Nothing:
    """These tests start nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


harness.run_tests((test_named_tests_exist, test_all_tests_are_named), lambda test: test.__doc__,
                  lambda: None, Nothing)
