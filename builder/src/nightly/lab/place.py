"""A place of a labgrid coordinator as a console: what `vambrace test --labgrid` starts for each boot.

    place.py places COORDINATOR
        Prints all places as JSON: name, tags, who has it.
    place.py console COORDINATOR [--env FILE] [--image FILE] --tag KEY=VALUE...
        Waits for a place with these tags, turns it off, writes the image onto its medium, turns it on, and copies
        between its serial line and standard input and output. It ends with its input, SIGTERM or SIGINT, but never
        while the medium is written: the place is turned off and given back then, whatever became of it.

On standard output, before the machine's first byte, are lines that begin with `vambrace-lab: `; the last of them is
`vambrace-lab: power on`. What goes wrong is said on standard error, with status 1.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

try:
    import grpc
    import serial
    from pexpect import TIMEOUT

    from labgrid import Environment, Target, target_factory
    from labgrid.driver import Mode
    from labgrid.exceptions import NoDriverFoundError
    from labgrid.remote.client import start_session
    from labgrid.remote.common import Reservation, ReservationState
    from labgrid.remote.generated import labgrid_coordinator_pb2 as messages
    from labgrid.resource.remote import RemotePlace, RemotePlaceManager
    from labgrid.util.yaml import dump, load
except ImportError as error:
    sys.exit(f"this Python ({sys.executable}) has no labgrid 25 or later: {error}")

# The driver of each resource that turns a board on and off, as labgrid-client chooses them.
POWER = {
    "NetworkPowerPort": "NetworkPowerDriver",
    "PDUDaemonPort": "PDUDaemonDriver",
    "NetworkUSBPowerPort": "USBPowerDriver",
    "NetworkSiSPMPowerPort": "SiSPMPowerDriver",
    "TasmotaPowerPort": "TasmotaPowerDriver",
    "NetworkYKUSHPowerPort": "YKUSHPowerDriver",
}
# The driver of each resource that moves a card between the board and the exporter's computer.
MUX = {
    "NetworkUSBSDMuxDevice": "USBSDMuxDriver",
    "NetworkUSBSDWireDevice": "USBSDWireDriver",
    "NetworkUSBSDWire3Device": "USBSDWire3Driver",
}
# The resources that are a medium to write.
STORAGE = [*MUX, "NetworkUSBMassStorage"]
# How long a board that keeps its medium stays off, in seconds.
OFF = 2


class Fault(Exception):
    """What a person is told."""


class Stopped(BaseException):
    """We are to end."""


class Signals:
    """What ends us: once, and not while a medium is written. A writer at the exporter's computer does not end with us, and
    must not write to a card that is somebody else's by then."""

    def __init__(self):
        self.asked = self.held = self.over = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.ask)

    def ask(self, *_):
        self.asked = True
        self.end()

    def end(self):
        if self.asked and not self.held and not self.over:
            self.over = True
            raise Stopped

    @contextlib.contextmanager
    def hold(self):
        self.held = True
        try:
            yield
        finally:
            self.held = False
            self.end()


class Output:
    """Standard output, on which nobody may hang any more: labgrid writes to it too, while it waits for a writer to end."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        with contextlib.suppress(BrokenPipeError):
            self.stream.write(text)

    def flush(self):
        with contextlib.suppress(BrokenPipeError):
            self.stream.flush()

    def __getattr__(self, name):
        return getattr(self.stream, name)


def say(text):
    sys.stdout.write(f"vambrace-lab: {text}\n")
    sys.stdout.flush()


def reason(error):
    if isinstance(error, grpc.aio.AioRpcError):
        return error.details()
    return " ".join(str(error).split()) or type(error).__name__


class Coordinator:
    """The coordinator, and what of it is ours."""

    def __init__(self, address, env=None):
        try:
            self.session = start_session(address, extra={"env": env})
        except Exception as error:
            raise Fault(f"no labgrid coordinator answers at {address}: {reason(error)}") from error
        self.stub, self.token, self.place = self.session.stub, None, None

    def run(self, call):
        return self.session.loop.run_until_complete(call)

    def places(self):
        return [
            {"name": place.name, "tags": dict(place.tags), "acquired": place.acquired}
            for _, place in sorted(self.session.places.items())
        ]

    def acquire(self, tags):
        """A reservation waits for the next free place, behind those who asked before."""
        filters = {"main": messages.Reservation.Filter(filter=tags)}
        answer = self.run(self.stub.CreateReservation(messages.CreateReservationRequest(filters=filters, prio=0.0)))
        self.token = answer.reservation.token
        said = False
        while True:
            answer = self.run(self.stub.PollReservation(messages.PollReservationRequest(token=self.token)))
            held = Reservation.from_pb2(answer.reservation)
            if held.state is ReservationState.allocated:
                break
            if held.state is not ReservationState.waiting:
                raise Fault(f"the reservation is {held.state.name}")
            if not said:
                say("waiting for a free place")
                said = True
            self.run(asyncio.sleep(1))
        [name] = held.allocations["main"]
        # From here on it may be ours.
        self.place = name
        self.run(self.stub.AcquirePlace(messages.AcquirePlaceRequest(placename=name)))
        self.run(self.session.sync_with_coordinator())
        say(f"place {name}")

    def release(self):
        """Gives back what we have; every step is tried."""
        faults = []
        if self.place:
            own = f"{self.session.gethostname()}/{self.session.getuser()}"
            try:
                self.run(self.stub.ReleasePlace(messages.ReleasePlaceRequest(placename=self.place, fromuser=own)))
            except Exception as error:
                faults.append(f"place {self.place} could not be given back: {reason(error)}")
        if self.token:
            try:
                self.run(self.stub.CancelReservation(messages.CancelReservationRequest(token=self.token)))
            except Exception as error:
                faults.append(f"the reservation {self.token} could not be cancelled: {reason(error)}")
        with contextlib.suppress(Exception):
            self.run(self.session.stop())
            self.run(self.session.close())
        return faults


class Board:
    """The board at a place, by the drivers that its resources take."""

    def __init__(self, coordinator, env):
        manager = RemotePlaceManager.get()
        manager.session, manager.loop = coordinator.session, coordinator.session.loop
        self.place = name = coordinator.place
        self.tags = coordinator.session.places[name].tags
        if env is None:
            self.target = Target(name)
            RemotePlace(self.target, name=name)
        else:
            self.target = env.get_target("main")
        kinds = {type(resource).__name__ for resource in self.target.resources}
        self.console = self.driver("ConsoleProtocol", kinds, {"NetworkSerialPort": "SerialDriver"}, activate=False)
        self.power = self.driver("PowerProtocol", kinds, POWER)
        if self.console is None:
            raise Fault(f"place {name} has no serial port that labgrid knows a driver for")
        if self.power is None:
            raise Fault(f"place {name} has no power port that labgrid knows a driver for")
        self.mux = next((found for cls in MUX.values() if (found := self.driver(cls, kinds, MUX, cls))), None)
        storage = dict.fromkeys(STORAGE, "USBStorageDriver")
        self.storage = self.driver("USBStorageDriver", kinds, storage)

    def driver(self, cls, kinds, table, only=None, activate=True):
        """The environment's driver, or a new one of what the place has."""
        with contextlib.suppress(NoDriverFoundError):
            return self.target.get_driver(cls, activate=activate)
        for resource, name in table.items():
            if resource in kinds and only in (None, name):
                driver = target_factory.class_from_string(name)(self.target, name=None)
                if activate:
                    self.target.activate(driver)
                return driver
        return None

    def write(self, image):
        if self.storage is None:
            if self.tags.get("medium") != "fixed":
                raise Fault(
                    f"place {self.place} has no medium that labgrid can write; "
                    "where it is to boot what it has, it needs the tag medium=fixed"
                )
            say("the place has no medium that can be written: it boots what it has")
            return
        if self.mux is not None:
            self.mux.set_mode("host")
        try:
            if not os.path.exists(f"{image}.bmap") or not self.has("bmaptool"):
                mode = Mode.DD
            else:
                mode = Mode.BMAPTOOL
            say(f"writing {os.path.basename(image)} with {mode}")
            self.storage.write_image(image, mode)
        finally:
            # Whoever has the board next finds its card in it.
            if self.mux is not None:
                self.mux.set_mode("dut")

    def has(self, program):
        """Whether the computer with the medium has the program."""
        command = self.storage.storage.wrap_command(["which", program])
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Input(threading.Thread):
    """Standard input, which goes to the serial line; its end is ours."""

    def __init__(self):
        super().__init__(daemon=True)
        self.lock, self.early, self.console = threading.Lock(), b"", None

    def run(self):
        while data := os.read(0, 4096):
            with self.lock:
                if self.console is None:
                    self.early += data
                else:
                    self.console.write(data)
        os.kill(os.getpid(), signal.SIGTERM)

    def connect(self, console):
        with self.lock:
            if self.early:
                console.write(self.early)
            self.console = console


def copy(console, place):
    """The serial line's bytes, until something ends us."""
    while True:
        try:
            data = console.read(size=1, timeout=0.2)
        except TIMEOUT:
            continue
        except (serial.SerialException, OSError) as error:
            raise Fault(f"the serial line of place {place} is gone: {reason(error)}") from error
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def environment(path, place, folder):
    """The environment of `path`, with the place that we have in the place of its own."""
    with open(path, encoding="utf-8") as file:
        data = load(file)
    try:
        target = data["targets"]["main"]
    except (KeyError, TypeError) as error:
        raise Fault(f"the environment {path} has no target `main`") from error
    target["resources"] = {"RemotePlace": {"name": place}}
    data["imports"] = [
        os.path.join(os.path.dirname(os.path.abspath(path)), name) if name.endswith(".py") else name
        for name in data.get("imports", [])
    ]
    made = os.path.join(folder, "environment.yaml")
    with open(made, "w", encoding="utf-8") as file:
        file.write(dump(data))
    return Environment(made)


def console(args):
    coordinator, board, faults, folder = None, None, [], tempfile.mkdtemp()
    step = "asking the coordinator"
    signals = Signals()
    sys.stdout = Output(sys.stdout)
    try:
        try:
            given = Input()
            given.start()
            coordinator = Coordinator(args.coordinator)
            step = "acquiring a place"
            coordinator.acquire(dict(tag.split("=", 1) for tag in args.tag))
            step = f"preparing place {coordinator.place}"
            board = Board(coordinator, args.env and environment(args.env, coordinator.place, folder))
            step = f"turning off place {coordinator.place}"
            board.power.off()
            if args.image:
                step = f"writing the medium of place {coordinator.place}"
                with signals.hold():
                    board.write(args.image)
            if not args.image or board.storage is None:
                time.sleep(OFF)
            step = f"opening the serial line of place {coordinator.place}"
            board.target.activate(board.console)
            # What the line still had of the boot before is not this one's.
            with contextlib.suppress(TIMEOUT):
                while board.console.read(size=1, timeout=0.2):
                    pass
            step = f"turning on place {coordinator.place}"
            say("power on")
            board.power.on()
            given.connect(board.console)
            copy(board.console, coordinator.place)
        except Fault as error:
            faults.append(str(error))
        except Exception as error:
            faults.append(f"{step}: {reason(error)}")
        signals.over = True
    except Stopped:
        pass
    # Nothing ends us any more before the place is given back.
    if board is not None:
        try:
            board.power.off()
        except Exception as error:
            faults.append(f"place {coordinator.place} could not be turned off: {reason(error)}")
        with contextlib.suppress(Exception):
            board.target.cleanup()
    if coordinator is not None:
        faults += coordinator.release()
    shutil.rmtree(folder, ignore_errors=True)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def places(args):
    coordinator = Coordinator(args.coordinator)
    found = coordinator.places()
    coordinator.release()
    json.dump(found, sys.stdout)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("places")
    command.set_defaults(run=places)
    command.add_argument("coordinator")
    command = commands.add_parser("console")
    command.set_defaults(run=console)
    command.add_argument("coordinator")
    command.add_argument("--env")
    command.add_argument("--image")
    command.add_argument("--tag", action="append", default=[])
    args = parser.parse_args()
    # Labgrid's own words would be taken for the console's.
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    try:
        status = args.run(args)
    except Fault as error:
        sys.exit(str(error))
    sys.exit(status)


main()
