#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""All errors are written in one way: WHAT is wrong: WHY; WHAT TO DO. Reads the sources.

Where the why and the what-to-do come from somewhere else, the text ends with ": %s"; those texts are
looked at, too. Errors of the command line end with a pointer to --help, which the code adds."""

import pathlib
import re
import sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
LITERALS = r'"(?:[^"\\]|\\.)*"(?:\s*(?:"(?:[^"\\]|\\.)*"|[A-Z][A-Za-z_]*\d*))*'
# Functions that take a whole error, where they are called so, and how many arguments come before.
WHOLE = (("cli_error", "tools/*.c", 0), ("stop", "src/agent/*.c", 1), ("fail", "tools/host_check.c", 2))
# And those that take the why and the what-to-do.
REASONS = (("ctl_error_set", "tools/domain.c", 2),)
USAGE = (("cli_usage_error", "tools/*.c", 1),)
# What is no error, and what can be nobody's doing.
EXEMPT = ("domain %s was destroyed on request",)


def texts(calls):
    """(where, text) of each call that has its text in it."""
    for function, files, before in calls:
        for path in sorted(SOURCE.glob(files)):
            source = path.read_text()
            pattern = rf"(?<!\w){function}\(((?:[^,()\"]*,\s*|\"[a-z]*\",\s*){{{before}}})({LITERALS})"
            for found in re.finditer(pattern, source):
                text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', found.group(2)))
                line = source.count("\n", 0, found.start()) + 1
                if text not in ("", "%s", *EXEMPT):
                    yield f"{path.relative_to(SOURCE)}:{line}", text


def faults():
    """(where, text, what is wrong with it)."""
    counts = {}
    for kind, calls in (("whole", WHOLE), ("reason", REASONS), ("usage", USAGE)):
        for where, text in texts(calls):
            counts[kind] = counts.get(kind, 0) + 1
            if text.endswith((".", "!")) or "\\n" in text:
                yield where, text, "ends like a sentence"
            if text[0].isupper() and not text.startswith("QEMU"):
                yield where, text, "begins with a capital"
            if kind == "usage":
                continue
            if kind == "whole" and ": " not in text:
                yield where, text, "says what, and not why: there is no ': '"
            if "; " not in text and not text.endswith("%s"):
                yield where, text, "does not say what to do: there is no '; '"
    print(f"looked at {counts}")
    if counts.get("whole", 0) < 60 or counts.get("reason", 0) < 5 or counts.get("usage", 0) < 20:
        yield "tests/docs/test_errors.py", "", "found too few errors: does it still know the code?"


found_faults = list(faults())
for fault in found_faults:
    print("%s: \"%s\": %s" % fault)
sys.exit(1 if found_faults else 0)
