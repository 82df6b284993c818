//! Which system package brought a file: dpkg's lists of files, and those in apk's database.

use std::collections::HashMap;

use crate::catalog::os_release::OsRelease;
use crate::evidence::Fact;
use crate::package::Package;
use crate::path::hash;
use crate::rootfs::RootFs;

/// The owners of an image's files.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Of the files that describe packages: the owner's package URL, and the layer of its list.
    described: HashMap<String, (String, usize)>,
    /// Of every file of the image's own root, by the path's hash: the layer of the list.
    all: HashMap<u64, usize>,
}

impl Owners {
    /// What the databases in `root` say.
    pub(crate) fn of(root: &RootFs, os: Option<&OsRelease>) -> Self {
        let mut owners = Self::default();
        let mut debs: HashMap<Name<'_>, String> = HashMap::new();
        for (path, found) in root.files() {
            match &*found.fact {
                Fact::Dpkg(all) => {
                    let home = home(path, DPKG);
                    for package in all {
                        let Some(Package { purl, .. }) = Package::deb(package, os) else {
                            continue;
                        };
                        // A part of a distroless image has a list of the same name beside it, or
                        // in the folder of the lists.
                        if let Some((_, part)) = path.rsplit_once("/status.d/") {
                            debs.insert(Name::Part(home, part), purl.clone());
                        }
                        let arch = Some(&*package.arch);
                        debs.insert(Name::Package(home, &package.name, arch), purl.clone());
                        debs.insert(Name::Package(home, &package.name, None), purl);
                    }
                }
                Fact::Apk(all) => {
                    let home = home(path, APK);
                    let home = home.strip_suffix("usr/").unwrap_or(home);
                    for package in all {
                        let Some(Package { purl, .. }) = Package::apk(package, os) else {
                            continue;
                        };
                        owners.add(root, home, &package.paths, &package.all, &purl, found.layer);
                    }
                }
                Fact::DpkgFiles(_)
                | Fact::Python(_)
                | Fact::Node(_)
                | Fact::OsRelease(_)
                | Fact::Unread(_)
                | Fact::Elsewhere { .. } => {}
            }
        }
        for (path, found) in root.files() {
            if let Fact::DpkgFiles(files) = &*found.fact {
                let home = home(path, DPKG);
                let name = Name::Package(home, &files.package, files.arch.as_deref());
                let purl = debs.get(&name).or_else(|| debs.get(&Name::Part(home, &files.package)));
                if let Some(purl) = purl {
                    owners.add(root, home, &files.paths, &files.all, purl, found.layer);
                }
            }
        }
        owners
    }

    /// Adds the files of one package, whose list stands under `home`.
    fn add(
        &mut self,
        root: &RootFs,
        home: &str,
        described: &[Box<str>],
        all: &[u64],
        purl: &str,
        layer: usize,
    ) {
        for path in described {
            let path = root.resolve(&format!("{home}{path}"));
            self.described.insert(path, (purl.to_owned(), layer));
        }
        if home.is_empty() {
            for path in all {
                let newest = self.all.entry(*path).or_default();
                *newest = layer.max(*newest);
            }
        }
    }

    /// The package URL of the system package that brought the file at `path`, which describes
    /// packages. A file that came with a later layer than the package's list is another one: it
    /// took the place of the package's own.
    pub(crate) fn of_description(&self, path: &str, layer: usize) -> Option<&str> {
        let (purl, listed) = self.described.get(path)?;
        (layer <= *listed).then_some(purl)
    }

    /// Whether a system package brought the file at `path`, whatever it is.
    pub(crate) fn has(&self, path: &str, layer: usize) -> bool {
        // Lists may be older than the merge of `/bin` and `/lib` into `/usr`.
        let spellings = [Some(path), path.strip_prefix("usr/")];
        spellings
            .into_iter()
            .flatten()
            .filter_map(|path| self.all.get(&hash(path)))
            .any(|listed| layer <= *listed)
    }
}

/// How a list names its package. dpkg's lists have the architecture in their names where several
/// are installed.
#[derive(PartialEq, Eq, Hash)]
enum Name<'a> {
    /// By the root that the database stands in, the package's name and its architecture.
    Package(&'a str, &'a str, Option<&'a str>),
    /// By that root, and the name of the part in `status.d`.
    Part(&'a str, &'a str),
}

const DPKG: &str = "var/lib/dpkg/";
const APK: &str = "lib/apk/db/";

/// The root that the database at `path` describes: what stands before `database`, with a slash
/// behind it. A tree of another system may lie anywhere in an image; its lists say nothing about
/// the files of the image's own root.
fn home<'a>(path: &'a str, database: &str) -> &'a str {
    path.rfind(database).map_or("", |at| &path[..at])
}
