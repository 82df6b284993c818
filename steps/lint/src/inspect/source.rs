//! Images in files: OCI layouts (folder or tar) and archives of `docker save`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::InspectError;
use super::analyze::{Inspection, Layer, analyze};
use super::archive;

/// The most bytes of a document in an image.
const MAX_DOCUMENT: u64 = 8 << 20;
/// The most files of an archive that are noted.
const MAX_MEMBERS: usize = 100_000;
/// The most indexes within one another.
const MAX_NESTED: usize = 4;

/// Where the parts of an image are.
enum Store {
    Folder(PathBuf),
    Tar { path: PathBuf, members: BTreeMap<String, Member> },
}

/// A file of a tar archive, or another name for one.
enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

impl Store {
    fn open(path: &Path) -> Result<Self, InspectError> {
        let shown = path.display().to_string();
        let failed = |source: io::Error| InspectError::Read { what: shown.clone(), source };
        if std::fs::metadata(path).map_err(failed)?.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let mut members = BTreeMap::new();
        let mut archive = tar::Archive::new(File::open(path).map_err(failed)?);
        for entry in archive.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if members.len() == MAX_MEMBERS {
                return Err(InspectError::malformed(shown, "it has more than 100,000 files"));
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = name.trim_start_matches("./").to_owned();
            if entry.header().entry_type().is_file() {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                members.insert(name, Member::File { offset, size });
            } else if let Some(target) = entry.link_name_bytes() {
                // `docker save` links a layer that two images share: `../ID/layer.tar`.
                let target = String::from_utf8_lossy(&target).into_owned();
                members.insert(name, Member::Link(target.trim_start_matches("../").to_owned()));
            }
        }
        Ok(Self::Tar { path: path.to_owned(), members })
    }

    /// The bytes of a part, and how many they are.
    fn part(&self, name: &str) -> Result<(Box<dyn Read>, u64), InspectError> {
        let failed = |source: io::Error| InspectError::Read { what: format!("`{name}`"), source };
        if name.split('/').any(|part| part == ".." || part.is_empty()) {
            return Err(InspectError::malformed(format!("`{name}`"), "it leads out of the image"));
        }
        match self {
            Self::Folder(folder) => {
                let file = File::open(folder.join(name)).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                Ok((Box::new(file), size))
            }
            Self::Tar { path, members } => {
                let missing = || {
                    InspectError::malformed(
                        path.display().to_string(),
                        format!("it has no `{name}`"),
                    )
                };
                let (offset, size) = match members.get(name).ok_or_else(missing)? {
                    Member::File { offset, size } => (*offset, *size),
                    Member::Link(target) => match members.get(target).ok_or_else(missing)? {
                        Member::File { offset, size } => (*offset, *size),
                        Member::Link(_) => return Err(missing()),
                    },
                };
                let mut file = File::open(path).map_err(failed)?;
                file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                Ok((Box::new(file.take(size)), size))
            }
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, InspectError> {
        let (part, size) = self.part(name)?;
        if size > MAX_DOCUMENT {
            return Err(InspectError::malformed(format!("`{name}`"), "it is over 8 MiB"));
        }
        serde_json::from_reader(part)
            .map_err(|error| InspectError::malformed(format!("`{name}`"), error.to_string()))
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Tar { members, .. } => members.contains_key(name),
        }
    }
}

/// A configuration's history.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    history: Vec<History>,
}

#[derive(Deserialize)]
struct History {
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    empty_layer: bool,
}

/// The instructions that made the layers, for as many as the history of `config` tells of.
pub(super) fn instructions(config: &[u8]) -> Vec<String> {
    let Ok(config) = serde_json::from_slice::<Config>(config) else { return Vec::new() };
    let made = config.history.into_iter().filter(|step| !step.empty_layer);
    made.map(|step| step.created_by).collect()
}

/// Inspects the image in a file or folder, for the platform `wanted` (such as `linux/amd64`) where it
/// has several.
///
/// # Errors
/// When it cannot be read, or is no image.
pub fn inspect_path(path: &Path, wanted: &str) -> Result<Inspection, InspectError> {
    let store = Store::open(path)?;
    let shown = path.display().to_string();
    let (config, layers) = if store.has("index.json") {
        of_layout(&store, wanted)?
    } else if store.has("manifest.json") {
        of_save(&store)?
    } else {
        let problem = "it is neither an OCI layout nor an archive of `docker save`";
        return Err(InspectError::malformed(shown, problem));
    };
    let (mut bytes, (part, _)) = (Vec::new(), store.part(&config)?);
    part.take(MAX_DOCUMENT)
        .read_to_end(&mut bytes)
        .map_err(|source| InspectError::Read { what: format!("`{config}`"), source })?;
    let made = instructions(&bytes);
    let mut all = Vec::with_capacity(layers.len());
    for (index, (name, blob)) in layers.into_iter().enumerate() {
        let (part, packed) = store.part(&blob)?;
        let entries = archive::read(part, &format!("layer {} ({name})", index + 1))?;
        let created_by = made.get(index).cloned().unwrap_or_default();
        all.push(Layer { name, packed, created_by, entries });
    }
    Ok(analyze(&shown, all))
}

/// The configuration, and the layers by name and place.
type Parts = (String, Vec<(String, String)>);

fn blob(descriptor: &Value) -> Result<(String, String), InspectError> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    match digest.split_once(':') {
        Some((algorithm, hex)) if !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok((digest.to_owned(), format!("blobs/{algorithm}/{hex}")))
        }
        Some(_) | None => Err(InspectError::malformed("the layout", "a descriptor has no digest")),
    }
}

fn of_layout(store: &Store, wanted: &str) -> Result<Parts, InspectError> {
    let mut document: Value = store.json("index.json")?;
    for _ in 0..=MAX_NESTED {
        let Some(children) = document["manifests"].as_array() else { break };
        let fits = |child: &&Value| {
            let platform = &child["platform"];
            let text = |key: &str| platform[key].as_str().unwrap_or_default();
            platform.is_null() || format!("{}/{}", text("os"), text("architecture")) == wanted
        };
        let image = |child: &&Value| child["platform"]["os"].as_str() != Some("unknown");
        let chosen = children.iter().find(fits).or_else(|| children.iter().find(image));
        let Some(child) = chosen else {
            return Err(InspectError::malformed("the layout", "it has no image"));
        };
        document = store.json(&blob(child)?.1)?;
    }
    let layers = document["layers"].as_array();
    let layers = layers.ok_or_else(|| InspectError::malformed("the layout", "it has no image"))?;
    let config = blob(&document["config"])?.1;
    Ok((config, layers.iter().map(blob).collect::<Result<_, _>>()?))
}

fn of_save(store: &Store) -> Result<Parts, InspectError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Saved {
        config: String,
        layers: Vec<String>,
    }
    let saved: Vec<Saved> = store.json("manifest.json")?;
    let first = saved.into_iter().next();
    let first =
        first.ok_or_else(|| InspectError::malformed("`manifest.json`", "it has no image"))?;
    Ok((first.config, first.layers.into_iter().map(|layer| (layer.clone(), layer)).collect()))
}
