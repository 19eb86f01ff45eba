//! placeholder
use super::Caller;
use crate::machine::Machine;
use vambrace_abi::errno::{Errno, HypercallResult};

pub(super) fn op<M: Machine>(_: &Caller<'_, M>, _: u64, _: u64, _: u64) -> HypercallResult {
    Err(Errno::ENOSYS)
}
