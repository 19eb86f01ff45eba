//! Dropping stage-2 translations on all CPUs.

use core::arch::asm;

use vambrace_core::addr::Ipa;
use vambrace_core::machine::Stage2;

use super::sysregs::{isb, read64, write64};
use super::world::vttbr;

/// Drops every TLB entry of the VMID.
pub(crate) fn flush(stage2: Stage2) {
    let wanted = vttbr(stage2);
    let was = read64!("vttbr");
    if was != wanted {
        write64!("vttbr", wanted);
        isb!();
    }
    // SAFETY: dropping translations is always sound (TLBIALLIS, which from Hyp mode is about the VMID in VTTBR); barriers
    // make the tables' change visible before. The branch predictor has nothing to do with stage 2.
    unsafe {
        asm!("dsb ishst", "mcr p15, 0, {0}, c8, c3, 0", "dsb ish", "isb", in(reg) 0, options(nostack, preserves_flags));
    }
    if was != wanted {
        write64!("vttbr", was);
        isb!();
    }
}

/// Drops the TLB entries for the page at `ipa`: all of the VMID's, for ARMv7 has no operation by intermediate physical
/// address.
pub(crate) fn flush_page(stage2: Stage2, _ipa: Ipa) {
    flush(stage2);
}
