//! What is compared, and what is not and why.

use vambrace_abi::{domid, event_channel, grant_table, handle, memory, smccc, version};

/// Plain types: name here, name in C, bytes here.
pub(crate) fn types() -> Vec<(&'static str, &'static str, usize)> {
    vec![
        ("domid::DomId", "domid_t", size_of::<domid::DomId>()),
        ("domid::DomainHandle", "xen_domain_handle_t", size_of::<domid::DomainHandle>()),
        ("event_channel::EvtchnPort", "evtchn_port_t", size_of::<event_channel::EvtchnPort>()),
        ("event_channel::EventWord", "event_word_t", size_of::<event_channel::EventWord>()),
        ("grant_table::GrantRef", "grant_ref_t", size_of::<grant_table::GrantRef>()),
        ("grant_table::GrantHandle", "grant_handle_t", size_of::<grant_table::GrantHandle>()),
        ("grant_table::GrantStatus", "grant_status_t", size_of::<grant_table::GrantStatus>()),
        ("handle::XenHandle", "XEN_GUEST_HANDLE(void)", size_of::<handle::XenHandle<u8>>()),
        ("memory::XenPfn", "xen_pfn_t", size_of::<memory::XenPfn>()),
        ("memory::XenUlong", "xen_ulong_t", size_of::<memory::XenUlong>()),
        ("version::XenExtraversion", "xen_extraversion_t", size_of::<version::XenExtraversion>()),
        (
            "version::XenCapabilitiesInfo",
            "xen_capabilities_info_t",
            size_of::<version::XenCapabilitiesInfo>(),
        ),
        ("version::XenChangesetInfo", "xen_changeset_info_t", size_of::<version::XenChangesetInfo>()),
        ("version::XenCommandline", "xen_commandline_t", size_of::<version::XenCommandline>()),
    ]
}

/// UUIDs: name here, name in C, bytes here.
pub(crate) fn uuids() -> [(&'static str, &'static str, [u8; 16]); 2] {
    [
        ("smccc::XEN_SMCCC_UID", "XEN_SMCCC_UID", smccc::XEN_SMCCC_UID),
        ("smccc::SSSC_SMCCC_UID", "SSSC_SMCCC_UID", smccc::SSSC_SMCCC_UID),
    ]
}

/// Items of the crate that the headers do not have: each release's interface version is compared when its
/// headers are recognised, the others are derived from what is compared.
pub(crate) const NOT_IN_HEADERS: &[&str] = &[
    "domctl::XEN_DOMCTL_INTERFACE_VERSION_4_17",
    "domctl::XEN_DOMCTL_INTERFACE_VERSION_4_20",
    "errno::HypercallResult",
    "event_channel::EVTCHN_FIFO_MAX_ARRAY_PAGES",
    "event_channel::EVTCHN_FIFO_WORDS_PER_PAGE",
    "hypercall::HYPERVISOR_LIMIT",
    "shared_info::SHARED_INFO_EVTCHN_MASK",
    "shared_info::SHARED_INFO_EVTCHN_PENDING",
    "shared_info::SHARED_INFO_VCPU_INFO",
    "shared_info::SHARED_INFO_WC_NSEC",
    "shared_info::SHARED_INFO_WC_SEC",
    "shared_info::SHARED_INFO_WC_SEC_HI",
    "shared_info::SHARED_INFO_WC_VERSION",
    "shared_info::VCPU_INFO_PENDING_SEL",
    "shared_info::VCPU_INFO_SIZE",
    "shared_info::VCPU_INFO_UPCALL_PENDING",
    "sysctl::XEN_SYSCTL_INTERFACE_VERSION_4_17",
    "sysctl::XEN_SYSCTL_INTERFACE_VERSION_4_20",
    "version::XEN_VERSION_4_17",
    "version::XEN_VERSION_4_20",
];

/// Families of macros that the crate has whole: prefix, and members that it leaves out because they are other
/// names for a member, values of x86-only structures, or machinery of the headers themselves.
pub(crate) const FAMILIES: &[(&str, &[&str])] = &[
    ("__HYPERVISOR_", &[]),
    ("VIRQ_", &[]),
    ("DOMID_", &[]),
    ("XENVER_", &[]),
    ("XENFEAT_", &[]),
    ("CONSOLEIO_", &[]),
    ("VMASST_", &[]),
    ("EVTCHNOP_", &[]),
    ("EVTCHNSTAT_", &[]),
    ("EVTCHN_", &[]),
    ("VCPUOP_", &[]),
    ("RUNSTATE_", &[]),
    ("SCHEDOP_", &[]),
    ("SHUTDOWN_", &[]),
    ("GNTTABOP_", &["GNTTABOP_error_msgs"]),
    ("GNTTAB_", &[]),
    ("GNTST_", &[]),
    ("GNTMAP_", &[]),
    ("GNTCOPY_", &[]),
    ("GTF_", &[]),
    ("XENMAPSPACE_", &[]),
    ("XENMAPIDX_", &[]),
    ("XENMEM_resource_", &["XENMEM_resource_ioreq_server_frame_ioreq"]),
    ("HVM_PARAM_", &[]),
    (
        "PHYSDEVOP_",
        &[
            "PHYSDEVOP_pirq_eoi_gmfn",
            "PHYSDEVOP_IRQ_UNMASK_NOTIFY",
            "PHYSDEVOP_DBGP_BUS_PCI",
            "PHYSDEVOP_DBGP_BUS_UNKNOWN",
            "PHYSDEVOP_DBGP_RESET_DONE",
            "PHYSDEVOP_DBGP_RESET_PREPARE",
        ],
    ),
    ("XEN_DOMCTL_CDF_", &["XEN_DOMCTL_CDF_MAX"]),
    ("XEN_DOMINF_", &[]),
    ("XEN_VCPUAFFINITY_", &[]),
    ("XEN_SCHEDULER_", &[]),
    ("XEN_DOMCTL_SCHEDOP_", &[]),
    ("XEN_DOMCTL_SENDTRIGGER_", &[]),
    ("XEN_DOMCTL_CONFIG_", &[]),
    ("XEN_DOMCTL_VUART_", &[]),
    ("XEN_SYSCTL_PHYSCAP_", &["XEN_SYSCTL_PHYSCAP_MAX"]),
    ("XEN_SYSCTL_CPUPOOL_", &[]),
    ("XEN_SYSCTL_SCHEDOP_", &[]),
    ("XEN_SYSCTL_CPU_HOTPLUG_", &[]),
    ("PSR_", &[]),
    ("PSCI_", &[]),
];
