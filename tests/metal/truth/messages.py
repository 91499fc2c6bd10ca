"""Lists what a source uses of Metal: every message that it sends, every class that it names, every enumerator; from clang's
syntax tree. Run by the tools' Python, which has libclang:

    messages.py '["flags"]' FILE...       prints JSON
"""

from __future__ import annotations

import json
import os
import re
import sys

import clang.cindex as clang


def uses(path: str, flags: list[str]) -> dict[str, list[str]]:
    unit = clang.Index.create().parse(path, args=["-x", "objective-c++", *flags])
    errors = [str(d) for d in unit.diagnostics if d.severity >= clang.Diagnostic.Error]
    messages: set[str] = set()
    names: set[str] = set()

    def walk(cursor: clang.Cursor) -> None:
        if cursor.kind == clang.CursorKind.OBJC_MESSAGE_EXPR:
            if cursor.referenced:
                messages.add(f"{cursor.referenced.semantic_parent.spelling} {cursor.spelling}")
            else:  # the receiver's type depends on a template's parameter
                messages.add(f"template {os.path.basename(cursor.location.file.name)}")
        elif cursor.kind == clang.CursorKind.OBJC_CLASS_REF:
            names.add(cursor.spelling)
        elif cursor.kind == clang.CursorKind.DECL_REF_EXPR and re.match(r"k?MTL", cursor.spelling):
            names.add(cursor.spelling)
        for child in cursor.get_children():
            walk(child)

    for cursor in unit.cursor.get_children():
        if cursor.location.file and (cursor.location.file.name == path or "/csrc/metal/" in cursor.location.file.name):
            walk(cursor)
    return {"messages": sorted(messages), "names": sorted(names), "errors": errors}


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    print(json.dumps({path: uses(path, arguments) for path in sys.argv[2:]}))
