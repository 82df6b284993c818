//! Releases of distributions: from the many ways in which bills write them to the names that
//! advisories use.

use crate::ecosystem::Ecosystem;
use crate::sbom::System;

/// Code names of Debian, as they stand in `distro` qualifiers of releases without a number.
const DEBIAN: [(&str, &str); 9] = [
    ("wheezy", "7"),
    ("jessie", "8"),
    ("stretch", "9"),
    ("buster", "10"),
    ("bullseye", "11"),
    ("bookworm", "12"),
    ("trixie", "13"),
    ("forky", "14"),
    ("duke", "15"),
];
/// Code names of Ubuntu.
const UBUNTU: [(&str, &str); 16] = [
    ("trusty", "14.04"),
    ("xenial", "16.04"),
    ("bionic", "18.04"),
    ("focal", "20.04"),
    ("groovy", "20.10"),
    ("hirsute", "21.04"),
    ("impish", "21.10"),
    ("jammy", "22.04"),
    ("kinetic", "22.10"),
    ("lunar", "23.04"),
    ("mantic", "23.10"),
    ("noble", "24.04"),
    ("oracular", "24.10"),
    ("plucky", "25.04"),
    ("questing", "25.10"),
    ("resolute", "26.04"),
];
/// Releases that move: what is in them today is in no advisory's range by a number.
const ROLLING: [&str; 5] = ["sid", "unstable", "testing", "experimental", "edge"];
/// Distributions whose names may stand before a release.
const FAMILIES: [&str; 5] = ["debian", "ubuntu", "alpine", "wolfi", "chainguard"];

/// What a package URL and its bill say of the release that a package is of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stated<'a> {
    /// The namespace of the package URL, in lower case.
    pub(crate) namespace: &'a str,
    /// The qualifier `distro`: `debian-12`, `debian-12.5`, `12`, `bookworm`.
    pub(crate) distro: Option<&'a str>,
    /// The qualifier `distro_name`: `bookworm`, `debian-bookworm`.
    pub(crate) distro_name: Option<&'a str>,
    /// The operating system that the bill names.
    pub(crate) system: Option<&'a System>,
}

/// The ecosystem of packages of type `deb` or `apk`; nothing for a distribution that no advisory
/// is about.
pub(crate) fn ecosystem(ty: &str, stated: &Stated<'_>) -> Option<Ecosystem> {
    let family = match stated.namespace {
        // Some bills leave the namespace out, and say the distribution elsewhere.
        "" => {
            let distro = stated.distro.or(stated.distro_name).map(str::to_ascii_lowercase);
            let of_distro = |family: &&str| distro.as_ref().is_some_and(|d| d.starts_with(*family));
            let of_system = stated.system.map(|system| system.id.as_str());
            FAMILIES.into_iter().find(of_distro).or(of_system)?
        }
        namespace => namespace,
    };
    match (ty, family) {
        ("deb", "debian") => Some(Ecosystem::Debian),
        ("deb", "ubuntu") => Some(Ecosystem::Ubuntu),
        ("apk", "alpine") => Some(Ecosystem::Alpine),
        ("apk", "wolfi") => Some(Ecosystem::Wolfi),
        ("apk", "chainguard") => Some(Ecosystem::Chainguard),
        _ => None,
    }
}

/// The OSV ecosystem with its release, such as `Debian:12`.
pub(crate) fn release(ecosystem: Ecosystem, stated: &Stated<'_>) -> Option<String> {
    let family = ecosystem.name();
    // These two have one rolling release.
    if matches!(ecosystem, Ecosystem::Wolfi | Ecosystem::Chainguard) {
        return Some(family.to_owned());
    }
    // The package's own word counts before the bill's on the whole image.
    let said = [stated.distro, stated.distro_name].into_iter().flatten();
    let mut said = said.filter(|text| !text.trim().is_empty()).peekable();
    if said.peek().is_some() {
        return said.find_map(|text| numbered(ecosystem, text));
    }
    let system = stated.system.filter(|system| system.id.eq_ignore_ascii_case(family))?;
    numbered(ecosystem, system.version.as_deref()?)
}

fn numbered(ecosystem: Ecosystem, text: &str) -> Option<String> {
    let family = ecosystem.name();
    let names: &[(&str, &str)] = if ecosystem == Ecosystem::Debian {
        &DEBIAN
    } else if ecosystem == Ecosystem::Ubuntu {
        &UBUNTU
    } else {
        &[]
    };
    let text = text.to_ascii_lowercase();
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
        .filter(|word| !word.is_empty())
        .collect();
    if words.iter().any(|word| ROLLING.contains(word)) {
        return None;
    }
    let own = family.to_ascii_lowercase();
    // The release of another distribution says nothing about this one.
    if words.first().is_some_and(|word| *word != own && FAMILIES.contains(word)) {
        return None;
    }
    let named = words.iter().find_map(|word| names.iter().find(|(name, _)| name == word));
    let number = match named {
        Some((_, number)) => (*number).to_owned(),
        None => words.iter().find_map(|word| {
            let word = word.strip_prefix(own.as_str()).unwrap_or(word);
            let word = word.strip_prefix('v').unwrap_or(word);
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            word.split('.').all(digits).then(|| word.to_owned())
        })?,
    };
    let mut parts = number.split('.');
    let major = parts.next()?;
    match (ecosystem, parts.next()) {
        (Ecosystem::Debian, _) => Some(format!("{family}:{major}")),
        (Ecosystem::Alpine, Some(minor)) => Some(format!("{family}:v{major}.{minor}")),
        (_, Some(minor)) => Some(format!("{family}:{major}.{minor}")),
        (_, None) => None,
    }
}

/// The operating system of an image as a bill's marks write it, when `covers` knows no advisories
/// for its release.
pub(crate) fn uncovered(system: &System, covers: impl Fn(&str) -> bool) -> Option<String> {
    let stated = Stated { namespace: &system.id, system: Some(system), ..Stated::default() };
    let ecosystem = ["deb", "apk"].iter().find_map(|ty| ecosystem(ty, &stated));
    match ecosystem.and_then(|family| Some((family, release(family, &stated)?))) {
        Some((family, release)) => (!covers(&release)).then(|| family.shown(&release)),
        None => Some(shown(&system.id, &stated)),
    }
}

/// A distribution as a bill's marks write it, such as `rhel 9.3`, for packages that no release of
/// the advisories is about.
pub(crate) fn shown(ty: &str, stated: &Stated<'_>) -> String {
    let id = match stated.namespace {
        "" => stated.system.map_or(ty, |system| &system.id),
        namespace => namespace,
    };
    let distro = stated.distro.or(stated.distro_name).map(str::trim).unwrap_or_default();
    let distro = distro.to_ascii_lowercase();
    if distro.is_empty() {
        let system = stated.system.filter(|system| system.id == id);
        return match system.and_then(|system| system.version.as_ref()) {
            Some(version) => format!("{id} {version}"),
            None => id.to_owned(),
        };
    }
    match distro.split_once('-') {
        Some((name, version)) if name.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            format!("{name} {version}")
        }
        Some(_) | None if distro == id => distro,
        Some(_) | None => format!("{id} {distro}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_known_in_every_spelling() {
        for (ecosystem, distro, want) in [
            (Ecosystem::Debian, "debian-12", Some("Debian:12")),
            (Ecosystem::Debian, "debian-12.5", Some("Debian:12")),
            (Ecosystem::Debian, "Debian-12", Some("Debian:12")),
            (Ecosystem::Debian, "debian_12", Some("Debian:12")),
            (Ecosystem::Debian, "debian:12", Some("Debian:12")),
            (Ecosystem::Debian, "debian 12", Some("Debian:12")),
            (Ecosystem::Debian, "debian12", Some("Debian:12")),
            (Ecosystem::Debian, "12", Some("Debian:12")),
            (Ecosystem::Debian, "12.5", Some("Debian:12")),
            (Ecosystem::Debian, "bookworm", Some("Debian:12")),
            (Ecosystem::Debian, "debian-bookworm", Some("Debian:12")),
            (Ecosystem::Debian, "bookworm-slim", Some("Debian:12")),
            (Ecosystem::Debian, "Debian GNU/Linux 12 (bookworm)", Some("Debian:12")),
            (Ecosystem::Debian, "trixie", Some("Debian:13")),
            (Ecosystem::Debian, "forky/sid", None),
            (Ecosystem::Debian, "debian-sid", None),
            (Ecosystem::Debian, "debian", None),
            (Ecosystem::Debian, "ubuntu-22.04", None),
            (Ecosystem::Ubuntu, "ubuntu-22.04", Some("Ubuntu:22.04")),
            (Ecosystem::Ubuntu, "22.04.3", Some("Ubuntu:22.04")),
            (Ecosystem::Ubuntu, "jammy", Some("Ubuntu:22.04")),
            (Ecosystem::Ubuntu, "22", None),
            (Ecosystem::Alpine, "alpine-3.19.1", Some("Alpine:v3.19")),
            (Ecosystem::Alpine, "alpine-v3.19", Some("Alpine:v3.19")),
            (Ecosystem::Alpine, "3.19.1", Some("Alpine:v3.19")),
            (Ecosystem::Alpine, "v3.19", Some("Alpine:v3.19")),
            (Ecosystem::Alpine, "alpine-edge", None),
            (Ecosystem::Wolfi, "wolfi-20230201", Some("Wolfi")),
        ] {
            let stated = Stated { distro: Some(distro), ..Stated::default() };
            assert_eq!(release(ecosystem, &stated).as_deref(), want, "{ecosystem:?} {distro}");
        }
    }

    #[test]
    fn the_bill_answers_where_the_package_does_not() {
        let system = System { id: "debian".into(), version: Some("12.5".into()) };
        let stated = Stated { system: Some(&system), ..Stated::default() };
        assert_eq!(ecosystem("deb", &stated), Some(Ecosystem::Debian));
        assert_eq!(release(Ecosystem::Debian, &stated).as_deref(), Some("Debian:12"));
        assert_eq!(release(Ecosystem::Ubuntu, &stated), None, "it is another distribution's");
        let named = Stated { distro: Some(" "), distro_name: Some("bullseye"), ..stated };
        assert_eq!(release(Ecosystem::Debian, &named).as_deref(), Some("Debian:11"));
        let own = Stated { distro: Some("debian-sid"), ..stated };
        assert_eq!(release(Ecosystem::Debian, &own), None, "the package's own word stands");
    }

    #[test]
    fn an_operating_system_without_advisories_is_told() {
        let uncovered = |id: &str, version: Option<&str>| {
            let system = System { id: id.into(), version: version.map(str::to_owned) };
            uncovered(&system, |release| release == "Debian:12")
        };
        assert_eq!(uncovered("debian", Some("12.5")), None);
        assert_eq!(uncovered("debian", Some("10.13")).as_deref(), Some("debian 10"));
        assert_eq!(uncovered("debian", None).as_deref(), Some("debian"));
        assert_eq!(uncovered("alpine", Some("3.19.1")).as_deref(), Some("alpine 3.19"));
        assert_eq!(uncovered("rhel", Some("9.3")).as_deref(), Some("rhel 9.3"));
    }

    #[test]
    fn what_cannot_be_looked_up_is_shown_as_marks_write_it() {
        for (ty, namespace, distro, want) in [
            ("rpm", "redhat", Some("rhel-9.3"), "rhel 9.3"),
            ("rpm", "rocky", Some("9"), "rocky 9"),
            ("deb", "raspbian", Some("raspbian-12"), "raspbian 12"),
            ("deb", "debian", Some("debian"), "debian"),
            ("apk", "alpine", Some("3.20"), "alpine 3.20"),
            ("rpm", "", None, "rpm"),
        ] {
            let stated = Stated { namespace, distro, ..Stated::default() };
            assert_eq!(shown(ty, &stated), want);
        }
    }
}
