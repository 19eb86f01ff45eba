//! The guest's physical map as it changes it: shared pages in, pages out.

use super::Page;
use super::abi::{AddToPhysmap, operation3};
use crate::board::Board;
use crate::exception::catch;
use crate::gic::{read, write};
use crate::hypercall::errno::{EBUSY, EINVAL};
use crate::hypercall::number::{GRANT_TABLE_OP, MEMORY_OP};
use crate::hypercall::{SELF, operation};
use crate::report::{Report, holds, result, same};

const SPACE_SHARED_INFO: u32 = 0;
const SPACE_GRANT_TABLE: u32 = 1;
const ADD_TO_PHYSMAP: u64 = 7;
const REMOVE_FROM_PHYSMAP: u64 = 15;
const SET_VERSION: u64 = 8;
const QUERY_SIZE: u64 = 6;

/// Puts a page of the hypervisor's at `frame`.
pub(crate) fn add(space: u32, index: u64, frame: u64) -> i64 {
    operation(MEMORY_OP, ADD_TO_PHYSMAP, &mut AddToPhysmap { domain: SELF, size: 0, space, index, frame })
}

fn remove(frame: u64) -> i64 {
    operation(MEMORY_OP, REMOVE_FROM_PHYSMAP, &mut [u64::from(SELF), frame])
}

/// Where shared_info is after this group or [`shared_info`].
static SHARED: [Page; 2] = [const { Page::new() }; 2];

/// Maps shared_info where this module keeps it, if it is not there yet.
pub(crate) fn shared_info() -> Result<&'static Page, i64> {
    for page in &SHARED {
        match remove_and_add(page) {
            0 => return Ok(page),
            EBUSY => {}
            error => return Err(error),
        }
    }
    Err(EBUSY)
}

/// Maps shared_info at a page that may have it already. What is there before is lost.
fn remove_and_add(page: &Page) -> i64 {
    remove(page.frame());
    add(SPACE_SHARED_INFO, 0, page.frame())
}

pub(crate) fn run(report: &mut Report, board: &Board) {
    report.test("memory.shared-info", || {
        SHARED[0].set(0, 0x1234_5678_9abc_def0u64);
        result("over a page of RAM", add(SPACE_SHARED_INFO, 0, SHARED[0].frame()), 0)?;
        holds("another page is there", SHARED[0].get::<u64>(0) != 0x1234_5678_9abc_def0, 0)?;
        // arch.. wc_version is behind the bitmaps; word 300 is unused.
        SHARED[0].set(2400, 0xabcdu64);
        result("only once", add(SPACE_SHARED_INFO, 0, SHARED[1].frame()), EBUSY)?;
        result("away", remove(SHARED[0].frame()), 0)?;
        result("elsewhere", add(SPACE_SHARED_INFO, 0, SHARED[1].frame()), 0)?;
        same("the same page", SHARED[1].get::<u64>(2400), 0xabcd)
    });
    let Some((window, size)) = board.grant_window else {
        return report.skip("memory.grant-frames", "no window in the device tree");
    };
    report.test("memory.grant-frames", || {
        result("version 1", operation3(GRANT_TABLE_OP, SET_VERSION, &mut 1u32), 0)?;
        // dom, nr_frames, max_nr_frames, status
        let mut query = [u32::from(SELF), 0, 0, 0xffff];
        result("query", operation3(GRANT_TABLE_OP, QUERY_SIZE, &mut query), 0)?;
        same("status", u64::from(query[3] & 0xffff), 0)?;
        let (frames, most) = (u64::from(query[1]), u64::from(query[2]));
        holds("at least one frame", frames >= 1 && most >= frames, frames)?;
        holds("the window holds them all", size >> 12 >= most, size)?;
        result("frame 0", add(SPACE_GRANT_TABLE, 0, window >> 12), 0)?;
        result("frame 1 grows the table", add(SPACE_GRANT_TABLE, 1, (window >> 12) + 1), 0)?;
        same("starts empty", u64::from(read(window + 0x100)), 0)?;
        write(window + 0x104, 0x55aa);
        same("keeps what is written", u64::from(read(window + 0x104)), 0x55aa)?;
        write(window + 0x104, 0);
        result("beyond the most", add(SPACE_GRANT_TABLE, most, (window >> 12) + 2), EINVAL)
    });
    report.test("memory.remove", || {
        let frame = (window >> 12) + 1;
        result("a grant frame", remove(frame), 0)?;
        holds("is gone", catch(|| _ = read(frame << 12)).is_some(), 0)?;
        holds("twice", remove(frame) != 0, 0)?;
        result("and back", add(SPACE_GRANT_TABLE, 1, frame), 0)?;
        holds("is there", catch(|| _ = read(frame << 12)).is_none(), 0)
    });
    if let Some((extended, _)) = board.extended {
        report.test("memory.extended-region-is-free", || {
            holds("aborts", catch(|| _ = read(extended)).is_some(), extended)
        });
    }
}
