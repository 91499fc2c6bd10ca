"""What a file that should have been a GGUF seems to be, for the error message: common mix-ups get a hint each."""

from __future__ import annotations

__all__ = ["describe_foreign_file"]

# Leading bytes -> description. The four ggml magics are little-endian words, so they read backwards.
_MAGICS = (
    (b"PK\x03\x04", "it is a zip archive, perhaps a PyTorch .pth checkpoint: convert it to GGUF first"),
    (b"lmgg", "it is a ggml file from before GGUF: convert the original model again"),
    (b"fmgg", "it is a ggmf file from before GGUF (rwkv.cpp writes these): convert the original model to GGUF"),
    (b"tjgg", "it is a ggjt file from before GGUF: convert the original model again"),
    (b"algg", "it is a ggla adapter, not a model"),
    (b"\x1f\x8b", "it is gzip-compressed: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is zstd-compressed: unpack it first"),
    (b"\xfd7zXZ\x00", "it is xz-compressed: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive: unpack it first"),
    (b"BZh", "it is bzip2-compressed: unpack it first"),
    (b"\x93NUMPY", "it is a numpy array"),
    (b"\x89HDF", "it is an HDF5 file"),
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file it points to: fetch it with git lfs pull"),
)


def describe_foreign_file(head: bytes) -> str:
    """``head``: the first bytes (up to 4096) of a file that does not start with "GGUF". Returns half a sentence."""
    for magic, description in _MAGICS:
        if head.startswith(magic):
            return description
    if len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 100_000_000:
        return "it looks like safetensors: convert it to GGUF first"
    if len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return "it is a Python pickle, perhaps a PyTorch .pth checkpoint: convert it to GGUF first"
    if not head.strip(b"\0"):
        return "it starts with zeros: an unfinished download?"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "it is a web page: the download link led to a page, not to the file"
    if text.startswith((b"{", b"[")):
        return "it looks like JSON text"
    if all(32 <= byte < 127 or byte in b"\t\r\n\f" for byte in head):
        return "it looks like plain text"
    return f'expected it to start with "GGUF", got {head[:4]!r}'
