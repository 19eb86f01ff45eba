"""The test that `ci/lab/labgrid` starts."""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import asyncssh
import yaml

from hardware import BAUD, Board, Shelf, command_of

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = HERE.parent.parent
PROGRAM = SOURCES / "builder/src/nightly/lab/place.py"
CARD = 2 << 30
# Each place, as `vambrace test --labgrid-config` names it, and its board.
PLACES = {"qemu-arm64-uboot-gicv2": "qemu-arm64", "qemu-arm64-uboot-gicv3": "qemu-arm64:gicv3"}
# Long enough for a machine that shares its CPUs; nothing waits that long unless something is wrong.
PATIENCE = 120
# In which a board that is silent is found to be so.
SHORT = 20

failed = 0


def check(name, good, said=""):
    """Counts a case, and shows what was said where it failed."""
    global failed
    print(f"{'ok     ' if good else 'FAILED '} {name}", flush=True)
    if not good:
        failed += 1
        for line in str(said).splitlines():
            print(f"        | {line}", flush=True)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not happen within {PATIENCE} seconds")
        time.sleep(0.2)


class Computer:
    """The exporter's computer: labgrid reaches it by ssh, and finds the multiplexer's program there."""

    def __init__(self, folder, shelf_url):
        self.bin = folder / "bin"
        self.bin.mkdir()
        key, host_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        key.write_private_key(folder / "key")
        os.chmod(folder / "key", 0o600)
        (folder / "authorized").write_bytes(key.export_public_key())
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(
            asyncssh.listen(
                "127.0.0.1",
                0,
                server_host_keys=[host_key],
                authorized_client_keys=str(folder / "authorized"),
                process_factory=self.serve,
                encoding=None,
            )
        )
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        port = self.server.get_port()
        known = host_key.export_public_key().decode()
        (folder / "known").write_text(f"[127.0.0.1]:{port} {known}")
        (folder / "ssh_config").write_text(
            f"Host *\n  Port {port}\n  IdentityFile {folder}/key\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {folder}/known\n"
        )
        self.program("ssh", f'exec {shutil.which("ssh")} -F {folder}/ssh_config "$@"')
        tool = f"import sys, urllib.request as u; u.urlopen('{shelf_url}/card/' + sys.argv[1] + '/' + sys.argv[2])"
        self.program("usbsdmux", f'exec {sys.executable} -c "{tool}" "$@"')
        self.program("labgrid-client", f'exec {sys.executable} -m labgrid.remote.client "$@"')
        self.environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}

    def program(self, name, text):
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    async def serve(self, process):
        """A command, as sshd runs it."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        child = await asyncio.create_subprocess_shell(process.command, env=self.environment, **pipes)

        async def feed():
            while data := await process.stdin.read(4096):
                child.stdin.write(data)
            child.stdin.close()

        async def tell(source, to):
            while data := await source.read(4096):
                to.write(data)

        feeding = asyncio.ensure_future(feed())
        await asyncio.gather(tell(child.stdout, process.stdout), tell(child.stderr, process.stderr))
        process.exit(await child.wait())
        feeding.cancel()

    def close(self):
        self.loop.call_soon_threadsafe(self.server.close)


class Lab:
    """A coordinator and an exporter, on loopback."""

    def __init__(self, folder, computer, shelf):
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = {**computer.environment, "LG_COORDINATOR": self.address}
        self.folder, self.children = folder, []
        self.start("coordinator", "-l", self.address)
        until("the coordinator's answer", lambda: self.client("places").returncode == 0)
        exported = {}
        for number, (place, board) in enumerate(zip(PLACES, shelf.boards)):
            exported[place] = {
                "NetworkSerialPort": {
                    "host": "127.0.0.1",
                    "port": board.port,
                    "speed": BAUD,
                    "protocol": "raw",
                },
                "NetworkPowerPort": {
                    "model": "simplerest",
                    "host": shelf.url + "/relay/{index}/{value}",
                    "index": number,
                },
                # The exporter finds a real one by udev; what it would say of it is this.
                "NetworkUSBSDMuxDevice": {
                    "host": "127.0.0.1",
                    "busnum": 0,
                    "devnum": 0,
                    "path": board.loop.path,
                    "vendor_id": 0,
                    "model_id": 0,
                    "control_path": str(number),
                },
            }
        (folder / "exporter.yaml").write_text(yaml.safe_dump(exported))
        self.start("exporter", "-c", self.address, "-n", "shelf", "--hostname", "127.0.0.1", "exporter.yaml")
        until("the exporter's", lambda: self.client("resources").stdout.count(b"NetworkUSBSDMuxDevice") == len(PLACES))

    def start(self, what, *args):
        with open(self.folder / f"{what}.log", "wb") as log:
            self.children.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", f"labgrid.remote.{what}", *args],
                    cwd=self.folder,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def client(self, *args):
        words = [sys.executable, "-m", "labgrid.remote.client", *args]
        return subprocess.run(words, env=self.environment, capture_output=True, check=False)

    def places(self):
        done = subprocess.run(
            [sys.executable, PROGRAM, "places", self.address], env=self.environment, capture_output=True, check=True
        )
        return json.loads(done.stdout)

    def is_free(self):
        reservations = self.client("reservations").stdout
        return all(place["acquired"] is None for place in self.places()) and not reservations.strip()

    def close(self):
        for child in reversed(self.children):
            child.terminate()
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


class Test:
    def __init__(self, args, folder):
        self.vambrace, self.folder = args.vambrace, folder
        self.plan = folder / "plan.toml"
        self.plan.write_text(
            '[[boot]]\nname = "gicv2"\nboard = "qemu-arm64"\n\n[[boot]]\nname = "gicv3"\nboard = "qemu-arm64:gicv3"\n\n'
            '[[boot]]\nname = "eight"\nkinds = ["none"]\nboard = "qemu-arm64"\ncpus = 8\n'
        )
        print("making the boards", flush=True)
        boards = []
        for number, board in enumerate(PLACES.values()):
            image = self.folder / f"image-{number}"
            line = self.tool("--quiet", "boot", board, "--out", image, "--print").strip()
            [image] = image.rglob("*.img")
            card = self.folder / f"card-{number}"
            # A card that was never written.
            with open(card, "wb") as file:
                file.truncate(CARD)
            boards.append(Board(command_of(line, str(image)), str(card)))
        self.shelf = Shelf(boards)
        self.computer = Computer(folder, self.shelf.url)
        self.lab = Lab(folder, self.computer, self.shelf)

    def tool(self, *words):
        command = [self.vambrace, "--workspace", SOURCES, *words]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"labgrid: {words} failed: {done.stderr}")
        return done.stdout

    def command(self, *words, python=sys.executable):
        out = ["--out", self.folder / "nights", "--labgrid-python", python]
        return [str(word) for word in [self.vambrace, "--workspace", SOURCES, "test", self.plan, *out, *words]]

    def run(self, *words):
        """What a run of the plan ends with, what it says, and each boot's result."""
        report = self.folder / "nights/report.json"
        report.unlink(missing_ok=True)
        command = self.command("--labgrid", self.lab.address, *words)
        done = subprocess.run(
            command, env=self.lab.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        night = json.loads(report.read_text()) if report.exists() else {"outcomes": []}
        return done.returncode, done.stdout, {one["name"]: one for one in night["outcomes"]}

    def given_back(self, name):
        on = [board.is_on() for board in self.shelf.boards]
        check(f"{name}: the boards are off, and the places are free", self.lab.is_free() and not any(on), self.lab.places())

    def case_config(self):
        """Makes the places, as its user would."""
        folder = self.folder / "config"
        self.tool("test", self.plan, "--labgrid-config", folder, "--filter", "gic*")
        done = subprocess.run(["sh", folder / "places.sh"], env=self.lab.environment, capture_output=True, check=False)
        found = {place["name"]: place["tags"] for place in self.lab.places()}
        check("the places of --labgrid-config are made", done.returncode == 0 and list(found) == list(PLACES), done)
        check("they have the boards' tags", all(tags["board"] == "qemu-arm64" for tags in found.values()), found)
        exporter = yaml.safe_load((folder / "exporter.yaml").read_text())
        speeds = {place: group["USBSerialPort"]["speed"] for place, group in exporter.items()}
        check("its exporter has them with their speed", speeds == dict.fromkeys(PLACES, 115200), exporter)

    def case_passes(self):
        status, said, seen = self.run("--filter", "gic*", "--labgrid-env", self.folder / "config")
        check("the plan passes on both boards", status == 0 and len(seen) == 2, said)
        for name, one in seen.items():
            last = one["attempts"][-1]
            stages = [reached["stage"] for reached in last["reached"]]
            check(f"{name}: all stages were seen", stages == one["stages"] and stages[-1] == "power-off", one)
            check(f"{name}: the self-test has verdicts", len(last["self_test"]) > 0, one)
            log = (self.folder / "nights" / last["console"]).read_text(errors="replace")
            check(f"{name}: its card was written", "writing" in log.partition("vambrace-lab: power on")[0], log[:2000])
        starts = [board.starts for board in self.shelf.boards]
        check("each board was turned on once", starts == [1, 1], starts)
        self.given_back("passed")

    def fails(self, name, words, *more):
        status, said, seen = self.run("--filter", "gicv2", "--timeout", SHORT, *more)
        fault = seen["gicv2"]["attempts"][-1]["fault"] if "gicv2" in seen else None
        what = fault["what"] if fault else said
        check(name, status == 1 and all(word in what for word in words), said)
        self.given_back(name)
        return seen

    def case_silent(self):
        board = self.shelf.boards[0]
        board.dead = True
        self.fails("a board that stays off is told", ["the stage `firmware` was not reached within 20 seconds"])
        board.dead = False

    def case_speed(self):
        board = self.shelf.boards[0]
        board.baud = 9600
        seen = self.fails("a line of another speed is told", ["the stage `firmware` was not reached within 20 seconds"])
        log = (self.folder / "nights" / seen["gicv2"]["attempts"][-1]["console"]).read_bytes()
        noise = log.partition(b"power on\n")[2]
        check("its console has the noise", len(noise) > 100 and b"U-Boot" not in noise, noise[:200])
        board.baud = BAUD

    def case_relay(self):
        board = self.shelf.boards[0]
        board.stuck = True
        status, said, seen = self.run("--filter", "gicv2")
        what = seen["gicv2"]["attempts"][-1]["fault"]["what"]
        good = "turning off place qemu-arm64-uboot-gicv2" in what and "500" in what
        check("a relay that does not answer is told", status == 1 and good, said)
        board.stuck = False
        self.given_back("a relay that does not answer")

    def case_absent(self):
        status, said, seen = self.run("--filter", "eight")
        why = "has the tags board=qemu-arm64 method=uboot variant=gicv2 cpus=8"
        check("a boot that no place can make is absent", why in json.dumps(seen["eight"]["verdict"]), said)

    def case_nobody(self):
        command = self.command("--filter", "gicv2", "--labgrid", f"127.0.0.1:{free_port()}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        check("a coordinator that is not there is told", done.returncode == 1 and "cannot use the lab" in done.stderr, done)
        # The virtual environment's own, without its packages.
        python = pathlib.Path(sys.executable).resolve()
        command = self.command("--filter", "gicv2", "--labgrid", self.lab.address, python=python)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        good = done.returncode == 1 and "has no labgrid" in done.stderr
        check("a Python without labgrid is told", good, done)

    def case_killed(self):
        """The builder is killed while a board is on."""
        board = self.shelf.boards[0]
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            child = subprocess.Popen(
                self.command("--filter", "gicv2", "--labgrid", self.lab.address),
                env=self.lab.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                until("the board's power", board.is_on)
            finally:
                child.send_signal(number)
                child.wait()
            with contextlib.suppress(RuntimeError):
                until("the giving back", lambda: not board.is_on() and self.lab.is_free())
            self.given_back(f"killed by {number.name}")

    def case_writing(self):
        """The builder is broken off while the card is written, by somebody who does not hear of it."""
        began, ended = self.folder / "writing-began", self.folder / "writing-ended"
        real = shutil.which("bmaptool", path=os.environ["PATH"])
        self.computer.program("bmaptool", f'touch {began}; sleep 5; {real} "$@"; touch {ended}')
        board = self.shelf.boards[0]
        starts = board.starts
        for number in (signal.SIGKILL, signal.SIGTERM):
            began.unlink(missing_ok=True)
            ended.unlink(missing_ok=True)
            child = subprocess.Popen(
                self.command("--filter", "gicv2", "--labgrid", self.lab.address),
                env=self.lab.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                until("the writing", began.exists)
                kept = not self.lab.is_free()
            finally:
                child.send_signal(number)
                child.wait()
            with contextlib.suppress(RuntimeError):
                until("the giving back", self.lab.is_free)
            check(f"{number.name} while it is written: it is written to its end first", kept and ended.exists())
            self.given_back(f"{number.name} while it is written")
            check(f"{number.name} while it is written: the board has its card", board.has_card == "dut")
        check("the board was not turned on for it", board.starts == starts, board.starts)
        (self.computer.bin / "bmaptool").unlink()

    def case_medium(self):
        """A place whose medium labgrid cannot write boots what it has only where that is meant."""
        place = next(iter(PLACES))
        self.lab.client("-p", place, "del-match", f"*/{place}/*")
        for kind in ("NetworkSerialPort", "NetworkPowerPort"):
            self.lab.client("-p", place, "add-match", f"*/{place}/{kind}")
        self.fails("a place without a medium is told", ["no medium that labgrid can write", "medium=fixed"])
        self.lab.client("-p", place, "set-tags", "medium=fixed")
        status, said, seen = self.run("--filter", "gicv2")
        check("and boots what it has where its tag says so", status == 0, said)
        self.given_back("a fixed medium")

    def close(self):
        self.lab.close()
        self.computer.close()
        self.shelf.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vambrace", required=True)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vambrace-labgrid-"))
    every = ["passes", "silent", "speed", "relay", "absent", "nobody", "killed", "writing", "medium"]
    test = Test(args, folder)
    try:
        # The others need its places.
        test.case_config()
        for name in args.cases or every:
            getattr(test, f"case_{name}")()
    finally:
        test.close()
    logs = [folder / "coordinator.log", folder / "exporter.log"]
    if failed:
        for log in logs:
            print(f"{log.name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-20:]))
        sys.exit(f"labgrid: {failed} cases failed; all of it is in {folder}")
    shutil.rmtree(folder)


main()
