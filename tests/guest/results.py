# SPDX-License-Identifier: MIT
"""What came of tests, kept in the file that $BALLAST_SUPPORT_RECORD names, in place of what came
of the same before."""

import json
import os
import pathlib

RECORD = os.environ.get("BALLAST_SUPPORT_RECORD", "")


def keep(kind, key, row):
    """Keeps one result of a kind ("machines", "refusals"), which is known by its key."""
    if not RECORD:
        return
    path = pathlib.Path(RECORD)
    all_kinds = json.loads(path.read_text()) if path.exists() else {}
    rows = [old for old in all_kinds.get(kind, []) if {word: old.get(word) for word in key} != key]
    rows.append({**key, **row})
    rows.sort(key=lambda each: [str(each[word]) for word in key])
    all_kinds[kind] = rows
    path.write_text(json.dumps(all_kinds, indent=1, sort_keys=True) + "\n")
