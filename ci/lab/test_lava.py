"""The test that `ci/lab/lava` starts."""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

import jinja2
import yaml

from hardware import Board, Shelf, command_of

SOURCES = pathlib.Path(__file__).resolve().parent.parent.parent
BOARD = "qemu-arm64"
CARD = 2 << 30
# Characters that LAVA searches (`searchwindowsize` of its shell).
WINDOW = 4000
# Boards of all kinds, of which two are booted; one of these ends in a kernel panic, since it has no such init.
PLAN = f"""
title = "Jobs"

[[boot]]
name = "passes"
board = "{BOARD}"

[[boot]]
name = "panics"
board = "{BOARD}"
dom0-args = "rdinit=/no-such-init"

[[boot]]
name = "fails"
board = "{BOARD}"
scenario = "wrong"

[[boot]]
board = ["cubietruck", "pine64-plus", "nanopi-neo2", "arndale", "xgene-mustang", "midway", "qemu-armv7"]
hypervisor = "vambrace"

[[boot]]
name = "xen"
board = "{BOARD}:gicv3"
method = "uefi"
hypervisor = "xen"
cpus = 8

# What dom0's self-test says where something is wrong, by somebody else's mouth: the quotes are not shown.
[[scenario.wrong.stages]]
name = "a verdict"
type = 'echo "vambrace-"selftest: clock ok it ticks; echo "vambrace-"selftest: memory fail too little of it'
see = "nothing that is ever said"
"""

failed = 0


def check(name, good, said=""):
    """Counts a case, and shows what was said where it failed."""
    global failed
    print(f"{'ok     ' if good else 'FAILED '} {name}", flush=True)
    if not good:
        failed += 1
        for line in str(said).splitlines():
            print(f"        | {line}", flush=True)


class Lava:
    """LAVA as Debian has it, below a folder."""

    def __init__(self, root, types):
        machine = platform.machine()
        libraries = root / f"usr/lib/{machine}-linux-gnu"
        [loader] = libraries.glob("ld-linux-*.so.*")
        [python] = root.glob("usr/bin/python3.[0-9]*[0-9]")
        self.start = [str(loader), "--library-path", str(libraries), str(python)]
        self.root, self.types = root, types
        self.environment = {**os.environ, "PYTHONHOME": str(root / "usr"), "PYTHONNOUSERSITE": "1"}
        self.environment["PYTHONPATH"] = str(root / "usr/lib/python3/dist-packages")

    def run(self, program, *words, **more):
        return subprocess.run(
            [*self.start, str(self.root / program), *map(str, words)],
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )

    def schema(self, *words):
        """Whether the schema takes it, and what is said."""
        done = self.run("usr/share/lava-common/lava-schema.py", *words)
        return done.returncode == 0, done.stdout


class Test:
    def __init__(self, args, folder):
        self.vambrace, self.folder = args.vambrace, folder
        self.lava = Lava(args.lava, args.types)
        (folder / "plan.toml").write_text(PLAN)
        self.out = folder / "lava"
        print("making the jobs", flush=True)
        self.tool("test", folder / "plan.toml", "--lava", self.out)
        line = self.tool("--quiet", "boot", BOARD, "--out", folder / "image", "--print").strip()
        [image] = (folder / "image").rglob("*.img")
        card = folder / "card"
        # A card that was never written.
        with open(card, "wb") as file:
            file.truncate(CARD)
        self.board = Board(command_of(line, str(image)), str(card))
        self.shelf = Shelf([self.board])
        self.bin = folder / "bin"
        self.bin.mkdir()
        url = self.shelf.url
        get = f'exec {sys.executable} -c "import sys, urllib.request as u; u.urlopen(sys.argv[1])"'
        self.program("usbsdmux", f'{get} "{url}/card/$1/$2"')
        self.program("relay", f'{get} "{url}/relay/$1/$2"')
        self.program("line", f'exec {sys.executable} {SOURCES}/ci/lab/line.py "$1"')
        # LAVA's own, which wants the Python that it came with.
        start = " ".join(self.lava.start)
        self.program("bmaptool", f'PYTHONHOME={self.lava.root}/usr exec {start} {self.lava.root}/usr/bin/bmaptool "$@"')

    def tool(self, *words):
        command = [self.vambrace, "--workspace", SOURCES, *words]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"lava: {words} failed: {done.stderr}")
        return done.stdout

    def program(self, name, text):
        path = self.bin / name
        path.write_text(f"#!/bin/sh\nunset PYTHONHOME PYTHONPATH\n{text}\n")
        path.chmod(0o755)

    def case_schema(self):
        """What is written is what LAVA takes, and the schema is not one that takes everything."""
        jobs = sorted((self.out / "jobs").glob("*.yaml"))
        check("each boot has a job", len(jobs) == 11, jobs)
        good, said = self.lava.schema("job", "--strict", *jobs)
        check("the jobs are as LAVA's schema wants them", good, said)
        damaged = self.folder / "damaged.yaml"
        damaged.write_text(jobs[0].read_text().replace('"wait_for_prompt"', '"wait_for_nothing"'))
        good, said = self.lava.schema("job", "--strict", damaged)
        check("a job with another word is refused", not good and "wait_for_nothing" in said, said)
        paths = ["--path", self.out / "device-types", "--path", self.lava.types]
        devices = sorted((self.out / "devices").glob("*.jinja2"))
        check("each board has a device", len(devices) == 8, devices)
        good, said = self.lava.schema("device", *paths, *devices)
        check("the devices are as LAVA's schema wants them", good, said)

    def case_tags(self):
        job = json.loads((self.out / "jobs/xen.yaml").read_text())
        wanted = ["method-uefi", "variant-gicv3", "cpus-8"]
        good = job["tags"] == wanted and job["device_type"] == f"vambrace-{BOARD}"
        check("what the plan asks for are tags", good, job)

    def case_types(self):
        own = {path.name for path in (self.out / "device-types").iterdir()}
        theirs = {path.name for path in self.lava.types.iterdir()}
        check("no device type is called as one of LAVA's own", len(own) == 8 and not own & theirs, own & theirs)
        [device] = (self.out / "devices").glob(f"vambrace-{BOARD}-*.jinja2")
        device.write_text("completed")
        self.tool("test", self.folder / "plan.toml", "--filter", "passes", "--lava", self.out)
        check("a device that was completed stays", device.read_text() == "completed")

    def case_speakers(self):
        """LAVA searches the last characters alone, wherever these begin: a guest's words are never dom0's."""
        job = json.loads((self.out / "jobs/passes.yaml").read_text())
        script = job["actions"][2]["test"]["interactive"][0]["script"]
        failures = [re.compile(one["message"], re.DOTALL) for one in script[0]["failures"]]
        seen = {line["name"]: [re.compile(one["message"], re.DOTALL) for one in line["successes"]] for line in script}
        filler = "".join(f"(d1) [    {number}.000000] something that is said\r\n" for number in range(200))
        panic = "[    3.141592] Kernel panic - not syncing: No working init found.\r\n"

        def found(text, expressions):
            windows = (text[max(0, at - WINDOW) : at] for at in range(len(text)))
            return any(one.search(window) for window in windows for one in expressions)

        guest = filler + "(d1) " + panic + filler
        check("a guest's panic is not dom0's", not found(guest, failures))
        check("dom0's is, among guests'", found(filler + panic + filler, failures))
        linux = "(d1) [    0.000000] Linux version 6.12\r\n"
        check("a guest's kernel is not dom0's", not found(filler + linux + filler, seen["dom0-kernel"]))
        for verdict, good in [("clock ok it ticks", True), ("memory fail", False), ("memory", False), ("memory o", False)]:
            text = f"\r\nvambrace-selftest: {verdict}\r\n"
            check(f"the verdict `{verdict}`", found(text + " ", failures) != good)
        done = "\r\nvambrace-selftest: done\r\n "
        check("an end without a verdict is none", not found(done, failures) and not found(done, seen["first-verdict"]))

    def device(self):
        """The device, as a lab completes the example."""
        words = {
            "connection_command": f"{self.bin}/line {self.board.port}",
            "hard_reset_command": [f"{self.bin}/relay 0 0", f"{self.bin}/relay 0 1"],
            "power_off_command": f"{self.bin}/relay 0 0",
            "power_on_command": f"{self.bin}/relay 0 1",
            "sd_mux": "0",
            "sd_card": self.board.loop.path,
        }
        text = f"{{% extends 'vambrace-{BOARD}.jinja2' %}}\n"
        text += "".join(f"{{% set {name} = {json.dumps(value)} %}}\n" for name, value in words.items())
        loader = jinja2.FileSystemLoader([self.out / "device-types", self.lava.types])
        path = self.folder / "device.yaml"
        path.write_text(jinja2.Environment(loader=loader, autoescape=False).from_string(text).render())
        return path

    def run(self, name):
        """What the dispatcher ends with, each result, and all that it says."""
        job = self.out / f"jobs/{name}.yaml"
        self.board.starts = 0
        path = f"{self.bin}:{os.environ['PATH']}:{self.lava.root}/usr/bin"
        words = ["--job-id", "1", "--output-dir", self.folder / f"job-{name}", "--device", self.device()]
        done = self.lava.run("usr/bin/lava-run", *words, job, PATH=path)
        results = {}
        for line in done.stdout.splitlines():
            try:
                said = yaml.safe_load(line)
            except yaml.YAMLError:
                continue
            if isinstance(said, dict) and said.get("lvl") == "results":
                results[said["msg"]["case"]] = said["msg"]["result"]
        stages = [line["name"] for line in json.loads(job.read_text())["actions"][2]["test"]["interactive"][0]["script"]]
        return done.returncode, results, stages, done.stdout

    def case_passes(self):
        status, results, stages, said = self.run("passes")
        check("the dispatcher runs a job to its end", status == 0, said[-6000:])
        check("all stages passed", [results.get(stage) for stage in stages] == ["pass"] * len(stages), results)
        check("the last is power-off", stages[-1] == "power-off", stages)
        check("the board was turned on once", self.board.starts == 1, self.board.starts)
        check("and is off", not self.board.is_on())

    def case_panics(self):
        status, results, stages, said = self.run("panics")
        there = results.get("dom0-kernel") == "pass" and results.get("dom0-user-space") == "fail"
        check("a kernel that panics fails where it does", status != 0 and there, results)
        check("and that is told", "the console says: Kernel panic - not syncing" in said, said[-6000:])
        check("and the board is off", not self.board.is_on())

    def case_fails(self):
        status, results, stages, said = self.run("fails")
        there = results.get("dom0-user-space") == "pass" and results.get("a-verdict") == "fail"
        check("a verdict of the self-test that is bad fails", status != 0 and there, results)
        check("and that is told", "dom0's self-test found something wrong" in said, said[-6000:])

    def close(self):
        self.shelf.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vambrace", required=True)
    parser.add_argument("--lava", required=True, type=pathlib.Path)
    parser.add_argument("--types", required=True, type=pathlib.Path)
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vambrace-lava-"))
    test = Test(args, folder)
    try:
        for name in ["schema", "tags", "types", "speakers", "passes", "panics", "fails"]:
            getattr(test, f"case_{name}")()
    finally:
        test.close()
    if failed:
        sys.exit(f"lava: {failed} cases failed; all of it is in {folder}")
    shutil.rmtree(folder)


main()
