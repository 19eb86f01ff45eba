"""What the tests' guests are made of: Debian's kernel with a small RAM disk, and a kernel that only waits."""

import gzip
import lzma
import re
import struct
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Debian's newest kernel of each architecture.
KERNELS = {"arm64": "linux-image-arm64", "armhf": "linux-image-armmp-lpae"}
# What a guest needs beyond what Debian's kernels have built in.
MODULES = ["xen_blkfront", "xen_netfront"]


def unpacked(suite, architecture, *packages):
    """The folder into which Debian packages, and all that they depend on, have been unpacked."""
    command = [ROOT / "ci/debian-package", "--depends", suite, architecture, *packages]
    return Path(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


class Modules:
    """A kernel package's modules, with what they need."""

    def __init__(self, folder):
        self.folder = next(path for path in (folder / "usr/lib/modules", folder / "lib/modules") if path.is_dir())
        self.folder = next(self.folder.iterdir())
        self.version = self.folder.name
        self.files = {path.name.split(".ko")[0].replace("-", "_"): path for path in self.folder.rglob("*.ko*")}

    def read(self, name):
        """A module's bytes, unpacked."""
        data = self.files[name].read_bytes()
        return lzma.decompress(data) if self.files[name].suffix == ".xz" else data

    def closure(self, names):
        """(name, bytes) of the modules and all that they need, in the order of loading. What is built in is left out."""
        seen, order = {}, []

        def add(name):
            if name in seen or name not in self.files:
                return
            seen[name] = data = self.read(name)
            found = re.search(rb"\0depends=([^\0]*)\0", data)
            for other in (found.group(1).decode().replace("-", "_").split(",") if found and found.group(1) else []):
                add(other)
            order.append((name, data))

        for name in names:
            add(name)
        return order


def newc(entries):
    """A cpio archive of (name, mode, bytes, (major, minor))."""
    out = bytearray()
    for inode, (name, mode, data, (major, minor)) in enumerate([*entries, ("TRAILER!!!", 0, b"", (0, 0))], 1):
        fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def ramdisk(busybox, modules, init):
    """A RAM disk of busybox, modules and an init."""
    entries = [(name, 0o040755, b"", (0, 0)) for name in ("bin", "dev", "mod", "mnt", "proc", "run", "sbin", "sys", "tmp")]
    entries += [
        ("dev/console", 0o020600, b"", (5, 1)), ("dev/null", 0o020666, b"", (1, 3)),
        ("bin/busybox", 0o100755, busybox, (0, 0)), ("bin/sh", 0o120777, b"busybox", (0, 0)),
        # These the kernel runs when the toolstack asks it to shut down.
        ("sbin/poweroff", 0o100755, b"#!/bin/sh\nexec /bin/busybox poweroff -f\n", (0, 0)),
        ("sbin/reboot", 0o100755, b"#!/bin/sh\nexec /bin/busybox reboot -f\n", (0, 0)),
    ]
    entries += [(f"mod/{i:03}-{name}.ko", 0o100644, data, (0, 0)) for i, (name, data) in enumerate(modules)]
    return gzip.compress(newc([*entries, ("init", 0o100755, init, (0, 0))]), 6, mtime=0)


def tiny(architecture):
    """A kernel of 4 KiB that waits for ever."""
    if architecture == "arm64":
        # code0: branch to 0x40; the arm64 Image header; WFI and back.
        header = struct.pack("<IIQQQQQQ4sI", 0x14000010, 0xD503201F, 0, 0x1000, 0xA, 0, 0, 0, b"ARM\x64", 0)
        return (header + struct.pack("<II", 0xD503207F, 0x17FFFFFF)).ljust(4096, b"\0")
    # zImage: eight NOPs, a branch to 0x30, magic, start, end; WFI and back.
    head = struct.pack("<9I3I", *[0xE1A00000] * 8, 0xEA000002, 0x016F2818, 0, 4096)
    return (head + struct.pack("<II", 0xE320F003, 0xEAFFFFFD)).ljust(4096, b"\0")


def crash():
    """An arm64 kernel that tells the hypervisor at once that it has crashed: SCHEDOP_shutdown (hypercall 29, 2) with reason 3."""
    # mov w0, #2; adr x1, reason; mov x16, #29; hvc #0xea1; wfi; b -4; reason: 3
    code = struct.pack("<7I", 0x52800040, 0x100000A1, 0xD28003B0, 0xD401D422, 0xD503207F, 0x17FFFFFF, 3)
    return tiny("arm64")[:64] + code.ljust(4032, b"\0")


def make(suite, architecture, folder):
    """Puts the guests' files for this architecture into `folder`, which dom0 will see."""
    init = (HERE / "guest-init").read_bytes()

    def one(architecture, suffix):
        tree = unpacked(suite, architecture, KERNELS[architecture], "busybox-static")
        kernel = next((tree / "boot").glob("vmlinuz-*")).read_bytes()
        # libxl takes no compressed arm64 kernel in every release.
        (folder / f"vmlinuz{suffix}").write_bytes(gzip.decompress(kernel) if kernel[:2] == b"\x1f\x8b" else kernel)
        busybox = next(path for path in (tree / "usr/bin/busybox", tree / "bin/busybox") if path.exists()).read_bytes()
        (folder / f"ramdisk{suffix}").write_bytes(ramdisk(busybox, Modules(tree).closure(MODULES), init))
        (folder / f"tiny{suffix}").write_bytes(tiny(architecture))

    one(architecture, "")
    if architecture == "arm64":
        (folder / "crash").write_bytes(crash())
        one("armhf", "-armhf")
