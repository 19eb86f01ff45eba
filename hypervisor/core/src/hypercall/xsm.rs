//! `xsm_op`: security labels and policy (`xsm/flask_op.h`). There is no such policy here, and this is how Xen answers that
//! was built without: the tools take it to mean that domains have no labels, and go on.

use vambrace_abi::errno::{Errno, HypercallResult};

pub(super) fn op() -> HypercallResult {
    Err(Errno::ENOSYS)
}
