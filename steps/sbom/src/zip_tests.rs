//! Zip archives for tests.

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;

/// An archive of these files.
pub(crate) fn jar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
