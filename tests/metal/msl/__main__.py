"""python tests/metal/msl [options] FILE: compiles a .metal file; prints the path of the kernel library."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from msl.compiler import check_address_spaces, compile_library  # noqa: E402
from msl.tokens import MslError  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="msl", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true", help="with calls of the checker at each load and store")
    parser.add_argument("--address-spaces", action="store_true", help="only parse, with real address spaces, as C++14")
    parser.add_argument("-I", dest="include", type=Path, action="append", default=[])
    parser.add_argument("--name", help="what messages call the file (its own name)")
    options = parser.parse_args()
    source, name, include = options.file.read_text(), options.name or str(options.file), tuple(options.include)
    try:
        if options.address_spaces:
            sys.stderr.write(check_address_spaces(source, include, name))
        else:
            print(compile_library(source, check=options.check, include=include, name=name))
    except MslError as error:
        print(f"{name}: error: {error}" if "error:" not in str(error) else error, file=sys.stderr)
        return 1
    return 0


sys.exit(main())
