#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""docs/support.md is what scripts/support-table makes of the recorded results, and names every guest
and machine that the tests know."""

import json
import pathlib
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SOURCE / "tests/guest"))
import machines  # noqa: E402  pylint: disable=wrong-import-position


def table(*words):
    done = subprocess.run([SOURCE / "scripts/support-table", *words], text=True,
                          capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr


def main():
    status, said = table("--check")
    assert status == 0, said

    results = json.loads((SOURCE / "docs/support.json").read_text())
    recorded = {(row["guest"], row["machine"]) for row in results["machines"]}
    known = {(case.guest, case.machine) for case in machines.CASES}
    assert recorded <= known, f"results of what is not tested: {recorded - known}"
    page = (SOURCE / "docs/support.md").read_text()
    for guest, machine in known:
        assert f"| {guest} | {machine} |" in page or f"- {guest}, on {machine}\n" in page, guest
    for row in results["machines"]:
        assert row["outcome"] in ("works", "failed"), row
        assert row["note"], f"a row must say more: {row}"

    # A page that somebody edited is found.
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        (tree / "docs").mkdir()
        (tree / "docs/support.json").write_text(json.dumps(results))
        assert table("--source", tree)[0] == 0
        page = tree / "docs/support.md"
        assert page.read_text() == (SOURCE / "docs/support.md").read_text()
        page.write_text(page.read_text().replace("| works |", "| works well |"))
        status, said = table("--check", "--source", tree)
        assert status == 1 and "was edited" in said, said
    print(f"{len(recorded)} guests and machines")


main()
