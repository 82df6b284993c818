//! Images in registries: each layer is fetched into a file without a name, and read there.

use std::io::{Seek as _, SeekFrom, Write as _};

use fairlead_oci::{Client, PlatformImage};
use futures::TryStreamExt as _;

use super::InspectError;
use super::analyze::{Inspection, Layer, analyze};
use super::archive;
use super::source::instructions;

/// The most bytes of a configuration.
const MAX_CONFIG: u64 = 8 << 20;

/// Inspects the image of one platform.
///
/// # Errors
/// When the registry fails, or a layer is damaged.
pub async fn inspect_image(
    client: &Client,
    image: &PlatformImage,
) -> Result<Inspection, InspectError> {
    let repository = &image.image.repository;
    let config = client.blob_bytes(repository, &image.config, MAX_CONFIG).await?;
    let made = instructions(&config);
    let mut layers = Vec::with_capacity(image.layers.len());
    for (index, descriptor) in image.layers.iter().enumerate() {
        let what = format!("layer {} ({})", index + 1, descriptor.digest);
        let failed = |source: std::io::Error| InspectError::Read { what: what.clone(), source };
        let mut file = tempfile::tempfile().map_err(failed)?;
        let mut pieces = client.blob(repository, descriptor).await?;
        // The stream ends well only when all bytes were the right ones.
        while let Some(piece) = pieces.try_next().await? {
            file.write_all(&piece).map_err(failed)?;
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let name = what.clone();
        let read = tokio::task::spawn_blocking(move || archive::read(file, &name)).await;
        let entries = read.map_err(|error| InspectError::malformed(&what, error.to_string()))??;
        layers.push(Layer {
            name: descriptor.digest.to_string(),
            packed: descriptor.size,
            created_by: made.get(index).cloned().unwrap_or_default(),
            entries,
        });
    }
    Ok(analyze(&image.image.to_string(), layers))
}
