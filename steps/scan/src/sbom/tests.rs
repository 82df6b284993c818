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
