//! From the bytes of a layer blob to the bytes of its tar archive, with guards against bombs.
//!
//! Builders and registries have written labels that do not fit the bytes, and container engines
//! never minded: they look at the bytes. So does this.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use crate::limits::Limits;
use crate::tar::looks_like_an_archive;

/// How the archive of a layer is packed (image-spec v1.1, "Image Layer Filesystem Changeset").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// A plain tar archive.
    Plain,
    /// gzip (RFC 1952), of one member or several.
    Gzip,
    /// Zstandard (RFC 8878), of one frame or several.
    Zstd,
}

/// A layer whose media type names no archive that Fairlead reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the layer's media type `{media_type}` names no tar archive")]
pub struct UnknownPacking {
    media_type: String,
}

impl Packing {
    /// The packing that `media_type` names, in OCI's words or in Docker's.
    ///
    /// # Errors
    /// For any other media type, that of an encrypted layer among them.
    pub(crate) fn of_media_type(media_type: &str) -> Result<Self, UnknownPacking> {
        Ok(match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Self::Plain,
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Self::Gzip,
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Self::Zstd,
            other => return Err(UnknownPacking { media_type: other.to_owned() }),
        })
    }

    /// The packing of a blob that begins with `head`, which is whole when the blob is shorter than
    /// [`HEAD`]. What cannot be told from the bytes is as it is labeled.
    fn of_bytes(head: &[u8], labeled: Self) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one to skip, which some writers put first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ if looks_like_an_archive(head) => Self::Plain,
            _ => labeled,
        }
    }
}

/// How many bytes tell a packing: the first header of an archive.
const HEAD: usize = 512;

/// Reads up to [`HEAD`] bytes, in as many pieces as they come.
fn read_head(blob: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    blob.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The unpacked bytes of `blob`, until they break one of the `limits`. The bytes say how they are
/// packed; `labeled` counts where they do not.
///
/// # Errors
/// When the source fails, or the decoder cannot be set up.
pub(crate) fn unpack<'a>(
    blob: impl Read + 'a,
    labeled: Packing,
    limits: &Limits,
) -> io::Result<Guarded<'a>> {
    let packed = Rc::new(Cell::new(0));
    let mut blob = Counted { blob, count: Rc::clone(&packed) };
    let head = read_head(&mut blob)?;
    let packing = Packing::of_bytes(&head, labeled);
    let blob = BufReader::with_capacity(64 * 1024, io::Cursor::new(head).chain(blob));
    let inner: Box<dyn Read + 'a> = match packing {
        Packing::Plain => Box::new(blob),
        Packing::Gzip => Box::new(MultiGzDecoder::new(blob)),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(blob)?;
            // The window is the decoder's memory. 128 MiB is what `zstd --ultra --long` asks for.
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
    };
    Ok(Guarded {
        inner,
        packed,
        unpacked: 0,
        most: limits.unpacked,
        ratio: limits.ratio,
        ratio_from: limits.ratio_from,
    })
}

struct Counted<R> {
    blob: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.blob.read(buffer)?;
        self.count.set(self.count.get() + got as u64);
        Ok(got)
    }
}

/// A reader that stops when more comes out than an honest layer has in it.
pub(crate) struct Guarded<'a> {
    inner: Box<dyn Read + 'a>,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
    most: u64,
    ratio: u64,
    ratio_from: u64,
}

/// Why unpacking stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bomb {
    #[error("more than {most} bytes come out")]
    TooMuch { most: u64 },
    #[error(
        "{unpacked} bytes come out of {packed}: a ratio above {ratio}:1 is a decompression bomb"
    )]
    Ratio { packed: u64, unpacked: u64, ratio: u64 },
}

impl Read for Guarded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.unpacked += got as u64;
        let (packed, unpacked, ratio) = (self.packed.get(), self.unpacked, self.ratio);
        if unpacked > self.most {
            return Err(io::Error::other(Bomb::TooMuch { most: self.most }));
        }
        if unpacked > self.ratio_from && unpacked / packed.max(1) > ratio {
            return Err(io::Error::other(Bomb::Ratio { packed, unpacked, ratio }));
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(blob: &[u8], packing: Packing, limits: &Limits) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut reader = unpack(blob, packing, limits).map_err(|e| e.to_string())?;
        reader.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    #[test]
    fn every_packing_unpacks() {
        let limits = Limits::default();
        let members = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(read(&members, Packing::Gzip, &limits).unwrap(), b"one two");
        let frames = zstd::encode_all(&b"frame"[..], 1).unwrap();
        assert_eq!(read(&frames, Packing::Zstd, &limits).unwrap(), b"frame");
        assert_eq!(read(b"plain", Packing::Plain, &limits).unwrap(), b"plain");
    }

    #[test]
    fn a_blob_that_is_cut_or_damaged_is_an_error() {
        let limits = Limits::default();
        let whole = gzip(&[7; 4000]);
        assert!(read(&whole[..whole.len() - 3], Packing::Gzip, &limits).is_err());
        assert!(read(b"no gzip at all", Packing::Gzip, &limits).is_err());
        let frames = zstd::encode_all(&[7; 4000][..], 1).unwrap();
        assert!(read(&frames[..frames.len() - 3], Packing::Zstd, &limits).is_err());
    }

    #[test]
    fn the_bytes_say_how_they_are_packed() {
        let limits = Limits::default();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        tar.append_data(&mut header, "a", &b"abc"[..]).unwrap();
        let tar = tar.into_inner().unwrap();
        let skippable = [
            &[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7][..],
            &zstd::encode_all(&tar[..], 1).unwrap(),
        ]
        .concat();
        for bytes in [tar.clone(), gzip(&tar), zstd::encode_all(&tar[..], 1).unwrap(), skippable] {
            for label in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
                assert_eq!(read(&bytes, label, &limits).unwrap(), tar, "{label:?}");
            }
        }
        // An archive without entries is nothing but zeros.
        assert_eq!(read(&[0; 1024], Packing::Gzip, &limits).unwrap(), [0; 1024]);
        assert_eq!(read(&[0; 1024], Packing::Zstd, &limits).unwrap(), [0; 1024]);
        // What is neither is as its label says.
        assert!(read(b"neither", Packing::Gzip, &limits).is_err());
        assert_eq!(read(b"neither", Packing::Plain, &limits).unwrap(), b"neither");
    }

    /// Gives its bytes in pieces of one.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let one = self.0.len().min(1).min(buffer.len());
            buffer[..one].copy_from_slice(&self.0[..one]);
            self.0 = &self.0[one..];
            Ok(one)
        }
    }

    proptest! {
        #[test]
        fn pieces_and_labels_change_nothing(
            bytes in prop::collection::vec(any::<u8>(), 0..1500),
            pack in 0..3,
            label in prop::sample::select(vec![Packing::Plain, Packing::Gzip, Packing::Zstd]),
        ) {
            let packed = match pack {
                0 => gzip(&bytes),
                1 => zstd::encode_all(&bytes[..], 1).unwrap(),
                _ => bytes.clone(),
            };
            let mut got = Vec::new();
            let slow = unpack(Slow(&packed), label, &Limits::default())
                .and_then(|mut reader| reader.read_to_end(&mut got));
            if pack < 2 {
                prop_assert!(slow.is_ok());
                prop_assert_eq!(got, bytes);
            }
        }
    }

    #[test]
    fn bombs_are_refused() {
        let bomb = gzip(&vec![0; 1 << 20]);
        let limits = Limits { ratio: 100, ratio_from: 1 << 16, ..Limits::default() };
        assert!(read(&bomb, Packing::Gzip, &limits).unwrap_err().contains("decompression bomb"));
        let limits = Limits { unpacked: 1 << 19, ..Limits::default() };
        let error = read(&bomb, Packing::Gzip, &limits).unwrap_err();
        assert!(error.contains("more than 524288 bytes come out"), "{error}");
    }

    #[test]
    fn media_types_name_the_packing() {
        for (media_type, want) in [
            ("application/vnd.oci.image.layer.v1.tar", Some(Packing::Plain)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Packing::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Packing::Zstd)),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None),
            ("application/vnd.in-toto+json", None),
        ] {
            assert_eq!(Packing::of_media_type(media_type).ok(), want, "{media_type}");
        }
    }
}
