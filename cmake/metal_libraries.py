"""Compiles the Metal kernels ahead of time, where Xcode's compiler is: metal_libraries.py CSRC_FOLDER OUT_FOLDER [--optional].

Writes NAME.metallib for each csrc/metal/kernels/*.metal, from the text that embed_metal.py embeds, and `id`, the number of all
texts together: csrc/metal/pipelines.mm takes no library whose texts are not its own. Options are those that it gives for texts.

--optional: where a tool fails there are no libraries (and `id` is empty), which costs time at the first use and nothing else.
"""

import pathlib
import subprocess
import sys
import tempfile

from embed_metal import kernel_texts

OPTIONS = ("-std=metal3.0", "-fno-fast-math", "-mmacosx-version-min=13.0")
TOOLS = ("xcrun", "-sdk", "macosx")


def texts_id(texts: dict[str, str]) -> int:
    """FNV-1a over names and texts in order: kernels_id() in csrc/metal/pipelines.mm."""
    value = 0xCBF29CE484222325
    for name, text in sorted(texts.items()):
        for byte in (name + text).encode():
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def compile_all(texts: dict[str, str], out: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            source, air = pathlib.Path(folder, f"{name}.metal"), pathlib.Path(folder, f"{name}.air")
            source.write_text(text, encoding="utf-8")
            subprocess.run([*TOOLS, "metal", *OPTIONS, "-c", source, "-o", air], check=True)
            subprocess.run([*TOOLS, "metallib", air, "-o", out / f"{name}.metallib"], check=True)


def main(csrc_folder: str, out_folder: str, *, optional: bool = False) -> None:
    out = pathlib.Path(out_folder)
    out.mkdir(parents=True, exist_ok=True)
    texts = kernel_texts(pathlib.Path(csrc_folder))
    (out / "id").unlink(missing_ok=True)  # of libraries that are only half replaced
    made = str(texts_id(texts))
    try:
        compile_all(texts, out)
    except (OSError, subprocess.CalledProcessError) as error:
        if not optional:
            raise
        print(f"metal_libraries.py: {error}; the kernels are compiled when they are used", file=sys.stderr)
        for library in out.glob("*.metallib"):
            library.unlink()
        made = ""
    (out / "id").write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], optional="--optional" in sys.argv[3:])
