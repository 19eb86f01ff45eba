/* What the machines of this folder are made of: CPUs with a GICv2, a UART, a disk controller, and registers.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef VAMBRACE_BOARD_H
#define VAMBRACE_BOARD_H

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/log.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/arm/boot.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "hw/irq.h"
#include "hw/loader.h"
#include "hw/qdev-properties.h"
#include "hw/sysbus.h"
/* Where QEMU 7.2 and 10.0 keep the same things. */
#if __has_include("hw/char/serial-mm.h")
#include "hw/char/serial-mm.h"
#else
#include "hw/char/serial.h"
#endif
#if __has_include("system/system.h")
#include "system/device_tree.h"
#include "system/runstate.h"
#include "system/system.h"
#else
#include "sysemu/device_tree.h"
#include "sysemu/runstate.h"
#include "sysemu/sysemu.h"
#endif
#if __has_include("exec/address-spaces.h")
#include "exec/address-spaces.h"
#endif

/* The virtio transports of a board, which are the model's own: no such board has them. */
enum { VIRTIO_TRANSPORTS = 4 };

/* The CPUs and their interrupt controller. Addresses are physical; PPIs and SPIs are numbered from 0. */
typedef struct Cluster {
    const char *cpu_type;
    uint64_t midr;              /* 0: the type's own */
    uint64_t reset_address;     /* AArch64 alone; AArch32 begins at 0 */
    uint32_t counter_hz;
    bool secure_state;          /* whether software sees EL3 */
    uint64_t (*mpidr)(int cpu);
    hwaddr gicd, gicc, gich, gicv;
    bool pages_repeat;          /* each 4 KiB page of GICC and GICV is there 16 times (SBSA) */
    int spis;
    int ppi_secure, ppi_physical, ppi_virtual, ppi_hypervisor, ppi_maintenance;
} Cluster;

/* Makes the cluster and gives its interrupt controller. */
DeviceState *board_cluster(MachineState *machine, const Cluster *cluster);

/* The input of the interrupt controller for a shared interrupt. */
qemu_irq board_spi(DeviceState *gic, int spi);

/* Registers that read as what was written last, with exceptions.
 *
 * Offsets are in bytes from the first one; `read` gets the value kept and gives what software sees, `wrote` is told
 * after a write. Either may be NULL. */
typedef struct Registers Registers;
struct Registers {
    const char *name;
    hwaddr base;
    uint64_t size;
    uint32_t (*read)(Registers *registers, hwaddr offset, uint32_t kept);
    void (*wrote)(Registers *registers, hwaddr offset, uint32_t value);
    /* The rest is `board_registers`' own. */
    GHashTable *kept;
    MemoryRegion region;
};

/* Maps the registers, which must live as long as the machine. */
void board_registers(Registers *registers);
/* What was written last to a register, 0 if nothing was. */
uint32_t board_register(const Registers *registers, hwaddr offset);
void board_set_register(Registers *registers, hwaddr offset, uint32_t value);

/* A range that reads as 0 and says with `-d unimp` who was there. */
void board_nothing(const char *name, hwaddr base, uint64_t size);

/* A serial ATA controller with `ports` ports; the disks of QEMU's command line are attached to it. */
void board_ahci(hwaddr base, int ports, qemu_irq irq);

/* virtio transports at 512 bytes from each other, and at `spi` and following interrupts. */
void board_virtio(DeviceState *gic, hwaddr base, int spi);
/* Their nodes, under the root of the board's device tree. */
void board_virtio_nodes(void *tree, hwaddr base, int spi);

/* Marks the nodes of the board's device tree with one of these names as disabled: devices that the model has not. The list
 * ends with NULL. */
void board_disable(void *tree, const char *const *compatible);

/* Read-only memory with `words` in it. */
void board_rom(const char *name, hwaddr base, uint64_t size, const uint32_t *words, size_t count);

/* What the boards have in common as machines. */
void board_class(MachineClass *class, const char *description, const char *cpu_type, int cpus, uint64_t memory);

#endif
