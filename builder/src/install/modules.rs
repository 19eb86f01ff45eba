//! A kernel's modules where modprobe looks for them.

use crate::error::{Error, Result};
use crate::modules::files_below;
use crate::profile::KernelModules;
use crate::tree::{Node, Source, Tree};

/// Puts the modules of the kernel whose package has these `files` into `tree`, in `/usr/lib/modules`, but for those that
/// `which` leaves out. What depends on what is written down later, by the system's own depmod.
pub(crate) fn add_modules(tree: &mut Tree, files: &Source, which: &KernelModules) -> Result<()> {
    let without: Vec<String> = which.without.iter().map(|folder| format!("kernel/{folder}/")).collect();
    let mut found = false;
    files_below(files, |path, data| {
        // `VERSION/kernel/...`
        let Some((_, inner)) = path.split_once('/') else { return Ok(()) };
        if without.iter().any(|folder| inner.starts_with(folder)) {
            return Ok(());
        }
        found = true;
        tree.replace(format!("usr/lib/modules/{path}"), Node::file(0o644, data))
    })?;
    if found { Ok(()) } else { Err(Error::new("the kernel's package has no modules")) }
}
