"""Where the tests' dom0 comes from: an image that the builder has made, or Debian's packages as they are, which needs no image."""

import os
import shlex
import shutil
import subprocess

import guests
from guests import ROOT

BOARDS = {"arm64": "qemu-arm64", "armhf": "qemu-armv7"}
XEN = {"trixie": "4.20", "bookworm": "4.17"}
SPARE_GIB = 2


def spare(folder):
    """A disk for partitions and LVM, empty; QEMU's arguments."""
    path = folder / "spare.img"
    with open(path, "wb") as file:
        file.truncate(SPARE_GIB << 30)
    return ["-drive", f"if=none,id=spare,format=raw,file={path}", "-device", "virtio-blk-device,drive=spare,serial=spare"]


class Image:
    """A disk image of the profile `debian`, built by the builder, booted as `vambrace boot` boots it."""

    login = "root"
    guests_on_root = False

    def __init__(self, options):
        self.options = options

    def command(self, folder):
        """QEMU's command line."""
        options = self.options
        board = options.board or BOARDS[options.arch] + (":gicv3" if options.gic == "3" else "")
        builder = options.vambrace or ROOT / "ci/vambrace"
        words = [
            builder, "boot", board, "--profile", f"debian:{options.release}", "--hypervisor", options.hypervisor,
            "--memory", f"{options.memory}M", "--cpus", str(options.cpus), "--dom0-mem", f"{options.dom0_memory}M",
            "--dom0-cpus", str(options.dom0_cpus), "--hypervisor-args", hypervisor_words(options), "--out", str(options.out), "--print",
        ]
        if brings_guests(options):
            words += ["--config", str(guests.HERE / "image.toml")]
            words += ["--lock", f"{options.out}/{options.hypervisor}.lock"]
        if options.file:
            words += ["--hypervisor-file", str(options.file)]
        run = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        command = shlex.split(run.stdout.strip().splitlines()[-1])
        # A board model is loaded into the program by a variable before its name.
        program = next(at for at, word in enumerate(command) if "=" not in word)
        environment = ["env", *command[:program]] if program else []
        # Before the image's disk: the last one is the first that is found, and U-Boot for ARMv7 looks at no other.
        return [*environment, command[program], *spare(folder), *command[program + 1:]]


def brings_guests(options):
    """Whether the image brings guests along: of one release and architecture, for each has a root file system to install."""
    return options.dom0 == "image" and not options.board and (options.release, options.arch) == ("trixie", "arm64")


def hypervisor_words(options):
    """What the hypervisor is told beyond what the builder says."""
    words = "loglvl=all guest_loglvl=all"
    if options.hypervisor == "xen":
        # QEMU before 8.1 loses a GICv2 interrupt that is taken on one CPU and ended on another; stock Xen knows no way around it.
        words += " dom0_vcpus_pin"
    return words


class Packages:
    """A root file system of Debian's packages, unpacked and not configured, with an init of the tests' own."""

    login = None
    guests_on_root = True
    packages = [
        "xenstore-utils", "xen-utils-common", "bash", "coreutils", "util-linux", "bsdutils", "mount", "lvm2", "dmsetup", "iproute2", "kmod",
        "e2fsprogs", "openvswitch-switch", "bridge-utils", "fdisk", "iputils-ping", "sed", "grep", "mawk", "procps", "base-files",
        "findutils", "gzip", "diffutils", "hostname", "dash", "udev", "python3", "libc-bin", "debianutils", "busybox-static",
    ]
    modules = [
        "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "crc32c_generic", "ext4", "9pnet_virtio", "9p", "xen_privcmd", "xen_evtchn",
        "xen_gntdev", "xen_gntalloc", "xenfs", "xen_blkback", "xen_netback", "loop", "bridge", "openvswitch", "dm_mod", "nbd", "tun",
    ]
    emulator = {
        "arm64": ["qemu-system-aarch64", "-cpu", "cortex-a57"],
        "armhf": ["qemu-system-arm", "-cpu", "cortex-a15"],
    }

    def __init__(self, options):
        self.options = options

    def tree(self):
        """The packages' folder."""
        options = self.options
        return guests.unpacked(
            options.release, options.arch, "base-passwd", f"xen-utils-{XEN[options.release]}", guests.KERNELS[options.arch], *self.packages
        )

    def hypervisor(self):
        """The hypervisor's flat image."""
        options = self.options
        if options.file:
            return options.file
        if options.hypervisor == "xen":
            version = XEN[options.release]
            package = guests.unpacked(options.release, options.arch, f"xen-hypervisor-{version}-{options.arch}")
            return next((package / "boot").glob(f"xen-{version}-{options.arch}"))
        raise LookupError("--dom0 packages --hypervisor vambrace needs --hypervisor-file: the flat image")

    def root(self, tree, folder):
        """The root file system, its first lines of life included; its image."""
        options = self.options
        root = folder / "root"
        # What a run left that did not get far.
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", tree, root], check=True)
        modules = guests.Modules(tree)
        for path in ("usr/lib/modules", "usr/share/doc", "usr/share/locale", "usr/share/man", "boot", "usr/lib/linux-image-" + modules.version):
            shutil.rmtree(root / path, ignore_errors=True)
        for number, (name, data) in enumerate(modules.closure(self.modules)):
            target = root / "modules" / f"{number:03}-{name}.ko"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(data)
        for name in ("passwd", "group"):
            shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
        # What the packages' scripts would have done.
        links = {
            "usr/bin/awk": "mawk", "usr/bin/which": "which.debianutils", "etc/mtab": "/proc/self/mounts", "var/run": "/run", "var/lock": "/run/lock",
            "usr/sbin/ovs-vswitchd": "/usr/lib/openvswitch-switch/ovs-vswitchd",
        }
        version = XEN[options.release]
        if options.hypervisor == "vambrace" and version != "4.20":
            # Debian's xl is a script that runs the toolstack of the version that the hypervisor says it has.
            links["usr/lib/xen-4.20"] = f"xen-{version}"
        for path, target in links.items():
            if (root / path).is_dir() and not (root / path).is_symlink():
                shutil.rmtree(root / path)
            if not os.path.lexists(root / path):
                (root / path).symlink_to(target)
        for path in ("t", "mnt", "guests", "var/log/xen/console", "var/lib/xen/dump"):
            (root / path).mkdir(parents=True, exist_ok=True)
        (root / "etc/hostname").write_text("dom0\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost dom0\n")
        (root / "etc/fstab").write_text("")
        shutil.copy(guests.HERE / "dom0-init", root / "dom0-init")
        guests.make(options.release, options.arch, root / "guests")
        image = folder / "root.img"
        with open(image, "wb") as file:
            file.truncate(3 << 30)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "dom0", "-O", "^has_journal", "-d", root, image], check=True, env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
        shutil.rmtree(root)
        return image

    def command(self, folder):
        """QEMU's command line; the root file system is made first."""
        options = self.options
        tree = self.tree()
        image = self.root(tree, folder)
        busybox = next(path for path in (tree / "usr/bin/busybox", tree / "bin/busybox") if path.exists()).read_bytes()
        first = guests.Modules(tree).closure(["virtio_mmio", "virtio_blk", "crc32c_generic", "ext4"])
        (folder / "ramdisk").write_bytes(guests.ramdisk(busybox, first, (guests.HERE / "dom0-ramdisk-init").read_bytes()))
        kernel = next((tree / "boot").glob("vmlinuz-*"))
        words = (
            f"dom0_mem={options.dom0_memory}M,max:{options.dom0_memory}M dom0_max_vcpus={options.dom0_cpus} console=dtuart "
            f"dtuart=/pl011@9000000 {hypervisor_words(options)}"
        )
        machine = f"virt,virtualization=on,gic-version={options.gic}"
        return [
            *self.emulator[options.arch], "-M", machine, "-smp", str(options.cpus), "-m", str(options.memory),
            "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(self.hypervisor()), "-append", words,
            "-device", f"guest-loader,addr=0x50000000,kernel={kernel},bootargs=console=hvc0",
            "-device", f"guest-loader,addr=0x58000000,initrd={folder / 'ramdisk'}",
            "-drive", f"if=none,id=root,format=raw,file={image}", "-device", "virtio-blk-device,drive=root,serial=root",
            "-nic", "none", "-device", "virtio-rng-device", *spare(folder),
        ]
