#!/usr/bin/env python3
"""Measures Vambrace and stock Xen side by side and checks the required limits.

Everything is counted, nothing is timed: QEMU runs with `-icount shift=0,sleep=off` on one CPU, where an instruction is
a virtual nanosecond and idle time jumps to the next timer, so every run gives the same numbers on every machine.

  round trips   ci/guest-tests boots as dom0 and makes each call 4096 times
  dom0 entry    the same image, padded to the size of the kernel, reads the physical counter at its first instruction;
                booted in the hypervisor's place it gives the zero of that clock
  dom0 shell    the real kernel with a small initramfs whose shell runs ci/guest-tests' `stamp`: it prints the virtual
                counter. How far that is behind the physical one is seen in the dom0-entry run

Exits 0 when all limits hold, 1 when one is missed, 2 when something could not be measured.
"""

import argparse
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from guest import Failure, build, escaped, flatten

KIB = 1024
MIB = 1024 * KIB

# What is counted, its name in words, and what it may cost at most.
ROUND_TRIPS = [
    ("xen_version", "xen_version(XENVER_version)", 222),
    ("unknown_hypercall", "unknown hypercall", 196),
    ("id_register", "trapped ID-register read", 215),
    ("psci_version", "PSCI_VERSION", 235),
    ("vdist_read", "virtual distributor read", 600),
    ("vpl011_read", "virtual PL011 read", 600),
    ("yield", "sched_op yield, nothing else to run", 700),
    ("get_features", "get_features (8 bytes to the guest)", None),
    ("event_send_pending", "event send, already pending", None),
]
ENTRY_SHARE = 0.2
SHELL_FACTOR = 1.05

UART = 0x09000000
MEMORY_MIB = 2048
DOM0_MIB = 1024
KERNEL_AT = 0x50000000


def padded(image, like):
    """`image` with the file size and the image_size (arm64 Image header, offset 16) of the kernel `like`."""
    if like[56:60] != b"ARM\x64":
        raise Failure("the kernel is no uncompressed arm64 Image; unpack it first")
    if len(like) < len(image):
        raise Failure("the kernel is smaller than the test image")
    out = bytearray(image) + bytes(len(like) - len(image))
    out[16:24] = like[16:24]
    return bytes(out)


def initramfs(busybox, stamp):
    """A newc archive: busybox, stamp, and an init whose shell runs it."""
    init = b"#!/bin/busybox sh\nexec /bin/busybox sh -c /bin/stamp\n"
    entries = [
        ("bin", 0o040755, b"", (0, 0)),
        ("dev", 0o040755, b"", (0, 0)),
        ("dev/console", 0o020600, b"", (5, 1)),
        ("bin/busybox", 0o100755, busybox, (0, 0)),
        ("bin/stamp", 0o100755, stamp, (0, 0)),
        ("init", 0o100755, init, (0, 0)),
        ("TRAILER!!!", 0, b"", (0, 0)),
    ]
    out = bytearray()
    for inode, (name, mode, data, (major, minor)) in enumerate(entries, 1):
        fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def qemu(options, arguments, what):
    """Runs QEMU to its end and gives the console's words: {'BENCH x': n, 'STAMP y': n}."""
    command = [
        options.qemu, "-machine", f"virt,virtualization=on,gic-version={options.gic},dtb-randomness=off", "-cpu", "cortex-a57", "-smp", "1",
        "-m", str(MEMORY_MIB), "-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2026-01-01,clock=vm", "-display", "none",
        "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nic", "none", *arguments,
    ]
    try:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=options.timeout)
    except subprocess.TimeoutExpired as stuck:
        tail = (stuck.stdout or b"").decode(errors="replace")[-1500:]
        raise Failure(f"{what}: no end after {options.timeout} s; the console's last words:\n{tail}") from None
    text = run.stdout.decode(errors="replace")
    words = dict(re.findall(r"^((?:BENCH|STAMP) \S+) (\d+)\r*$", text, re.M))
    if run.returncode or not words:
        raise Failure(f"{what}: QEMU ended with {run.returncode}\n{text[-1500:]}{run.stderr.decode(errors='replace')}")
    return {name: int(value) for name, value in words.items()}


def under(options, hypervisor, kernel, arguments, what, ramdisk=None):
    """Runs `kernel` as dom0 of `hypervisor`."""
    load = ["-device", f"guest-loader,addr={KERNEL_AT:#x},kernel={escaped(kernel)},bootargs={escaped(arguments)}"]
    if ramdisk:
        address = KERNEL_AT + 128 * MIB
        load += ["-device", f"guest-loader,addr={address:#x},initrd={escaped(ramdisk)}"]
    words = f"dom0_mem={DOM0_MIB}M console=dtuart dtuart=/pl011@9000000"
    return qemu(options, ["-kernel", str(hypervisor), "-append", words, *load], what)


def measure(options, work):
    """All numbers, by hypervisor."""
    programs = options.programs or build()
    image = flatten(programs / "guest-tests")
    (work / "test").write_bytes(image)
    hypervisors = {"vambrace": options.hypervisor, "xen": options.xen}
    numbers = {name: {"image": path.stat().st_size} for name, path in hypervisors.items()}
    numbers["bare"] = {}

    for name, path in hypervisors.items():
        words = under(options, path, work / "test", f"bench uart={UART:#x}", f"round trips under {name}")
        for key, _, _ in ROUND_TRIPS:
            numbers[name][key] = words.get(f"BENCH {key}")
            # A hypervisor need not give dom0 a virtual PL011; all else must have been counted.
            if numbers[name][key] is None and key != "vpl011_read":
                raise Failure(f"round trips under {name}: no count of {key}")

    kernel = options.kernel.read_bytes()
    (work / "padded").write_bytes(padded(image, kernel))
    (work / "initramfs").write_bytes(
        initramfs(options.busybox.read_bytes(), (programs / "stamp").read_bytes())
    )
    zero = qemu(options, ["-kernel", str(work / "test"), "-append", f"uart={UART:#x}"], "bare entry")["STAMP bare"]
    shell = "console=hvc0 quiet panic=-1"
    for name, path in hypervisors.items():
        words = under(options, path, work / "padded", "stamp", f"dom0 entry under {name}", work / "initramfs")
        numbers[name]["entry"] = words["STAMP dom0"] - zero
        words_shell = under(options, path, options.kernel, shell, f"dom0 shell under {name}", work / "initramfs")
        numbers[name]["shell"] = words["STAMP offset"] + words_shell["STAMP shell"] - zero
    bare = ["-kernel", str(options.kernel), "-initrd", str(work / "initramfs")]
    words = qemu(options, [*bare, "-append", "console=ttyAMA0 quiet panic=-1"], "bare kernel")
    numbers["bare"]["shell"] = words["STAMP shell"] - zero
    return numbers


def judge(numbers):
    """Rows (what, ours, limit, Xen's, ours in the unit of the row), and whether all limits hold."""
    ours, xen = numbers["vambrace"], numbers["xen"]
    rows = []
    for key, what, limit in ROUND_TRIPS:
        rows.append((what + ", instructions", ours[key], limit, xen[key]))
    rows.append(("image, bytes", ours["image"], xen["image"] // 2, xen["image"]))
    rows.append(("entry of the hypervisor to entry of dom0, ns", ours["entry"], int(xen["entry"] * ENTRY_SHARE), xen["entry"]))
    bare = numbers["bare"]["shell"]
    rows.append(("dom0 shell, ns", ours["shell"], int(bare * SHELL_FACTOR), xen["shell"]))
    rows.append(("bare kernel's shell, ns", bare, None, None))
    # Where the hypervisor gives dom0 no virtual PL011 there is nothing to limit.
    missed = [row for row in rows if row[1] is not None and row[2] is not None and row[1] > row[2]]
    return rows, missed


def show(rows, missed):
    """The table."""
    number = lambda value: "-" if value is None else f"{value:,}"
    width = max(len(row[0]) for row in rows)
    print(f"{'what':{width}}  {'Vambrace':>13}  {'limit':>13}  {'Xen':>13}")
    for row in rows:
        mark = "  MISSED" if row in missed else ""
        print(f"{row[0]:{width}}  {number(row[1]):>13}  {number(row[2]):>13}  {number(row[3]):>13}{mark}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hypervisor", type=Path, required=True, help="our hypervisor's flat image for QEMU's virt board")
    parser.add_argument("--xen", type=Path, required=True, help="stock Xen (Debian: xen-hypervisor-4.20-arm64, /boot/xen-*)")
    parser.add_argument("--kernel", type=Path, required=True, help="an arm64 Linux Image (Debian: linux-image-arm64, /boot/vmlinuz-*)")
    parser.add_argument("--busybox", type=Path, required=True, help="a static arm64 busybox (Debian: busybox-static)")
    parser.add_argument("--programs", type=Path, help="folder with guest-tests and stamp, else they are compiled")
    parser.add_argument("--gic", choices=["2", "3"], default="2", help="version of the interrupt controller")
    parser.add_argument("--qemu", default="qemu-system-aarch64", help="the emulator")
    parser.add_argument("--timeout", type=int, default=600, help="seconds for one run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file too, as JSON")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="vambrace-bench-") as work:
            numbers = measure(options, Path(work))
    except (Failure, OSError, KeyError, struct.error) as failure:
        print(f"bench: {failure!s}", file=sys.stderr)
        return 2
    rows, missed = judge(numbers)
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")
    show(rows, missed)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
