#!/usr/bin/env python3
"""Boots the hypervisor with input it must refuse, and with odd input it must take, and judges its console.

A refusal is one clear line and then "(VMB) Halted"; before there is a device tree to trust it is the line alone. Odd
input counts as taken once dom0 starts. Each run is ended as soon as its outcome is known.

Exits 0 when every case is ok, 1 when one failed, 2 when the cases could not be made.
"""

import argparse
import gzip
import os
import re
import selectors
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from guest import Failure, command, escaped

HYPERVISOR_AT = 0x40200000
TREE_AT = 0x48000000
STUB_AT = 0x4A000000
KERNEL_AT = 0x50000000
RAMDISK_AT = 0x58000000
RAMDISK = b"070701" + bytes(8186)
MEMORY_END = 0x80000000
KERNEL = ("multiboot,module", "multiboot,kernel")
DISK = ("multiboot,module", "multiboot,ramdisk")

HALTED = "(VMB) Halted"
STARTS = "(VMB) Dom0 starts"
# What a line about the tree begins with, at least once.
TREE = "(Cannot boot: )?device tree: "


class Bench:
    """What the cases share: the inputs, a folder for files, and the board's own device tree."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.kernel = options.kernel.read_bytes()
        if self.kernel[:2] == b"\x1f\x8b":
            self.kernel = gzip.decompress(self.kernel)
        if self.kernel[56:60] != b"ARM\x64":
            raise Failure(f"{options.kernel} is no arm64 Image")
        self.kernel_file = self.file("kernel", self.kernel)
        self.ramdisk_file = self.file("ramdisk", RAMDISK)
        dump = folder / "board.dtb"
        machine = self.machine()
        machine[1] += f",dumpdtb={escaped(dump)}"
        command([options.qemu, *machine])
        self.board = dump.read_bytes()

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def machine(self, virtualization=True):
        level = "on" if virtualization else "off"
        return [
            "-machine", f"virt,virtualization={level},gic-version=2", "-cpu", "cortex-a57", "-smp", "1", "-m", "1G",
            "-display", "none", "-monitor", "none", "-nic", "none",
        ]  # fmt: skip

    def direct(self, kernel=None, words="dom0_mem=256M", virtualization=True):
        """A run in which QEMU passes its own device tree, with `kernel` (a file) as the one module."""
        arguments = [*self.machine(virtualization), "-kernel", str(self.options.hypervisor), "-append", words]
        if kernel:
            arguments += ["-device", f"guest-loader,addr={KERNEL_AT:#x},kernel={escaped(kernel)},bootargs=x"]
        return arguments

    def tree(self, name, edits):
        """A run with the board's tree after `edits`, each the arguments of one fdtput after the file's name."""
        path = self.file(f"{name}.dtb", self.board)
        for edit in edits:
            flags = [word for word in edit if word in ("-c", "-r", "-d")]
            rest = [word for word in edit if word not in flags]
            if not flags and len(rest) > 2 and rest[0] in ("s", "x"):
                flags, rest = ["-t", rest[0]], rest[1:]
            command(["fdtput", *flags, str(path), *rest])
        return self.blob(name, path.read_bytes())

    def blob(self, name, blob):
        """A run with `blob` as device tree. QEMU checks and changes what -dtb names, so a stub in the boot loader's
        place passes it: the machine has no `-kernel`, and CPU 0 begins in the stub."""
        blob_file = self.file(f"{name}.blob", blob)
        # ldr x0, tree; ldr x1, entry; br x1; nop
        code = struct.pack("<4I2Q", 0x58000080, 0x580000A1, 0xD61F0020, 0xD503201F, TREE_AT, HYPERVISOR_AT)
        stub = self.file(f"{name}.stub", code)
        arguments = self.machine()
        files = [(self.options.hypervisor, HYPERVISOR_AT), (blob_file, TREE_AT)]
        files += [(self.kernel_file, KERNEL_AT), (self.ramdisk_file, RAMDISK_AT)]
        for path, address in files:
            arguments += ["-device", f"loader,file={escaped(path)},addr={address:#x},force-raw=on"]
        return [*arguments, "-device", f"loader,file={escaped(stub)},addr={STUB_AT:#x},force-raw=on,cpu-num=0"]

    def module(self, node, compatible, start, size, cells=2):
        """The edits that add a module to /chosen."""
        path = f"/chosen/{node}"
        reg = [word for value in (start, size) for word in (value >> 32, value & 0xFFFFFFFF)[2 - cells :]]
        numbers = [f"{word:x}" for word in reg]
        return [["-c", path], ["s", path, "compatible", *compatible], ["x", path, "reg", *numbers]]

    def chosen(self, *modules):
        """The edits that give /chosen a command line and these modules."""
        words = [["s", "/chosen", "xen,xen-bootargs", "dom0_mem=256M"], ["s", "/chosen", "xen,dom0-bootargs", "x"]]
        return words + [edit for module in modules for edit in module]

    def with_kernel(self, *more):
        return self.chosen(self.module("kernel", KERNEL, KERNEL_AT, len(self.kernel)), *more)


def patched(blob, offset, word):
    """The blob with a big-endian word changed."""
    return blob[:offset] + struct.pack(">I", word) + blob[offset + 4 :]


def cases(bench):
    """Name, expected line (None: dom0 starts), whether it is followed by HALTED, QEMU's arguments."""
    size, kernel = len(bench.kernel), bench.kernel_file
    foreign = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 62, 1) + bytes(8168)
    short = bench.file("short", bench.kernel[:32])
    zipped = bench.file("zipped", gzip.compress(bench.kernel, 1))
    unzippable = bytearray(zipped.read_bytes())
    unzippable[-6] ^= 0xFF  # in the checksum
    unzippable = bench.file("unzippable", unzippable)

    def refused(name, line, arguments):
        return name, line, True, arguments

    def refused_early(name, line, arguments):
        return name, line, False, arguments

    def accepted(name, arguments):
        return name, None, False, arguments

    yield accepted("plain", bench.direct(kernel))
    yield accepted("own-tree", bench.tree("own-tree", bench.with_kernel()))
    yield accepted("gzip-kernel", bench.direct(zipped))
    old = (("xen,linux-zimage", "xen,multiboot-module"), ("xen,linux-initrd", "xen,multiboot-module"))
    modules = bench.module("kernel", old[0], KERNEL_AT, size), bench.module("disk", old[1], RAMDISK_AT, len(RAMDISK))
    yield accepted("old-spellings", bench.tree("old-spellings", bench.chosen(*modules)))
    cells = [["x", "/chosen", f"#{which}-cells", "1"] for which in ("address", "size")]
    one = bench.chosen(cells, bench.module("kernel", KERNEL, KERNEL_AT, size, 1))
    yield accepted("one-address-cell", bench.tree("one-address-cell", one))

    yield refused("no-kernel", r"Cannot boot: no kernel for dom0: /chosen needs .*multiboot,kernel.*", bench.direct())
    yield refused(
        "dom0_mem-too-large", r"Cannot boot: dom0_mem is 4194304 KiB, but dom0 can have at most \d+ KiB",
        bench.direct(kernel, "dom0_mem=4G"),
    )  # fmt: skip
    yield refused(
        "dom0_mem-too-small", r"Cannot boot: dom0_mem is 8192 KiB, but dom0's kernel.* need \d+ KiB",
        bench.direct(kernel, "dom0_mem=8M"),
    )  # fmt: skip
    yield refused(
        "wrong-architecture", r"Cannot boot: dom0's kernel: the kernel module is an ELF file, not an arm64 Image.*",
        bench.direct(bench.file("foreign", foreign)),
    )  # fmt: skip
    # That much begins like any EFI program, so the line may name that instead.
    line = r"Cannot boot: dom0's kernel: the kernel module is (cut off|.*, not an arm64 Image.*)"
    yield refused("kernel-of-32-bytes", line, bench.direct(short))
    packed = zipped.read_bytes()
    # With the trailer of the whole: the size it ends with would else be any number.
    cut = bench.file("cut", packed[: len(packed) // 8] + packed[-8:])
    line = r"(Cannot boot|Dom0): dom0's kernel: the (kernel module is cut off|compressed kernel is damaged)"
    yield refused("gzip-kernel-cut", line, bench.direct(cut))
    damaged = r"(Cannot boot|Dom0): dom0's kernel: the compressed kernel is damaged"
    yield refused("gzip-kernel-damaged", damaged, bench.direct(unzippable))

    outside = r"Cannot boot: the %s at 0x[0-9a-f]+\.\.0x[0-9a-f]+ lies outside of memory"
    beyond = bench.chosen(bench.module("kernel", KERNEL, MEMORY_END + 0x1000000, size))
    yield refused("kernel-outside-memory", outside % "kernel module", bench.tree("kernel-outside-memory", beyond))
    disk = bench.module("disk", DISK, MEMORY_END - 0x1000, 0x2000)
    tree = bench.tree("disk-past-memory", bench.with_kernel(disk))
    yield refused("disk-past-memory", outside % "RAM disk module", tree)
    overlaps = r"Cannot boot: the .* at 0x[0-9a-f]+\.\.0x[0-9a-f]+ overlaps the .* at 0x[0-9a-f]+\.\.0x[0-9a-f]+"
    disk = bench.module("disk", DISK, KERNEL_AT + 0x100000, 0x100000)
    tree = bench.tree("modules-overlap", bench.with_kernel(disk))
    yield refused("modules-overlap", overlaps, tree)
    over = bench.chosen(bench.module("kernel", KERNEL, HYPERVISOR_AT, size))
    yield refused("kernel-over-hypervisor", overlaps, bench.tree("kernel-over-hypervisor", over))
    disk = bench.module("disk", DISK, (1 << 64) - 0x1000, 0x2000)
    tree = bench.tree("module-wraps", bench.with_kernel(disk))
    yield refused("module-wraps", TREE + r"/chosen/disk: .*\breg\b.*", tree)
    second = bench.module("second", KERNEL, RAMDISK_AT, len(RAMDISK))
    tree = bench.tree("two-kernels", bench.with_kernel(second))
    yield refused("two-kernels", TREE + r"/chosen/(kernel|second): .*second module.*", tree)
    memoryless = [*bench.with_kernel(), ["-r", f"/memory@{0x40000000:x}"]]
    yield refused("no-memory-node", TREE + r".*memory.*", bench.tree("no-memory-node", memoryless))

    structure, strings = struct.unpack_from(">2I", bench.board, 8)
    (length,) = struct.unpack_from(">I", bench.board, 36)
    yield refused("tree-cut", TREE + r"truncated: .*", bench.blob("tree-cut", patched(bench.board, 4, structure + 64)))
    middle = structure + length // 2
    lost = bench.board[:middle] + bytes(len(bench.board) - middle)
    yield refused("tree-half-lost", TREE + r".* at offset 0x[0-9a-f]+", bench.blob("tree-half-lost", lost))
    token = bench.blob("tree-bad-token", patched(bench.board, structure, 0x77))
    yield refused("tree-bad-token", TREE + r"unknown token at offset 0x[0-9a-f]+", token)
    offset = bench.blob("tree-bad-offset", patched(bench.board, 8, 0xFFFFFFF0))
    yield refused("tree-bad-offset", TREE + r"truncated: .*", offset)
    magic = bench.blob("tree-bad-magic", patched(bench.board, 0, 0xD00DF00D))
    yield refused_early("tree-bad-magic", r"vambrace: no device tree .*wrong magic number.*", magic)
    huge = bench.blob("tree-too-large", patched(bench.board, 4, 0x7FFFFFFF))
    yield refused_early("tree-too-large", r"vambrace: the device tree's size .*", huge)
    low = bench.direct(kernel, virtualization=False)
    yield refused_early("at-EL1", r"vambrace: started at EL1; .*needs EL2.*", low)


def outcome(text, line, halts):
    """None while the console's `text` leaves it open; else an empty string for the expected end, or what is wrong."""
    lines = text.split("\n")[:-1]
    if any(each.startswith(STARTS) for each in lines):
        return "dom0 starts" if line else ""
    if line and not halts and any(re.fullmatch(line, each) for each in lines):
        return ""
    if HALTED not in lines:
        return None
    said = lines[lines.index(HALTED) - 1] if lines.index(HALTED) else ""
    if line and halts and re.fullmatch(rf"\(VMB\) {line}", said):
        return ""
    return f"it says: {said}"


def run(bench, case):
    """Name, what is wrong (empty: nothing), and seconds."""
    name, line, halts, arguments = case
    begin = time.monotonic()
    words = [bench.options.qemu, *arguments, "-serial", "stdio", "-no-reboot"]
    qemu = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text, verdict = "", None
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(qemu.stdout, selectors.EVENT_READ)
            while verdict is None:
                left = begin + bench.options.timeout - time.monotonic()
                if left <= 0 or not ready.select(left):
                    verdict = f"no end after {bench.options.timeout} s; last words: {text[-300:]!r}"
                    break
                piece = os.read(qemu.stdout.fileno(), 65536)
                text += piece.decode(errors="replace").replace("\r", "")
                verdict = outcome(text, line, halts)
                if not piece and verdict is None:
                    verdict = f"QEMU ended with {qemu.wait()}; last words: {text[-300:]!r}"
    finally:
        qemu.kill()
        qemu.wait()
        qemu.stdout.close()
    if bench.options.verbose:
        print("\n".join(f"  {name}| {each}" for each in text.splitlines()))
    return name, verdict, time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hypervisor", type=Path, required=True, help="flat image for QEMU's virt board")
    parser.add_argument("--kernel", type=Path, required=True, help="an arm64 Linux Image, as Debian's vmlinuz")
    parser.add_argument("--case", action="append", help="only this case; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--qemu", default="qemu-system-aarch64")
    parser.add_argument("--timeout", type=int, default=120, help="seconds for one run")
    parser.add_argument("--verbose", action="store_true", help="show the consoles")
    options = parser.parse_args()
    failed = passed = 0
    try:
        with tempfile.TemporaryDirectory(prefix="vambrace-refusals-") as work:
            bench = Bench(options, Path(work))
            chosen = [case for case in cases(bench) if not options.case or case[0] in options.case]
            if not chosen:
                raise Failure("no such case")
            with ThreadPoolExecutor(options.jobs) as pool:
                for name, wrong, seconds in pool.map(lambda case: run(bench, case), chosen):
                    passed, failed = passed + (not wrong), failed + bool(wrong)
                    print(f"refusal {name} {f'FAIL {wrong}' if wrong else f'ok {seconds:.1f} s'}", flush=True)
    except (Failure, OSError) as failure:
        print(f"refusals: {failure}", file=sys.stderr)
        return 2
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
