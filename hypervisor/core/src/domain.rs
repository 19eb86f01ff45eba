//! Domains and their vCPUs.
//!
//! ```text
//!   Hypervisor --- domains ---> Domain --- vcpus ---> Vcpu --- run ---> VcpuRun (registers, machine context)
//!                                 |                     ^        held by the CPU that runs it, for as long as it does
//!   Scheduler --- Seat -----------+---------------------+
//! ```
//!
//! What only the running vCPU needs lies in [`VcpuRun`], behind a lock that the CPU keeps while the vCPU is on it, so
//! it is never contended. What others may touch meanwhile lies in the domain, each thing behind a lock of its own.
//! Lock order, where two are held, each row by itself; a vCPU's own `run` comes before all of them, and so does the making
//! of a domain, after `run`:
//!
//! - the list of domains, a domain's life, the owners of SPIs, virtual GIC, scheduler
//! - the list of domains, frames, a domain's life
//! - one domain's grants, one domain's stage-2 tables (its own, to find a page; the caller's, to write an answer), frames
//! - two domains' event channels, the lower number first
//! - virtual UART, virtual GIC, scheduler
//! - watchdogs, or those who poll, then timers, or the scheduler
//!
//! Leaves, which may be taken under any of these, and under which at most the later ones are: VMIDs, the wall clock, the
//! console (lines are logged under many locks), the heap.
//!
//! Nothing else is held together: no two domains' grants, no two domains' stage-2 tables.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use spin::{Mutex, Once};
use vambrace_abi::hvm::HVM_NR_PARAMS;
use vambrace_abi::vm_assist::VMASST_TYPE_RUNSTATE_UPDATE_FLAG;

use crate::addr::{Ipa, Pa, PaRange};
use crate::event::{EventChannels, pair};
use crate::grant::GrantTable;
use crate::life::Life;
use crate::machine::{CpuId, Intid, Machine, Stage2};
use crate::p2m::P2m;
pub use crate::permissions::Permissions;
use crate::platform::MPIDR_AFFINITY;
use crate::poll::Poll;
use crate::runstate::Runstate;
use crate::sched::VcpuKey;
use crate::trap::GuestRegs;
use crate::vgic::Vgic;
use crate::vpl011::Vpl011;

/// No CPU: the vCPU is not loaded anywhere.
pub const NOWHERE: CpuId = usize::MAX;

/// Dom0's identifier.
pub const DOM0: u16 = 0;

/// A virtual CPU.
pub struct Vcpu<M: Machine> {
    /// Its name.
    pub key: VcpuKey,
    /// Its state, held by the CPU that runs it.
    pub run: Mutex<VcpuRun<M>>,
    /// CPU on which it is loaded, or [`NOWHERE`].
    pub running_on: AtomicUsize,
    /// Its virtual interrupt controller has something that its list registers do not have yet.
    pub attention: AtomicBool,
    /// Its emulated physical timer is due, and is to be looked at by the CPU that runs it.
    pub timer_due: AtomicBool,
    /// Another vCPU changed the state of this one's private interrupts that physical ones back.
    pub private_changed: AtomicBool,
    /// Switched on: PSCI's view, which changes before the scheduler's.
    pub online: AtomicBool,
    /// What it did with its time.
    pub runstate: Mutex<Runstate>,
    /// Its sleep in SCHEDOP_poll.
    pub poll: Poll,
}

/// What only the CPU that runs the vCPU touches.
pub struct VcpuRun<M: Machine> {
    /// General-purpose registers.
    pub regs: GuestRegs,
    /// Everything else of the machine's.
    pub context: M::Context,
    /// The emulated physical timer.
    pub physical_timer: PhysicalTimer,
    /// Deadline armed for it on a CPU while it is blocked on its virtual timer.
    pub wake_armed: Option<(CpuId, u64)>,
}

/// The EL1 physical timer as the guest programmed it (Arm ARM, CNTP_CTL_EL0, CNTP_CVAL_EL0).
#[derive(Clone, Copy, Default, Debug)]
pub struct PhysicalTimer {
    /// ENABLE (bit 0) and IMASK (bit 1).
    pub control: u64,
    /// Compare value, in ticks of the physical counter.
    pub compare: u64,
    /// The deadline as armed: CPU and counter value.
    pub armed: Option<(CpuId, u64)>,
}

/// A range of a domain's intermediate physical space that the hypervisor emulates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmioRegion {
    /// First byte.
    pub base: Ipa,
    /// Length in bytes.
    pub size: u64,
    /// What answers there.
    pub device: MmioDevice,
}

/// An emulated device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmioDevice {
    /// The virtual GIC's distributor.
    Distributor,
    /// The virtual GIC's redistributors, 128 KiB each, from vCPU `first` on.
    Redistributors {
        /// vCPU of the first frame.
        first: u16,
    },
    /// The virtual UART.
    Uart,
}

/// Which guest interrupts stand for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestInterrupts {
    /// Event-channel upcall.
    pub event: Intid,
    /// Virtual timer.
    pub virtual_timer: Intid,
    /// EL1 physical timer.
    pub physical_timer: Intid,
    /// Virtual UART.
    pub uart: Option<Intid>,
}

/// A virtual machine.
pub struct Domain<M: Machine> {
    /// Its identifier.
    pub id: u16,
    /// Its vCPUs, by index.
    pub vcpus: Vec<Arc<Vcpu<M>>>,
    /// Stage-2 tables.
    pub p2m: Mutex<P2m>,
    /// What a CPU needs of them.
    pub stage2: Stage2,
    /// Virtual interrupt controller.
    pub vgic: Mutex<Vgic>,
    /// Event channels.
    pub events: Mutex<EventChannels>,
    /// vCPUs that sleep in SCHEDOP_poll.
    pub polls: AtomicU32,
    /// Grant table.
    pub grants: Mutex<GrantTable>,
    /// The shared_info page.
    pub shared_info: Pa,
    /// Where the domain has mapped it, if it has.
    pub shared_info_at: Mutex<Option<Ipa>>,
    /// HVM parameters.
    pub params: Mutex<[u64; HVM_NR_PARAMS as usize]>,
    /// Emulated devices, the most used first.
    pub mmio: Vec<MmioRegion>,
    /// Virtual UART, once it has one.
    pub uart: Once<Mutex<Vpl011>>,
    /// Interrupt numbers.
    pub interrupts: GuestInterrupts,
    /// How far the guest's virtual counter is behind the physical one, in ticks.
    pub counter_offset: u64,
    /// Its kernel is a 32-bit one.
    pub aarch32: AtomicBool,
    /// Holds the hardware: its devices, and the power switch.
    pub is_hardware: bool,
    /// Pages of memory it may have.
    pub max_pages: AtomicU64,
    /// Its RAM is mapped one to one, so that only the same frames can replace what it gives back: here it may give some
    /// back and take it again.
    pub direct: Option<Vec<PaRange>>,
    /// Whether it runs, was shut down, is being taken apart.
    pub life: Mutex<Life>,
    /// What its creator calls it (a UUID).
    pub handle: Mutex<[u8; 16]>,
    /// Seconds that its wall clock is ahead of dom0's.
    pub time_offset: AtomicI64,
    /// Hardware that the toolstack lets it have.
    pub permissions: Mutex<Permissions>,
    /// vm_assist bits.
    pub assists: AtomicU64,
    /// The watchdogs that are armed: on which CPU's timer, for which value of the physical counter.
    pub watchdogs: Mutex<[Option<(CpuId, u64)>; 2]>,
}

/// A vCPU with its domain: what a CPU runs.
pub struct Seat<M: Machine> {
    /// The vCPU.
    pub vcpu: Arc<Vcpu<M>>,
    /// Its domain.
    pub domain: Arc<Domain<M>>,
}

impl<M: Machine> Domain<M> {
    /// The vCPU whose MPIDR has the given affinity fields (bits 39:32 and 23:0).
    pub fn vcpu_by_affinity(&self, affinity: u64) -> Option<&Arc<Vcpu<M>>> {
        let index = vcpu_of_mpidr(affinity).filter(|_| affinity & !MPIDR_AFFINITY == 0)?;
        self.vcpus.get(index)
    }

    /// Whether its kernel is a 32-bit one.
    #[inline]
    pub fn is_aarch32(&self) -> bool {
        self.aarch32.load(Ordering::Relaxed)
    }

    /// Pages of memory that it has.
    pub fn pages(&self) -> u64 {
        self.p2m.lock().ram_pages()
    }

    /// Whether the guest asked for the update flag in its runstate areas (VMASST_TYPE_runstate_update_flag).
    pub fn runstate_update_flag(&self) -> bool {
        self.assists.load(Ordering::Acquire) & 1 << VMASST_TYPE_RUNSTATE_UPDATE_FLAG != 0
    }

    /// Forgets that pages of the hypervisor's were mapped at the `size` bytes from `at`, where there is something else
    /// now, or nothing ([`Hypervisor::map`](crate::hypervisor::Hypervisor::map) calls it).
    pub(crate) fn forget_shared_pages(&self, at: Ipa, size: u64) {
        self.shared_info_at.lock().take_if(|mapped| mapped.0.wrapping_sub(at.0) < size);
        self.grants.lock().forget_mapped(at, size);
    }

    /// The emulated device at `ipa` and the offset in it.
    #[inline]
    pub fn mmio_at(&self, ipa: Ipa) -> Option<(MmioDevice, u64)> {
        self.mmio
            .iter()
            .find(|r| ipa.0.wrapping_sub(r.base.0) < r.size)
            .map(|r| (r.device, ipa.0.wrapping_sub(r.base.0)))
    }
}

impl<M: Machine> pair::Owner for Domain<M> {
    fn id(&self) -> u16 {
        self.id
    }
    fn events(&self) -> &Mutex<EventChannels> {
        &self.events
    }
}

/// MPIDR bits that a guest may not choose: RES1 (bit 31).
const MPIDR_RES1: u64 = 1 << 31;

/// vCPUs in an affinity-level-1 group: what one GICv3 SGI target list names.
const VCPUS_PER_CLUSTER: usize = 16;

/// MPIDR of the vCPU with the index: sixteen to a cluster, so that a GICv3 target list reaches each.
pub const fn mpidr_of_vcpu(index: usize) -> u64 {
    MPIDR_RES1 | ((index / VCPUS_PER_CLUSTER) as u64) << 8 | (index % VCPUS_PER_CLUSTER) as u64
}

/// The index of the vCPU with the affinity fields, if any could have it.
pub const fn vcpu_of_mpidr(mpidr: u64) -> Option<usize> {
    let (aff0, aff1) = ((mpidr & 0xff) as usize, (mpidr >> 8 & 0xff) as usize);
    if mpidr & 0xff_00ff_0000 != 0 || aff0 >= VCPUS_PER_CLUSTER {
        return None;
    }
    Some(aff1 * VCPUS_PER_CLUSTER + aff0)
}

impl<M: Machine> Vcpu<M> {
    /// Whether the vCPU is switched on.
    pub fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_names_vcpus_both_ways() {
        for index in [0, 1, 15, 16, 127] {
            assert_eq!(vcpu_of_mpidr(mpidr_of_vcpu(index)), Some(index));
        }
        assert_eq!([0, 15, 16, 33].map(|v| mpidr_of_vcpu(v) & !MPIDR_RES1), [0, 15, 0x100, 0x201]);
        assert_eq!(vcpu_of_mpidr(0x10), None);
        assert_eq!(vcpu_of_mpidr(0x1_0000), None);
        assert_eq!(vcpu_of_mpidr(1 << 32), None);
    }
}
