//! Every structure of the crate, its name in C, and its fields: the same name in C unless a path is given
//! (`"u.x"` inside a union,
//! `"a..b"` for a run of fields). Implicit padding (`_...`) is not listed: sizes and offsets show it.

use super::Layout;
use core::mem::{align_of, offset_of, size_of};

/// Size of the field that `get` borrows.
const fn field_size<T, F>(_get: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! layout {
    (@path $field:ident) => { stringify!($field) };
    (@path $field:ident $c:literal) => { $c };
    ($all:ident, $module:ident::$name:ident, $c:literal $(since $since:literal)?: $($field:ident $(= $path:literal)?),+ $(,)?) => {
        #[allow(unused_mut, unused_assignments)]
        let mut since = 0;
        $(since = $since;)?
        $all.push(Layout {
            rust: concat!(stringify!($module), "::", stringify!($name)),
            c: $c,
            size: size_of::<vambrace_abi::$module::$name>(),
            align: align_of::<vambrace_abi::$module::$name>(),
            fields: vec![$((
                stringify!($field),
                layout!(@path $field $($path)?),
                offset_of!(vambrace_abi::$module::$name, $field),
                field_size(|whole: &vambrace_abi::$module::$name| &whole.$field),
            )),+],
            since,
        });
    };
}

/// All of them.
pub(crate) fn layouts() -> Vec<Layout> {
    let mut all = Vec::new();
    layout!(all, version::XenCompileInfo, "struct xen_compile_info":
        compiler, compile_by, compile_domain, compile_date,
    );
    layout!(all, version::XenPlatformParameters, "struct xen_platform_parameters": virt_start);
    layout!(all, version::XenFeatureInfo, "struct xen_feature_info": submap_idx, submap);
    layout!(all, version::XenVarbuf, "struct xen_build_id": len);
    layout!(all, event_channel::EvtchnAllocUnbound, "struct evtchn_alloc_unbound": dom, remote_dom, port);
    layout!(all, event_channel::EvtchnBindInterdomain, "struct evtchn_bind_interdomain":
        remote_dom, remote_port, local_port,
    );
    layout!(all, event_channel::EvtchnBindVirq, "struct evtchn_bind_virq": virq, vcpu, port);
    layout!(all, event_channel::EvtchnBindPirq, "struct evtchn_bind_pirq": pirq, flags, port);
    layout!(all, event_channel::EvtchnBindIpi, "struct evtchn_bind_ipi": vcpu, port);
    layout!(all, event_channel::EvtchnClose, "struct evtchn_close": port);
    layout!(all, event_channel::EvtchnSend, "struct evtchn_send": port);
    layout!(all, event_channel::EvtchnStatus, "struct evtchn_status":
        dom, port, status, vcpu, info = "u.pirq", remote_port = "u.interdomain.port",
    );
    layout!(all, event_channel::EvtchnBindVcpu, "struct evtchn_bind_vcpu": port, vcpu);
    layout!(all, event_channel::EvtchnUnmask, "struct evtchn_unmask": port);
    layout!(all, event_channel::EvtchnReset, "struct evtchn_reset": dom);
    layout!(all, event_channel::EvtchnInitControl, "struct evtchn_init_control":
        control_gfn, offset, vcpu, link_bits, pad = "_pad",
    );
    layout!(all, event_channel::EvtchnExpandArray, "struct evtchn_expand_array": array_gfn);
    layout!(all, event_channel::EvtchnSetPriority, "struct evtchn_set_priority": port, priority);
    layout!(all, event_channel::EvtchnFifoControlBlock, "struct evtchn_fifo_control_block":
        ready, rsvd = "_rsvd", head,
    );
    layout!(all, vcpu::VcpuRunstateInfo, "struct vcpu_runstate_info": state, state_entry_time, time);
    layout!(all, vcpu::VcpuRegisterRunstateMemoryArea, "struct vcpu_register_runstate_memory_area": addr);
    layout!(all, vcpu::VcpuSetPeriodicTimer, "struct vcpu_set_periodic_timer": period_ns);
    layout!(all, vcpu::VcpuSetSingleshotTimer, "struct vcpu_set_singleshot_timer": timeout_abs_ns, flags);
    layout!(all, vcpu::VcpuRegisterVcpuInfo, "struct vcpu_register_vcpu_info": mfn, offset, rsvd);
    layout!(all, vcpu::VcpuGetPhysid, "struct vcpu_get_physid": phys_id);
    layout!(all, vcpu::VcpuRegisterTimeMemoryArea, "struct vcpu_register_time_memory_area": addr);
    layout!(all, shared_info::VcpuTimeInfo, "struct vcpu_time_info":
        version, pad0, tsc_timestamp, system_time, tsc_to_system_mul, tsc_shift, flags, pad1,
    );
    layout!(all, shared_info::VcpuInfo, "struct vcpu_info":
        evtchn_upcall_pending, pad0, evtchn_pending_sel, time,
    );
    layout!(all, shared_info::SharedInfo, "struct shared_info":
        vcpu_info, evtchn_pending, evtchn_mask, wc_version, wc_sec, wc_nsec, wc_sec_hi,
    );
    layout!(all, sched::SchedShutdown, "struct sched_shutdown": reason);
    layout!(all, sched::SchedPoll, "struct sched_poll": ports, nr_ports, timeout);
    layout!(all, sched::SchedRemoteShutdown, "struct sched_remote_shutdown": domain_id, reason);
    layout!(all, sched::SchedWatchdog, "struct sched_watchdog": id, timeout);
    layout!(all, sched::SchedPinOverride, "struct sched_pin_override": pcpu);
    layout!(all, console::XenconsInterface, "struct xencons_interface":
        input = "in", output = "out", in_cons, in_prod, out_cons, out_prod,
    );
    layout!(all, multicall::MulticallEntry, "struct multicall_entry": op, result, args);
    layout!(all, memory::XenMemoryReservation, "struct xen_memory_reservation":
        extent_start, nr_extents, extent_order, mem_flags, domid,
    );
    layout!(all, memory::XenMemoryExchange, "struct xen_memory_exchange":
        input = "in", output = "out", nr_exchanged,
    );
    layout!(all, memory::XenMemoryDomain, "struct xen_memory_domain": domid);
    layout!(all, memory::XenMachphysMfnList, "struct xen_machphys_mfn_list":
        max_extents, extent_start, nr_extents,
    );
    layout!(all, memory::XenMachphysMapping, "struct xen_machphys_mapping": v_start, v_end, max_mfn);
    layout!(all, memory::XenAddToPhysmap, "struct xen_add_to_physmap": domid, size, space, idx, gpfn);
    layout!(all, memory::XenAddToPhysmapBatch, "struct xen_add_to_physmap_batch":
        domid, space, size, foreign_domid = "u.foreign_domid", idxs, gpfns, errs,
    );
    layout!(all, memory::XenRemoveFromPhysmap, "struct xen_remove_from_physmap": domid, gpfn);
    layout!(all, memory::XenMemoryMap, "struct xen_memory_map": nr_entries, buffer);
    layout!(all, memory::XenForeignMemoryMap, "struct xen_foreign_memory_map": domid, map);
    layout!(all, memory::XenPodTarget, "struct xen_pod_target":
        target_pages, tot_pages, pod_cache_pages, pod_entries, domid,
    );
    layout!(all, memory::XenMemAccessOp, "struct xen_mem_access_op":
        op, access, domid, nr, pfn, pfn_list, access_list,
    );
    layout!(all, memory::XenReservedDeviceMemory, "struct xen_reserved_device_memory": start_pfn, nr_pages);
    layout!(all, memory::XenReservedDeviceMemoryMap, "struct xen_reserved_device_memory_map":
        flags, nr_entries, buffer, pci = "dev.pci",
    );
    layout!(all, memory::XenMemAcquireResource, "struct xen_mem_acquire_resource":
        domid, kind = "type", id, nr_frames, pad, frame, frame_list,
    );
    layout!(all, memory::XenVmemrange, "struct xen_vmemrange": start, end, flags, nid);
    layout!(all, memory::XenVnumaTopologyInfo, "struct xen_vnuma_topology_info":
        domid, pad, nr_vnodes, nr_vcpus, nr_vmemranges, vdistance, vcpu_to_vnode, vmemrange,
    );
    layout!(all, grant_table::GrantEntryV1, "struct grant_entry_v1": flags, domid, frame);
    layout!(all, grant_table::GrantEntryHeader, "struct grant_entry_header": flags, domid);
    layout!(all, grant_table::GrantEntryV2FullPage, "union grant_entry_v2":
        hdr = "full_page.hdr", pad0 = "full_page.pad0", frame = "full_page.frame",
    );
    layout!(all, grant_table::GrantEntryV2SubPage, "union grant_entry_v2":
        hdr = "sub_page.hdr", page_off = "sub_page.page_off", length = "sub_page.length",
        frame = "sub_page.frame",
    );
    layout!(all, grant_table::GrantEntryV2Transitive, "union grant_entry_v2":
        hdr = "transitive.hdr", trans_domid = "transitive.trans_domid", pad0 = "transitive.pad0",
        gref = "transitive.gref",
    );
    layout!(all, grant_table::GnttabMapGrantRef, "struct gnttab_map_grant_ref":
        host_addr, flags, gref = "ref", dom, status, handle, dev_bus_addr,
    );
    layout!(all, grant_table::GnttabUnmapGrantRef, "struct gnttab_unmap_grant_ref":
        host_addr, dev_bus_addr, handle, status,
    );
    layout!(all, grant_table::GnttabSetupTable, "struct gnttab_setup_table":
        dom, nr_frames, status, frame_list,
    );
    layout!(all, grant_table::GnttabDumpTable, "struct gnttab_dump_table": dom, status);
    layout!(all, grant_table::GnttabTransfer, "struct gnttab_transfer": mfn, domid, gref = "ref", status);
    layout!(all, grant_table::GnttabCopyPtr, "struct gnttab_copy_ptr": addr = "u.gmfn", domid, offset);
    layout!(all, grant_table::GnttabCopy, "struct gnttab_copy": source, dest, len, flags, status);
    layout!(all, grant_table::GnttabQuerySize, "struct gnttab_query_size":
        dom, nr_frames, max_nr_frames, status,
    );
    layout!(all, grant_table::GnttabUnmapAndReplace, "struct gnttab_unmap_and_replace":
        host_addr, new_addr, handle, status,
    );
    layout!(all, grant_table::GnttabSetVersion, "struct gnttab_set_version": version);
    layout!(all, grant_table::GnttabGetStatusFrames, "struct gnttab_get_status_frames":
        nr_frames, dom, status, frame_list,
    );
    layout!(all, grant_table::GnttabGetVersion, "struct gnttab_get_version": dom, pad, version);
    layout!(all, grant_table::GnttabSwapGrantRef, "struct gnttab_swap_grant_ref": ref_a, ref_b, status);
    layout!(all, grant_table::GnttabCacheFlush, "struct gnttab_cache_flush":
        addr = "a.dev_bus_addr", offset, length, op,
    );
    layout!(all, hvm::XenHvmParam, "struct xen_hvm_param": domid, pad, index, value);
    layout!(all, hvm::XenHvmGetTime, "struct xen_hvm_get_time": now);
    layout!(all, hvm::XenHvmGetMemType, "struct xen_hvm_get_mem_type": domid, mem_type, pad, pfn);
    layout!(all, physdev::PhysdevEoi, "struct physdev_eoi": irq);
    layout!(all, physdev::PhysdevIrqStatusQuery, "struct physdev_irq_status_query": irq, flags);
    layout!(all, physdev::PhysdevMapPirq, "struct physdev_map_pirq":
        domid, kind = "type", index, pirq, bus, devfn, entry_nr, table_base,
    );
    layout!(all, physdev::PhysdevUnmapPirq, "struct physdev_unmap_pirq": domid, pirq);
    layout!(all, physdev::PhysdevManagePci, "struct physdev_manage_pci": bus, devfn);
    layout!(all, physdev::PhysdevManagePciExt, "struct physdev_manage_pci_ext":
        bus, devfn, is_extfn, is_virtfn, physfn_bus = "physfn.bus", physfn_devfn = "physfn.devfn",
    );
    layout!(all, physdev::PhysdevPciMmcfgReserved, "struct physdev_pci_mmcfg_reserved":
        address, segment, start_bus, end_bus, flags,
    );
    layout!(all, physdev::PhysdevPciDeviceAdd, "struct physdev_pci_device_add":
        seg, bus, devfn, flags, physfn_bus = "physfn.bus", physfn_devfn = "physfn.devfn",
    );
    layout!(all, physdev::PhysdevPciDevice, "struct physdev_pci_device": seg, bus, devfn);
    layout!(all, physdev::PciDeviceReset, "struct pci_device_reset" since 0x17: dev, flags);
    layout!(all, platform::XenPlatformOp, "struct xen_platform_op": cmd, interface_version, u = "u.pad");
    layout!(all, platform::XenpfSettime32, "struct xenpf_settime32": secs, nsecs, system_time);
    layout!(all, platform::XenpfSettime64, "struct xenpf_settime64": secs, nsecs, mbz, system_time);
    layout!(all, platform::XenpfPcpuinfo, "struct xenpf_pcpuinfo":
        xen_cpuid, max_present, flags, apic_id, acpi_id,
    );
    layout!(all, platform::XenpfCpuOl, "struct xenpf_cpu_ol": cpuid);
    layout!(all, arch_arm::VcpuGuestCoreRegs, "struct vcpu_guest_core_regs":
        x = "x0..x30", pc64, cpsr, spsr_el1, spsr_fiq, spsr_irq, spsr_und, spsr_abt, sp_el0, sp_el1,
        elr_el1,
    );
    layout!(all, arch_arm::VcpuGuestContext, "struct vcpu_guest_context":
        flags, user_regs, sctlr, ttbcr, ttbr0, ttbr1,
    );
    layout!(all, domctl::XenDomctl, "struct xen_domctl":
        cmd, interface_version, domain, pad = "_pad", u = "u.pad",
    );
    layout!(all, sysctl::XenSysctl, "struct xen_sysctl": cmd, interface_version, u = "u.pad");
    all
}
