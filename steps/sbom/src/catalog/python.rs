//! Installed Python distributions: core metadata in `METADATA` or `PKG-INFO` (PEP 566, PEP 639).

use super::control::paragraph;

/// A Python distribution that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// The name as its author writes it.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
}

/// The longest license text that is taken for a license's name.
const LICENSE_NAME: usize = 200;

/// What the metadata at `path` says. A name or a version that it leaves out is taken from the
/// folder's name; `None` where that does not say it either.
pub(crate) fn distribution(path: &str, text: &str) -> Option<Distribution> {
    let installed = installed_as(path);
    let (fields, _) = paragraph(text);
    let all =
        |key: &'static str| fields.iter().filter(move |field| field.key.eq_ignore_ascii_case(key));
    let one = |key| all(key).map(|field| field.value).find(|value| !value.is_empty());
    let classified = || {
        let names: Vec<&str> = all("Classifier")
            .filter_map(|field| field.value.strip_prefix("License :: "))
            .filter_map(|path| path.rsplit(" :: ").next())
            .filter(|name| *name != "OSI Approved")
            .collect();
        (!names.is_empty()).then(|| names.join(" AND "))
    };
    let plain = || {
        // Some authors paste the whole text of their license here; that is no name.
        let field = all("License").find(|field| !field.value.is_empty() && !field.goes_on)?;
        let name = field.value.len() <= LICENSE_NAME && field.value != "UNKNOWN";
        name.then(|| field.value.to_owned())
    };
    Some(Distribution {
        name: one("Name").or(installed.map(|(name, _)| name))?.to_owned(),
        version: one("Version").or(installed.map(|(_, version)| version))?.to_owned(),
        license: one("License-Expression").map(str::to_owned).or_else(plain).or_else(classified),
    })
}

/// The name and version in `NAME-VERSION.dist-info` or `NAME-VERSION-py3.11.egg-info`, where
/// installers put them (PyPA, "Recording installed projects"); neither part has a dash in it.
fn installed_as(path: &str) -> Option<(&str, &str)> {
    let folder = |part: &&str| part.ends_with(".dist-info") || part.ends_with(".egg-info");
    let (stem, _) = path.rsplit('/').take(2).find(folder)?.rsplit_once('.')?;
    let mut parts = stem.split('-');
    let (name, version) = (parts.next()?, parts.next()?);
    (!name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit()))
        .then_some((name, version))
}

/// The name under which an index knows the distribution (PEP 503).
pub(crate) fn normalized(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for part in name.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
        if !out.is_empty() {
            out.push('-');
        }
        out.push_str(&part.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_ends_at_the_first_empty_line() {
        let text = "Metadata-Version: 2.1\r\nName: ruamel.yaml\r\nVersion: 0.18.6\r\n\
                    License: MIT license\r\n\r\nName: not-this\r\n";
        let found = distribution("x.egg-info", text).unwrap();
        assert_eq!((&*found.name, &*found.version), ("ruamel.yaml", "0.18.6"));
        assert_eq!(found.license.as_deref(), Some("MIT license"));
        assert_eq!(distribution("x.dist-info/METADATA", "Name: x\n"), None);
        assert_eq!(distribution("x.dist-info/METADATA", ""), None);
    }

    #[test]
    fn the_license_is_the_best_that_is_said() {
        for (lines, want) in [
            ("License-Expression: MIT OR Apache-2.0\nLicense: x", Some("MIT OR Apache-2.0")),
            ("License: BSD-3-Clause", Some("BSD-3-Clause")),
            ("License: UNKNOWN", None),
            (
                "License: Copyright 2020\n  Permission is granted\n\
                 Classifier: License :: OSI Approved :: MIT License",
                Some("MIT License"),
            ),
            ("Classifier: License :: OSI Approved", None),
        ] {
            let found = distribution("", &format!("Name: a\nVersion: 1\n{lines}\n")).unwrap();
            assert_eq!(found.license.as_deref(), want, "{lines}");
        }
    }

    #[test]
    fn the_folder_says_what_the_metadata_leaves_out() {
        for (path, text, want) in [
            ("opt/six-1.16.0.dist-info/METADATA", "", Some(("six", "1.16.0"))),
            ("opt/six-1.16.0.dist-info/METADATA", "Name: Six\n", Some(("Six", "1.16.0"))),
            ("opt/a_b-2-py3.11.egg-info", "Summary: x\n", Some(("a_b", "2"))),
            ("opt/a-2.egg-info/PKG-INFO", "Version: 3\n", Some(("a", "3"))),
            ("opt/six.dist-info/METADATA", "", None),
            ("opt/not-a-version.egg-info", "", None),
        ] {
            let found = distribution(path, text);
            let brief = found.as_ref().map(|d| (&*d.name, &*d.version));
            assert_eq!(brief, want, "{path}");
        }
    }

    #[test]
    fn names_are_normalized() {
        for (name, want) in [
            ("Jinja2", "jinja2"),
            ("ruamel.yaml", "ruamel-yaml"),
            ("zope._.Interface", "zope-interface"),
        ] {
            assert_eq!(normalized(name), want);
        }
    }
}
