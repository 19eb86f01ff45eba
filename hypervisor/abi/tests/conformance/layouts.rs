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
    ($all:ident, $module:ident::$name:ident, $c:literal $(since $since:literal)? $(until $until:literal)?: $($field:ident $(= $path:literal)?),+ $(,)?) => {
        #[allow(unused_mut, unused_assignments)]
        let (mut since, mut until) = (0, u32::MAX);
        $(since = $since;)?
        $(until = $until;)?
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
            until,
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
    layout!(all, domctl::XenctlBitmap, "struct xenctl_bitmap": bitmap, nr_bits);
    // What has padding in 4.17 has a field in 4.20.
    layout!(all, domctl::XenArchDomainconfig, "struct xen_arch_domainconfig" until 0x15: gic_version, tee_type, nr_spis, clock_frequency);
    layout!(all, domctl::XenArchDomainconfig, "struct xen_arch_domainconfig" since 0x17: gic_version, sve_vl, tee_type, nr_spis, clock_frequency);
    layout!(all, domctl::XenDomctlCreatedomain417, "struct xen_domctl_createdomain" until 0x15: ssidref, handle, flags, iommu_opts, max_vcpus, max_evtchn_port, max_grant_frames, max_maptrack_frames, grant_opts, vmtrace_size, cpupool_id, arch);
    layout!(all, domctl::XenDomctlCreatedomain420, "struct xen_domctl_createdomain" since 0x17: ssidref, handle, flags, iommu_opts, max_vcpus, max_evtchn_port, max_grant_frames, max_maptrack_frames, grant_opts, altp2m_opts, vmtrace_size, cpupool_id, arch);
    layout!(all, domctl::XenDomctlIrqPermission, "struct xen_domctl_irq_permission": pirq, allow_access, pad);
    layout!(all, domctl::XenDomctlIomemPermission, "struct xen_domctl_iomem_permission": first_mfn, nr_mfns, allow_access);
    layout!(all, domctl::XenDomctlMemoryMapping, "struct xen_domctl_memory_mapping": first_gfn, first_mfn, nr_mfns, add_mapping, padding);
    layout!(all, domctl::XenDomctlBindPtIrq, "struct xen_domctl_bind_pt_irq": machine_irq, irq_type, u);
    layout!(all, domctl::XenDomctlAssignDevice, "struct xen_domctl_assign_device": dev, flags, size = "u.dt.size", path = "u.dt.path");
    layout!(all, domctl::XenDomctlVuartOp, "struct xen_domctl_vuart_op": cmd, kind = "type", gfn, console_domid, pad, evtchn);
    layout!(all, domctl::XenDomctlDtOverlay, "struct xen_domctl_dt_overlay" since 0x17: overlay_fdt, overlay_fdt_size, overlay_op, pad);
    layout!(all, domctl::XenDomctlGetdomaininfo, "struct xen_domctl_getdomaininfo": domain, pad1, flags, tot_pages, max_pages, outstanding_pages, shr_pages, paged_pages, shared_info_frame, cpu_time, nr_online_vcpus, max_vcpu_id, ssidref, handle, cpupool, gpaddr_bits, pad2, arch_config);
    layout!(all, domctl::XenDomctlMaxMem, "struct xen_domctl_max_mem": max_memkb);
    layout!(all, domctl::XenDomctlMaxVcpus, "struct xen_domctl_max_vcpus": max);
    layout!(all, domctl::XenDomctlSetdomainhandle, "struct xen_domctl_setdomainhandle": handle);
    layout!(all, domctl::XenDomctlSetdebugging, "struct xen_domctl_setdebugging": enable);
    layout!(all, domctl::XenDomctlSettimeoffset, "struct xen_domctl_settimeoffset": time_offset_seconds);
    layout!(all, domctl::XenDomctlAddressSize, "struct xen_domctl_address_size": size);
    layout!(all, domctl::XenDomctlSendtrigger, "struct xen_domctl_sendtrigger": trigger, vcpu);
    layout!(all, domctl::XenDomctlSetTarget, "struct xen_domctl_set_target": target);
    layout!(all, domctl::XenDomctlSubscribe, "struct xen_domctl_subscribe": port);
    layout!(all, domctl::XenDomctlSetVirqHandler, "struct xen_domctl_set_virq_handler": virq);
    layout!(all, domctl::XenDomctlSetAccessRequired, "struct xen_domctl_set_access_required": access_required);
    layout!(all, domctl::XenDomctlCacheflush, "struct xen_domctl_cacheflush": start_pfn, nr_pfns);
    layout!(all, domctl::XenDomctlPagingMempool, "struct xen_domctl_paging_mempool": size);
    layout!(all, domctl::XenDomctlSetLlcColors, "struct xen_domctl_set_llc_colors" since 0x17: num_llc_colors, pad, llc_colors);
    layout!(all, domctl::XenDomctlSchedCredit, "struct xen_domctl_sched_credit": weight, cap);
    layout!(all, domctl::XenDomctlSchedCredit2, "struct xen_domctl_sched_credit2": weight, cap);
    layout!(all, domctl::XenDomctlSchedRtds, "struct xen_domctl_sched_rtds": period, budget, flags);
    layout!(all, domctl::XenDomctlSchedparamVcpu, "struct xen_domctl_schedparam_vcpu": rtds = "u.rtds", vcpuid);
    layout!(all, domctl::XenDomctlSchedulerOp, "struct xen_domctl_scheduler_op": sched_id, cmd, u);
    layout!(all, domctl::XenDomctlSchedVcpus, "__typeof__(((struct xen_domctl_scheduler_op *)0)->u.v)": vcpus, nr_vcpus, padding);
    layout!(all, domctl::XenDomctlVcpucontext, "struct xen_domctl_vcpucontext": vcpu, ctxt);
    layout!(all, domctl::XenDomctlGetvcpuinfo, "struct xen_domctl_getvcpuinfo": vcpu, online, blocked, running, cpu_time, cpu);
    layout!(all, domctl::XenDomctlVcpuaffinity, "struct xen_domctl_vcpuaffinity": vcpu, flags, cpumap_hard, cpumap_soft);
    layout!(all, domctl::XenDomctlNodeaffinity, "struct xen_domctl_nodeaffinity": nodemap);
    layout!(all, sysctl::XenSysctlReadconsole, "struct xen_sysctl_readconsole": clear, incremental, pad0, pad1, index, buffer, count);
    layout!(all, sysctl::XenSysctlDebugKeys, "struct xen_sysctl_debug_keys": keys, nr_keys);
    layout!(all, sysctl::XenSysctlGetdomaininfolist, "struct xen_sysctl_getdomaininfolist": first_domain, max_domains, buffer, num_domains);
    layout!(all, sysctl::XenSysctlPhysinfo, "struct xen_sysctl_physinfo": threads_per_core, cores_per_socket, nr_cpus, max_cpu_id, nr_nodes, max_node_id, cpu_khz, capabilities, arch_capabilities, pad, total_pages, free_pages, scrub_pages, outstanding_pages, max_mfn, hw_cap);
    layout!(all, sysctl::XenSysctlCpuinfo, "struct xen_sysctl_cpuinfo": idletime);
    layout!(all, sysctl::XenSysctlGetcpuinfo, "struct xen_sysctl_getcpuinfo": max_cpus, info, nr_cpus);
    layout!(all, sysctl::XenSysctlAvailheap, "struct xen_sysctl_availheap": min_bitwidth, max_bitwidth, node, avail_bytes);
    layout!(all, sysctl::XenSysctlCpuHotplug, "struct xen_sysctl_cpu_hotplug": cpu, op);
    layout!(all, sysctl::XenSysctlCputopo, "struct xen_sysctl_cputopo": core, socket, node);
    layout!(all, sysctl::XenSysctlCputopoinfo, "struct xen_sysctl_cputopoinfo": num_cpus, cputopo);
    layout!(all, sysctl::XenSysctlMeminfo, "struct xen_sysctl_meminfo": memsize, memfree);
    layout!(all, sysctl::XenSysctlNumainfo, "struct xen_sysctl_numainfo": num_nodes, meminfo, distance);
    layout!(all, sysctl::XenSysctlPcitopoinfo, "struct xen_sysctl_pcitopoinfo": num_devs, devs, nodes);
    layout!(all, sysctl::XenSysctlSchedId, "struct xen_sysctl_sched_id": sched_id);
    layout!(all, sysctl::XenSysctlCpupoolOp, "struct xen_sysctl_cpupool_op": op, cpupool_id, sched_id, domid, cpu, n_dom, cpumap);
    layout!(all, sysctl::XenSysctlCreditSchedule, "struct xen_sysctl_credit_schedule": tslice_ms, ratelimit_us, vcpu_migr_delay_us);
    layout!(all, sysctl::XenSysctlCredit2Schedule, "struct xen_sysctl_credit2_schedule": ratelimit_us);
    layout!(all, sysctl::XenSysctlSchedulerOp, "struct xen_sysctl_scheduler_op": cpupool_id, sched_id, cmd, u);
    all
}
