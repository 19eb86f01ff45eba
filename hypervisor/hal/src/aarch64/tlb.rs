//! Dropping stage-2 translations on all CPUs.

use core::arch::asm;

use vambrace_core::addr::Ipa;
use vambrace_core::machine::Stage2;

use super::sysregs::{isb, read_sysreg, write_sysreg};

/// Drops every TLB entry of the VMID.
pub(crate) fn flush(stage2: Stage2) {
    with_vttbr(stage2, || {
        // SAFETY: dropping translations is always sound; barriers make the tables' change visible before.
        unsafe {
            asm!("dsb ishst", "tlbi vmalls12e1is", "dsb ish", "isb", options(nostack, preserves_flags));
        }
    });
}

/// Drops the TLB entries for the page at `ipa`.
pub(crate) fn flush_page(stage2: Stage2, ipa: Ipa) {
    with_vttbr(stage2, || {
        // SAFETY: as in `flush`; the combined entries go with the second operation (Arm ARM D8.14).
        unsafe {
            asm!(
                "dsb ishst", "tlbi ipas2e1is, {}", "dsb ish", "tlbi vmalle1is", "dsb ish", "isb",
                in(reg) ipa.frame(),
                options(nostack, preserves_flags)
            );
        }
    });
}

/// Runs `f` with the domain's tables and VMID in VTTBR_EL2, which TLB operations go by.
fn with_vttbr(stage2: Stage2, f: impl FnOnce()) {
    let wanted = stage2.root.0 | u64::from(stage2.vmid) << 48;
    let was = read_sysreg!("vttbr_el2");
    if was == wanted {
        return f();
    }
    write_sysreg!("vttbr_el2", wanted);
    isb!();
    f();
    write_sysreg!("vttbr_el2", was);
    isb!();
}
