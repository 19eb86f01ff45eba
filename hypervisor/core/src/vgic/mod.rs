//! The virtual interrupt controller of a domain: a GICv2 (IHI 0048B) or a GICv3 (IHI 0069) distributor, redistributors,
//! and the list registers that carry interrupts into the guest.
//!
//! ```text
//!   devices, event channels        guest's MMIO, ICC_SGI*R              a physical interrupt
//!      set_line, raise        dist_*, redist_*, sgi_write                      raise
//!            |                    |  v2.rs, v3.rs: decode                        |
//!            |                    |  registers.rs: what both share               |
//!            v                    v                                              v
//!   +--------------------------------------------------------------------------------+
//!   |  Bank (bank.rs): 32 interrupts as bit maps                                      |   effects outside:
//!   |    one of SGIs and PPIs per vCPU, the SPIs once per domain                      |-->  VgicHost (host.rs:
//!   |  settle(): each SPI that is forwarded or active is queued on exactly one vCPU   |   kick, physical_*)
//!   +--------------------------------------------------------------------------------+
//!            |  flush: queue -> list registers          ^  sync: list registers -> banks
//!            v                 lists.rs                 |
//!   +--------------------------------------------------------------------------------+
//!   |  VirtualCpuInterface: the list registers of the CPU that runs the vCPU          |
//!   +--------------------------------------------------------------------------------+
//! ```
//!
//! A domain has one [`Vgic`], which its caller keeps in a lock; the vCPU is an argument everywhere.
//!
//! # Life of a vCPU
//!
//! Interrupts live in the banks. [`Vgic::flush`] before entry puts copies of the most urgent into list registers; from
//! then until [`Vgic::sync`] the guest may take and end them, and what the banks say of *those* interrupts may be
//! stale. Nothing else ever is. So:
//!
//! - Before entry: `if wants_flush { flush }`. `flush` does nothing when nothing changed and `sync`s by itself when
//!   it must, so a trap that does not concern interrupts needs neither call. If `flush` returns false, do not enter:
//!   drop the lock, let others on, try again (see below).
//! - `sync` is needed before looking at this vCPU's interrupts ([`Vgic::deliverable`] at WFI), and on the maintenance
//!   interrupt, which a list register or the underflow condition raises when there is more to deliver.
//! - At switch-out, before the machine saves the vCPU: [`Vgic::unload`], which empties the list registers. A vCPU that
//!   is not loaded has everything in the banks. At switch-in, after the machine loaded it: `flush`.
//! - `raise`, `set_line` and [`VgicHost::kick`] name vCPUs that have something new: one that runs on another CPU is
//!   to be made to trap (and so to `flush`), one that waits is to be woken if it is `deliverable`, and the one that is
//!   calling only has to `flush` before it goes on.
//!
//! # Reading the state of an interrupt that is elsewhere right now
//!
//! Pending and active registers concern interrupts that may be in the list registers of a vCPU that is running. Before
//! such an access the caller asks [`Vgic::needs_sync`] until the answer is `None`:
//!
//! 1. `sync` the calling vCPU itself, always first.
//! 2. `Some(other)`: [`Vgic::hold`] it, drop the lock, kick it, and wait (with the lock free in between) until
//!    [`Vgic::is_resident`] is false. `other` traps, calls `flush`, which folds its list registers back and returns
//!    false for as long as it is held.
//! 3. When `needs_sync` is `None`, access, and [`Vgic::release`] whom it held.
//!
//! Two vCPUs that hold each other both go on, because each has synced itself before it waited.
//!
//! # Interrupts backed by physical ones
//!
//! With [`Vgic::set_hardware`], the physical interrupt's handler drops the priority (and does not deactivate) and calls
//! `raise`; the list register carries the HW bit and the guest's own deactivation deactivates the physical interrupt.
//! Throughout, the physical interrupt is active exactly while the virtual one is pending or active.
//!
//! A private one (the virtual timer) shares its physical PPI with other vCPUs of the same CPU. After `unload`, the
//! caller deactivates the PPIs in [`Vgic::hardware_active`]; before the next entry it sets those active again.
//!
//! # Limits
//!
//! An active interrupt keeps its list register until the guest deactivates it, so a guest that holds as many
//! interrupts active as there are list registers (EOImode 1) waits for itself. A CPU interface must have at least two
//! list registers (every known one has four or more).

mod bank;
mod hardware;
mod host;
mod lists;
mod registers;
mod v2;
mod v3;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

pub(crate) use host::{Effects, with_current};
pub use v3::SgiRegister;

use crate::machine::{Intid, ListRegister};
use bank::{BANK, Bank, Bits, Gates, Queue};
use registers::Shared;

/// "No vCPU" in the compact routing tables.
const NONE: u8 = 0xff;
/// "No physical interrupt": 1023 is the spurious INTID.
const NO_PHYSICAL: u16 = 1023;
/// INTIDs 1020 to 1023 are special and have no state (IHI 0069, 2.2).
const INTID_LIMIT: u32 = 1020;
/// Most vCPUs of a GICv2: its target masks have 8 bits.
const V2_MAX_VCPUS: usize = crate::platform::GICV2_CPUS as usize;
/// Most vCPUs of a GICv3 here.
const V3_MAX_VCPUS: usize = 128;

/// The vCPU has changes that its list registers do not show.
const DIRTY: u8 = 1;
/// The list registers are in use and have been folded back since the last entry.
const SYNCED: u8 = 2;
/// Somebody waits for this vCPU's state: it must not be entered.
const HELD: u8 = 4;

/// Which architecture the guest sees. It must be the host's own: the CPU interface is the hardware's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// GICv2 (IHI 0048B).
    V2,
    /// GICv3 without two security states, LPIs, or legacy operation (IHI 0069, GICD_CTLR.DS and ARE are 1).
    V3,
}

impl Version {
    /// Most vCPUs that it can have here.
    pub fn max_vcpus(self) -> usize {
        match self {
            Self::V2 => V2_MAX_VCPUS,
            Self::V3 => V3_MAX_VCPUS,
        }
    }
}

/// What a domain's interrupt controller is to be.
#[derive(Clone, Copy, Debug)]
pub struct VgicConfig<'a> {
    /// Architecture.
    pub version: Version,
    /// Number of SPIs, at most 988; rounded up to a multiple of 32.
    pub spis: u32,
    /// Implemented priority bits, 4 to 8, from the top; must not exceed what the list registers carry (5 on GICv2).
    pub priority_bits: u8,
    /// MPIDR_EL1 of each vCPU as its guest reads it; its length is the number of vCPUs.
    pub mpidrs: &'a [u64],
}

/// Why a [`Vgic`] cannot be made, or a request on it makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VgicError {
    /// No vCPU, or more than the architecture (here) allows.
    Vcpus(usize),
    /// More SPIs than there are INTIDs.
    Spis(u32),
    /// Priority bits outside 4 to 8.
    PriorityBits(u8),
    /// This virtual INTID does not exist, or cannot be backed by a physical interrupt.
    Intid(Intid),
    /// This physical INTID cannot back that virtual one: a PPI must back a PPI, an SPI an SPI.
    Physical(Intid),
}

impl fmt::Display for VgicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcpus(n) => write!(f, "a virtual GIC cannot have {n} vCPUs"),
            Self::Spis(n) => write!(f, "a virtual GIC cannot have {n} SPIs, at most {}", INTID_LIMIT - 32),
            Self::PriorityBits(n) => write!(f, "a virtual GIC cannot have {n} priority bits, only 4 to 8"),
            Self::Intid(n) => write!(f, "virtual interrupt {n} does not exist or cannot be backed"),
            Self::Physical(n) => write!(f, "physical interrupt {n} cannot back that virtual interrupt"),
        }
    }
}

impl core::error::Error for VgicError {}

/// What the guest's accesses do outside of its virtual GIC. Called with the domain's lock held: note and act later
/// where an action takes that lock.
pub trait VgicHost {
    /// `vcpu` has something new, see "Life of a vCPU" in the module's documentation. May be the calling vCPU.
    fn kick(&mut self, vcpu: usize);
    /// The guest enabled the SPI that `physical` backs. Never called for PPIs, which stay enabled.
    fn physical_enable(&mut self, physical: Intid);
    /// The guest disabled the SPI that `physical` backs.
    fn physical_disable(&mut self, physical: Intid);
    /// The guest made the interrupt edge-triggered (true) or level-sensitive.
    fn physical_set_edge(&mut self, physical: Intid, edge: bool);
    /// The guest routed the SPI to `vcpu`; the physical one best goes to the CPU where that runs.
    fn physical_route(&mut self, physical: Intid, vcpu: usize);
    /// The virtual interrupt became (or ceased to be) pending or active other than through a list register. For a PPI
    /// (`physical` < 32) of a vCPU that is loaded elsewhere, its CPU must apply [`Vgic::hardware_active`] anew; of one
    /// that is not loaded, there is nothing to do.
    fn physical_set_active(&mut self, vcpu: usize, physical: Intid, active: bool);
}

/// An SGI of a GICv2 vCPU: it is pending once per source.
#[derive(Clone, Copy, Default, Debug)]
struct Sgi {
    /// Bit per vCPU that sent it.
    sources: u8,
    /// Sent while in a list register, as [`Bank::again`].
    again: u8,
    /// Who sent the one that is active.
    active_source: u8,
}

/// A vCPU's part: its private interrupts, and its list registers.
#[derive(Clone, Debug)]
struct Cpu {
    private: Bank,
    /// Physical PPIs behind the private interrupts 16 to 31.
    physical: [u16; 16],
    sgis: [Sgi; 16],
    /// SPIs to deliver here.
    queue: Queue,
    /// What the list registers held when last written or folded back.
    lists: [ListRegister; lists::MAX],
    /// Which of them hold an interrupt.
    used: u32,
    /// [`DIRTY`], [`SYNCED`], [`HELD`].
    flags: u8,
    /// The underflow maintenance interrupt is asked for: not everything fitted.
    underflow: bool,
    /// How many wait for this vCPU's state.
    holders: u16,
    /// Aff3.Aff2.Aff1.Aff0, a byte each.
    affinity: u32,
    /// GICR_WAKER.ProcessorSleep.
    asleep: bool,
}

/// A shared interrupt's routing.
#[derive(Clone, Copy, Debug)]
struct Spi {
    /// vCPU it goes to next, or [`NONE`].
    target: u8,
    /// vCPU on whose queue it is now, or [`NONE`].
    owner: u8,
    /// As the guest wrote it: GICv2 target mask, or GICv3 affinity (Aff3.Aff2.Aff1.Aff0).
    route: u32,
    /// Physical interrupt behind it, or [`NO_PHYSICAL`].
    physical: u16,
}

/// A domain's virtual GIC. See the module's documentation for how it is used.
#[derive(Clone, Debug)]
pub struct Vgic {
    version: Version,
    gates: Gates,
    priority_mask: u8,
    cpus: Vec<Cpu>,
    /// Banks 1 and up.
    banks: Vec<Bank>,
    /// INTIDs 32 and up.
    spis: Vec<Spi>,
}

/// Bank number and bit of an INTID.
const fn place(intid: Intid) -> (usize, u32) {
    ((intid / 32) as usize, 1 << (intid % 32))
}

/// The bits of bank number `bank` that are INTIDs.
const fn valid(bank: usize) -> u32 {
    if bank == 31 { 0x0fff_ffff } else { !0 }
}

impl Vgic {
    /// A virtual GIC as after reset: nothing enabled, pending or active, the distributor off.
    ///
    /// The reset values that the architecture leaves open are those of GIC-400 and GIC-500, but for a GICv3 all
    /// interrupts are in group 1, so that a guest written for the non-secure view finds what it knows.
    pub fn new(config: VgicConfig<'_>) -> Result<Self, VgicError> {
        let VgicConfig { version, spis, priority_bits, mpidrs } = config;
        if mpidrs.is_empty() || mpidrs.len() > version.max_vcpus() {
            return Err(VgicError::Vcpus(mpidrs.len()));
        }
        if spis > INTID_LIMIT - 32 {
            return Err(VgicError::Spis(spis));
        }
        if !(4..=8).contains(&priority_bits) {
            return Err(VgicError::PriorityBits(priority_bits));
        }
        let group1 = version == Version::V3;
        // A GICv2's SGIs are enabled from reset, as in GIC-400.
        let enabled = if group1 { 0 } else { 0xffff };
        let cpus: Vec<Cpu> = mpidrs
            .iter()
            .map(|mpidr| Cpu {
                private: Bank::new(group1, 0xffff, enabled),
                physical: [NO_PHYSICAL; 16],
                sgis: [Sgi::default(); 16],
                queue: Queue::default(),
                lists: [ListRegister::default(); lists::MAX],
                used: 0,
                flags: 0,
                underflow: false,
                holders: 0,
                affinity: (mpidr & 0xff_ffff) as u32 | (((mpidr >> 32) & 0xff) as u32) << 24,
                asleep: true,
            })
            .collect();
        let banks = spis.div_ceil(32) as usize;
        let mut vgic = Self {
            version,
            gates: Gates::default(),
            priority_mask: 0xff << (8 - priority_bits),
            cpus,
            banks: alloc::vec![Bank::new(group1, 0, 0); banks],
            spis: Vec::new(),
        };
        // A lone GICv2 CPU need not write targets; affinity 0.0.0.0 may or may not be a vCPU.
        let target = match version {
            Version::V2 => vgic.v2_target(0),
            Version::V3 => vgic.v3_target(0),
        };
        vgic.spis = alloc::vec![Spi { target, owner: NONE, route: 0, physical: NO_PHYSICAL }; banks * BANK];
        Ok(vgic)
    }

    /// Which architecture the guest sees.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Number of vCPUs.
    pub const fn vcpus(&self) -> usize {
        self.cpus.len()
    }

    /// One past the highest INTID (a multiple of 32, at most 1020).
    pub fn intid_limit(&self) -> u32 {
        (self.banks.len() as u32 * 32 + 32).min(INTID_LIMIT)
    }

    /// Makes an interrupt pending: an edge, or the arrival of the physical interrupt behind it. It is delivered once
    /// for this, whatever its configuration; raised again before the guest takes it, the two are one.
    ///
    /// Returns the vCPU that must be looked at, if that is news. `vcpu` matters for private interrupts only. An
    /// INTID that does not exist is ignored.
    #[must_use = "the vCPU named must be kicked or woken"]
    pub fn raise(&mut self, vcpu: usize, intid: Intid) -> Option<usize> {
        if intid < 16 && self.version == Version::V2 {
            return self.send_v2_sgi(vcpu, vcpu, intid);
        }
        let (bank, mask) = self.locate(vcpu, intid)?;
        let state = self.bank_mut(vcpu, bank)?;
        let word = if state.listed & mask != 0 { &mut state.again } else { &mut state.latch };
        if *word & mask != 0 {
            return None;
        }
        *word |= mask;
        self.settled(vcpu, bank, mask)
    }

    /// Sets the input line of a source that the hypervisor emulates. Level-sensitive, the interrupt is pending while
    /// the line is high, and delivered again if it still is when the guest is done; edge-triggered, a rise is an edge.
    /// For an interrupt backed by a physical one, a high line is the same as [`Vgic::raise`].
    ///
    /// Returns the vCPU that must be looked at, if that is news. `vcpu` matters for private interrupts only.
    #[must_use = "the vCPU named must be kicked or woken"]
    pub fn set_line(&mut self, vcpu: usize, intid: Intid, high: bool) -> Option<usize> {
        let (bank, mask) = self.locate(vcpu, intid)?;
        if intid < 16 {
            return None;
        }
        let state = self.bank_mut(vcpu, bank)?;
        if state.hardware & mask != 0 {
            return if high { self.raise(vcpu, intid) } else { None };
        }
        if (state.line & mask != 0) == high {
            return None;
        }
        state.line ^= mask;
        if state.edge & mask == 0 {
            self.settled(vcpu, bank, mask)
        } else if high {
            self.raise(vcpu, intid)
        } else {
            None
        }
    }

    /// Takes back an interrupt that the guest has not taken yet, as a write to ICPENDR would: a timer reprogrammed
    /// into the future, for one. With the vCPU synced first, this leaves nothing behind.
    pub fn retract(&mut self, vcpu: usize, intid: Intid, host: &mut impl VgicHost) {
        if let Some((bank, mask)) = self.locate(vcpu, intid) {
            self.bitmap_write(vcpu, registers::Bitmap::ClearPending, bank, mask, host);
        }
    }

    /// Whether the vCPU must be flushed before it is entered (again). A handful of instructions.
    #[inline]
    pub fn wants_flush(&self, vcpu: usize) -> bool {
        self.cpus.get(vcpu).is_some_and(|cpu| cpu.flags != 0)
    }

    /// Whether the vCPU has an interrupt to take: pending, enabled, forwarded, not active, and of a priority above
    /// (less than) `mask`, the guest's priority mask where it is known, else 0xff. What ends a WFI. The vCPU must be
    /// synced.
    pub fn deliverable(&self, vcpu: usize, mask: u8) -> bool {
        let Some(cpu) = self.cpus.get(vcpu) else { return false };
        let takes = |state: &Bank, among: u32| {
            let ready = state.forwarded(self.gates) & !state.active & among;
            // 0xff lets all through whose priority is implemented with fewer than 8 bits.
            ready != 0 && (mask == 0xff || Bits(ready).any(|bit| state.priority(bit) < mask))
        };
        takes(&cpu.private, !0)
            || cpu
                .queue
                .iter()
                .any(|(bank, word)| self.bank(vcpu, bank).is_some_and(|state| takes(state, word)))
    }

    /// Whether interrupts of this vCPU may be changing in its list registers right now.
    #[inline]
    pub fn is_resident(&self, vcpu: usize) -> bool {
        self.cpus.get(vcpu).is_some_and(|cpu| cpu.used != 0 && cpu.flags & SYNCED == 0)
    }

    /// Keeps the vCPU from being entered after its next trap, until as many calls of [`Vgic::release`].
    pub fn hold(&mut self, vcpu: usize) {
        if let Some(cpu) = self.cpus.get_mut(vcpu) {
            cpu.holders = cpu.holders.saturating_add(1);
            cpu.flags |= HELD;
        }
    }

    /// Undoes a [`Vgic::hold`].
    pub fn release(&mut self, vcpu: usize) {
        if let Some(cpu) = self.cpus.get_mut(vcpu) {
            cpu.holders = cpu.holders.saturating_sub(1);
            if cpu.holders == 0 {
                cpu.flags &= !HELD;
            }
        }
    }

    /// Reads the distributor for `vcpu`, at `offset` bytes from its start, `size` 1, 2, 4 or 8 bytes. Registers that
    /// do not exist, and accesses that a register does not support, read as zero. Ask [`Vgic::needs_sync`] first.
    pub fn dist_read(&self, vcpu: usize, offset: u64, size: u8) -> u64 {
        let Ok(offset) = u32::try_from(offset) else { return 0 };
        match self.version {
            Version::V2 => self.v2_read(vcpu, offset, size).into(),
            Version::V3 => self.v3_read(offset, size),
        }
    }

    /// Writes the distributor for `vcpu`; see [`Vgic::dist_read`]. What cannot be written is ignored.
    pub fn dist_write(&mut self, vcpu: usize, offset: u64, size: u8, value: u64, host: &mut impl VgicHost) {
        let Ok(offset) = u32::try_from(offset) else { return };
        match self.version {
            Version::V2 => self.v2_write(vcpu, offset, size, value as u32, host),
            Version::V3 => self.v3_write(offset, size, value, host),
        }
    }

    /// The vCPU (or one of them) whose list registers may hold newer state than a distributor access by `vcpu` at
    /// `offset` would find, for reads and writes alike; see the module's documentation for what to do then.
    pub fn needs_sync(&self, vcpu: usize, offset: u64) -> Option<usize> {
        let offset = u32::try_from(offset).ok()?;
        match Shared::decode(offset) {
            Some(register) if register.is_volatile() => match (self.version, register.bank()) {
                (Version::V3, 0) => None,
                (_, bank) => self.bank_needs_sync(vcpu, bank),
            },
            None if self.version == Version::V2 && Self::v2_is_volatile(offset) => {
                self.bank_needs_sync(vcpu, 0)
            }
            _ => None,
        }
    }

    /// A vCPU whose list registers may hold newer state than the bank does; see the module's documentation.
    fn bank_needs_sync(&self, vcpu: usize, bank: usize) -> Option<usize> {
        if bank == 0 {
            return self.is_resident(vcpu).then_some(vcpu);
        }
        let listed = self.bank(vcpu, bank)?.listed;
        Bits(listed)
            .filter_map(|bit| self.spis.get((bank - 1) * BANK + bit as usize))
            .map(|spi| usize::from(spi.owner))
            .find(|&owner| self.is_resident(owner))
    }

    /// Bank number and bit of an INTID that exists, on a vCPU that exists.
    fn locate(&self, vcpu: usize, intid: Intid) -> Option<(usize, u32)> {
        (vcpu < self.cpus.len() && intid < self.intid_limit()).then(|| place(intid))
    }

    #[inline]
    fn bank(&self, vcpu: usize, bank: usize) -> Option<&Bank> {
        match bank.checked_sub(1) {
            None => self.cpus.get(vcpu).map(|cpu| &cpu.private),
            Some(index) => self.banks.get(index),
        }
    }

    #[inline]
    fn bank_mut(&mut self, vcpu: usize, bank: usize) -> Option<&mut Bank> {
        match bank.checked_sub(1) {
            None => self.cpus.get_mut(vcpu).map(|cpu| &mut cpu.private),
            Some(index) => self.banks.get_mut(index),
        }
    }

    /// [`Vgic::settle`] for a single interrupt, whose vCPU it returns.
    fn settled(&mut self, vcpu: usize, bank: usize, mask: u32) -> Option<usize> {
        let mut told = None;
        self.settle(vcpu, bank, mask, &mut |v| told = Some(v));
        told
    }

    /// Brings queues in line after interrupts `mask` of a bank changed, telling `kick` of each vCPU concerned.
    ///
    /// An SPI in a list register stays where it is, and its vCPU sorts it out at its next flush.
    fn settle(&mut self, vcpu: usize, bank: usize, mask: u32, kick: &mut impl FnMut(usize)) {
        let gates = self.gates;
        let Some(index) = bank.checked_sub(1) else {
            if let Some(cpu) = self.cpus.get_mut(vcpu)
                && (cpu.private.candidates(gates) | cpu.private.listed) & mask != 0
            {
                cpu.flags |= DIRTY;
                kick(vcpu);
            }
            return;
        };
        let Some(state) = self.banks.get(index) else { return };
        let (wanted, active, listed) = (state.candidates(gates), state.active, state.listed);
        for bit in Bits(mask) {
            let bit_mask = 1 << bit;
            let Some(spi) = self.spis.get_mut(index * BANK + bit as usize) else { return };
            if let Some(owner) = self.cpus.get_mut(usize::from(spi.owner)) {
                let stays = wanted & bit_mask != 0 && (active & bit_mask != 0 || spi.target == spi.owner);
                if stays || listed & bit_mask != 0 {
                    owner.flags |= DIRTY;
                    kick(usize::from(spi.owner));
                    continue;
                }
                owner.queue.remove(bank, bit_mask);
                spi.owner = NONE;
            }
            if wanted & bit_mask != 0
                && let Some(target) = self.cpus.get_mut(usize::from(spi.target))
            {
                spi.owner = spi.target;
                target.queue.insert(bank, bit_mask);
                target.flags |= DIRTY;
                kick(usize::from(spi.target));
            }
        }
    }

    /// Sends an SPI elsewhere from now on. One that is active, or in a list register, moves when it no longer is.
    fn retarget(&mut self, intid: Intid, route: u32, target: u8, host: &mut impl VgicHost) {
        let (bank, mask) = place(intid);
        let Some(spi) = self.spis.get_mut((intid as usize).wrapping_sub(32)) else { return };
        let moved = spi.target != target;
        spi.route = route;
        spi.target = target;
        if !moved {
            return;
        }
        let physical = spi.physical;
        if target != NONE && physical != NO_PHYSICAL {
            host.physical_route(Intid::from(physical), usize::from(target));
        }
        self.settle(0, bank, mask, &mut |v| host.kick(v));
    }

    /// Opens or closes the distributor to the two groups (bit 0: group 0, bit 1: group 1).
    fn set_gates(&mut self, control: u32, host: &mut impl VgicHost) {
        let mask = |bit: u32| if control & bit != 0 { !0 } else { 0 };
        let gates = Gates { group0: mask(1), group1: mask(2) };
        if gates.group0 == self.gates.group0 && gates.group1 == self.gates.group1 {
            return;
        }
        self.gates = gates;
        for vcpu in 0..self.cpus.len() {
            self.settle(vcpu, 0, !0, &mut |v| host.kick(v));
        }
        for bank in 1..=self.banks.len() {
            // Only what is pending or active can have been affected.
            let mask = self.bank(0, bank).map_or(0, |state| state.pending() | state.active);
            self.settle(0, bank, mask, &mut |v| host.kick(v));
        }
    }

    /// GICD_CTLR's group enables as the guest reads them.
    const fn gate_bits(&self) -> u32 {
        (self.gates.group0 & 1) | (self.gates.group1 & 2)
    }
}
