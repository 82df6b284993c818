//! Reading an image: every layer once, as it streams from the registry.
//!
//! A layer's bytes are hashed on the way in by the registry client; a thread of its own unpacks
//! them and walks the archive. What a layer says counts only when its bytes were the right ones.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, Bytes};
use fairlead_oci::{BlobStream, Client, Descriptor, PlatformImage};
use fairlead_step::{Digest, Log, Progress, Repository, StepError, Stream};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::chase::{Chase, WaitingList};
use crate::document::Description;
use crate::image_config::{CONFIG_LIMIT, Config};
use crate::inflate::{Packing, UnknownPacking};
use crate::inventory::Inventory;
use crate::layer::{LayerError, Request, Scan, scan};
use crate::layer_cache::{Key, LayerCache};
use crate::limits::Limits;
use crate::rootfs::RootFs;
use crate::unassessed::{Unassessed, UnassessedKind};

/// The most layers that are read at once. Unpacking keeps a core busy each, so there are as many as
/// there are cores; each takes memory and a connection, so there is an end to it.
const PARALLEL_LAYERS: usize = 8;

/// How many bytes of a layer wait for its thread: enough that neither side waits for the other at
/// every piece, little enough to be nothing in memory. Pieces are as large as the connection gives
/// them, so it is bytes that are counted.
const BYTES_WAITING: u32 = 512 << 10;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The registry did not give what was asked for.
    #[error(transparent)]
    Registry(#[from] fairlead_oci::Error),
    /// What is stored there is no image of files.
    #[error("layer {number} ({digest}) of {repository}: {source}")]
    Packing {
        /// Counts from 1.
        number: usize,
        /// The layer.
        digest: Digest,
        /// The image's repository.
        repository: Repository,
        /// What the layer is instead.
        source: UnknownPacking,
    },
    /// A layer is damaged or hostile.
    #[error("layer {number} ({digest}) of {repository}: {source}")]
    Layer {
        /// Counts from 1.
        number: usize,
        /// The layer.
        digest: Digest,
        /// The image's repository.
        repository: Repository,
        /// What is wrong with it.
        source: Box<LayerError>,
    },
    /// The configuration is not what the specification says.
    #[error("the configuration {digest} of {repository} is malformed")]
    Config {
        /// The configuration.
        digest: Digest,
        /// The image's repository.
        repository: Repository,
        /// Where.
        source: serde_json::Error,
    },
    /// A thread that read a layer ended without an answer.
    #[error("the thread that read layer {number} broke")]
    Thread {
        /// Counts from 1.
        number: usize,
        /// How it ended.
        source: tokio::task::JoinError,
    },
}

impl From<ReadError> for StepError {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::Registry(error) => error.into(),
            ReadError::Packing { .. } => Self::terminal(message).hint(
                "a bill of materials can be made of container images alone; is this a chart, or \
                 another artifact?",
            ),
            ReadError::Layer { source, .. } => Self::terminal(message).hint(source.way_out()),
            ReadError::Config { source, .. } => {
                Self::terminal(message).because(source).hint("build and push the image anew")
            }
            ReadError::Thread { source, .. } => Self::terminal(message).because(source),
        }
    }
}

/// Reads the image of one platform and describes it.
///
/// # Errors
/// When the registry fails, or when a layer is damaged or hostile.
pub async fn read_image(
    client: &Client,
    image: &PlatformImage,
    limits: &Limits,
    log: &Arc<dyn Log>,
) -> Result<Description, ReadError> {
    read_image_with(client, image, limits, log, &LayerCache::default()).await
}

/// Reads an image as [`read_image`] does, but not those of its layers that `known` has.
pub(crate) async fn read_image_with(
    client: &Client,
    image: &PlatformImage,
    limits: &Limits,
    log: &Arc<dyn Log>,
    known: &LayerCache,
) -> Result<Description, ReadError> {
    let repository = &image.image.repository;
    let config = client.blob_bytes(repository, &image.config, CONFIG_LIMIT).await?;
    let config = Config::read(&config).map_err(|source| ReadError::Config {
        digest: image.config.digest.clone(),
        repository: repository.clone(),
        source,
    })?;
    let reader = LayerReader {
        client,
        repository,
        limits: Arc::new(limits.clone()),
        log,
        bytes: AtomicU64::new(0),
        total: image.layers.iter().map(|layer| layer.size).sum(),
        layers: &image.layers,
        known,
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut scans = futures::stream::iter(0..image.layers.len())
        .map(|at| reader.layer(at))
        .buffered(cores.clamp(2, PARALLEL_LAYERS));
    let mut root = RootFs::default();
    let mut unseen = Vec::new();
    let mut at = 0;
    while let Some(read) = scans.try_next().await? {
        match read {
            Ok(scan) => {
                reader.tell(&scan);
                root.lay(scan, at);
            }
            Err(note) => {
                log.line(Stream::Step, &note);
                let what = image.layers[at].digest.to_string();
                unseen.push(Unassessed { kind: UnassessedKind::ForeignLayer, what });
            }
        }
        at += 1;
    }
    drop(scans);
    let mut waiting = WaitingList::of(&root);
    for at in (0..image.layers.len()).rev() {
        let chase = waiting.chase(at);
        if let Ok(chase) = reader.chase(at, chase).await? {
            waiting.settle(&mut root, chase);
        }
    }
    let layers = image.layers.iter().map(|layer| layer.digest.clone()).collect();
    Ok(config.describe(image.image.digest.clone(), layers, Inventory::of(&root), unseen))
}

struct LayerReader<'a> {
    client: &'a Client,
    repository: &'a Repository,
    limits: Arc<Limits>,
    log: &'a Arc<dyn Log>,
    /// How many bytes came so far, over all layers.
    bytes: AtomicU64,
    total: u64,
    layers: &'a [Descriptor],
    known: &'a LayerCache,
}

/// What was read of a layer, or, for a layer that lives elsewhere, why it was not.
type Seen<T> = Result<T, String>;

impl LayerReader<'_> {
    /// Tells what was passed over.
    fn tell(&self, scan: &Scan) {
        for note in scan.told() {
            self.log.line(Stream::Step, &note);
        }
    }

    async fn layer(&self, at: usize) -> Result<Seen<Scan>, ReadError> {
        let request = Request { bottom: at == 0, ..Request::default() };
        let key = Key {
            registry: self.repository.registry().into(),
            layer: self.layers[at].digest.clone(),
            bottom: request.bottom,
        };
        if let Some(scan) = self.known.get(&key) {
            self.bytes.fetch_add(self.layers[at].size, Ordering::Relaxed);
            return Ok(Ok((*scan).clone()));
        }
        let mut scan = match self.pass(at, request).await? {
            Ok(scan) => scan,
            Err(note) => return Ok(Err(note)),
        };
        // A file that is read under one of its names came first under another.
        let chase = Chase::new(std::mem::take(&mut scan.late));
        Ok(self.chase(at, chase).await?.map(|chase| {
            scan.complete(chase);
            self.known.put(key, &scan);
            scan
        }))
    }

    /// Reads a layer for the files that links lead to, as often as it takes.
    async fn chase(&self, at: usize, mut chase: Chase) -> Result<Seen<Chase>, ReadError> {
        while let Some(request) = chase.request() {
            match self.pass(at, request).await? {
                Ok(scan) => chase.take(scan),
                Err(note) => return Ok(Err(note)),
            }
        }
        Ok(Ok(chase))
    }

    /// Opens a layer: at the registry, or, when it is one that need not be there and is not, at
    /// the addresses that its descriptor names. `true` comes with the latter.
    async fn open(&self, at: usize) -> Result<Seen<(BlobStream, bool)>, ReadError> {
        let layer = &self.layers[at];
        match self.client.blob(self.repository, layer).await {
            Ok(blob) => Ok(Ok((blob, false))),
            Err(error) if layer.is_foreign() && error.is_not_found() => {
                let elsewhere = self.client.blob_elsewhere(layer).await;
                let opened = elsewhere.map(|blob| (blob, true));
                Ok(opened.map_err(|why| self.unseen(at, &why.to_string())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The note on a layer that did not come.
    fn unseen(&self, at: usize, why: &str) -> String {
        let digest = &self.layers[at].digest;
        format!("layer {} ({digest}) lives outside of the registry and was not seen: {why}", at + 1)
    }

    /// Streams the layer once past its thread.
    async fn pass(&self, at: usize, request: Request) -> Result<Seen<Scan>, ReadError> {
        let layer = &self.layers[at];
        let packing = Packing::of_media_type(&layer.media_type).map_err(|source| {
            let (digest, repository) = (layer.digest.clone(), self.repository.clone());
            ReadError::Packing { number: at + 1, digest, repository, source }
        })?;
        let (mut blob, elsewhere) = match self.open(at).await? {
            Ok(opened) => opened,
            Err(note) => return Ok(Err(note)),
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(BYTES_WAITING as usize));
        let limits = Arc::clone(&self.limits);
        let thread = tokio::task::spawn_blocking(move || {
            let pieces = Pieces { receiver, piece: Bytes::new(), held: None };
            scan(pieces, packing, &request, &limits)
        });
        let mut taken = true;
        loop {
            let piece = match blob.try_next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                // Nobody promised that a stranger's server has it.
                Err(error) if elsewhere => return Ok(Err(self.unseen(at, &error.to_string()))),
                Err(error) => return Err(error.into()),
            };
            let done = self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            self.log.progress(Progress {
                what: format!("layer {} of {}", at + 1, self.layers.len()),
                done: done + piece.len() as u64,
                total: Some(self.total),
            });
            // A scan that failed takes no more. The rest still passes the check of the digest:
            // bytes that were changed on the way are a better reason than what they broke.
            if taken {
                let bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX).min(BYTES_WAITING);
                taken = match Arc::clone(&room).acquire_many_owned(bytes).await {
                    Ok(held) => sender.send((piece, held)).is_ok(),
                    Err(_) => false,
                };
            }
        }
        drop(sender);
        let scanned = thread.await;
        let scanned = scanned.map_err(|source| ReadError::Thread { number: at + 1, source })?;
        scanned.map(Ok).map_err(|source| ReadError::Layer {
            number: at + 1,
            digest: layer.digest.clone(),
            repository: self.repository.clone(),
            source: Box::new(source),
        })
    }
}

/// The pieces of a layer, for a thread to read.
struct Pieces {
    receiver: mpsc::UnboundedReceiver<(Bytes, OwnedSemaphorePermit)>,
    piece: Bytes,
    /// The room that `piece` takes.
    held: Option<OwnedSemaphorePermit>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            // The next piece may need the room of the one that is done with.
            (self.piece, self.held) = (Bytes::new(), None);
            match self.receiver.blocking_recv() {
                Some((piece, held)) => (self.piece, self.held) = (piece, Some(held)),
                None => return Ok(0),
            }
        }
        let take = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..take]);
        Ok(take)
    }
}
