//! `vm_assist`: switching optional behaviours on and off (`xen.h`, `VMASST_*`).
//!
//! `x0` is one of `VMASST_CMD_*`, `x1` one of `VMASST_TYPE_*`. ARM knows `VMASST_TYPE_runstate_update_flag`
//! only.

/// Switch on.
pub const VMASST_CMD_ENABLE: u32 = 0;
/// Switch off.
pub const VMASST_CMD_DISABLE: u32 = 1;
/// x86 only.
pub const VMASST_TYPE_4GB_SEGMENTS: u32 = 0;
/// x86 only.
pub const VMASST_TYPE_4GB_SEGMENTS_NOTIFY: u32 = 1;
/// x86 only.
pub const VMASST_TYPE_WRITABLE_PAGETABLES: u32 = 2;
/// x86 only.
pub const VMASST_TYPE_PAE_EXTENDED_CR3: u32 = 3;
/// x86 only.
pub const VMASST_TYPE_ARCHITECTURAL_IOPL: u32 = 4;
/// Mark the runstate area while it is written: [`crate::vcpu::XEN_RUNSTATE_UPDATE`].
pub const VMASST_TYPE_RUNSTATE_UPDATE_FLAG: u32 = 5;
/// x86 only.
pub const VMASST_TYPE_M2P_STRICT: u32 = 32;
