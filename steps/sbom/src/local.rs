//! Images and file systems that lie in the workspace: an OCI layout (a folder, or an archive of
//! one), what `docker save` wrote, and a folder with a root file system or a project.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fairlead_oci::{Content, Descriptor, MANIFEST_LIMIT, Manifest, Platform, media_type};
use fairlead_step::{Algorithm, Digest, DigestHasher, StepError};
use serde::Deserialize;

use crate::chase::lay_all;
use crate::document::{Description, Subject};
use crate::folder::Folder;
use crate::image_config::{CONFIG_LIMIT, Config};
use crate::inflate::{Packing, UnknownPacking};
use crate::inventory::Inventory;
use crate::layer::{LayerError, Request, Scan, scan, scan_entries};
use crate::limits::Limits;
use crate::tar::{Entries as _, EntryKind, TarError, TarReader};
use crate::unassessed::{Unassessed, UnassessedKind};

/// The name of a reference in a layout (image-spec v1.1, "Annotations"), and the one of containerd.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";

/// How deep an index may lie in others.
const DEPTH: usize = 4;

/// Why something in the workspace cannot be described.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("`{name}` cannot be read: {source}")]
    File { name: String, source: io::Error },
    #[error("`{name}` is malformed: {problem}")]
    Malformed { name: String, problem: String },
    #[error("`{name}` is not what it says: its digest is {found}")]
    Digest { name: String, found: Digest },
    #[error("{what}: {problem}")]
    Choice { what: String, problem: String },
    #[error("the archive cannot be read: {0}")]
    Archive(TarError),
    #[error("layer {number} ({name}): {source}")]
    Layer { number: usize, name: String, source: Box<LayerError> },
    #[error("layer {number} ({name}): {source}")]
    Packing { number: usize, name: String, source: UnknownPacking },
}

impl From<LocalError> for StepError {
    fn from(error: LocalError) -> Self {
        let message = error.to_string();
        let hint = match error {
            LocalError::File { .. } | LocalError::Malformed { .. } | LocalError::Digest { .. } => {
                "write the layout, or save the image, anew"
            }
            LocalError::Choice { .. } => "name one of them with `reference` or `platform`",
            LocalError::Archive(_) => {
                "an OCI layout or what `docker save` wrote is read, and not packed; unpack it first"
            }
            LocalError::Layer { source, .. } => source.way_out(),
            LocalError::Packing { .. } => {
                "a bill of materials can be made of container images alone"
            }
        };
        Self::terminal(message).hint(hint)
    }
}

/// What was found, and what a person should hear of it.
pub(crate) struct Found {
    pub(crate) described: Description,
    pub(crate) notes: Vec<String>,
}

/// Describes what lies at `path`. Of several images, the one that `reference` names, for the
/// platform `wanted`.
pub(crate) fn read(
    path: &Path,
    reference: Option<&str>,
    wanted: &Platform,
    limits: &Limits,
) -> Result<Found, LocalError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |source| LocalError::File { name: name.clone(), source };
    let is_folder = fs::metadata(path).map_err(failed)?.is_dir();
    if is_folder && !path.join("oci-layout").is_file() {
        return folder(path, &name, limits);
    }
    let store =
        if is_folder { Store::Folder(path.to_owned()) } else { Store::archive(path, limits)? };
    if store.has("index.json") {
        layout(&store, reference, wanted, limits)
    } else if !is_folder && store.has("manifest.json") {
        // Only of an archive: its manifest names files by paths, which could lead out of a folder.
        saved(&store, reference, limits)
    } else {
        let problem = "it has no `index.json` and no `manifest.json`".to_owned();
        Err(LocalError::Malformed { name, problem })
    }
}

/// The files of a layout or an archive.
enum Store {
    Folder(PathBuf),
    Archive {
        file: Arc<File>,
        files: BTreeMap<String, (u64, u64)>,
        links: BTreeMap<String, String>,
    },
}

impl Store {
    /// Finds out where the files of an archive lie in it.
    fn archive(path: &Path, limits: &Limits) -> Result<Self, LocalError> {
        let failed = |source| LocalError::Archive(TarError::Source(source));
        let file = Arc::new(File::open(path).map_err(failed)?);
        let mut tar = TarReader::new(&*file);
        let (mut files, mut links) = (BTreeMap::new(), BTreeMap::new());
        while let Some(entry) = tar.next_entry().map_err(LocalError::Archive)? {
            if (files.len() + links.len()) as u64 > limits.entries {
                let problem = format!("it has more than {} entries", limits.entries);
                return Err(LocalError::Malformed { name: "the archive".to_owned(), problem });
            }
            let text = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                text.trim_start_matches("./").to_owned()
            };
            let name = text(tar.path());
            match entry.kind {
                EntryKind::File => drop(files.insert(name, (tar.offset(), entry.size))),
                EntryKind::HardLink => drop(links.insert(name, text(tar.link()))),
                // `docker save` writes a layer that two images share once, and links to it.
                EntryKind::SymLink => {
                    let target = text(tar.link());
                    let target = target.trim_start_matches("../").to_owned();
                    links.insert(name, target);
                }
                EntryKind::Directory | EntryKind::Special | EntryKind::Sparse => {}
            }
        }
        Ok(Self::Archive { file, files, links })
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Archive { files, links, .. } => {
                files.contains_key(name) || links.contains_key(name)
            }
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read>, LocalError> {
        let failed = |source| LocalError::File { name: name.to_owned(), source };
        match self {
            Self::Folder(folder) => {
                let file = File::open(folder.join(name)).map_err(failed)?;
                Ok(Box::new(BufReader::with_capacity(256 << 10, file)))
            }
            Self::Archive { file, files, links } => {
                let name = links.get(name).map_or(name, String::as_str);
                let (at, left) =
                    files.get(name).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
                Ok(Box::new(Part { file: Arc::clone(file), at: *at, left: *left }))
            }
        }
    }

    fn read(&self, name: &str, most: u64) -> Result<Vec<u8>, LocalError> {
        let mut bytes = Vec::new();
        let read = self.open(name)?.take(most + 1).read_to_end(&mut bytes);
        read.map_err(|source| LocalError::File { name: name.to_owned(), source })?;
        if bytes.len() as u64 > most {
            let problem = format!("it is longer than {most} bytes");
            return Err(LocalError::Malformed { name: name.to_owned(), problem });
        }
        Ok(bytes)
    }

    /// A small blob, checked.
    fn blob(&self, digest: &Digest, most: u64) -> Result<Vec<u8>, LocalError> {
        let name = blob_name(digest);
        let bytes = self.read(&name, most)?;
        let mut hasher = DigestHasher::new(digest.algorithm());
        hasher.update(&bytes);
        check(&name, digest, hasher)?;
        Ok(bytes)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn check(name: &str, digest: &Digest, hasher: DigestHasher) -> Result<(), LocalError> {
    let found = hasher.finish();
    if found == *digest { Ok(()) } else { Err(LocalError::Digest { name: name.to_owned(), found }) }
}

/// A part of a file.
struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// Hashes what is read.
struct Hashed<'a> {
    reader: Box<dyn Read>,
    hasher: &'a mut DigestHasher,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        Ok(got)
    }
}

/// One layer on its way: the name of its file, its digest where one is known, and how it is packed.
struct Layer {
    name: String,
    digest: Option<Digest>,
    packing: Packing,
}

fn pass(
    store: &Store,
    layer: &Layer,
    number: usize,
    request: &Request,
    limits: &Limits,
) -> Result<Scan, LocalError> {
    let algorithm = layer.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let mut hasher = DigestHasher::new(algorithm);
    let mut reader = Hashed { reader: store.open(&layer.name)?, hasher: &mut hasher };
    let scanned = scan(&mut reader, layer.packing, request, limits);
    // Bytes that were changed are a better reason than what they broke.
    let rest = io::copy(&mut reader, &mut io::sink());
    rest.map_err(|source| LocalError::File { name: layer.name.clone(), source })?;
    if let Some(digest) = &layer.digest {
        check(&layer.name, digest, hasher)?;
    }
    scanned.map_err(|source| LocalError::Layer {
        number: number + 1,
        name: layer.name.clone(),
        source: Box::new(source),
    })
}

/// Lays the layers over each other and describes the image.
fn describe(
    store: &Store,
    layers: &[Layer],
    (manifest, config): (Digest, &Config),
    digests: Vec<Digest>,
    limits: &Limits,
) -> Result<Found, LocalError> {
    let (root, notes) =
        lay_all(layers.len(), |at, request| pass(store, &layers[at], at, &request, limits))?;
    let described = config.describe(manifest, digests, Inventory::of(&root), Vec::new());
    Ok(Found { described, notes })
}

/// An OCI layout (image-spec v1.1, "Image Layout").
fn layout(
    store: &Store,
    reference: Option<&str>,
    wanted: &Platform,
    limits: &Limits,
) -> Result<Found, LocalError> {
    let name = "index.json";
    let malformed = |problem: String| LocalError::Malformed { name: name.to_owned(), problem };
    let parse = |digest: Digest, content_type: Option<&str>, bytes: Vec<u8>, what: &str| {
        Manifest::parse(digest, content_type, Bytes::from(bytes), what)
            .map_err(|error| malformed(error.to_string()))
    };
    let bytes = store.read(name, MANIFEST_LIMIT)?;
    let digest = Digest::sha256(&bytes);
    let index = parse(digest, Some(media_type::OCI_INDEX), bytes, name)?;
    let Content::Index { manifests } = index.content else {
        return Err(malformed("it is no index".to_owned()));
    };
    let mut descriptor = chosen(&manifests, reference)?.clone();
    for _ in 0..DEPTH {
        let bytes = store.blob(&descriptor.digest, MANIFEST_LIMIT)?;
        let content_type = Some(descriptor.media_type.as_str()).filter(|ty| !ty.is_empty());
        let what = descriptor.digest.to_string();
        let manifest = parse(descriptor.digest.clone(), content_type, bytes, &what)?;
        match manifest.content {
            Content::Index { manifests } => descriptor = for_platform(&manifests, wanted)?.clone(),
            Content::Image { config, layers } => {
                let config = Config::read(&store.blob(&config.digest, CONFIG_LIMIT)?)
                    .map_err(|error| malformed(format!("its configuration: {error}")))?;
                let digests = layers.iter().map(|layer| layer.digest.clone()).collect();
                let layers: Vec<Layer> =
                    layers.iter().enumerate().map(of_descriptor).collect::<Result<_, _>>()?;
                return describe(store, &layers, (manifest.digest, &config), digests, limits);
            }
            Content::Unknown => return Err(malformed(format!("{what} is no image"))),
        }
    }
    Err(malformed("its indexes are nested too deep".to_owned()))
}

fn of_descriptor((at, layer): (usize, &Descriptor)) -> Result<Layer, LocalError> {
    let name = blob_name(&layer.digest);
    let packing = Packing::of_media_type(&layer.media_type)
        .map_err(|source| LocalError::Packing { number: at + 1, name: name.clone(), source })?;
    Ok(Layer { name, digest: Some(layer.digest.clone()), packing })
}

/// The image of a layout that `reference` names, or the only one.
fn chosen<'a>(
    manifests: &'a [Descriptor],
    reference: Option<&str>,
) -> Result<&'a Descriptor, LocalError> {
    let names = |one: &'a Descriptor| {
        [REF_NAME, IMAGE_NAME].into_iter().filter_map(|key| one.annotations.get(key))
    };
    let all = || {
        let all: Vec<&str> = manifests.iter().flat_map(names).map(String::as_str).collect();
        if all.is_empty() { "it names none of them".to_owned() } else { all.join(", ") }
    };
    let found = match reference {
        Some(wanted) => manifests
            .iter()
            .find(|one| names(one).any(|name| name == wanted) || one.digest.to_string() == wanted),
        None if manifests.len() == 1 => manifests.first(),
        None => None,
    };
    found.ok_or_else(|| LocalError::Choice {
        what: match reference {
            Some(wanted) => format!("the layout has no image `{wanted}`"),
            None => format!("the layout has {} images", manifests.len()),
        },
        problem: all(),
    })
}

fn for_platform<'a>(
    manifests: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, LocalError> {
    let of = |one: &&Descriptor| one.platform.as_ref().is_some_and(|p| p.serves(wanted));
    let images = || {
        manifests.iter().filter(|one| {
            !one.annotations.contains_key("vnd.docker.reference.type")
                && !one.platform.as_ref().is_some_and(Platform::is_unknown)
        })
    };
    let only = || if images().count() == 1 { images().next() } else { None };
    images().find(of).or_else(only).ok_or_else(|| {
        let there: Vec<String> =
            manifests.iter().flat_map(|one| &one.platform).map(ToString::to_string).collect();
        LocalError::Choice {
            what: format!("the image is not for {wanted}"),
            problem: format!("it is for {}", there.join(", ")),
        }
    })
}

/// One image of what `docker save` wrote.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What `docker save` wrote before it wrote layouts.
fn saved(store: &Store, reference: Option<&str>, limits: &Limits) -> Result<Found, LocalError> {
    let name = "manifest.json";
    let malformed = |problem: String| LocalError::Malformed { name: name.to_owned(), problem };
    let all: Vec<Saved> = serde_json::from_slice(&store.read(name, MANIFEST_LIMIT)?)
        .map_err(|error| malformed(error.to_string()))?;
    let tags = |one: &Saved| one.repo_tags.clone().unwrap_or_default();
    let image = match reference {
        Some(wanted) => all.iter().find(|one| tags(one).iter().any(|tag| tag == wanted)),
        None if all.len() == 1 => all.first(),
        None => None,
    };
    let image = image.ok_or_else(|| {
        let tags: Vec<String> = all.iter().flat_map(tags).collect();
        let what = match reference {
            Some(wanted) => format!("the archive has no image `{wanted}`"),
            None => format!("the archive has {} images", all.len()),
        };
        LocalError::Choice { what, problem: tags.join(", ") }
    })?;
    let bytes = store.read(&image.config, CONFIG_LIMIT)?;
    let config = Config::read(&bytes).map_err(|error| malformed(error.to_string()))?;
    if config.diff_ids().len() != image.layers.len() {
        return Err(malformed("its configuration has another number of layers".to_owned()));
    }
    let layers: Vec<Layer> = image
        .layers
        .iter()
        .zip(config.diff_ids())
        .map(|(name, digest)| Layer {
            name: name.clone(),
            digest: Some(digest.clone()),
            packing: Packing::Plain,
        })
        .collect();
    // The engine knows the image by the digest of its configuration.
    let digests = config.diff_ids().to_vec();
    describe(store, &layers, (Digest::sha256(&bytes), &config), digests, limits)
}

/// A folder: what is installed in it, and what its lock files ask for.
fn folder(path: &Path, name: &str, limits: &Limits) -> Result<Found, LocalError> {
    let failed = |source| LocalError::File { name: name.to_owned(), source };
    let mut unreadable = Vec::new();
    let (root, mut notes) = lay_all(1, |_, request| {
        let mut walk = Folder::open(path).map_err(failed)?;
        let request = Request { sources: true, ..request };
        let scan = scan_entries(&mut walk, &request, limits).map_err(|source| {
            LocalError::Layer { number: 1, name: name.to_owned(), source: Box::new(source) }
        })?;
        unreadable = walk.into_unreadable();
        Ok::<_, LocalError>(scan)
    })?;
    let mut inventory = Inventory::of(&root);
    // A project is of no distribution, and a root file system without packages says so itself.
    let unseen: Vec<Unassessed> =
        unreadable.iter().map(|path| Unassessed::file(UnassessedKind::Damaged, path)).collect();
    notes.extend(unreadable.iter().take(20).map(|path| format!("`{path}` cannot be opened")));
    inventory
        .unassessed
        .retain(|one| !unreadable.iter().any(|path| one.what == format!("/{path}")));
    let mut content = DigestHasher::new(Algorithm::Sha256);
    for package in &inventory.packages {
        content.update(package.purl.as_bytes());
        for at in &package.found {
            content.update(b"\0");
            content.update(at.path.as_bytes());
        }
        content.update(b"\n");
    }
    let digest = content.finish();
    let described = Config::default().describe(digest.clone(), vec![digest], inventory, unseen);
    let title = if name.is_empty() { None } else { Some(name.to_owned()) };
    Ok(Found { described: Description { title, subject: Subject::Folder, ..described }, notes })
}
