#!/usr/bin/env python3
"""Reads an image's statement of provenance with in-toto's own library, and compares it with the image.

    ci/image-tests/statement.py IMAGE

Exits 0 when the statement is well-formed, has SLSA's provenance in it, and is about this very image.
"""

import hashlib
import json
import pathlib
import sys

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1 import statement_pb2


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    image = pathlib.Path(sys.argv[1])
    text = image.with_suffix(".intoto.json").read_text(encoding="utf-8")
    # Both refuse a field that they do not know, or of another type.
    read = json_format.Parse(text, statement_pb2.Statement())
    statement = Statement.copy_from_pb(read)
    statement.validate()
    provenance = json_format.ParseDict(json.loads(text)["predicate"], provenance_pb2.Provenance())
    definition = provenance.build_definition
    assert read.predicate_type == "https://slsa.dev/provenance/v1", read.predicate_type
    assert definition.build_type and definition.external_parameters and provenance.run_details.builder.id
    names = [subject.name for subject in read.subject]
    # The hash of the whole image is there where it is signed.
    signed = image.with_suffix(".intoto.json.sig").exists()
    assert names == ([image.name] if signed else []) + [f"{image.name}.bmap"], names
    for subject in read.subject:
        with image.with_name(subject.name).open("rb") as file:
            assert subject.digest["sha256"] == hashlib.file_digest(file, "sha256").hexdigest(), subject
    packages = [found for found in definition.resolved_dependencies if found.uri.startswith("pkg:deb/debian/")]
    assert packages and all(len(found.digest["sha256"]) == 64 for found in packages), definition
    print(f"{image.name}: of {len(definition.resolved_dependencies)} dependencies, {len(packages)} of them packages")


if __name__ == "__main__":
    main()
