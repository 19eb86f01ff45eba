//! The hypervisor's own service of the SMC calling convention (`arch-arm/smccc.h`; function numbers: Arm
//! DEN0028).

/// Major revision of the hypervisor service calls.
pub const XEN_SMCCC_MAJOR_REVISION: u32 = 0;
/// Minor revision of the hypervisor service calls.
pub const XEN_SMCCC_MINOR_REVISION: u32 = 1;
/// Major revision of the standard service calls.
pub const SSSC_SMCCC_MAJOR_REVISION: u32 = 0;
/// Minor revision of the standard service calls.
pub const SSSC_SMCCC_MINOR_REVISION: u32 = 1;
/// UUID of the hypervisor service, in the order the bytes are printed. DEN0028 returns bytes 0 to 3 in `w0`,
/// byte 0 lowest, and so on to `w3`.
pub const XEN_SMCCC_UID: [u8; 16] =
    [0xa7, 0x18, 0x12, 0xdc, 0xc6, 0x98, 0x43, 0x69, 0x9a, 0xcf, 0x79, 0xd1, 0x8d, 0xde, 0xe6, 0x67];
/// UUID of the standard service, in the order the bytes are printed.
pub const SSSC_SMCCC_UID: [u8; 16] =
    [0xf8, 0x63, 0x38, 0x6f, 0x4b, 0x39, 0x4c, 0xbd, 0x92, 0x20, 0xce, 0x16, 0x41, 0xe5, 0x9f, 0x6f];
