/* TI's OMAP5 uEVM as far as a hypervisor and Linux need it to boot: two CPUs, GICv2, UART, SATA, and as much of clocks,
 * power domains and timers as the kernel waits for.
 *
 * Addresses, interrupts and what the registers mean are those of Linux's device tree omap5-uevm.dtb and of its drivers
 * under mach-omap2, clk/ti, ti-sysc, omap_prm and phy-ti-pipe3. The ROM's part is what the kernel's omap-headsmp.S and
 * omap-smc.S rely on: CPU 1 waits in Supervisor mode for AuxCoreBoot0 and goes to AuxCoreBoot1, and a monitor serves
 * `smc` with the service's number in r12: 0x102 continues at r0 in Hyp mode, 0x109 sets the counter's frequency.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#include "board.h"
#include "qemu/timer.h"

#define DRAM            0x80000000
/* The last 16 MiB of the board's 2 GiB are the secure world's. */
#define DRAM_BYTES      (2032 * MiB)
#define ROM             0
/* Where the CPU that boots goes, in the instructions below. */
#define ROM_FIRST       0xa4
#define ROM_SUPERVISOR  0xc0
#define UART            0x48020000
#define UART_SPI        0x4a
#define UART_HZ         48000000
#define SATA            0x4a140000
#define SATA_SPI        0x36
#define VIRTIO          0x5a000000
#define VIRTIO_SPI      0x90
#define REALTIME_HZ     6144000
#define TICKER_HZ       32768

static const Cluster cluster = {
    .cpu_type = "cortex-a15-arm-cpu",
    .counter_hz = REALTIME_HZ,
    .secure_state = true,
    .gicd = 0x48211000, .gicc = 0x48212000, .gich = 0x48214000, .gicv = 0x48216000,
    .spis = 160,
    .ppi_secure = 13, .ppi_physical = 14, .ppi_virtual = 11, .ppi_hypervisor = 10, .ppi_maintenance = 9,
};

static const uint32_t rom[] = {
    /* 0x00, reset: where CPUs come out of reset */
    0xea000035,                 /*    b    second */
    0xe320f000,                 /*    nop */
    0xe320f000,                 /*    nop */
    0xe320f000,                 /*    nop */
    0xe320f000,                 /*    nop */
    0xe320f000,                 /*    nop */
    0xe320f000,                 /*    nop */
    0xe320f000,                 /*    nop */
    /* 0x20, vectors: the monitor's vectors */
    0xeafffffe,                 /*    b    vectors */
    0xeafffffd,                 /*    b    vectors */
    0xea000039,                 /*    b    monitor */
    0xeafffffb,                 /*    b    vectors */
    0xeafffffa,                 /*    b    vectors */
    0xeafffff9,                 /*    b    vectors */
    0xeafffff8,                 /*    b    vectors */
    0xeafffff7,                 /*    b    vectors */
    /* 0x40, secure: sets up what only the Secure state can, and goes to r2 in Monitor mode */
    0xe3a00020,                 /*    mov  r0, #32 */
    0xee0c0f30,                 /*    mcr  MVBAR, r0 */
    0xee110f51,                 /*    mrc  r0, NSACR */
    0xe3800b03,                 /*    orr  r0, r0, #3072            cp10, cp11 */
    0xe3800701,                 /*    orr  r0, r0, #262144          ACTLR.SMP */
    0xee010f51,                 /*    mcr  NSACR, r0 */
    0xe3a00000,                 /*    mov  r0, #0 */
    0xee0e0f10,                 /*    mcr  CNTFRQ, r0 */
    0xe3010080,                 /*    movw r0, #4224                GICD_IGROUPR0 */
    0xe3440821,                 /*    movt r0, #18465 */
    0xe3e01000,                 /*    mvn  r1, #0 */
    0xe4801004,                 /*    str  r1, [r0], #4 */
    0xe4801004,                 /*    str  r1, [r0], #4 */
    0xe4801004,                 /*    str  r1, [r0], #4 */
    0xe4801004,                 /*    str  r1, [r0], #4 */
    0xe4801004,                 /*    str  r1, [r0], #4 */
    0xe4801004,                 /*    str  r1, [r0], #4 */
    0xe3020004,                 /*    movw r0, #8196                GICC_PMR */
    0xe3440821,                 /*    movt r0, #18465 */
    0xe5801000,                 /*    str  r1, [r0] */
    0xf1020016,                 /*    cps  #22                      Monitor mode */
    0xe3000131,                 /*    movw r0, #305                 SCR: HCE, AW, FW, NS */
    0xee010f11,                 /*    mcr  SCR, r0 */
    0xf57ff06f,                 /*    isb  sy */
    0xe12fff12,                 /*    bx   r2 */
    /* 0xa4, first: the CPU that boots, to Hyp mode and back */
    0xe1a0300e,                 /*    mov  r3, lr */
    0xe28f2000,                 /*    add  r2, pc, #0 */
    0xeaffffe3,                 /*    b    secure */
    0xe30001da,                 /*    movw r0, #474                 Hyp mode, A, I, F */
    0xe16ff000,                 /*    msr  SPSR_fsxc, r0 */
    0xe1a0e003,                 /*    mov  lr, r3 */
    0xe1b0f00e,                 /*    movs pc, lr */
    /* 0xc0, first_svc: the same to Supervisor mode in the Non-secure state */
    0xe1a0300e,                 /*    mov  r3, lr */
    0xe28f2000,                 /*    add  r2, pc, #0 */
    0xeaffffdc,                 /*    b    secure */
    0xe30001d3,                 /*    movw r0, #467                 Supervisor mode, A, I, F */
    0xe16ff000,                 /*    msr  SPSR_fsxc, r0 */
    0xe1a0e003,                 /*    mov  lr, r3 */
    0xe1b0f00e,                 /*    movs pc, lr */
    /* 0xdc, second: CPU 1, to Supervisor mode in the Non-secure state */
    0xe28f2000,                 /*    add  r2, pc, #0 */
    0xeaffffd6,                 /*    b    secure */
    0xe30001d3,                 /*    movw r0, #467                 Supervisor mode, A, I, F */
    0xe16ff000,                 /*    msr  SPSR_fsxc, r0 */
    0xe28fe000,                 /*    add  lr, pc, #0 */
    0xe1b0f00e,                 /*    movs pc, lr */
    /* 0xf4, waiting */
    0xe3011800,                 /*    movw r1, #6144                AuxCoreBoot0 */
    0xe3441828,                 /*    movt r1, #18472 */
    0xe320f002,                 /*    wfe */
    0xe5910000,                 /*    ldr  r0, [r1] */
    0xe3100020,                 /*    tst  r0, #32 */
    0x0afffffb,                 /*    beq  waiting+0x8 */
    0xe5910004,                 /*    ldr  r0, [r1, #4]             AuxCoreBoot1 */
    0xe12fff10,                 /*    bx   r0 */
    /* 0x114, monitor: spoils nothing but its own sp */
    0xe300d102,                 /*    movw sp, #258                 Hyp mode */
    0xe15c000d,                 /*    cmp  r12, sp */
    0x0a000003,                 /*    beq  monitor+0x1c */
    0xe300d109,                 /*    movw sp, #265                 frequency */
    0xe15c000d,                 /*    cmp  r12, sp */
    0x0e0e0f10,                 /*    mcreq CNTFRQ, r0 */
    0xe1b0f00e,                 /*    movs pc, lr */
    0xe300d1da,                 /*    movw sp, #474 */
    0xe16ff00d,                 /*    msr  SPSR_fsxc, sp */
    0xe1a0e000,                 /*    mov  lr, r0 */
    0xe1b0f00e,                 /*    movs pc, lr */
};

static void nothing_to_write(ARMCPU *cpu, const struct arm_boot_info *info)
{
    /* All that firmware leaves is in ROM. */
}

/* CPU 1 is as it comes out of reset, in the Secure state at ROM's first instruction. */
static void second_from_reset(ARMCPU *cpu, const struct arm_boot_info *info)
{
    cpu_reset((CPUState *)cpu);
}

/* Clock and power registers. */
enum { LOCKED = 1, IDLE_MASK = 3 << 16 };

/* A module's clock control: idle as long as it is not wanted. */
static uint32_t module_idle(uint32_t kept)
{
    return (kept & ~IDLE_MASK) | (kept & 3 ? 0 : IDLE_MASK);
}

/* DPLLs lie 64 bytes from each other, each with its status behind its mode. */
static bool is_dpll(hwaddr offset)
{
    return offset >= 0x120 && offset < 0x300;
}

static uint32_t clocks_read(Registers *registers, hwaddr offset, uint32_t kept)
{
    if (is_dpll(offset)) {
        hwaddr in_dpll = offset & 0x3f;
        return in_dpll == 0x24 || in_dpll == 0x04 ? LOCKED : kept;
    }
    return offset >= 0x300 ? module_idle(kept) : kept;
}

static uint32_t power_read(Registers *registers, hwaddr offset, uint32_t kept)
{
    if (offset >= 0x1900 && offset < 0x1a00) {
        return module_idle(kept);
    }
    if (offset >= 0x300 && offset < 0x1900) {
        switch (offset & 0xff) {
        case 0x04:              /* a domain's state is what is wanted of it */
            return board_register(registers, offset - 4) & 3;
        case 0x14:              /* resets have been done */
            return 0x1f;
        }
    }
    return kept;
}

/* The device's own reset: bit 0 warm, bit 1 cold. */
static void power_wrote(Registers *registers, hwaddr offset, uint32_t value)
{
    if (offset == 0x1c00 && (value & 3)) {
        qemu_system_reset_request(SHUTDOWN_CAUSE_GUEST_RESET);
    }
}

/* The 32 kHz counter, which its identification says is at 0x30. */
static uint32_t ticker_read(Registers *registers, hwaddr offset, uint32_t kept)
{
    switch (offset) {
    case 0x00:
        return 0x40000000;
    case 0x10:
    case 0x30:
        return muldiv64(qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL), TICKER_HZ, NANOSECONDS_PER_SECOND);
    default:
        return kept;
    }
}

/* What a 16550 does not have: OMAP's mode, module identification, and reset that is done at once. */
static uint32_t uart_read(Registers *registers, hwaddr offset, uint32_t kept)
{
    return offset == 0x58 - 0x20 ? kept | 1 : kept;
}

/* The I2C controller that the power controller is behind, as far as it takes to switch off: sends what is written, at once. */
enum { I2C_STATUS_RAW = 0x24, I2C_STATUS = 0x28, I2C_COUNT = 0x98, I2C_DATA = 0x9c, I2C_CONTROL = 0xa4, I2C_TARGET = 0xac };
enum { I2C_START = 1, I2C_ON = 1 << 15, I2C_READY = 1 << 4, I2C_DONE = 1 << 2 };
/* What has been sent since the last start condition. */
static uint8_t sent[2];
static unsigned sent_count;

static void power_controller(uint8_t control, uint8_t value)
{
    if (control == 0xa0 && !(value & 1)) {
        qemu_system_shutdown_request(SHUTDOWN_CAUSE_GUEST_SHUTDOWN);
    }
}

static void i2c_wrote(Registers *registers, hwaddr offset, uint32_t value)
{
    uint32_t status = board_register(registers, I2C_STATUS_RAW);

    switch (offset) {
    case I2C_CONTROL:
        if ((value & (I2C_ON | I2C_START)) == (I2C_ON | I2C_START)) {
            sent_count = 0;
            status |= I2C_READY;
        }
        break;
    case I2C_STATUS:
        status &= ~value;
        if (sent_count && sent_count < board_register(registers, I2C_COUNT)) {
            status |= I2C_READY;
        }
        break;
    case I2C_DATA:
        if (sent_count < ARRAY_SIZE(sent)) {
            sent[sent_count++] = value;
        }
        if (sent_count == ARRAY_SIZE(sent)) {
            status |= I2C_DONE;
            if (board_register(registers, I2C_TARGET) == 0x48) {
                power_controller(sent[0], sent[1]);
            }
        }
        break;
    default:
        return;
    }
    board_set_register(registers, I2C_STATUS_RAW, status);
}

/* The serial PHYs' bus module: its reset is done at once. */
static uint32_t phy_bus_read(Registers *registers, hwaddr offset, uint32_t kept)
{
    return offset == 0x14 ? kept | 1 : kept;
}

/* The serial PHY's PLL is locked at once. */
static uint32_t phy_read(Registers *registers, hwaddr offset, uint32_t kept)
{
    return offset == 0x804 ? 2 : kept;
}

enum { UART3, CLOCKS_ALWAYS_ON, CLOCKS, POWER };

static Registers registers[] = {
    [UART3] = { .name = "omap5.uart3", .base = UART + 0x20, .size = 0x1000 - 0x20, .read = uart_read },
    [CLOCKS_ALWAYS_ON] = { .name = "omap5.clocks-always-on", .base = 0x4a004000, .size = 0x2000, .read = clocks_read },
    [CLOCKS] = { .name = "omap5.clocks", .base = 0x4a008000, .size = 0x3000, .read = clocks_read },
    [POWER] = { .name = "omap5.power", .base = 0x4ae06000, .size = 0x3000, .read = power_read, .wrote = power_wrote },
    { .name = "omap5.wakeup", .base = 0x48281000, .size = 0x1000 },
    { .name = "omap5.realtime", .base = 0x48243000, .size = 0x1000 },
    { .name = "omap5.i2c1", .base = 0x48070000, .size = 0x1000, .wrote = i2c_wrote },
    { .name = "omap5.control", .base = 0x4a002000, .size = 0x2000 },
    { .name = "omap5.phys", .base = 0x4a090000, .size = 0x6000, .read = phy_bus_read },
    { .name = "omap5.sata-phy", .base = 0x4a096000, .size = 0x1000, .read = phy_read },
    { .name = "omap5.sata-wrapper", .base = SATA + 0x1100, .size = 0x100 },
    { .name = "omap5.ticker", .base = 0x4ae04000, .size = 0x1000, .read = ticker_read },
};

/* As U-Boot leaves the clocks: 19.2 MHz in, and the DPLLs' multipliers and dividers (minus 1). */
static const struct {
    int block;
    hwaddr offset;
    uint32_t value;
} at_reset[] = {
    { CLOCKS_ALWAYS_ON, 0x12c, 277 << 8 | 4 },     /* core: 1063.7 MHz */
    { CLOCKS_ALWAYS_ON, 0x16c, 250 << 8 | 4 },     /* MPU: 960 MHz */
    { CLOCKS_ALWAYS_ON, 0x1ac, 182 << 8 | 2 },     /* IVA: 1164.8 MHz */
    { CLOCKS, 0x14c, 20 << 8 },          /* peripherals: 384 MHz */
    { CLOCKS, 0x18c, 400 << 8 | 7 },     /* USB: 960 MHz */
    { POWER, 0x110, 4 },               /* 19.2 MHz */
    { UART3, 0x50 - 0x20, 0x50410602 }, /* the UART's identification */
};

static void modify_tree(const struct arm_boot_info *info, void *tree)
{
    board_virtio_nodes(tree, VIRTIO, VIRTIO_SPI);
}

static struct arm_boot_info boot = {
    .loader_start = DRAM,
    .board_id = -1,
    .psci_conduit = 0,
    /* ROM takes the CPUs from there. */
    .secure_boot = true,
    .write_board_setup = nothing_to_write,
    .write_secondary_boot = nothing_to_write,
    .secondary_cpu_reset_hook = second_from_reset,
    .modify_dtb = modify_tree,
};

/* Whether firmware starts what it loads in Hyp mode, or leaves that to whom it starts. */
static bool in_hyp_mode = true;

static bool get_hyp(Object *machine, Error **error)
{
    return in_hyp_mode;
}

static void set_hyp(Object *machine, bool value, Error **error)
{
    in_hyp_mode = value;
}

static void uevm_init(MachineState *machine)
{
    if (machine->ram_size > DRAM_BYTES) {
        error_report("the board has 2032 MiB of memory that are not the secure world's");
        exit(1);
    }
    memory_region_add_subregion(get_system_memory(), DRAM, machine->ram);
    DeviceState *gic = board_cluster(machine, &cluster);
    board_rom("omap5.rom", ROM, 16 * KiB, rom, ARRAY_SIZE(rom));
    MemoryRegion *sram = g_new0(MemoryRegion, 1);
    memory_region_init_ram(sram, NULL, "omap5.sram", 128 * KiB, &error_fatal);
    memory_region_add_subregion(get_system_memory(), 0x40300000, sram);
    for (size_t block = 0; block < ARRAY_SIZE(registers); block++) {
        board_registers(&registers[block]);
    }
    for (size_t one = 0; one < ARRAY_SIZE(at_reset); one++) {
        board_set_register(&registers[at_reset[one].block], at_reset[one].offset, at_reset[one].value);
    }
    serial_mm_init(get_system_memory(), UART, 2, board_spi(gic, UART_SPI), UART_HZ / 16, serial_hd(0),
                   DEVICE_LITTLE_ENDIAN);
    board_ahci(SATA, 1, board_spi(gic, SATA_SPI));
    board_virtio(gic, VIRTIO, VIRTIO_SPI);
    board_nothing("omap5.peripherals", 0x40000000, 0x1a000000);

    boot.ram_size = machine->ram_size;
    boot.board_setup_addr = ROM + (in_hyp_mode ? ROM_FIRST : ROM_SUPERVISOR);
    arm_load_kernel((ARMCPU *)qemu_get_cpu(0), machine, &boot);
}

static void uevm_class(MachineClass *class)
{
    board_class(class, "TI OMAP5 uEVM (a model of Vambrace's)", cluster.cpu_type, 2, DRAM_BYTES);
    class->init = uevm_init;
    object_class_property_add_bool(OBJECT_CLASS(class), "hyp", get_hyp, set_hyp);
    object_class_property_set_description(OBJECT_CLASS(class), "hyp", "Whether firmware starts a kernel in Hyp mode");
}

DEFINE_MACHINE("omap5-uevm", uevm_class)
