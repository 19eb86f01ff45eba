//! Packages by their place in the archive, for those that its lists do not have any more, or that are pinned where there are
//! no lists. They are what they should be by their hash, which comes from a signed list of some day.

use super::{Apt, Package, run};
use crate::error::Result;
use std::path::Path;
use std::process::Output;

/// apt's own downloader, with all that apt knows of proxies and certificates (apt-helper(1)).
const HELPER: &str = "/usr/lib/apt/apt-helper";

impl Apt {
    /// Downloads `packages`, all in one go, from their paths below the mirror into `folder`, under the names of
    /// [`Apt::path`]. Those that cannot be had, or have another hash, are not there afterwards; apt's words say why.
    pub(super) fn fetch_by_path(
        &self,
        packages: &[&Package],
        config: &Path,
        folder: &Path,
    ) -> Result<Output> {
        let mut command = self.apt(HELPER, config);
        command.args(["-q", "download-file"]);
        for package in packages {
            let target = self.path(package);
            command
                .arg(format!("{}/{}", self.mirror, package.filename))
                .arg(folder.join(target.file_name().unwrap_or_default()))
                .arg(format!("SHA256:{}", package.sha256));
        }
        run(&mut command)
    }
}
