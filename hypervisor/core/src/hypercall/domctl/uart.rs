//! A domain's virtual UART (`XEN_DOMCTL_vuart_op`).

use vambrace_abi::domctl::{XEN_DOMCTL_VUART_OP_INIT, XEN_DOMCTL_VUART_TYPE_VPL011, XenDomctlVuartOp};
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::domain::Domain;
use crate::machine::Machine;

pub(super) fn op<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlVuartOp = call.body()?;
    if request.pad != [0; 2] || request.cmd != XEN_DOMCTL_VUART_OP_INIT {
        return Err(Errno::EINVAL);
    }
    // The guest may have looked for it already.
    if domain.life.lock().started {
        return Err(Errno::EPERM);
    }
    if request.kind != XEN_DOMCTL_VUART_TYPE_VPL011 {
        return Err(Errno::EOPNOTSUPP);
    }
    let evtchn = call.caller.hv.open_uart(domain, request.gfn, request.console_domid)?;
    call.answer(&XenDomctlVuartOp { evtchn, ..request })
}
