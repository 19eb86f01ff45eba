//! The maps of a plan, which may come from a file that others can write to.

use serde::Deserialize;

use super::{Explanation, Handover};
use crate::decision::{Decision, Request};
use crate::draw::{Map, Role, Span};
use crate::error::{Error, Result, ResultExt};
use crate::plan::{Artifacts, Plan};
use crate::report::size;
use crate::workspace::Workspace;
use vambrace_bsp::Size;

/// Ranges that are taken from a plan; ours have a dozen.
const MOST: usize = 1000;

/// What of a plan the maps are made from.
#[derive(Debug, Deserialize)]
pub(super) struct Planned {
    board: String,
    method: String,
    dom0_mem: u64,
    ram: (u64, u64),
    ram_map: Vec<PlannedRegion>,
    loads: Vec<PlannedLoad>,
    #[serde(default)]
    remarks: Vec<String>,
    pub(super) disk: PlannedDisk,
}

#[derive(Debug, Deserialize)]
struct PlannedRegion {
    what: String,
    start: u64,
    size: u64,
    why: String,
}

#[derive(Debug, Deserialize)]
struct PlannedLoad {
    address: u64,
    size: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct PlannedDisk {
    pub(super) size: u64,
    extents: Vec<PlannedExtent>,
    pub(super) partitions: Vec<PlannedPartition>,
}

#[derive(Debug, Deserialize)]
struct PlannedExtent {
    what: String,
    start: u64,
    size: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct PlannedPartition {
    pub(super) start: u64,
    pub(super) size: u64,
    files: Vec<PlannedFile>,
}

#[derive(Debug, Deserialize)]
struct PlannedFile {
    path: String,
    size: u64,
}

impl Planned {
    /// Takes what is needed from a plan as JSON.
    pub(super) fn read(plan: &serde_json::Value) -> Result<Self> {
        let planned = Self::deserialize(plan).context(|| "this is no plan of an image")?;
        if planned.ram_map.len().max(planned.disk.extents.len()).max(planned.remarks.len()) > MOST {
            return Err(Error::new("the plan has more ranges than any image"));
        }
        Ok(planned)
    }

    fn medium(&self) -> Map {
        let spans = self.disk.extents.iter().map(|extent| {
            let partition = self.disk.partitions.iter().find(|partition| partition.start == extent.start);
            let role = if partition.is_some() {
                Role::Volume
            } else if extent.what.starts_with("firmware") {
                Role::Firmware
            } else {
                Role::Table
            };
            let files = partition.into_iter().flat_map(|partition| &partition.files);
            let files = files.map(|file| format!("{}, {}", file.path, size(file.size))).collect();
            Span::new(&extent.what, extent.start, extent.size, role).inside(files)
        });
        Map::new(format!("Medium: {}", size(self.disk.size)), 0, self.disk.size, spans.collect())
    }

    /// RAM when everything has been loaded, and when the hypervisor has the CPU.
    pub(super) fn memory(&self) -> Vec<Handover> {
        if self.ram_map.is_empty() {
            return Vec::new();
        }
        let span = |region: &PlannedRegion, bytes: u64| {
            Span::new(&region.what, region.start, bytes, self.role(&region.what)).detail(region.why.clone())
        };
        let map = |when: &str, spans| Handover {
            when: when.to_owned(),
            map: Map::new(format!("RAM, {when}"), self.ram.0, self.ram.1, spans),
        };
        // The firmware keeps its own until it leaves; what it loads has the size of its file.
        let loaded = |region: &PlannedRegion| {
            let load = self.loads.iter().find(|load| load.address == region.start);
            span(region, load.map_or(region.size, |load| load.size))
        };
        // A script, and what only the firmware had, are free from then on.
        let firmware = |region: &&PlannedRegion| !matches!(self.role(&region.what), Role::Firmware);
        vec![
            map("the firmware has loaded everything", self.ram_map.iter().map(loaded).collect()),
            map(
                "the firmware hands over to the hypervisor",
                self.ram_map.iter().map(|region| span(region, region.size)).collect(),
            ),
            map(
                "the hypervisor starts dom0 and guests",
                self.ram_map.iter().filter(firmware).map(|region| span(region, region.size)).collect(),
            ),
        ]
    }

    fn role(&self, what: &str) -> Role {
        match what {
            "hypervisor" => Role::Hypervisor,
            "kernel" | "ramdisk" | "device-tree" => Role::Boot,
            "boot-script" => Role::Firmware,
            what if what.starts_with("guest-") => Role::Boot,
            what if what.starts_with("reserved") || what.starts_with("shared memory") => Role::Reserved,
            _ => Role::Firmware,
        }
    }

    /// What the maps leave open.
    pub(super) fn remarks(&self) -> Vec<String> {
        let dom0 = size(self.dom0_mem);
        if self.ram_map.is_empty() {
            let what = format!("by {} the firmware decides at run time where in RAM things are", self.method);
            let dom0 = format!("dom0 gets {dom0}, where the hypervisor finds them");
            return [what, dom0].into_iter().chain(self.remarks.clone()).collect();
        }
        let taken: u64 = self.ram_map.iter().fold(0, |sum, region| sum.saturating_add(region.size));
        let free = (self.ram.1.saturating_sub(self.ram.0)).saturating_sub(taken);
        let dom0 = format!(
            "dom0's {dom0}, and guests' memory, are taken by the hypervisor at run time from what is free: {} and what the \
             firmware leaves; kernel and ramdisk are copied into dom0",
            size(free)
        );
        std::iter::once(dom0).chain(self.remarks.clone()).collect()
    }
}

/// Explains a plan.
///
/// # Errors
/// A plan that JSON has no form for.
pub fn of_plan(plan: &Plan) -> Result<Explanation> {
    let value = serde_json::to_value(plan).context(|| "cannot write the plan as JSON")?;
    let planned = Planned::read(&value)?;
    let title = format!("{} by {}, layout {}", planned.board, planned.method, plan.layout);
    Ok(Explanation::new(title, planned.medium(), planned.memory(), planned.remarks()))
}

/// Explains the image that `request` asks for. `artifacts` are the parts of a decision.
///
/// # Errors
/// What cannot be planned; where things would lie over one another or have no room, with the smallest change of the request
/// that can be planned.
pub fn of_board(
    workspace: &Workspace,
    request: &Request,
    artifacts: impl Fn(&Decision) -> Result<Artifacts>,
) -> Result<Explanation> {
    let decision = Decision::new(workspace, request)?;
    let parts = artifacts(&decision)?;
    let plan = Plan::new(&decision, parts).map_err(|error| {
        let works = |request: &Request| {
            let decision = Decision::new(workspace, request)?;
            Plan::new(&decision, artifacts(&decision)?)
        };
        match changes(&decision, request).into_iter().find(|(_, request)| works(request).is_ok()) {
            Some((change, _)) => error.help(format!("the smallest change that mends it: {change}")),
            None => error,
        }
    })?;
    of_plan(&plan)
}

/// Requests that differ in one thing, the smallest difference first.
fn changes(decision: &Decision, request: &Request) -> Vec<(String, Request)> {
    let mut changes = Vec::new();
    let (least, most) = (decision.board.memory.min.bytes(), decision.board.memory.max.bytes());
    let (memory, dom0) = (decision.memory.bytes(), decision.dom0_mem.bytes());
    for layout in decision.boot.layouts.iter().filter(|layout| **layout != decision.layout.id) {
        let new = Request { layout: Some(layout.clone()), ..request.clone() };
        changes.push((format!("--layout {layout}"), new));
    }
    let step = 64 << 20;
    for count in 1..=64 {
        let more = Size(memory.saturating_add(count * step));
        if more.bytes() <= most && more.bytes() >= least {
            changes.push((format!("--memory {more}"), Request { memory: Some(more), ..request.clone() }));
        }
        if let Some(less) = dom0.checked_sub(count * step).filter(|less| *less >= step).map(Size) {
            changes.push((format!("--dom0-mem {less}"), Request { dom0_mem: Some(less), ..request.clone() }));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(ramdisk: u64) -> serde_json::Value {
        let region = |what: &str, start: u64, size: u64| json!({"what": what, "start": start, "size": size, "why": "w"});
        json!({
            "board": "b", "method": "uboot", "dom0_mem": 1 << 28, "ram": [1 << 30, 2_u64 << 30],
            "ram_map": [
                region("hypervisor", 0x4020_0000, 0x20_0000), region("kernel", 0x4060_0000, 0x40_0000),
                region("ramdisk", ramdisk, 0x10_0000), region("U-Boot", 0x7c00_0000, 0x400_0000),
            ],
            "loads": [{"address": 0x4020_0000, "size": 0x1_0000}],
            "disk": {
                "size": 1 << 26,
                "extents": [
                    {"what": "MBR: partition table", "start": 0, "size": 512},
                    {"what": "firmware u-boot", "start": 8192, "size": 1000},
                    {"what": "partition `p`", "start": 1 << 20, "size": 1 << 20},
                ],
                "partitions": [{"start": 1 << 20, "size": 1 << 20, "files": [{"path": "f", "size": 5}]}],
            },
        })
    }

    fn explained(value: &serde_json::Value) -> Explanation {
        let planned = Planned::read(value).unwrap();
        Explanation::new("t".into(), planned.medium(), planned.memory(), planned.remarks())
    }

    #[test]
    fn each_hand_over_has_its_map() {
        let explained = explained(&plan(0x4100_0000));
        assert!(explained.is_disjoint() && explained.memory.len() == 3);
        let sizes: Vec<u64> = explained.memory.iter().map(|handover| handover.map.spans()[0].size).collect();
        assert_eq!(sizes, [0x1_0000, 0x20_0000, 0x20_0000], "the file, then what it takes");
        let last = &explained.memory[2].map;
        assert!(last.spans().iter().all(|span| span.name != "U-Boot"), "the firmware has left");
        let roles: Vec<Role> = explained.medium.spans().iter().map(|span| span.role).collect();
        assert_eq!(roles, [Role::Table, Role::Firmware, Role::Volume]);
        assert!(explained.text(80).contains("on any of the 4 maps") && explained.html().contains("4 maps"));
    }

    #[test]
    fn an_overlap_comes_with_what_mends_it() {
        let explained = explained(&plan(0x4090_0000));
        let changes: Vec<&str> = explained.conflicts.iter().filter_map(|c| c.change.as_deref()).collect();
        assert_eq!(
            changes,
            ["load ramdisk at 0x40000000 instead of 0x40900000"],
            "{:?}",
            explained.conflicts
        );
        assert!(explained.text(80).contains("to mend it, load ramdisk"));
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        assert!(Planned::read(&json!({})).is_err());
        let mut many = plan(0);
        many["ram_map"] = vec![many["ram_map"][0].clone(); MOST + 1].into();
        assert!(Planned::read(&many).is_err());
        let mut wide = plan(u64::MAX);
        wide["ram"] = json!([u64::MAX, 0]);
        explained(&wide).text(80);
    }
}
