//! Virtual interrupts: events whose source is the hypervisor (`xen.h`, `VIRQ_*`).
//!
//! A *global* one is bound on one vCPU of one domain, a *per-vCPU* one on each vCPU for itself.

/// Per vCPU: time base updated or requested timeout reached.
pub const VIRQ_TIMER: u32 = 0;
/// Per vCPU: dump debugging information.
pub const VIRQ_DEBUG: u32 = 1;
/// Global: bytes were received on the hypervisor's console.
pub const VIRQ_CONSOLE: u32 = 2;
/// Global: a domain changed state (shut down, died).
pub const VIRQ_DOM_EXC: u32 = 3;
/// Global: the trace buffer holds records.
pub const VIRQ_TBUF: u32 = 4;
/// Global: a domain paused for a debugger.
pub const VIRQ_DEBUGGER: u32 = 6;
/// Per vCPU: a profile sample is ready.
pub const VIRQ_XENOPROF: u32 = 7;
/// Global: the console ring received bytes.
pub const VIRQ_CON_RING: u32 = 8;
/// Global: a physical CPU went online or offline.
pub const VIRQ_PCPU_STATE: u32 = 9;
/// Global: a memory event occurred.
pub const VIRQ_MEM_EVENT: u32 = 10;
/// Global: an Argo message arrived.
pub const VIRQ_ARGO: u32 = 11;
/// Global: the hypervisor runs low on memory.
pub const VIRQ_ENOMEM: u32 = 12;
/// Per vCPU: performance-counter interrupt.
pub const VIRQ_XENPMU: u32 = 13;
/// First of eight for the architecture's own use.
pub const VIRQ_ARCH_0: u32 = 16;
/// Architecture's own.
pub const VIRQ_ARCH_1: u32 = 17;
/// Architecture's own.
pub const VIRQ_ARCH_2: u32 = 18;
/// Architecture's own.
pub const VIRQ_ARCH_3: u32 = 19;
/// Architecture's own.
pub const VIRQ_ARCH_4: u32 = 20;
/// Architecture's own.
pub const VIRQ_ARCH_5: u32 = 21;
/// Architecture's own.
pub const VIRQ_ARCH_6: u32 = 22;
/// Architecture's own.
pub const VIRQ_ARCH_7: u32 = 23;
/// One past the largest virtual interrupt.
pub const NR_VIRQS: u32 = 24;
