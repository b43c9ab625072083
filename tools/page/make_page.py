# SPDX-License-Identifier: MIT
"""Puts the page of `ballast plot -o NAME.html` together, as C.

make_page.py PAGE.html STYLE.css SCRIPT.js... > PAGE.c

The style and the scripts go where the page says @STYLE@ and @SCRIPT@, and their hashes into its
Content-Security-Policy, which then allows them and nothing else. At @DATA@ it is cut in two.
"""
import base64
import hashlib
import pathlib
import sys


def policy_hash(text):
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def c_array(name, text):
    data = text.encode()
    lines = (",".join(map(str, data[i:i + 24])) for i in range(0, len(data), 24))
    return (f"const unsigned char {name}[] = {{\n" + ",\n".join(lines) + "};\n"
            f"const size_t {name}_bytes = sizeof({name});\n")


def main():
    page, style, *scripts = (pathlib.Path(path).read_text("utf-8") for path in sys.argv[1:])
    script = "'use strict';\n(() => {\n" + "\n".join(scripts) + "})();\n"
    for text, end in ((script, "</script"), (style, "</style"), (script, "<!--")):
        if end in text.lower():
            sys.exit(f"make_page.py: {end} ends the element that it stands in")
    for mark, text in (("@STYLE_HASH@", policy_hash(style)), ("@SCRIPT_HASH@", policy_hash(script)),
                       ("@STYLE@", style), ("@SCRIPT@", script)):
        if page.count(mark) != 1:
            sys.exit(f"make_page.py: the page must have {mark} once")
        page = page.replace(mark, text)
    before, after = page.split("@DATA@")
    print('#include "plot_page_template.h"\n' + c_array("plot_page_before", before) +
          c_array("plot_page_after", after))


main()
