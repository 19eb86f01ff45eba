//! Error numbers (`errno.h`, `XEN_E*`) and how they travel in a register.

/// Why a hypercall failed. The values are Xen's, the same for every kind of guest; the guest sees the
/// negative.
///
/// `EWOULDBLOCK` is [`EAGAIN`](Self::EAGAIN) and `EDEADLOCK` is [`EDEADLK`](Self::EDEADLK).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Errno {
    /// Operation not permitted.
    EPERM = 1,
    /// No such thing.
    ENOENT = 2,
    /// No such domain or vCPU.
    ESRCH = 3,
    /// Input or output failed.
    EIO = 5,
    /// No such device or address.
    ENXIO = 6,
    /// List too long.
    E2BIG = 7,
    /// Not an executable.
    ENOEXEC = 8,
    /// Bad descriptor.
    EBADF = 9,
    /// No children.
    ECHILD = 10,
    /// Try again.
    EAGAIN = 11,
    /// Out of memory.
    ENOMEM = 12,
    /// Permission denied; also a domctl or sysctl of a version that is not served.
    EACCES = 13,
    /// A guest handle that cannot be read or written.
    EFAULT = 14,
    /// In use.
    EBUSY = 16,
    /// Exists already.
    EEXIST = 17,
    /// Across devices.
    EXDEV = 18,
    /// No such device.
    ENODEV = 19,
    /// Not a directory.
    ENOTDIR = 20,
    /// Is a directory.
    EISDIR = 21,
    /// Invalid argument.
    EINVAL = 22,
    /// Table full.
    ENFILE = 23,
    /// Too many open.
    EMFILE = 24,
    /// No space left; also no free event channel.
    ENOSPC = 28,
    /// Read-only.
    EROFS = 30,
    /// Too many links.
    EMLINK = 31,
    /// Argument out of the function's domain.
    EDOM = 33,
    /// Result out of range.
    ERANGE = 34,
    /// Would deadlock.
    EDEADLK = 35,
    /// Name too long.
    ENAMETOOLONG = 36,
    /// No locks left.
    ENOLCK = 37,
    /// No such hypercall or operation.
    ENOSYS = 38,
    /// Not empty.
    ENOTEMPTY = 39,
    /// No data.
    ENODATA = 61,
    /// Time is over.
    ETIME = 62,
    /// Not a message.
    EBADMSG = 74,
    /// Value too large for its type.
    EOVERFLOW = 75,
    /// Illegal byte sequence.
    EILSEQ = 84,
    /// Not a socket.
    ENOTSOCK = 88,
    /// Message too large.
    EMSGSIZE = 90,
    /// Operation exists but is not supported here.
    EOPNOTSUPP = 95,
    /// Address in use.
    EADDRINUSE = 98,
    /// Address not available.
    EADDRNOTAVAIL = 99,
    /// No buffer space.
    ENOBUFS = 105,
    /// Connected already.
    EISCONN = 106,
    /// Not connected.
    ENOTCONN = 107,
    /// Timed out.
    ETIMEDOUT = 110,
    /// Refused.
    ECONNREFUSED = 111,
}

impl Errno {
    /// Every error, in the order of the numbers.
    pub const ALL: [Self; 47] = [
        Self::EPERM,
        Self::ENOENT,
        Self::ESRCH,
        Self::EIO,
        Self::ENXIO,
        Self::E2BIG,
        Self::ENOEXEC,
        Self::EBADF,
        Self::ECHILD,
        Self::EAGAIN,
        Self::ENOMEM,
        Self::EACCES,
        Self::EFAULT,
        Self::EBUSY,
        Self::EEXIST,
        Self::EXDEV,
        Self::ENODEV,
        Self::ENOTDIR,
        Self::EISDIR,
        Self::EINVAL,
        Self::ENFILE,
        Self::EMFILE,
        Self::ENOSPC,
        Self::EROFS,
        Self::EMLINK,
        Self::EDOM,
        Self::ERANGE,
        Self::EDEADLK,
        Self::ENAMETOOLONG,
        Self::ENOLCK,
        Self::ENOSYS,
        Self::ENOTEMPTY,
        Self::ENODATA,
        Self::ETIME,
        Self::EBADMSG,
        Self::EOVERFLOW,
        Self::EILSEQ,
        Self::ENOTSOCK,
        Self::EMSGSIZE,
        Self::EOPNOTSUPP,
        Self::EADDRINUSE,
        Self::EADDRNOTAVAIL,
        Self::ENOBUFS,
        Self::EISCONN,
        Self::ENOTCONN,
        Self::ETIMEDOUT,
        Self::ECONNREFUSED,
    ];

    /// The positive number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The negative number as an `int` in memory, for example in the `errs` list of
    /// [`XenAddToPhysmapBatch`](crate::memory::XenAddToPhysmapBatch).
    pub const fn to_int(self) -> i32 {
        -(self as u8 as i32)
    }

    /// The negative number as a register holds it, sign-extended to 64 bits; a 32-bit guest sees the low
    /// half.
    pub const fn to_register(self) -> u64 {
        self.to_int() as i64 as u64
    }
}

/// What a hypercall answers: a number that its documentation explains (0 for most), or why it failed.
pub type HypercallResult = Result<u64, Errno>;

/// The value of `x0` (in its low half `r0`) after a hypercall that ended with `result`.
pub const fn to_register(result: HypercallResult) -> u64 {
    match result {
        Ok(value) => value,
        Err(errno) => errno.to_register(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_travel_as_negative_numbers() {
        assert_eq!(to_register(Ok(7)), 7);
        assert_eq!(to_register(Err(Errno::ENOSYS)) as i64, -38);
        assert_eq!(to_register(Err(Errno::ENOSYS)) as u32 as i32, -38);
        assert_eq!(Errno::EACCES.to_int(), -13);
        assert!(Errno::ALL.is_sorted_by_key(|e| e.number()));
    }
}
