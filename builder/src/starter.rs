//! Which firmware starts an image in QEMU: that of the boot method which the image is built for, or of another one of the
//! board's, where the layout boots by that too.

use crate::config::ImageConfig;
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::firmware::sources;
use crate::layout::{Content, Layout};
use vambrace_bsp::{BootMethod, Firmware, Loader, Method};

impl Decision {
    /// The same image, started by the firmware of `method`.
    ///
    /// # Errors
    ///
    /// The board has none for it that QEMU can run, or the layout has nothing that it would start.
    pub fn started_by(mut self, method: Method) -> Result<Self> {
        let board = &self.board;
        let Some(boot) = board.boot.get(&method) else {
            let known = board.boot.keys().map(|method| method.name()).collect::<Vec<_>>().join(", ");
            return Err(Error::new(format!("{} does not boot with {method}", board.id))
                .help(format!("it boots with: {known}")));
        };
        if method == Method::Direct || board.qemu.as_ref().is_some_and(|qemu| qemu.loader == Loader::Direct) {
            return Err(Error::new(format!("no firmware of {} runs in QEMU", board.id))
                .help("leave out --firmware: the builder stands in for it"));
        }
        if !boots_by(&self.layout, method) {
            let text = format!("the layout `{}` has nothing that {method} starts", self.layout.id);
            return Err(Error::new(text).help("choose one for both: --layout gpt-uboot-uefi"));
        }
        let on_medium = |name: &&String| board.firmware.get(*name).is_some_and(Firmware::is_on_medium);
        if let Some(name) = boot.firmware.iter().filter(|_| method != self.method).find(on_medium) {
            let text = format!(
                "the firmware `{name}` starts from the medium, and this image is for {}",
                self.method
            );
            return Err(Error::new(text).help(format!("build the one that has it: --method {method}")));
        }
        // Its own firmware is decided already, with what the user has in place of it.
        if method == self.method {
            return Ok(self);
        }
        let others = ImageConfig::default();
        self.firmware.extend(sources(board, boot, &self.board_dir, &others)?);
        self.starter = method;
        Ok(self)
    }

    /// What the board says of the method whose firmware starts the image in QEMU.
    pub fn starter(&self) -> &BootMethod {
        match self.board.boot.get(&self.starter) {
            // The image's own may have been changed after the description was read.
            Some(boot) if self.starter != self.method => boot,
            _ => &self.boot,
        }
    }
}

/// Whether there is something in `layout` that firmware of this method looks for.
fn boots_by(layout: &Layout, method: Method) -> bool {
    layout.method == method
        || match method {
            Method::Uboot => layout.find(Content::BootScript).is_some(),
            Method::Uefi => layout.find(Content::EfiConfig).is_some(),
            Method::Direct => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Request;
    use crate::workspace::Workspace;
    use std::path::Path;

    fn decided(board: &str, layout: Option<&str>) -> Decision {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let workspace = Workspace::open(Some(&root), None).unwrap();
        let request = Request {
            board: board.into(),
            method: Some(Method::Uboot),
            layout: layout.map(str::to_owned),
            ..Request::default()
        };
        Decision::new(&workspace, &request).unwrap()
    }

    #[test]
    fn the_other_firmware_starts_the_same_image() {
        let decision = decided("qemu-arm64", Some("gpt-uboot-uefi"));
        assert_eq!((decision.starter, decision.starter()), (Method::Uboot, &decision.boot));
        assert_eq!(decision.firmware.keys().collect::<Vec<_>>(), ["u-boot"]);
        let other = decision.clone().started_by(Method::Uefi).unwrap();
        assert_eq!((&other.boot, &other.image), (&decision.boot, &decision.image));
        assert_eq!(other.starter().firmware, ["edk2-code", "edk2-vars"]);
        assert_eq!(other.starter().machine_options, ["acpi=off"]);
        assert_eq!(other.firmware.keys().collect::<Vec<_>>(), ["edk2-code", "edk2-vars", "u-boot"]);
    }

    #[test]
    fn guests_that_the_script_brings_keep_the_other_firmware_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let workspace = Workspace::open(Some(&root), None).unwrap();
        let layout = Some("gpt-uboot-uefi".to_owned());
        let config = ImageConfig::read(&root.join("ci/nightly/static-guests.toml"), &[]).unwrap();
        let request = Request { board: "qemu-arm64".into(), layout, config, ..Request::default() };
        let decision = Decision::new(&workspace, &request).unwrap();
        assert!(
            decision.warnings[0].starts_with("this image boots by U-Boot alone"),
            "{:?}",
            decision.warnings
        );
        assert_eq!(decision.layout.find(Content::EfiConfig), None);
        assert!(
            decision.started_by(Method::Uefi).unwrap_err().what().ends_with("has nothing that uefi starts")
        );
        assert!(decided("qemu-arm64", Some("gpt-uboot-uefi")).warnings.is_empty());
    }

    #[test]
    fn a_firmware_that_would_find_nothing_is_refused() {
        for (board, layout, method, says) in [
            ("qemu-arm64", None, Method::Uefi, "the layout `gpt-uboot` has nothing that uefi starts"),
            ("qemu-arm64", None, Method::Direct, "qemu-arm64 does not boot with direct"),
            ("qemu-armv7", None, Method::Uefi, "qemu-armv7 does not boot with uefi"),
            ("xgene-mustang", None, Method::Uboot, "no firmware of xgene-mustang runs in QEMU"),
        ] {
            let error = decided(board, layout).started_by(method).unwrap_err();
            assert_eq!(error.what(), says);
        }
    }
}
