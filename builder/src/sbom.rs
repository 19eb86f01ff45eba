//! The bill of materials of an image, as SPDX 2.3 has it in JSON (<https://spdx.github.io/spdx-spec/v2.3/>).
//!
//! The image, the hypervisor, the builder, and each package that something was taken from; packages are named by package
//! URL, as scanners for known faults want them.

use crate::apt::Package;
use crate::calendar::Utc;
use crate::companions::Described;
use crate::pins::Name;
use crate::plan::Artifact;
use serde_json::{Value, json};

/// Where nothing is claimed. Debian's licences stand in each package's copyright file.
const NONE: &str = "NOASSERTION";
/// What this project is licensed under.
const OWN_LICENCE: &str = "MIT OR Apache-2.0";
/// Where Debian's packages are, whichever mirror they came from.
const ARCHIVE: &str = "https://deb.debian.org/debian";

/// The document.
pub(crate) fn document(described: &Described<'_>) -> Value {
    let record = described.record;
    let mut packages = vec![image(described), hypervisor(described), builder(described)];
    let mut relations = vec![
        relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image"),
        relation("SPDXRef-image", "CONTAINS", "SPDXRef-hypervisor"),
        relation("SPDXRef-builder", "BUILD_TOOL_OF", "SPDXRef-image"),
    ];
    for (name, artifact) in &described.firmware {
        let package = firmware(name, artifact);
        relations.push(relation("SPDXRef-image", "CONTAINS", package["SPDXID"].as_str().unwrap_or_default()));
        packages.push(package);
    }
    let mut seen = Vec::new();
    for (name, package) in described.pins.packages() {
        let id = id(package);
        if !seen.contains(&id) {
            packages.push(debian(name, package, &id));
            seen.push(id.clone());
        }
        // A package is there whole, or something of it is in the image, or only helped to make that.
        let kind = if described.pins.is_installed(name) { "CONTAINS" } else { "GENERATED_FROM" };
        relations.push(relation("SPDXRef-image", kind, &id));
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": described.name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/vambrace-image-{}", record.map),
        "creationInfo": {
            "created": Utc::of(record.epoch).to_string(),
            "creators": [format!("Tool: vambrace-{}", record.builder)],
        },
        "packages": packages,
        "relationships": relations,
    })
}

/// The package URL (<https://github.com/package-url/purl-spec>) of a package of Debian's.
pub(crate) fn purl(name: &Name, package: &Package) -> String {
    let Package { name: own, version, arch, .. } = package;
    format!(
        "pkg:deb/debian/{}@{}?arch={}&distro={}",
        encoded(own),
        encoded(version),
        encoded(arch),
        encoded(&name.release)
    )
}

/// Everything but letters, digits and `-._~:` percent-encoded.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A package's name in the document: letters, digits, `.` and `-`, and part of its hash, which tells `a+` from `a-`.
fn id(package: &Package) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = package.name.chars().map(plain).collect();
    let hash: String = package.sha256.chars().take(12).collect();
    format!("SPDXRef-deb-{name}-{hash}")
}

fn image(described: &Described<'_>) -> Value {
    json!({
        "SPDXID": "SPDXRef-image",
        "name": described.name,
        "packageFileName": described.name,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "comment": format!("{}.bmap has SHA-256 {}, and the hashes of everything in use", described.name, described.record.map),
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
    })
}

fn hypervisor(described: &Described<'_>) -> Value {
    let artifact = described.hypervisor;
    let sources = match &described.record.sources {
        Some(sources) if described.compiled => format!("; sources: commit {}", sources.short()),
        _ => String::new(),
    };
    let mut package = json!({
        "SPDXID": "SPDXRef-hypervisor",
        "name": "hypervisor",
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "sourceInfo": format!("{}{sources}", artifact.from),
        "checksums": checksums(artifact.sha256.as_deref().unwrap_or_default()),
        "licenseConcluded": NONE,
        "licenseDeclared": if described.compiled { OWN_LICENCE } else { NONE },
        "copyrightText": NONE,
    });
    if described.compiled {
        package["name"] = json!("vambrace-hypervisor");
        package["versionInfo"] = json!(described.record.builder);
    }
    package
}

/// Firmware of the user's: nothing but its hash tells what it is, for its path is of the machine.
fn firmware(name: &str, artifact: &Artifact) -> Value {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let id: String = name.chars().map(plain).collect();
    json!({
        "SPDXID": format!("SPDXRef-firmware-{id}"),
        "name": name,
        "primaryPackagePurpose": "FIRMWARE",
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "checksums": checksums(artifact.sha256.as_deref().unwrap_or_default()),
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
    })
}

fn builder(described: &Described<'_>) -> Value {
    json!({
        "SPDXID": "SPDXRef-builder",
        "name": "vambrace",
        "versionInfo": described.record.builder,
        "primaryPackagePurpose": "APPLICATION",
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "licenseConcluded": NONE,
        "licenseDeclared": OWN_LICENCE,
        "copyrightText": NONE,
    })
}

fn debian(name: &Name, package: &Package, id: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "packageFileName": package.filename.rsplit('/').next().unwrap_or_default(),
        "supplier": "Organization: Debian",
        "downloadLocation": format!("{ARCHIVE}/{}", package.filename.replace('+', "%2B").replace('~', "%7E")),
        "filesAnalyzed": false,
        "checksums": checksums(&package.sha256),
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl(name, package),
        }],
    })
}

fn checksums(sha256: &str) -> Value {
    json!([{ "algorithm": "SHA256", "checksumValue": sha256 }])
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::companions::tests::described;
    use crate::pins::tests::package;

    #[test]
    fn every_package_is_there_once_and_related_to_the_image() {
        let document = described(document);
        let packages = document["packages"].as_array().unwrap();
        let ids: Vec<&str> = packages.iter().map(|package| package["SPDXID"].as_str().unwrap()).collect();
        assert_eq!(packages.len(), 3 + 1 + 4, "{document}");
        let relations = document["relationships"].as_array().unwrap();
        for id in &ids {
            assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "{id}");
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            assert!(id.starts_with("SPDXRef-") && id.chars().all(plain), "{id}");
            let named = |relation: &Value| {
                [&relation["spdxElementId"], &relation["relatedSpdxElement"]].contains(&&json!(id))
            };
            assert!(relations.iter().any(named), "{id}");
        }
        let kind = |name: &str| {
            let id = packages.iter().find(|package| package["name"] == name).unwrap()["SPDXID"].clone();
            let found = relations.iter().find(|relation| relation["relatedSpdxElement"] == id).unwrap();
            found["relationshipType"].as_str().unwrap().to_owned()
        };
        assert_eq!((&*kind("adduser"), &*kind("busybox-static")), ("CONTAINS", "GENERATED_FROM"));
        assert_eq!(document["creationInfo"]["created"], "2026-01-01T00:00:00Z");
        assert_eq!(kind("MLO"), "CONTAINS");
        let mlo = packages.iter().find(|package| package["name"] == "MLO").unwrap();
        assert_eq!(mlo["checksums"][0]["checksumValue"], "0e".repeat(32));
        assert_eq!(
            (&mlo["SPDXID"], &mlo["primaryPackagePurpose"]),
            (&json!("SPDXRef-firmware-MLO"), &json!("FIRMWARE"))
        );
        let info = packages[1]["sourceInfo"].as_str().unwrap();
        assert!(info.ends_with("; sources: commit 0b0b0b0b0b0b"), "{info}");
    }

    #[test]
    fn package_urls_are_encoded() {
        let name = Name::new("trixie", "arm64", "g++");
        assert_eq!(
            purl(&name, &package("g++", "4:14.2~rc1+b1")),
            "pkg:deb/debian/g%2B%2B@4:14.2~rc1%2Bb1?arch=arm64&distro=trixie"
        );
        assert_ne!(id(&package("g++", "1")), id(&package("g--", "1")));
    }
}
