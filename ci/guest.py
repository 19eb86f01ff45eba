"""The guest-side test image (ci/guest-tests): compiling it, and making of it what QEMU loads."""

import os
import struct
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = "aarch64-unknown-none-softfloat"


class Failure(Exception):
    """Something could not be measured; the text says what."""


def flatten(elf):
    """The bytes that an AArch64 ELF file puts into memory from its lowest load address on, as objcopy -O binary."""
    data = elf.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise Failure(f"{elf} is no little-endian 64-bit ELF file")
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = []
    for i in range(count):
        kind, _, start, _, physical, length = struct.unpack_from("<IIQQQQ", data, offset + i * size)
        if kind == 1 and length:
            segments.append((physical, data[start : start + length]))
    base = min(address for address, _ in segments)
    image = bytearray(max(address + len(part) for address, part in segments) - base)
    for address, part in segments:
        image[address - base : address - base + len(part)] = part
    return bytes(image)


def escaped(value):
    """A value for QEMU's comma-separated options."""
    return str(value).replace(",", ",,")


def command(words):
    """Runs a program that makes something; Failure with what it says if it cannot."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{words[0]}: {done.stderr.strip()}")


def build():
    """Compiles the guest-side programs; their folder."""
    if subprocess.run([ROOT / "ci/bare-metal", TARGET, "build", "--release", "--package", "vambrace-guest-tests"]).returncode:
        raise Failure("the guest-side test image does not compile")
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "bare-metal" / TARGET / "release"
