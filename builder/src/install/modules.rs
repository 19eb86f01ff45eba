//! A kernel's modules where modprobe looks for them.

use crate::cpio::{Node, Tree};
use crate::deb::Deb;
use crate::error::{Error, Result};
use crate::profile::KernelModules;

/// Puts the modules of the kernel in `deb` into `tree`, in `/usr/lib/modules`, but for those that `which` leaves out. What
/// depends on what is written down later, by the system's own depmod.
pub(crate) fn add_modules(tree: &mut Tree, deb: &Deb, which: &KernelModules) -> Result<()> {
    let without: Vec<String> = which.without.iter().map(|folder| format!("kernel/{folder}/")).collect();
    // `/usr/lib/modules/VERSION/kernel/...`; before Debian 13 it is `/lib/modules`.
    let below = |path: &str| -> Option<String> {
        let path = path.strip_prefix("/usr").unwrap_or(path);
        path.strip_prefix("/lib/modules/").map(str::to_owned)
    };
    let wanted = |path: &str| {
        below(path).is_some_and(|path| {
            path.split_once('/')
                .is_some_and(|(_, inner)| !without.iter().any(|folder| inner.starts_with(folder)))
        })
    };
    let mut files = Vec::new();
    deb.read_where(wanted, |path, data| files.push((path.to_owned(), data)))?;
    if files.is_empty() {
        return Err(Error::new("the kernel's package has no modules"));
    }
    for (path, data) in files {
        if let Some(path) = below(&path) {
            tree.replace(&format!("usr/lib/modules/{path}"), Node::File { mode: 0o644, data })?;
        }
    }
    Ok(())
}
