//! Blobs, manifests and small images pushed to a registry byte for byte, also those that no tool
//! would push.

use fairlead_step::Digest;
use fairlead_tests::{Registry, http};
use serde_json::{Value, json};

/// The media type of an image's manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes a blob.
pub(crate) fn put_blob(registry: &Registry, repository: &str, bytes: &[u8]) -> Digest {
    let base = format!("http://{}", registry.host());
    let digest = Digest::sha256(bytes);
    let begun = http::send("POST", &format!("{base}/v2/{repository}/blobs/uploads/"), &[], b"");
    let begun = begun.expect("a registry");
    assert_eq!(begun.status, 202, "{}", begun.text());
    let place = begun.header("location").unwrap();
    let place = if place.starts_with('/') { format!("{base}{place}") } else { place.to_owned() };
    let mark = if place.contains('?') { '&' } else { '?' };
    let headers = [("Content-Type", "application/octet-stream")];
    let put = http::send("PUT", &format!("{place}{mark}digest={digest}"), &headers, bytes);
    let put = put.expect("a registry");
    assert_eq!(put.status, 201, "{}", put.text());
    digest
}

/// Pushes a manifest or an index under a tag or its own digest.
pub(crate) fn put_manifest(
    registry: &Registry,
    repository: &str,
    reference: &str,
    document: &Value,
) -> Digest {
    let text = document.to_string();
    let url = format!("http://{}/v2/{repository}/manifests/{reference}", registry.host());
    let headers = [("Content-Type", document["mediaType"].as_str().unwrap())];
    let put = http::send("PUT", &url, &headers, text.as_bytes()).expect("a registry");
    assert_eq!(put.status, 201, "{}", put.text());
    Digest::sha256(text.as_bytes())
}

/// Pushes an image with these layers, each with its media type; answers `repository@digest`.
pub(crate) fn image_of(
    registry: &Registry,
    repository: &str,
    tag: &str,
    layers: &[(&str, &[u8])],
) -> String {
    let pushed: Vec<(&str, Digest, usize)> = layers
        .iter()
        .map(|(kind, bytes)| (*kind, put_blob(registry, repository, bytes), bytes.len()))
        .collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": pushed.iter().map(|l| &l.1).collect::<Vec<_>>()},
    })
    .to_string();
    let config_digest = put_blob(registry, repository, config.as_bytes());
    let document = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest,
            "size": config.len(),
        },
        "layers": pushed
            .iter()
            .map(|(kind, digest, size)| json!({"mediaType": kind, "digest": digest, "size": size}))
            .collect::<Vec<_>>(),
    });
    let digest = put_manifest(registry, repository, tag, &document);
    format!("{}/{repository}@{digest}", registry.host())
}

/// Pushes an image with one layer, a tar archive with one file of this content.
pub(crate) fn small_image(
    registry: &Registry,
    repository: &str,
    tag: &str,
    content: &str,
) -> String {
    let layer = tar(&[Entry::file("file", content.as_bytes())]);
    image_of(registry, repository, tag, &[(TAR, &layer)])
}

/// The media type of a layer that is not compressed.
pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// An entry of a tar archive, with whatever name and type.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    /// `0` a file, `1` a hard link, `2` a link, `3` a character device, `4` a block device, `5` a
    /// folder, `6` a pipe (POSIX.1-1988, ustar).
    pub(crate) kind: u8,
    pub(crate) link: &'a str,
    pub(crate) content: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(crate) fn file(name: &'a str, content: &'a [u8]) -> Self {
        Self { name, kind: b'0', link: "", content }
    }

    fn header(&self) -> [u8; 512] {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, self.name.as_bytes());
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", self.content.len()).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, self.link.as_bytes());
        put(257, b"ustar\x0000");
        put(329, b"0000001\0");
        put(337, b"0000003\0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }
}

/// A tar archive, written here because libraries refuse to write what is hostile.
pub(crate) fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        archive.extend(entry.header());
        archive.extend(entry.content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.extend([0; 1024]);
    archive
}
