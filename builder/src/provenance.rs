//! Where an image comes from, as a statement that other tools read: an in-toto Statement v1
//! (<https://github.com/in-toto/attestation>) with SLSA's provenance v1 (<https://slsa.dev/spec/v1.0/provenance>).

use crate::companions::Described;
use crate::sbom::purl;
use serde_json::{Value, json};

/// What the parameters mean: they are those of `vambrace build`, and [`crate::record::Record`] says how they are written.
const BUILD_TYPE: &str = "urn:vambrace:build:v1";
/// Who built it: this program, on a machine of the user's. It claims no level of isolation.
const BUILDER: &str = "urn:vambrace:builder";

/// The statement. It has no times and names no machine, so that each build of the same image gives the same.
pub(crate) fn statement(described: &Described<'_>) -> Value {
    let record = described.record;
    let mut dependencies: Vec<Value> = Vec::new();
    if let Some(sources) = &record.sources {
        dependencies.push(json!({
            "name": "sources",
            "digest": { "gitCommit": sources.commit },
            "annotations": { "modified": sources.modified },
        }));
    }
    for file in &record.files {
        dependencies.push(json!({ "name": file.path, "digest": { "sha256": file.sha256 } }));
    }
    for (name, package) in described.pins.packages() {
        dependencies.push(json!({ "uri": purl(name, package), "digest": { "sha256": package.sha256 } }));
    }
    // One package may stand for several names.
    let mut once: Vec<Value> = Vec::new();
    for dependency in dependencies {
        if !once.contains(&dependency) {
            once.push(dependency);
        }
    }
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": format!("{}.bmap", described.name), "digest": { "sha256": record.map } }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": { "request": record.request, "source-date-epoch": record.epoch },
                "internalParameters": { "hypervisor": described.hypervisor.from },
                "resolvedDependencies": once,
            },
            "runDetails": {
                "builder": { "id": BUILDER, "version": { "vambrace": record.builder } },
            },
        },
    })
}

/// Makes the statement one about the image of this name and hash too.
pub(crate) fn add_image(statement: &mut Value, name: &str, sha256: &str) {
    let image = json!({ "name": name, "digest": { "sha256": sha256 } });
    if let Some(subjects) = statement.get_mut("subject").and_then(Value::as_array_mut) {
        subjects.retain(|subject| subject["name"] != name);
        subjects.insert(0, image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::companions::tests::described;

    #[test]
    fn it_names_the_image_the_request_and_everything_that_went_in() {
        let mut statement = described(statement);
        assert_eq!(statement["subject"][0]["name"], "gpt-uboot-minimal.img.bmap");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], "0a".repeat(32));
        for hash in ["1", "2"] {
            add_image(&mut statement, "gpt-uboot-minimal.img", hash);
        }
        assert_eq!(statement["subject"].as_array().unwrap().len(), 2);
        assert_eq!(statement["subject"][0]["digest"]["sha256"], "2");
        let definition = &statement["predicate"]["buildDefinition"];
        assert_eq!(definition["externalParameters"]["request"]["board"], "qemu-arm64:gicv3");
        assert_eq!(definition["externalParameters"]["request"]["method"], "uefi");
        let dependencies = definition["resolvedDependencies"].as_array().unwrap();
        assert_eq!(dependencies.len(), 2 + 4, "{statement}");
        assert_eq!(dependencies[0]["digest"]["gitCommit"], "0b".repeat(20));
        assert_eq!(dependencies[1]["name"], "my/image.toml");
        assert_eq!(dependencies[2]["uri"], "pkg:deb/debian/adduser@3.152?arch=arm64&distro=trixie");
    }
}
