"""Reads the Objective-C protocols that a compiler left in a Mach-O file (x86-64): selectors with their type encodings."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

_FAT, _X86_64, _MAGIC = 0xCAFEBABE, 0x01000007, 0xFEEDFACF
_SEGMENT, _MINIMUM_VERSION, _BUILD_VERSION = 0x19, 0x24, 0x32


@dataclass
class MachO:
    data: bytes
    segments: list[tuple[int, int, int]] = field(default_factory=list)  # address, size, file offset
    sections: dict[str, tuple[int, int]] = field(default_factory=dict)  # address, size
    sdk: str = ""

    @staticmethod
    def read(path: Path) -> MachO:
        data = path.read_bytes()
        if struct.unpack(">I", data[:4])[0] == _FAT:
            slices = [struct.unpack(">IIIII", data[8 + 20 * i : 28 + 20 * i]) for i in range(struct.unpack(">I", data[4:8])[0])]
            data = data[next(offset for cpu, _, offset, _, _ in slices if cpu == _X86_64) :]
        magic, cpu, _, _, n_commands, _, _, _ = struct.unpack("<IIIIIIII", data[:32])
        if (magic, cpu) != (_MAGIC, _X86_64):
            raise ValueError(f"{path} is not an x86-64 Mach-O file")
        file = MachO(data)
        at = 32
        for _ in range(n_commands):
            command, size = struct.unpack("<II", data[at : at + 8])
            if command == _SEGMENT:
                file._segment(at)
            elif command in (_MINIMUM_VERSION, _BUILD_VERSION):
                where = at + (12 if command == _MINIMUM_VERSION else 16)
                sdk = struct.unpack("<I", data[where : where + 4])[0]
                file.sdk = f"{sdk >> 16}.{sdk >> 8 & 255}"
            at += size
        return file

    def _segment(self, at: int) -> None:
        address, size, offset, _ = struct.unpack("<QQQQ", self.data[at + 24 : at + 56])
        self.segments.append((address, size, offset))
        for i in range(struct.unpack("<I", self.data[at + 64 : at + 68])[0]):
            section = at + 72 + 80 * i
            name = self.data[section : section + 16].rstrip(b"\0").decode()
            self.sections[name] = struct.unpack("<QQ", self.data[section + 32 : section + 48])

    def offset(self, address: int) -> int:
        return next(address - begin + offset for begin, size, offset in self.segments if begin <= address < begin + size)

    def pointer(self, address: int) -> int:
        at = self.offset(address)
        return struct.unpack("<Q", self.data[at : at + 8])[0]

    def string(self, address: int) -> str:
        at = self.offset(address)
        return self.data[at : self.data.index(b"\0", at)].decode()

    def _methods(self, address: int) -> dict[str, str]:
        if not address:
            return {}
        at = self.offset(address)
        entry, count = struct.unpack("<II", self.data[at : at + 8])
        return {self.string(self.pointer(address + 8 + entry * i)): self.string(self.pointer(address + 16 + entry * i)) for i in range(count)}

    def protocols(self) -> dict[str, dict[str, str]]:
        """Protocol to {selector: encoding}, of instance methods, required or not."""
        address, size = self.sections["__objc_protolist"]
        result = {}
        for i in range(size // 8):
            protocol = self.pointer(address + 8 * i)
            instance, _, optional, _ = (self.pointer(protocol + 24 + 8 * k) for k in range(4))
            result[self.string(self.pointer(protocol + 8))] = self._methods(instance) | self._methods(optional)
        return result
