//! One dump: `<ECOSYSTEM>/all.zip`, one `<ID>.json` for each record.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::compile::Compiler;
use super::update::{FeedReport, UpdateError};
use crate::ecosystem::Ecosystem;

/// The file of a dump within its ecosystem's folder.
pub(super) const ARCHIVE: &str = "all.zip";
/// Bytes of one record; the largest real ones have some hundred thousand.
const MAX_RECORD: u64 = 16 * 1024 * 1024;
/// Records of one dump; the largest real one has about 300,000.
const MAX_RECORDS: usize = 2_000_000;
/// Bytes that all records of one dump may unpack to.
const MAX_UNPACKED: u64 = 32 * 1024 * 1024 * 1024;

/// A dump on disk, ready to be read.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) ecosystem: Ecosystem,
    pub(super) archive: PathBuf,
    pub(super) fetched: bool,
}

/// Hands every record of a dump to the compiler. A record that cannot be used is counted and the
/// first such is named; only an archive that cannot be read at all is an error.
pub(super) fn read(feed: &Feed, compiler: &mut Compiler) -> Result<FeedReport, UpdateError> {
    let path = feed.archive.as_path();
    let file = File::open(path).map_err(|source| UpdateError::io(path, source))?;
    let bytes = file.metadata().map_err(|source| UpdateError::io(path, source))?.len();
    let mut archive = ZipArchive::new(BufReader::new(file))
        .map_err(|error| archive_error(path, &error.to_string()))?;
    if archive.len() > MAX_RECORDS {
        return Err(archive_error(path, &format!("it has more than {MAX_RECORDS} records")));
    }
    let mut report = FeedReport {
        ecosystem: feed.ecosystem.name().to_owned(),
        fetched: feed.fetched,
        bytes,
        ..FeedReport::default()
    };
    let mut unpacked = 0;
    let mut buffer = Vec::new();
    for number in 0..archive.len() {
        let outcome = match read_entry(&mut archive, number, &mut buffer) {
            Ok(false) => continue,
            Ok(true) => {
                unpacked += buffer.len() as u64;
                if unpacked > MAX_UNPACKED {
                    return Err(archive_error(path, "it unpacks to more than 32 GiB"));
                }
                compiler.add(feed.ecosystem, &buffer).map_err(|error| error.to_string())
            }
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(true) => report.withdrawn += 1,
            Ok(false) => report.records += 1,
            Err(problem) => {
                report.bad += 1;
                report.first_bad.get_or_insert_with(|| {
                    let name = entry_name(&archive, number).unwrap_or_default();
                    format!("{}: {problem}", name.chars().take(120).collect::<String>())
                });
            }
        }
    }
    if report.records == 0 && report.bad > 0 {
        let first = report.first_bad.unwrap_or_default();
        return Err(archive_error(path, &format!("no record in it can be used; {first}")));
    }
    Ok(report)
}

/// Reads one entry into `buffer`; answers whether it is a record.
fn read_entry(
    archive: &mut ZipArchive<BufReader<File>>,
    number: usize,
    buffer: &mut Vec<u8>,
) -> Result<bool, String> {
    buffer.clear();
    if !entry_name(archive, number).is_some_and(|name| name.ends_with(".json")) {
        return Ok(false);
    }
    let entry = archive.by_index(number).map_err(|error| error.to_string())?;
    entry.take(MAX_RECORD + 1).read_to_end(buffer).map_err(|error| error.to_string())?;
    if buffer.len() as u64 > MAX_RECORD {
        return Err("it is larger than 16 MiB".to_owned());
    }
    Ok(true)
}

fn entry_name(archive: &ZipArchive<BufReader<File>>, number: usize) -> Option<String> {
    Some(archive.name_for_index(number)?.ok()?.into_owned())
}

fn archive_error(path: &Path, problem: &str) -> UpdateError {
    UpdateError::Archive { path: path.to_owned(), problem: problem.to_owned() }
}
