//! From the files of layers to what is wasted.

use std::collections::BTreeMap;

use fairlead_step::Digest;
use serde::Serialize;

use super::archive::{Entry, Kind};

/// How many files each list names.
const LISTED: usize = 20;
/// Files below this size are not worth a word about being there twice.
const SMALL: u64 = 1024;

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerReport {
    /// From 1, base first.
    pub number: usize,
    /// Its digest; of an archive of `docker save` its name.
    pub name: String,
    /// Bytes as they are stored.
    pub packed: u64,
    /// Bytes of its files.
    pub size: u64,
    /// How many files it has.
    pub files: u64,
    /// Bytes of its files that a later layer hides.
    pub hidden: u64,
    /// The instruction that made it, where the image's history says.
    pub created_by: String,
    /// Whether the base image has it, too; nothing where no base was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_base: Option<bool>,
}

/// A path whose bytes are in layers and not in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wasted {
    /// The path.
    pub path: String,
    /// Bytes that are hidden.
    pub bytes: u64,
    /// How often it was written.
    pub times: u64,
    /// Whether it is gone at the end.
    pub deleted: bool,
}

/// The same bytes at several paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Their digest.
    pub digest: Digest,
    /// Bytes of each.
    pub size: u64,
    /// Where they are.
    pub paths: Vec<String>,
}

/// A file and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SizedFile {
    /// The path.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The layer it is from.
    pub layer: usize,
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The image, as it was named.
    pub image: String,
    /// Bytes of all layers as they are stored.
    pub packed: u64,
    /// Bytes of the files of all layers.
    pub size: u64,
    /// Bytes of the files that the image shows.
    pub visible: u64,
    /// Bytes of files that a later layer overwrites or deletes.
    pub wasted: u64,
    /// Between 0 and 1, as dive computes it: the smallest size of each path by what all its writings
    /// and deletions took.
    pub efficiency: f64,
    /// Bytes that are more than once in the image: all but one of each.
    pub duplicated: u64,
    /// Bytes of layers before the first that a `COPY` or `ADD` made: what a change of sources keeps in
    /// the caches of builders and nodes.
    pub stable: u64,
    /// Bytes of the layers that are not of the base image, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<u64>,
    /// The layers, base first.
    pub layers: Vec<LayerReport>,
    /// What is hidden, most bytes first.
    pub wasted_files: Vec<Wasted>,
    /// What is there more than once, most bytes first.
    pub duplicates: Vec<Duplicate>,
    /// The largest files that the image shows.
    pub largest: Vec<SizedFile>,
}

/// A layer and its files.
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) packed: u64,
    pub(super) created_by: String,
    pub(super) entries: Vec<Entry>,
}

/// A file as the layers so far show it.
struct Shown {
    layer: usize,
    size: u64,
    digest: Option<Digest>,
}

/// What became of a path.
#[derive(Default)]
struct Story {
    hidden: u64,
    times: u64,
    /// As dive counts: what its writings and deletions took, and the least of them.
    took: u64,
    least: Option<u64>,
}

impl Story {
    fn count(&mut self, bytes: u64) {
        self.times += 1;
        self.took += bytes;
        self.least = Some(self.least.map_or(bytes, |least| least.min(bytes)));
    }
}

pub(super) fn analyze(image: &str, layers: Vec<Layer>) -> Inspection {
    let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
    let mut stories: BTreeMap<String, Story> = BTreeMap::new();
    let mut reports: Vec<LayerReport> = Vec::with_capacity(layers.len());
    for (index, layer) in layers.into_iter().enumerate() {
        let Layer { name, packed, created_by, entries } = layer;
        // What a layer hides is of the layers below, wherever in its archive it says so.
        for entry in &entries {
            let (inside, itself) = match entry.kind {
                Kind::Whiteout => (true, true),
                Kind::Opaque => (true, false),
                // A file in the place of a folder hides what was in it.
                Kind::File(_) | Kind::Other => (true, false),
                Kind::Folder => continue,
            };
            let gone = take(&mut shown, &entry.path, inside, itself);
            let total: u64 = gone.iter().map(|(_, file)| file.size).sum();
            if entry.kind == Kind::Whiteout {
                stories.entry(entry.path.clone()).or_default().count(total);
            }
            for (path, file) in gone {
                stories.entry(path).or_default().hidden += file.size;
                reports[file.layer].hidden += file.size;
            }
        }
        let mut report = LayerReport {
            number: index + 1,
            name,
            packed,
            size: 0,
            files: 0,
            hidden: 0,
            created_by,
            of_base: None,
        };
        for entry in entries {
            let digest = match entry.kind {
                Kind::File(digest) => digest,
                Kind::Other => None,
                Kind::Folder | Kind::Whiteout | Kind::Opaque => continue,
            };
            report.size += entry.size;
            report.files += 1;
            let story = stories.entry(entry.path.clone()).or_default();
            story.count(entry.size);
            let file = Shown { layer: index, size: entry.size, digest };
            if let Some(before) = shown.insert(entry.path, file) {
                story.hidden += before.size;
                // Written twice in one layer, it is hidden by its own.
                match reports.get_mut(before.layer) {
                    Some(other) => other.hidden += before.size,
                    None => report.hidden += before.size,
                }
            }
        }
        reports.push(report);
    }
    finish(image, reports, &shown, stories)
}

/// Takes what is shown at `path`, and below it, away.
fn take(
    shown: &mut BTreeMap<String, Shown>,
    path: &str,
    inside: bool,
    itself: bool,
) -> Vec<(String, Shown)> {
    let mut paths: Vec<String> = Vec::new();
    if itself && shown.contains_key(path) {
        paths.push(path.to_owned());
    }
    if inside {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = shown.range(prefix.clone()..);
        paths.extend(
            below.take_while(|(path, _)| path.starts_with(&prefix)).map(|(path, _)| path.clone()),
        );
    }
    paths.into_iter().filter_map(|path| shown.remove_entry(&path)).collect()
}

fn finish(
    image: &str,
    layers: Vec<LayerReport>,
    shown: &BTreeMap<String, Shown>,
    stories: BTreeMap<String, Story>,
) -> Inspection {
    let took: u64 = stories.values().map(|story| story.took).sum();
    let least: u64 = stories.values().filter_map(|story| story.least).sum();
    #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes needs no more than 52 bits")]
    let efficiency = if took == 0 { 1.0 } else { least as f64 / took as f64 };
    let mut wasted_files: Vec<Wasted> = stories
        .into_iter()
        .filter(|(_, story)| story.hidden > 0)
        .map(|(path, story)| Wasted {
            deleted: !shown.contains_key(&path),
            path,
            bytes: story.hidden,
            times: story.times,
        })
        .collect();
    wasted_files.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    wasted_files.truncate(LISTED);

    let mut same: BTreeMap<&Digest, (u64, Vec<String>)> = BTreeMap::new();
    for (path, file) in shown.iter().filter(|(_, file)| file.size >= SMALL) {
        if let Some(digest) = &file.digest {
            same.entry(digest).or_insert_with(|| (file.size, Vec::new())).1.push(path.clone());
        }
    }
    let mut duplicates: Vec<Duplicate> = same
        .into_iter()
        .filter(|(_, (_, paths))| paths.len() > 1)
        .map(|(digest, (size, paths))| Duplicate { digest: digest.clone(), size, paths })
        .collect();
    let extra = |found: &Duplicate| found.size * (found.paths.len() as u64 - 1);
    let duplicated = duplicates.iter().map(extra).sum();
    duplicates.sort_by(|a, b| extra(b).cmp(&extra(a)).then_with(|| a.paths.cmp(&b.paths)));
    duplicates.truncate(LISTED);
    duplicates.iter_mut().for_each(|found| found.paths.truncate(LISTED));

    let mut largest: Vec<SizedFile> = shown
        .iter()
        .map(|(path, file)| SizedFile {
            path: path.clone(),
            size: file.size,
            layer: file.layer + 1,
        })
        .collect();
    largest.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    largest.truncate(LISTED);

    let moves = |layer: &&LayerReport| {
        let by = layer.created_by.trim_start_matches("/bin/sh -c #(nop) ").trim_start();
        // The first layer of a base image is an `ADD` of its own.
        layer.number > 1 && (by.starts_with("COPY") || by.starts_with("ADD"))
    };
    let first = layers.iter().find(moves).map_or(layers.len() + 1, |layer| layer.number);
    Inspection {
        image: image.to_owned(),
        packed: layers.iter().map(|layer| layer.packed).sum(),
        size: layers.iter().map(|layer| layer.size).sum(),
        visible: shown.values().map(|file| file.size).sum(),
        wasted: layers.iter().map(|layer| layer.hidden).sum(),
        efficiency,
        duplicated,
        stable: layers.iter().filter(|l| l.number < first).map(|layer| layer.size).sum(),
        own: None,
        layers,
        wasted_files,
        duplicates,
        largest,
    }
}

impl Inspection {
    /// Says which layers are of `base`: those that both begin with.
    pub fn above(&mut self, base: &Self) {
        let shared = self
            .layers
            .iter()
            .zip(&base.layers)
            .take_while(|(own, of_base)| own.name == of_base.name)
            .count();
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.of_base = Some(index < shared);
        }
        self.own = Some(self.layers[shared..].iter().map(|layer| layer.size).sum());
    }
}
