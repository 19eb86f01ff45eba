//! The copy of an image that keeps what a machine writes. The image itself stays what the build made it.

use crate::build::{Built, manifest_path};
use crate::cache::{read_json, replace_file, to_json};
use crate::disk::copy_image;
use crate::error::{Error, Result};
use crate::progress::Progress;
use std::path::Path;

const EXTENSION: &str = "persistent.img";

/// Whether `image` is such a copy, by its name.
pub fn is_persistent(image: &Path) -> bool {
    image.to_string_lossy().ends_with(&format!(".{EXTENSION}"))
}

/// The persistent copy of what was built, beside it. It is made once: what is in it is the user's, and a later build
/// does not touch it.
///
/// # Errors
///
/// The copy cannot be made, or one is there of which nothing is known.
pub fn persistent(built: &Built, progress: &Progress) -> Result<Built> {
    let image = built.image.with_extension(EXTENSION);
    let beside = manifest_path(&image);
    let manifest = if image.exists() {
        read_json(&beside).ok_or_else(|| {
            Error::new("its manifest, the .json beside it, is not there or cannot be read")
                .at(&image)
                .help("move the image away, out of this folder, and it is made anew")
        })?
    } else {
        // The image last: with it the copy is whole.
        replace_file(&beside, &to_json(&built.manifest)?)?;
        copy_image(&built.image, &image, progress)?;
        built.manifest.clone()
    };
    if manifest.fingerprint != built.manifest.fingerprint {
        progress.line(format!(
            "{} is of another build and boots as it is; to begin with the new image, move it and {} away together",
            image.display(),
            beside.display()
        ));
    }
    Ok(Built { image, manifest, up_to_date: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Manifest;
    use crate::cache::Stamp;
    use std::fs;

    #[test]
    fn a_copy_is_made_once_and_outlives_the_next_build() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x.img");
        // A hole, a byte that is not on a block's border, and an end that is not on one either.
        let mut data = vec![0; (3 << 20) + 5];
        data[(1 << 20) + 7] = 1;
        fs::write(&image, &data).unwrap();
        let manifest = Manifest {
            fingerprint: "first".into(),
            stamp: Stamp::of(&image).unwrap(),
            map: String::new(),
            size: data.len() as u64,
            packages: Vec::new(),
            plan: serde_json::Value::Null,
            packed: Vec::new(),
            known: Default::default(),
        };
        let mut built = Built { image: image.clone(), manifest, up_to_date: false };
        let copy = persistent(&built, &Progress::quiet()).unwrap();
        assert_eq!(copy.image, dir.path().join("x.persistent.img"));
        assert!(is_persistent(&copy.image) && !is_persistent(&image));
        assert!(fs::read(&copy.image).unwrap() == data, "a copy has the same bytes");

        fs::write(&copy.image, "written by dom0").unwrap();
        built.manifest.fingerprint = "second".into();
        let again = persistent(&built, &Progress::quiet()).unwrap();
        assert_eq!((&again.image, again.manifest.fingerprint.as_str()), (&copy.image, "first"));
        assert_eq!(fs::read(&copy.image).unwrap(), b"written by dom0");
        assert!(fs::read(&image).unwrap() == data, "the image is what it was");

        fs::remove_file(manifest_path(&copy.image)).unwrap();
        let report = persistent(&built, &Progress::quiet()).unwrap_err().report();
        assert!(report.contains("x.persistent.img: its manifest") && report.contains("move"), "{report}");
    }
}
