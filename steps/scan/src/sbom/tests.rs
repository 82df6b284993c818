//! Bills of several programs, in the forms that they have.

use super::*;

fn purls(bill: &Bill) -> Vec<&str> {
    bill.packages.iter().map(|package| package.purl.as_str()).collect()
}

#[test]
fn both_kinds_list_their_package_urls() {
    let spdx = br#"{"spdxVersion": "SPDX-2.3", "packages": [
        {"name": "a", "externalRefs": [
          {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:x"},
          {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": "pkg:npm/a@1"}]},
        {"name": "image"}]}"#;
    let cyclonedx = br#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [
        {"type": "operating-system", "name": "Debian", "version": "12"},
        {"type": "file", "name": "/etc/hosts"},
        {"type": "container", "name": "base", "purl": "pkg:oci/base@sha256:00"},
        {"type": "library", "name": "a", "purl": "pkg:npm/a@1", "components": [
          {"type": "library", "name": "b", "purl": "pkg:npm/b@1"}]},
        {"type": "library", "name": "c"}], "compositions": null}"#;
    let bill = read(spdx).unwrap();
    assert_eq!((purls(&bill), &*bill.unnamed), (vec!["pkg:npm/a@1"], &["image".to_owned()][..]));
    let bill = read(cyclonedx).unwrap();
    assert_eq!(purls(&bill), ["pkg:npm/a@1", "pkg:npm/b@1"]);
    assert_eq!(bill.unnamed, ["c"]);
    assert_eq!(bill.system, Some(System { id: "debian".into(), version: Some("12".into()) }));
    assert_eq!((bill.marks, bill.omitted), (Vec::new(), 0));
}

#[test]
fn what_the_image_is_is_no_package_in_spdx() {
    let bill = read(
        br#"{"spdxVersion": "SPDX-2.3", "packages": [
          {"name": "shop", "SPDXID": "SPDXRef-Image", "primaryPackagePurpose": "CONTAINER"},
          {"name": "root", "SPDXID": "SPDXRef-Root"},
          {"name": "debian", "SPDXID": "SPDXRef-OS", "versionInfo": "12", "primaryPackagePurpose": "OPERATING-SYSTEM"},
          {"name": "app/package-lock.json", "SPDXID": "SPDXRef-Application-1", "primaryPackagePurpose": "APPLICATION",
           "attributionTexts": ["Class: lang-pkgs", "Type: npm"]},
          {"name": "by-hand", "SPDXID": "SPDXRef-Application-2", "primaryPackagePurpose": "APPLICATION"}],
        "relationships": [
          {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-Root"}]}"#,
    )
    .unwrap();
    assert_eq!(bill.unnamed, ["by-hand"]);
    assert_eq!(bill.system, Some(System { id: "debian".into(), version: Some("12".into()) }));
}

#[test]
fn trivy_states_the_source_package_beside_the_package_url() {
    let property = |name: &str, value: &str| {
        format!(r#"{{"name": "aquasecurity:trivy:{name}", "value": "{value}"}}"#)
    };
    let component = |properties: &[(&str, &str)]| {
        let properties: Vec<String> = properties.iter().map(|(n, v)| property(n, v)).collect();
        let text = format!(
            r#"{{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [
              {{"type": "library", "name": "libgcc-s1", "version": "12.2.0-14",
                "purl": "pkg:deb/debian/libgcc-s1@12.2.0-14?arch=amd64&distro=debian-12.5", "properties": [{}]}},
              {{"type": "application", "name": "node-pkg", "properties": [{}]}}]}}"#,
            properties.join(", "),
            property("Class", "lang-pkgs"),
        );
        let bill = read(text.as_bytes()).unwrap();
        assert_eq!((bill.packages.len(), bill.unnamed.len()), (1, 0));
        let source = bill.packages.into_iter().next().unwrap().source;
        source.map(|source| format!("{} {}", source.name, source.version.unwrap_or_default()))
    };
    for (properties, want) in [
        (
            &[("SrcName", "gcc-12"), ("SrcVersion", "12.2.0"), ("SrcRelease", "14")][..],
            Some("gcc-12 12.2.0-14"),
        ),
        (
            &[
                ("SrcEpoch", "1"),
                ("SrcRelease", "1"),
                ("SrcVersion", "1.2.13.dfsg"),
                ("SrcName", "zlib"),
            ],
            Some("zlib 1:1.2.13.dfsg-1"),
        ),
        (&[("SrcName", "openssl"), ("SrcVersion", "3.1.4-r1")], Some("openssl 3.1.4-r1")),
        (&[("SrcName", "x"), ("SrcVersion", "1:2"), ("SrcEpoch", "1")], Some("x 1:2")),
        (&[("SrcName", "x"), ("SrcVersion", "2"), ("SrcEpoch", "0")], Some("x 2")),
        (&[("SrcName", "x")], Some("x ")),
        (&[("SrcVersion", "1")], None),
    ] {
        assert_eq!(component(properties).as_deref(), want, "{properties:?}");
    }
    let spdx = read(
        br#"{"spdxVersion": "SPDX-2.3", "packages": [
          {"name": "zlib1g", "versionInfo": "1:1.2.13.dfsg-1", "sourceInfo": "built package from: zlib 1:1.2.13.dfsg-1",
           "externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:deb/debian/zlib1g@1.2.13.dfsg-1?distro=debian-12.5&epoch=1"}]}]}"#,
    )
    .unwrap();
    let source = SourcePackage { name: "zlib".into(), version: Some("1:1.2.13.dfsg-1".into()) };
    assert_eq!(spdx.packages[0].source, Some(source));
}

#[test]
fn the_distribution_owns_what_it_brought_to_every_place() {
    let cyclonedx = |properties: &[(&str, &str)]| {
        let properties: Vec<String> = properties
            .iter()
            .map(|(n, v)| format!(r#"{{"name": "fairlead:location:{n}", "value": "{v}"}}"#))
            .collect();
        let text = format!(
            r#"{{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [
              {{"type": "library", "name": "six", "purl": "pkg:pypi/six@1", "properties": [{}]}}]}}"#,
            properties.join(", ")
        );
        found(&read(text.as_bytes()).unwrap(), "pkg:pypi/six@1")
    };
    assert_eq!(
        cyclonedx(&[
            ("0:path", "/a"),
            ("0:layer", "sha256:1"),
            ("0:owner", "pkg:deb/debian/python3-six@1")
        ]),
        ["/a of pkg:deb/debian/python3-six@1"]
    );
    assert_eq!(
        cyclonedx(&[("0:path", "/a"), ("0:owner", "o"), ("1:path", "/b")]),
        ["/a of o", "/b"]
    );

    let spdx = |places: &str, owners: &[&str]| {
        let relations: Vec<String> = owners
            .iter()
            .map(|id| format!(r#"{{"spdxElementId": "{id}", "relationshipType": "CONTAINS", "relatedSpdxElement": "SPDXRef-six"}}"#))
            .collect();
        let text = format!(
            r#"{{"spdxVersion": "SPDX-2.3", "packages": [
              {{"name": "image", "SPDXID": "SPDXRef-Image", "primaryPackagePurpose": "CONTAINER"}},
              {{"name": "o", "SPDXID": "SPDXRef-o", "externalRefs": [{{"referenceType": "purl", "referenceLocator": "pkg:deb/debian/o@1"}}]}},
              {{"name": "six", "SPDXID": "SPDXRef-six", "sourceInfo": "{places}",
                "externalRefs": [{{"referenceType": "purl", "referenceLocator": "pkg:pypi/six@1"}}]}}],
              "relationships": [{}]}}"#,
            relations.join(", ")
        );
        found(&read(text.as_bytes()).unwrap(), "pkg:pypi/six@1")
    };
    let both = &["SPDXRef-Image", "SPDXRef-o"][..];
    assert_eq!(spdx("found in /a (layer sha256:1)", both), ["/a of pkg:deb/debian/o@1"]);
    assert_eq!(spdx("found in /a (layer sha256:1)", &["SPDXRef-Image"]), ["/a"]);
    // Where a place names its owner, the relationships say nothing more.
    assert_eq!(
        spdx("found in /a (layer sha256:1, of pkg:deb/debian/o@1), /b (layer sha256:2)", both),
        ["/a of pkg:deb/debian/o@1", "/b"]
    );
    assert_eq!(
        spdx("found in /a (layer sha256:1, of o), /b (layer sha256:2, of o)", both),
        ["/a of o", "/b of o"]
    );
    assert_eq!(
        spdx("found in /a (layer sha256:1), /b, c (layer sha256:2)", both),
        ["/a of pkg:deb/debian/o@1", "/b, c"]
    );
}

fn found(bill: &Bill, purl: &str) -> Vec<String> {
    let package = bill.packages.iter().find(|package| package.purl == purl).unwrap();
    let place = |at: &Location| match &at.owner {
        Some(owner) => format!("{} of {owner}", at.path),
        None => at.path.clone(),
    };
    package.found.iter().map(place).collect()
}

#[test]
fn a_package_that_is_listed_twice_is_one_in_both_places() {
    let component = |path: &str| {
        format!(
            r#"{{"type": "library", "name": "six", "purl": "pkg:pypi/six@1", "properties": [
              {{"name": "fairlead:location:0:path", "value": "{path}"}},
              {{"name": "fairlead:location:0:owner", "value": "o"}}]}}"#
        )
    };
    let bare = r#"{"type": "library", "name": "six", "purl": "pkg:pypi/six@1"}"#;
    let bill = |components: &[&str]| {
        let components = components.join(", ");
        let text = format!(
            r#"{{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{components}]}}"#
        );
        found(&read(text.as_bytes()).unwrap(), "pkg:pypi/six@1")
    };
    assert_eq!(bill(&[&component("/b"), &component("/a")]), ["/a of o", "/b of o"]);
    // Where the bill does not say a place, no owner speaks for it.
    assert_eq!(bill(&[&component("/a"), bare]), ["", "/a of o"]);
}

#[test]
fn what_was_seen_and_not_read_is_taken_from_every_form() {
    let marks = |text: &str| {
        let bill = read(text.as_bytes()).unwrap();
        (bill.marks, bill.omitted)
    };
    let properties = r#"[{"name": "fairlead:unassessed", "value": "rpm:/var/lib/rpm/rpmdb.sqlite"},
        {"name": "fairlead:unassessed", "value": "distribution:rhel 9"},
        {"name": "fairlead:unassessed-omitted", "value": "3"}]"#;
    let both =
        (vec!["distribution:rhel 9".to_owned(), "rpm:/var/lib/rpm/rpmdb.sqlite".to_owned()], 3);
    let cyclonedx =
        |rest: &str| format!(r#"{{"bomFormat": "CycloneDX", "specVersion": "1.6", {rest}}}"#);
    for place in [
        format!(r#""metadata": {{"properties": {properties}}}"#),
        format!(
            r#""metadata": {{"component": {{"type": "container", "name": "x", "properties": {properties}}}}}"#
        ),
        format!(r#""properties": {properties}"#),
        format!(r#""components": [{{"type": "file", "name": "x", "properties": {properties}}}]"#),
        format!(
            r#""metadata": {{"properties": {properties}}}, "compositions": [{{"aggregate": "incomplete"}}]"#
        ),
    ] {
        assert_eq!(marks(&cyclonedx(&place)), both, "{place}");
    }
    let annotation = |comment: &str| {
        format!(
            r#"{{"annotationType": "OTHER", "annotator": "Tool: fairlead", "comment": "{comment}"}}"#
        )
    };
    let annotations = [
        annotation("fairlead:unassessed rpm:/var/lib/rpm/rpmdb.sqlite"),
        annotation("fairlead:unassessed distribution:rhel 9"),
        annotation("fairlead:unassessed-omitted 3"),
        annotation("a word of somebody else"),
    ]
    .join(", ");
    for place in [
        format!(r#""annotations": [{annotations}]"#),
        format!(
            r#""packages": [{{"name": "x", "primaryPackagePurpose": "CONTAINER", "annotations": [{annotations}]}}]"#
        ),
    ] {
        let text = format!(r#"{{"spdxVersion": "SPDX-2.3", {place}}}"#);
        assert_eq!(marks(&text), both, "{place}");
    }
    for (compositions, want) in [
        (r#"[{"aggregate": "complete", "assemblies": ["a"]}]"#, &[][..]),
        (r#"[{"aggregate": "not_specified"}]"#, &[]),
        (r#"[{"aggregate": "incomplete", "vulnerabilities": ["v"]}]"#, &[]),
        (r#"[{"aggregate": "incomplete", "assemblies": ["a"]}]"#, &["composition:incomplete"]),
        (
            r#"[{"aggregate": "incomplete_third_party_only"}]"#,
            &["composition:incomplete_third_party_only"],
        ),
        (
            r#"[{"aggregate": "complete"}, {"aggregate": "unknown", "dependencies": ["a"]}]"#,
            &["composition:unknown"],
        ),
    ] {
        let (found, _) = marks(&cyclonedx(&format!(r#""compositions": {compositions}"#)));
        assert_eq!(found, want, "{compositions}");
    }
}

#[test]
fn other_documents_are_refused_with_the_reason() {
    let (open, close) = (r#"[{"components": "#.repeat(40), "}]".repeat(40));
    let deep = format!(
        r#"{{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": {open}[]{close}}}"#
    );
    for (text, want) in [
        ("{", "not JSON"),
        ("{}", "neither"),
        ("[1]", "neither"),
        (r#"{"spdxVersion": "SPDX-3.0"}"#, "it is SPDX-3.0"),
        (r#"{"bomFormat": "CycloneDX", "specVersion": "2.0"}"#, "CycloneDX 2.0"),
        (r#"{"spdxVersion": "SPDX-2.3", "packages": 7}"#, "invalid type"),
        (&deep, "nested"),
    ] {
        let error = read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn xml_says_the_same_as_json() {
    let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE bom [<!ENTITY big "x">]>
<c:bom xmlns:c="http://cyclonedx.org/schema/bom/1.7" serialNumber="urn:uuid:x" version="1">
  <c:metadata><c:component type="container"><c:name>shop</c:name></c:component>
    <c:properties><c:property name="fairlead:unassessed">go-binary:/bin/a&amp;b</c:property></c:properties></c:metadata>
  <c:components>
    <c:component type="operating-system"><c:name>Debian</c:name><c:version>12</c:version></c:component>
    <c:component type="library" bom-ref="x"><c:group>@s</c:group><c:name><![CDATA[core]]></c:name><c:version>1&#46;0</c:version>
      <c:purl>pkg:npm/%40s/core@1.0</c:purl>
      <c:components><c:component type="library"><c:name>b</c:name><c:purl>pkg:deb/debian/b@1?arch=x&amp;distro=debian-12</c:purl></c:component></c:components>
    </c:component>
    <c:component type="library"><c:name>c</c:name></c:component>
  </c:components>
</c:bom>"#;
    let bill = read(xml.as_bytes()).unwrap();
    assert_eq!(
        purls(&bill),
        ["pkg:deb/debian/b@1?arch=x&distro=debian-12", "pkg:npm/%40s/core@1.0"]
    );
    assert_eq!(bill.packages[1].name.as_deref(), Some("@s/core"));
    assert_eq!(bill.packages[1].version.as_deref(), Some("1.0"));
    assert_eq!(
        (&*bill.unnamed, &*bill.marks),
        (&["c".to_owned()][..], &["go-binary:/bin/a&b".to_owned()][..])
    );
    assert_eq!(bill.system, Some(System { id: "debian".into(), version: Some("12".into()) }));

    let incomplete = r#"<bom xmlns="http://cyclonedx.org/schema/bom/1.4"><compositions><composition>
        <aggregate>incomplete</aggregate><assemblies><assembly ref="x"/></assemblies></composition></compositions></bom>"#;
    assert_eq!(read(incomplete.as_bytes()).unwrap().marks, ["composition:incomplete"]);
    let deep = "<a>".repeat(1000);
    for (bad, want) in [
        ("<bom/>", "neither SPDX 2 nor CycloneDX 1"),
        ("<x xmlns=\"http://cyclonedx.org/schema/bom/1.4\"/>", "neither"),
        ("<bom xmlns=\"http://cyclonedx.org/schema/bom/2.0\"/>", "CycloneDX 2.0"),
        ("<bom>", "not XML"),
        ("<bom></bum>", "not XML"),
        ("<bom>&big;</bom>", "not XML"),
        ("<!-- -->", "not XML"),
        (&deep, "levels"),
    ] {
        let error = read(bad.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{bad:.40}: {error}");
    }
}

#[test]
fn tags_and_values_say_the_same_as_json() {
    let text = "# made by hand\nSPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\nSPDXID: SPDXRef-DOCUMENT\n\
        DocumentName: shop\nCreator: Tool: x\n\n\
        PackageName: shop\nSPDXID: SPDXRef-Image\nPrimaryPackagePurpose: CONTAINER\n\n\
        PackageName: bash\nSPDXID: SPDXRef-bash\nPackageVersion: 5.2\n\
        PackageLicenseComments: <text>several\nPackageName: not-this\n</text>\n\
        ExternalRef: SECURITY cpe23Type cpe:2.3:a:x\n\
        ExternalRef: PACKAGE-MANAGER purl pkg:deb/debian/bash@5.2?distro=debian-12\n\n\
        FileName: ./x\nSPDXID: SPDXRef-file\n\n\
        PackageName: bare\nSPDXID: SPDXRef-bare\n\n\
        Annotator: Tool: fairlead\nAnnotationComment: <text>fairlead:unassessed rpm:/x</text>\n\
        Relationship: SPDXRef-DOCUMENT DESCRIBES SPDXRef-Image\n";
    let bill = read(text.as_bytes()).unwrap();
    assert_eq!(purls(&bill), ["pkg:deb/debian/bash@5.2?distro=debian-12"]);
    assert_eq!(
        (&*bill.unnamed, &*bill.marks),
        (&["bare".to_owned()][..], &["rpm:/x".to_owned()][..])
    );
    for (bad, want) in [
        ("SPDXVersion: SPDX-3.0\n", "SPDX-3.0"),
        ("SPDXVersion: SPDX-2.3\nodd\n", "has no tag"),
        ("SPDXVersion: SPDX-2.3\nPackageComment: <text>x\n", "does not end"),
    ] {
        let error = read(bad.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{bad}: {error}");
    }
}

/// The documents of the makers of the formats, and of osv-scalibr.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says that it was skipped")]
fn documents_of_the_makers_are_read() {
    let peers = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/peers");
    let cyclonedx = peers.join("cyclonedx/tools/src/test/resources");
    if !cyclonedx.is_dir() {
        return eprintln!("skipped: {} is not there", cyclonedx.display());
    }
    let mut valid = 0;
    for version in ["1.4", "1.5", "1.6", "1.7"] {
        for file in std::fs::read_dir(cyclonedx.join(version)).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !(name.ends_with(".json") || name.ends_with(".xml")) {
                continue;
            }
            // Whatever is in them, they are read or refused.
            let read = read(&std::fs::read(&path).unwrap());
            if name.starts_with("valid-") {
                valid += 1;
                assert!(read.is_ok(), "{version}/{name}: {}", read.unwrap_err());
            }
        }
    }
    assert!(valid > 250, "{valid}");
    let scalibr = peers.join("scalibr/extractor/filesystem/sbom");
    for (file, want) in [
        ("cdx/testdata/sbom.cdx.json", 2),
        ("cdx/testdata/sbom.cdx.xml", 2),
        ("spdx/testdata/sbom.spdx", 2),
        ("spdx/testdata/sbom.spdx.json", 2),
    ] {
        let bill = read(&std::fs::read(scalibr.join(file)).unwrap());
        let bill = bill.unwrap_or_else(|error| panic!("{file}: {error}"));
        let all = bill.packages.len() + bill.unnamed.len();
        assert!(all >= want - 1, "{file}: {bill:?}");
    }
}
