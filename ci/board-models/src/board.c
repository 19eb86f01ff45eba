/* The parts that the boards share.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#include <malloc.h>

#include "board.h"

/* The order of the outputs of QEMU's ARM CPUs: its generic timers, and its inputs (target/arm/cpu.h). */
enum { TIMER_PHYSICAL, TIMER_VIRTUAL, TIMER_HYPERVISOR, TIMER_SECURE };
enum { INPUT_IRQ, INPUT_FIQ, INPUT_VIRQ, INPUT_VFIQ };

/* Ends QEMU if an object of its own, as large as it made it, is not as large as these headers say: malloc rounds up to 16
 * bytes and has 8 more to give. */
static void check_size(const void *object, size_t size, const char *what)
{
    size_t room = malloc_usable_size((void *)object);

    if (room < size || room - size >= 24) {
        error_report("the board models were compiled for another QEMU: %s has %zu bytes here, and %zu there", what, room, size);
        exit(1);
    }
}

static DeviceState *cpu_device(int cpu)
{
    return DEVICE(qemu_get_cpu(cpu));
}

static void make_cpus(MachineState *machine, const Cluster *cluster)
{
    for (int cpu = 0; cpu < machine->smp.cpus; cpu++) {
        Object *object = object_new(machine->cpu_type);

        object_property_set_bool(object, "has_el3", cluster->secure_state, &error_fatal);
        object_property_set_bool(object, "has_el2", true, &error_fatal);
        object_property_set_uint(object, "cntfrq", cluster->counter_hz, &error_fatal);
        if (cluster->midr) {
            object_property_set_uint(object, "midr", cluster->midr, &error_fatal);
        }
        if (cluster->mpidr) {
            object_property_set_uint(object, "mp-affinity", cluster->mpidr(cpu), &error_fatal);
        }
        if (cluster->reset_address) {
            object_property_set_uint(object, "rvbar", cluster->reset_address, &error_fatal);
        }
        qdev_realize(DEVICE(object), NULL, &error_fatal);
        object_unref(object);
    }
}

/* Maps an 8 KiB frame of the interrupt controller, as it is or with each of its pages 16 times. */
static void map_frame(SysBusDevice *gic, int frame, hwaddr base, bool repeat)
{
    if (!repeat) {
        sysbus_mmio_map(gic, frame, base);
        return;
    }
    MemoryRegion *region = sysbus_mmio_get_region(gic, frame);
    for (int page = 0; page < 2; page++) {
        for (int copy = 0; copy < 16; copy++) {
            MemoryRegion *alias = g_new0(MemoryRegion, 1);
            memory_region_init_alias(alias, OBJECT(gic), "gic-page", region, page * 4 * KiB, 4 * KiB);
            memory_region_add_subregion(get_system_memory(), base + page * 64 * KiB + copy * 4 * KiB, alias);
        }
    }
}

DeviceState *board_cluster(MachineState *machine, const Cluster *cluster)
{
    int cpus = machine->smp.cpus;

    check_size(machine, sizeof(MachineState), "a machine");
    make_cpus(machine, cluster);
    DeviceState *gic = qdev_new("arm_gic");
    qdev_prop_set_uint32(gic, "revision", 2);
    qdev_prop_set_uint32(gic, "num-cpu", cpus);
    qdev_prop_set_uint32(gic, "num-irq", cluster->spis + 32);
    qdev_prop_set_bit(gic, "has-security-extensions", cluster->secure_state);
    qdev_prop_set_bit(gic, "has-virtualization-extensions", true);
    SysBusDevice *bus = SYS_BUS_DEVICE(gic);
    sysbus_realize_and_unref(bus, &error_fatal);
    sysbus_mmio_map(bus, 0, cluster->gicd);
    map_frame(bus, 1, cluster->gicc, cluster->pages_repeat);
    sysbus_mmio_map(bus, 2, cluster->gich);
    map_frame(bus, 3, cluster->gicv, cluster->pages_repeat);
    for (int cpu = 0; cpu < cpus; cpu++) {
        DeviceState *device = cpu_device(cpu);
        /* The inputs for PPIs follow those for SPIs, 32 for each CPU. */
        int ppis = cluster->spis + cpu * 32;

        qdev_connect_gpio_out(device, TIMER_PHYSICAL, qdev_get_gpio_in(gic, ppis + cluster->ppi_physical + 16));
        qdev_connect_gpio_out(device, TIMER_VIRTUAL, qdev_get_gpio_in(gic, ppis + cluster->ppi_virtual + 16));
        qdev_connect_gpio_out(device, TIMER_HYPERVISOR, qdev_get_gpio_in(gic, ppis + cluster->ppi_hypervisor + 16));
        qdev_connect_gpio_out(device, TIMER_SECURE, qdev_get_gpio_in(gic, ppis + cluster->ppi_secure + 16));
        sysbus_connect_irq(bus, cpu, qdev_get_gpio_in(device, INPUT_IRQ));
        sysbus_connect_irq(bus, cpu + cpus, qdev_get_gpio_in(device, INPUT_FIQ));
        sysbus_connect_irq(bus, cpu + 2 * cpus, qdev_get_gpio_in(device, INPUT_VIRQ));
        sysbus_connect_irq(bus, cpu + 3 * cpus, qdev_get_gpio_in(device, INPUT_VFIQ));
        sysbus_connect_irq(bus, cpu + 4 * cpus, qdev_get_gpio_in(gic, ppis + cluster->ppi_maintenance + 16));
    }
    return gic;
}

qemu_irq board_spi(DeviceState *gic, int spi)
{
    return qdev_get_gpio_in(gic, spi);
}

uint32_t board_register(const Registers *registers, hwaddr offset)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(registers->kept, GUINT_TO_POINTER((guint)offset)));
}

void board_set_register(Registers *registers, hwaddr offset, uint32_t value)
{
    g_hash_table_insert(registers->kept, GUINT_TO_POINTER((guint)offset), GUINT_TO_POINTER(value));
}

static uint64_t registers_read(void *opaque, hwaddr offset, unsigned size)
{
    Registers *registers = opaque;
    hwaddr word = offset & ~(hwaddr)3;
    uint32_t value = board_register(registers, word);

    if (registers->read) {
        value = registers->read(registers, word, value);
    }
    qemu_log_mask(LOG_UNIMP, "%s: read of 0x%" HWADDR_PRIx " is 0x%x\n", registers->name,
                  registers->base + offset, value);
    return extract64(value, (offset & 3) * 8, size * 8);
}

static void registers_write(void *opaque, hwaddr offset, uint64_t value, unsigned size)
{
    Registers *registers = opaque;
    hwaddr word = offset & ~(hwaddr)3;
    uint32_t whole = deposit64(board_register(registers, word), (offset & 3) * 8, size * 8, value);

    qemu_log_mask(LOG_UNIMP, "%s: write of 0x%" HWADDR_PRIx ": 0x%x\n", registers->name,
                  registers->base + offset, (uint32_t)value);
    board_set_register(registers, word, whole);
    if (registers->wrote) {
        registers->wrote(registers, word, whole);
    }
}

static const MemoryRegionOps registers_ops = {
    .read = registers_read,
    .write = registers_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .impl = { .min_access_size = 1, .max_access_size = 4 },
};

void board_registers(Registers *registers)
{
    registers->kept = g_hash_table_new(NULL, NULL);
    memory_region_init_io(&registers->region, NULL, &registers_ops, registers, registers->name, registers->size);
    /* Below whatever else is at these addresses. */
    memory_region_add_subregion_overlap(get_system_memory(), registers->base, &registers->region, -1);
}

void board_nothing(const char *name, hwaddr base, uint64_t size)
{
    DeviceState *device = qdev_new("unimplemented-device");

    qdev_prop_set_string(device, "name", name);
    qdev_prop_set_uint64(device, "size", size);
    sysbus_realize_and_unref(SYS_BUS_DEVICE(device), &error_fatal);
    sysbus_mmio_map_overlap(SYS_BUS_DEVICE(device), 0, base, -1000);
}

void board_ahci(hwaddr base, int ports, qemu_irq irq)
{
    DeviceState *device = qdev_new("sysbus-ahci");

    qdev_prop_set_uint32(device, "num-ports", ports);
    sysbus_realize_and_unref(SYS_BUS_DEVICE(device), &error_fatal);
    sysbus_mmio_map(SYS_BUS_DEVICE(device), 0, base);
    sysbus_connect_irq(SYS_BUS_DEVICE(device), 0, irq);
}

enum { VIRTIO_BYTES = 0x200 };

void board_virtio(DeviceState *gic, hwaddr base, int spi)
{
    for (int transport = 0; transport < VIRTIO_TRANSPORTS; transport++) {
        DeviceState *device = qdev_new("virtio-mmio");

        sysbus_realize_and_unref(SYS_BUS_DEVICE(device), &error_fatal);
        sysbus_mmio_map(SYS_BUS_DEVICE(device), 0, base + transport * VIRTIO_BYTES);
        sysbus_connect_irq(SYS_BUS_DEVICE(device), 0, board_spi(gic, spi + transport));
    }
}

void board_virtio_nodes(void *tree, hwaddr base, int spi)
{
    Error *error = NULL;
    char **controller = qemu_fdt_node_path(tree, NULL, "arm,cortex-a15-gic", &error);

    if (error || !controller || !controller[0]) {
        error_free(error);
        g_strfreev(controller);
        return;
    }
    uint32_t phandle = qemu_fdt_get_phandle(tree, controller[0]);
    g_strfreev(controller);
    for (int transport = 0; transport < VIRTIO_TRANSPORTS; transport++) {
        hwaddr address = base + transport * VIRTIO_BYTES;
        g_autofree char *node = g_strdup_printf("/virtio_mmio@%" HWADDR_PRIx, address);

        qemu_fdt_add_subnode(tree, node);
        qemu_fdt_setprop_string(tree, node, "compatible", "virtio,mmio");
        qemu_fdt_setprop_sized_cells(tree, node, "reg", 2, address, 2, (uint64_t)VIRTIO_BYTES);
        qemu_fdt_setprop_cell(tree, node, "interrupt-parent", phandle);
        /* A shared interrupt, by level, active high (Linux binding arm,gic). */
        qemu_fdt_setprop_cells(tree, node, "interrupts", 0, spi + transport, 4);
        qemu_fdt_setprop(tree, node, "dma-coherent", NULL, 0);
    }
}

void board_disable(void *tree, const char *const *compatible)
{
    for (; *compatible; compatible++) {
        Error *error = NULL;
        char **paths = qemu_fdt_node_path(tree, NULL, *compatible, &error);

        error_free(error);
        for (char **path = paths; path && *path; path++) {
            qemu_fdt_setprop_string(tree, *path, "status", "disabled");
        }
        g_strfreev(paths);
    }
}

void board_rom(const char *name, hwaddr base, uint64_t size, const uint32_t *words, size_t count)
{
    MemoryRegion *region = g_new0(MemoryRegion, 1);
    g_autofree uint32_t *code = g_new(uint32_t, count);

    memory_region_init_rom(region, NULL, name, size, &error_fatal);
    memory_region_add_subregion(get_system_memory(), base, region);
    for (size_t word = 0; word < count; word++) {
        code[word] = cpu_to_le32(words[word]);
    }
    rom_add_blob_fixed(name, code, count * sizeof(*code), base);
}

static void check_headers(void)
{
    Object *region = object_new(TYPE_MEMORY_REGION);

    check_size(region, sizeof(MemoryRegion), "a memory region");
    object_unref(region);
}

void board_class(MachineClass *class, const char *description, const char *cpu_type, int cpus, uint64_t memory)
{
    check_headers();
    class->desc = description;
    class->max_cpus = cpus;
    class->default_cpus = cpus;
    class->default_cpu_type = cpu_type;
    class->default_ram_id = "ram";
    class->default_ram_size = memory;
    class->block_default_type = IF_IDE;
    class->no_parallel = 1;
    class->no_floppy = 1;
    class->no_cdrom = 1;
}
