//! Devices and system registers that the hypervisor answers for.

use crate::addr::Ipa;
use crate::domain::{MmioDevice, Seat, VcpuRun};
use crate::hypervisor::Hypervisor;
use crate::machine::{CpuId, Machine};
use crate::platform::REDISTRIBUTOR_BYTES;
use crate::run::Next;
use crate::trap::{MmioAccess, SysReg};
use crate::vgic::{Effects, SgiRegister, Vgic, with_current};

/// Carries out a load or store that stage 2 stopped.
#[inline]
pub(crate) fn mmio<M: Machine>(
    hv: &Hypervisor<M>,
    seat: &Seat<M>,
    run: &mut VcpuRun<M>,
    access: MmioAccess,
) -> Next {
    // The place of a UART may be empty.
    let there = |device| device != MmioDevice::Uart || seat.domain.uart.get().is_some();
    let Some((device, offset)) = seat.domain.mmio_at(access.ipa).filter(|found| there(found.0)) else {
        nothing_there(hv, seat, run, access);
        return Next::Resume;
    };
    if access.write {
        let value = run.regs.get(access.reg) & mask(access.size);
        write(hv, seat, device, offset, access.size, value);
    } else {
        let value = read(hv, seat, device, offset, access.size) & mask(access.size);
        run.regs.set(access.reg, extend(value, &access));
    }
    run.regs.pc = run.regs.pc.wrapping_add(u64::from(access.instruction_length));
    Next::Resume
}

#[cold]
fn nothing_there<M: Machine>(hv: &Hypervisor<M>, seat: &Seat<M>, run: &mut VcpuRun<M>, access: MmioAccess) {
    let Ipa(ipa) = access.ipa;
    let what = if access.write { "write to" } else { "read of" };
    hv.guest_warning(seat, format_args!("{what} {ipa:#x}, where nothing is (pc {:#x})", run.regs.pc));
    hv.machine.inject_abort(&mut run.regs, &mut run.context, access.va, false);
}

/// The bits that an access of `size` bytes carries.
const fn mask(size: u8) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (8 * size as u32)) - 1 }
}

/// A loaded value as the destination register gets it.
fn extend(value: u64, access: &MmioAccess) -> u64 {
    if !access.sign_extend || access.size >= 8 {
        return value;
    }
    let unused = 64 - 8 * u32::from(access.size);
    let extended = ((value << unused) as i64 >> unused) as u64;
    if access.wide { extended } else { extended & 0xffff_ffff }
}

fn read<M: Machine>(hv: &Hypervisor<M>, seat: &Seat<M>, device: MmioDevice, offset: u64, size: u8) -> u64 {
    let vcpu = usize::from(seat.vcpu.key.vcpu);
    match device {
        MmioDevice::Distributor => with_current(
            hv,
            seat,
            |vgic| vgic.needs_sync(vcpu, offset),
            |vgic, host| {
                settle_timer(hv, seat, vgic, host, offset);
                vgic.dist_read(vcpu, offset, size)
            },
        ),
        MmioDevice::Redistributors { first } => {
            let (frame, offset) = redistributor(first, offset);
            with_current(
                hv,
                seat,
                |vgic| vgic.redist_needs_sync(frame, offset),
                |vgic, host| {
                    settle_timer(hv, seat, vgic, host, offset & 0xffff);
                    vgic.redist_read(frame, offset, size)
                },
            )
        }
        MmioDevice::Uart => {
            // It is there, or the access had not come here.
            hv.read_uart(&seat.domain, offset).unwrap_or(0)
        }
    }
}

/// Registers of pending and active state, in the distributor and in a redistributor's frame of private interrupts
/// (IHI 0069, 12.9, 12.11).
const STATE_REGISTERS: core::ops::Range<u64> = 0x200..0x400;

/// Takes a virtual timer interrupt back that is pending though the guest has quieted the timer meanwhile: the physical
/// one, which is level-sensitive, would be gone too.
fn settle_timer<M: Machine>(
    hv: &Hypervisor<M>,
    seat: &Seat<M>,
    vgic: &mut Vgic,
    host: &mut Effects<'_, M>,
    offset: u64,
) {
    if STATE_REGISTERS.contains(&offset) && !hv.machine.virtual_timer_line() {
        vgic.retract(usize::from(seat.vcpu.key.vcpu), seat.domain.interrupts.virtual_timer, host);
    }
}

fn write<M: Machine>(
    hv: &Hypervisor<M>,
    seat: &Seat<M>,
    device: MmioDevice,
    offset: u64,
    size: u8,
    value: u64,
) {
    let vcpu = usize::from(seat.vcpu.key.vcpu);
    match device {
        MmioDevice::Distributor => with_current(
            hv,
            seat,
            |vgic| vgic.needs_sync(vcpu, offset),
            |vgic, host| vgic.dist_write(vcpu, offset, size, value, host),
        ),
        MmioDevice::Redistributors { first } => {
            let (frame, offset) = redistributor(first, offset);
            with_current(
                hv,
                seat,
                |vgic| vgic.redist_needs_sync(frame, offset),
                |vgic, host| vgic.redist_write(frame, offset, size, value, host),
            );
        }
        MmioDevice::Uart => {
            // As above.
            let _ = hv.write_uart(&seat.domain, offset, value);
        }
    }
}

/// The vCPU of a redistributor frame, and the offset in it.
fn redistributor(first: u16, offset: u64) -> (usize, u64) {
    (usize::from(first) + (offset / REDISTRIBUTOR_BYTES) as usize, offset % REDISTRIBUTOR_BYTES)
}

/// Carries out a trapped `mrs` or `msr`.
#[inline]
pub(crate) fn system_register<M: Machine>(
    hv: &Hypervisor<M>,
    cpu: CpuId,
    seat: &Seat<M>,
    run: &mut VcpuRun<M>,
    register: SysReg,
    write: bool,
    reg: u8,
) -> Next {
    let done = if write {
        write_register(hv, cpu, seat, run, register, run.regs.get(reg))
    } else {
        match read_register(hv, run, register) {
            Some(value) => {
                run.regs.set(reg, value);
                true
            }
            None => false,
        }
    };
    if done {
        run.regs.pc = run.regs.pc.wrapping_add(4);
    } else {
        hv.guest_warning(
            seat,
            format_args!("access to system register {:x?} (pc {:#x})", register.fields(), run.regs.pc),
        );
        hv.machine.inject_undefined(&mut run.regs, &mut run.context);
    }
    Next::Resume
}

pub(crate) const CNTP_TVAL: SysReg = SysReg::new(3, 3, 14, 2, 0);
pub(crate) const CNTP_CTL: SysReg = SysReg::new(3, 3, 14, 2, 1);
pub(crate) const CNTP_CVAL: SysReg = SysReg::new(3, 3, 14, 2, 2);
pub(crate) const ICC_SGI1R: SysReg = SysReg::new(3, 0, 12, 11, 5);
pub(crate) const ICC_ASGI1R: SysReg = SysReg::new(3, 0, 12, 11, 6);
pub(crate) const ICC_SGI0R: SysReg = SysReg::new(3, 0, 12, 11, 7);
pub(crate) const ICC_SRE: SysReg = SysReg::new(3, 0, 12, 12, 5);
pub(crate) const ACTLR: SysReg = SysReg::new(3, 0, 1, 0, 1);
pub(crate) const OSLSR: SysReg = SysReg::new(2, 0, 1, 1, 4);
/// OSLSR_EL1 with the OS lock implemented (OSLM = 0b10) and open.
const OSLSR_OPEN: u64 = 1 << 3;

const TIMER_ISTATUS: u64 = 4;

/// Debug and performance-monitor registers: they trap, hold nothing, and swallow what is written. ID registers show no
/// performance monitor and the least debug that the architecture allows, so software only resets them.
fn is_inert(register: SysReg) -> bool {
    let (op0, op1, crn, crm, _) = register.fields();
    match (op0, op1, crn) {
        (2, _, _) => true,
        (3, 3, 9) => (12..=14).contains(&crm),
        (3, 0, 9) => crm == 14,
        (3, 3, 14) => crm >= 8,
        _ => register == ACTLR || register == ICC_SRE,
    }
}

/// What the vCPU reads in a trapped register; `None` where there is none.
pub(crate) fn read_register<M: Machine>(
    hv: &Hypervisor<M>,
    run: &VcpuRun<M>,
    register: SysReg,
) -> Option<u64> {
    if let Some(value) = hv.id_registers.read(register) {
        return Some(value);
    }
    let timer = &run.physical_timer;
    let now = || hv.machine.now();
    match register {
        CNTP_CTL => {
            let status = if now() >= timer.compare { TIMER_ISTATUS } else { 0 };
            Some(timer.control | if timer.control & 1 != 0 { status } else { 0 })
        }
        CNTP_CVAL => Some(timer.compare),
        CNTP_TVAL => Some(timer.compare.wrapping_sub(now()) & 0xffff_ffff),
        OSLSR => Some(OSLSR_OPEN),
        _ => is_inert(register).then_some(0),
    }
}

/// Writes a trapped register of the vCPU's; false where there is none.
pub(crate) fn write_register<M: Machine>(
    hv: &Hypervisor<M>,
    cpu: CpuId,
    seat: &Seat<M>,
    run: &mut VcpuRun<M>,
    register: SysReg,
    value: u64,
) -> bool {
    let vcpu = usize::from(seat.vcpu.key.vcpu);
    let sgi = |register| {
        with_current(hv, seat, |_| None, |vgic, host| vgic.sgi_write(vcpu, register, value, host));
    };
    match register {
        ICC_SGI1R => sgi(SgiRegister::Sgi1),
        ICC_ASGI1R => sgi(SgiRegister::AliasSgi1),
        ICC_SGI0R => sgi(SgiRegister::Sgi0),
        CNTP_CTL | CNTP_CVAL | CNTP_TVAL => {
            let timer = &mut run.physical_timer;
            match register {
                CNTP_CTL => timer.control = value & 3,
                CNTP_CVAL => timer.compare = value,
                // A signed 32-bit distance from now (Arm ARM, CNTP_TVAL_EL0).
                _ => timer.compare = hv.machine.now().wrapping_add(value as i32 as u64),
            }
            hv.update_physical_timer(cpu, seat, timer);
        }
        _ => return is_inert(register),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestVa;

    #[test]
    fn loads_extend_as_the_instruction_says() {
        let access = |size, sign_extend, wide| MmioAccess {
            ipa: Ipa(0),
            va: GuestVa(0),
            size,
            write: false,
            reg: 0,
            sign_extend,
            wide,
            instruction_length: 4,
        };
        assert_eq!(extend(0x80, &access(1, false, true)), 0x80);
        assert_eq!(extend(0x80, &access(1, true, true)), 0xffff_ffff_ffff_ff80);
        assert_eq!(extend(0x80, &access(1, true, false)), 0xffff_ff80);
        assert_eq!(extend(u64::MAX, &access(8, true, true)), u64::MAX);
        assert_eq!(mask(4), 0xffff_ffff);
    }

    #[test]
    fn inert_registers_are_debug_and_counters_only() {
        assert!(is_inert(SysReg::new(2, 0, 0, 2, 2)), "MDSCR_EL1");
        assert!(is_inert(SysReg::new(3, 3, 9, 12, 0)), "PMCR_EL0");
        assert!(!is_inert(SysReg::new(3, 0, 1, 0, 0)), "SCTLR_EL1");
        assert!(!is_inert(SysReg::new(3, 0, 11, 0, 0)), "implementation defined");
    }
}
