/* AppliedMicro's X-Gene Mustang as far as a hypervisor and Linux need it to boot: eight CPUs, GICv2, UART, SATA.
 *
 * Addresses, interrupts and what the registers mean are those of Linux's device tree apm-mustang.dtb and of its drivers
 * phy-xgene, ahci_xgene and clk-xgene; memory is where Debian's flash-kernel has U-Boot load to, and the interrupt
 * controller where the board's newer firmware shows it, with its pages repeated. What stands in for the firmware are some instructions in ROM that hold CPUs 1 to 7 until their address
 * is at the place that the device tree names.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#include "board.h"

#define DRAM            0x4000000000ULL
#define DRAM_LIMIT      (32ULL * GiB)
/* The first 2 GiB are here too. */
#define DRAM_LOW        0x100000000ULL
#define DRAM_LOW_LIMIT  (2ULL * GiB)
#define RELEASE         0x10000fff8ULL  /* cpu-release-addr */
#define ROM             0x1d000000
#define UART            0x1c020000
#define UART_SPI        0x4c
#define UART_HZ         10000000
/* The two SATA controllers in use, 2 and 3. */
#define SATA2           0x1a400000
#define SATA2_SPI       0x87
#define SATA3           0x1a800000
#define SATA3_SPI       0x88
#define VIRTIO          0x1e000000
#define VIRTIO_SPI      0xd0

/* Two CPUs to a module, four modules. */
static uint64_t mpidr(int cpu)
{
    return (uint64_t)(cpu >> 1) << 8 | (cpu & 1);
}

static const Cluster cluster = {
    .cpu_type = "cortex-a57-arm-cpu",
    .midr = 0x500f0000,         /* APM X-Gene 1 */
    .reset_address = ROM,
    .counter_hz = 50000000,
    .mpidr = mpidr,
    .gicd = 0x78090000, .gicc = 0x780a0000, .gich = 0x780c0000, .gicv = 0x780e0000,
    .pages_repeat = true,
    .spis = 256,
    .ppi_secure = 0, .ppi_physical = 13, .ppi_virtual = 14, .ppi_hypervisor = 15, .ppi_maintenance = 9,
};

/* Waits for an address that is not 0 at RELEASE, and goes there. */
static const uint32_t waiting[] = {
    0x580000c1,                 /*    ldr  x1, the last two words */
    0xd503205f,                 /* 1: wfe */
    0xf9400022,                 /*    ldr  x2, [x1] */
    0xb4ffffc2,                 /*    cbz  x2, 1b */
    0xd61f0040,                 /*    br   x2 */
    0xd503201f,                 /*    nop */
    (uint32_t)RELEASE, RELEASE >> 32,
};

static void leave_alone(ARMCPU *cpu, const struct arm_boot_info *info)
{
    /* CPUs 1 to 7 begin in the ROM; there is nothing to be written to memory for them, and nothing to be set. */
}

/* System clocks and reset. */
static void clocks_wrote(Registers *registers, hwaddr offset, uint32_t value)
{
    if (offset == 0x14 && (value & 1)) {
        qemu_system_reset_request(SHUTDOWN_CAUSE_GUEST_RESET);
    }
}

/* The mailbox that switches the board off. */
static void mailbox_wrote(Registers *registers, hwaddr offset, uint32_t value)
{
    if (offset == 0x10 && (value & 1)) {
        qemu_system_shutdown_request(SHUTDOWN_CAUSE_GUEST_SHUTDOWN);
    }
}

/* The serial PHY: its inner registers are reached by a command with their number, and answer at once. */
enum { PHY_COMMAND = 0x3c, PHY_READ = 0x40, PHY_WRITE = 0x44 };
enum { PHY_DO_WRITE = 1, PHY_DO_READ = 2, PHY_DONE = 4 };
/* The PLL's status: calibrated, and no failure. */
enum { PHY_PLL = 0x0000, PHY_PLL_STATUS = PHY_PLL + 0x0e, PHY_PLL_CALIBRATED = 1 << 14 };
/* Beyond the registers proper. */
#define PHY_INNER(number) (0x10000 + 4 * (number))

static uint32_t phy_read(Registers *registers, hwaddr offset, uint32_t kept)
{
    return offset == PHY_COMMAND ? kept | PHY_DONE : kept;
}

static void phy_wrote(Registers *registers, hwaddr offset, uint32_t value)
{
    if (offset != PHY_COMMAND) {
        return;
    }
    uint32_t number = value >> 4 & 0x3ffff;
    if (value & PHY_DO_WRITE) {
        board_set_register(registers, PHY_INNER(number), board_register(registers, PHY_WRITE));
    } else if (value & PHY_DO_READ) {
        uint32_t inner = board_register(registers, PHY_INNER(number));
        board_set_register(registers, PHY_READ, number == PHY_PLL_STATUS ? PHY_PLL_CALIBRATED : inner);
    }
}

/* The SATA controller's memory is ready at once. */
static uint32_t diagnostics_read(Registers *registers, hwaddr offset, uint32_t kept)
{
    return offset == 0x74 ? UINT32_MAX : kept;
}

static Registers registers[] = {
    { .name = "xgene.clocks", .base = 0x17000000, .size = 0x2000, .wrote = clocks_wrote },
    { .name = "xgene.mailbox", .base = 0x10548000, .size = 0x1000, .wrote = mailbox_wrote },
    { .name = "xgene.sata2-core", .base = 0x1f220000, .size = 0x1000 },
    { .name = "xgene.sata2-mux", .base = 0x1f227000, .size = 0x1000 },
    { .name = "xgene.sata2-phy", .base = 0x1f22a000, .size = 0x100, .read = phy_read, .wrote = phy_wrote },
    { .name = "xgene.sata2-clock", .base = 0x1f22c000, .size = 0x1000 },
    { .name = "xgene.sata2-diagnostics", .base = 0x1f22d000, .size = 0x1000, .read = diagnostics_read },
    { .name = "xgene.sata2-axi", .base = 0x1f22e000, .size = 0x1000 },
    { .name = "xgene.sata3-core", .base = 0x1f230000, .size = 0x1000 },
    { .name = "xgene.sata3-phy", .base = 0x1f23a000, .size = 0x100, .read = phy_read, .wrote = phy_wrote },
    { .name = "xgene.sata3-clock", .base = 0x1f23c000, .size = 0x1000 },
    { .name = "xgene.sata3-diagnostics", .base = 0x1f23d000, .size = 0x1000, .read = diagnostics_read },
    { .name = "xgene.sata3-axi", .base = 0x1f23e000, .size = 0x1000 },
};

/* What the board has besides, whose drivers would wait for it or fall over it. */
static const char *const absent[] = {
    "apm,xgene-enet", "apm,xgene1-sgenet", "apm,xgene1-xgenet", "apm,xgene-mdio-rgmii", "apm,xgene-storm-dma",
    "apm,xgene-rng", "apm,xgene-rtc", "apm,xgene-edac", "apm,xgene-pmu-v2", "apm,xgene-slimpro-mbox",
    "apm,xgene-slimpro-i2c", "apm,xgene-slimpro-hwmon", "apm,xgene-pcie", "apm,xgene1-msi", "arasan,sdhci-4.9a",
    "apm,xgene-gpio", "apm,xgene-gpio-sb", "snps,dw-apb-gpio", NULL,
};

static void modify_tree(const struct arm_boot_info *info, void *tree)
{
    board_disable(tree, absent);
    board_virtio_nodes(tree, VIRTIO, VIRTIO_SPI);
}

static struct arm_boot_info boot = {
    .loader_start = DRAM,
    .board_id = -1,
    .psci_conduit = 0,
    .write_secondary_boot = leave_alone,
    .secondary_cpu_reset_hook = leave_alone,
    .modify_dtb = modify_tree,
};

static void mustang_init(MachineState *machine)
{
    static const uint32_t none[2];

    if (machine->ram_size > DRAM_LIMIT) {
        error_report("the board takes at most 32 GiB of memory");
        exit(1);
    }
    memory_region_add_subregion(get_system_memory(), DRAM, machine->ram);
    MemoryRegion *low = g_new0(MemoryRegion, 1);
    memory_region_init_alias(low, NULL, "xgene.dram-low", machine->ram, 0, MIN(machine->ram_size, DRAM_LOW_LIMIT));
    memory_region_add_subregion(get_system_memory(), DRAM_LOW, low);
    DeviceState *gic = board_cluster(machine, &cluster);
    board_rom("xgene.rom", ROM, 4 * KiB, waiting, ARRAY_SIZE(waiting));
    /* Nobody has been released when the board comes out of reset. */
    rom_add_blob_fixed("xgene.release", none, sizeof(none), RELEASE);
    for (size_t block = 0; block < ARRAY_SIZE(registers); block++) {
        board_registers(&registers[block]);
    }
    serial_mm_init(get_system_memory(), UART, 2, board_spi(gic, UART_SPI), UART_HZ / 16, serial_hd(0),
                   DEVICE_LITTLE_ENDIAN);
    board_ahci(SATA2, 2, board_spi(gic, SATA2_SPI));
    board_ahci(SATA3, 2, board_spi(gic, SATA3_SPI));
    board_virtio(gic, VIRTIO, VIRTIO_SPI);
    board_nothing("xgene.peripherals", 0x10000000, 0x10000000);
    /* Error detection, counters, MSI, memory and system controllers. */
    board_nothing("xgene.system", 0x78800000, 0x07800000);
    board_nothing("xgene.pcie", 0xe0d0000000ULL, 0x40000);

    boot.ram_size = machine->ram_size;
    arm_load_kernel((ARMCPU *)qemu_get_cpu(0), machine, &boot);
}

static void mustang_class(MachineClass *class)
{
    board_class(class, "AppliedMicro X-Gene Mustang (a model of Vambrace's)", cluster.cpu_type, 8, 4 * GiB);
    class->init = mustang_init;
}

DEFINE_MACHINE("xgene-mustang", mustang_class)
