//! Elsewhere than on AArch64 there are no such system registers: [`enable`] says so, whereupon there is no
//! [`super::GicV3`] and nothing else is called.

pub(super) fn enable() -> bool {
    false
}

macro_rules! none {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)+) => {
        $(pub(super) fn $name($(_: $type),*) $(-> $result)? {
            unreachable!(concat!(stringify!($name), ": no GICv3 system registers on this CPU"))
        })+
    };
}
none! {
    mpidr() -> u64; reset_guest_interface(); init_cpu_interface(); acknowledge() -> u32; end(intid: u32);
    deactivate(intid: u32); send_sgi(value: u64); set_hcr(value: u64); vtr() -> u64; vmcr() -> u64;
    set_vmcr(value: u64); ap0r(index: usize) -> u64; set_ap0r(index: usize, value: u64);
    ap1r(index: usize) -> u64; set_ap1r(index: usize, value: u64); lr(index: usize) -> u64;
    set_lr(index: usize, value: u64);
}
