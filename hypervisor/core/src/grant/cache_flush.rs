//! `GNTTABOP_cache_flush`: what it is to do, once its numbers are checked.

use vambrace_abi::errno::Errno;
use vambrace_abi::grant_table::*;

use crate::addr::{PAGE_SIZE, Pa};

/// A request that has an effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheFlush {
    /// First byte, as a bus address, which is a physical address. It lies, with all of `length`, in one page.
    pub at: Pa,
    /// Bytes, 1 to 4096.
    pub length: u64,
    /// Drop the lines. Cleaning them first is allowed, and what we do: a guest could otherwise make another's writes
    /// disappear.
    pub invalidate: bool,
}

impl CacheFlush {
    /// Checks a request. `None` is one without an effect, by which guests ask whether the operation exists. EINVAL for
    /// a range that leaves the page, or another operation, which for Xen is one on a page named by grant too.
    ///
    /// Whether the page at [`CacheFlush::at`] is the caller's own, or one granted to it, is for the caller of this to
    /// find out.
    pub fn check(request: &GnttabCacheFlush) -> Result<Option<Self>, Errno> {
        let (offset, length) = (u64::from(request.offset), u64::from(request.length));
        let unknown = request.op & !(GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL) != 0;
        if offset >= PAGE_SIZE || length > PAGE_SIZE || offset + length > PAGE_SIZE || unknown {
            return Err(Errno::EINVAL);
        }
        if request.length == 0 || request.op == 0 {
            return Ok(None);
        }
        let at = Pa(request.addr).page().offset(offset);
        Ok(Some(Self { at, length, invalidate: request.op & GNTTAB_CACHE_INVAL != 0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_flush_is_checked() {
        let request = |addr, offset, length, op| GnttabCacheFlush { addr, offset, length, op };
        let check = |offset, length, op| CacheFlush::check(&request(0x8_0123, offset, length, op));
        assert_eq!(check(0, 0, 0), Ok(None));
        let done = CacheFlush { at: Pa(0x8_0ff0), length: 16, invalidate: true };
        assert_eq!(check(0xff0, 16, GNTTAB_CACHE_INVAL), Ok(Some(done)));
        assert_eq!(check(0xff0, 17, GNTTAB_CACHE_CLEAN), Err(Errno::EINVAL));
        assert_eq!(check(0x1000, 0, GNTTAB_CACHE_CLEAN), Err(Errno::EINVAL));
        assert_eq!(check(0, 1, 4), Err(Errno::EINVAL));
        assert_eq!(check(0, 1, GNTTAB_CACHE_SOURCE_GREF | GNTTAB_CACHE_CLEAN), Err(Errno::EINVAL));
    }
}
