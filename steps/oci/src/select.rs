//! Choosing by platform: from an index to the image of one platform, its config and its layers.

use fairlead_step::Image;

use crate::{Client, Content, Descriptor, Error, Manifest, Platform};

/// The image of one platform.
#[derive(Debug, Clone)]
pub struct PlatformImage {
    /// The platform, as the index says it; `None` where the image is not in an index.
    pub platform: Option<Platform>,
    /// The image itself, by the digest of its own manifest.
    pub image: Image,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its config blob.
    pub config: Descriptor,
    /// Its layers, base first. [`Client::blob`] streams each.
    pub layers: Vec<Descriptor>,
}

impl Client {
    /// The images of every platform of `image`: itself when it is a single image, the children of
    /// an index otherwise, in the index's order and without attestations and other artifacts.
    ///
    /// # Errors
    /// What reading fails with; [`Error::Malformed`] when nothing in the index is an image.
    pub async fn platforms(&self, image: &Image) -> Result<Vec<PlatformImage>, Error> {
        let manifest = self.manifest(image).await?;
        let children = match &manifest.content {
            Content::Image { config, layers } => {
                let (config, layers) = (config.clone(), layers.clone());
                let image = image.clone();
                return Ok(vec![PlatformImage { platform: None, image, manifest, config, layers }]);
            }
            Content::Index { manifests } => manifests.as_slice(),
            Content::Unknown => &[],
        };
        let mut images = Vec::new();
        for child in children.iter().filter(|child| is_platform_image(child)) {
            let image = image.repository.at(child.digest.clone());
            let manifest = self.manifest(&image).await?;
            if let Content::Image { config, layers } = &manifest.content {
                let (config, layers) = (config.clone(), layers.clone());
                let platform = child.platform.clone();
                images.push(PlatformImage { platform, image, manifest, config, layers });
            }
        }
        if images.is_empty() {
            return Err(Error::Malformed {
                what: image.to_string(),
                problem: "the index holds no image of any platform".into(),
            });
        }
        Ok(images)
    }

    /// The image of the platform that `wanted` names. A single image is taken as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], naming the platforms there are.
    pub async fn platform(&self, image: &Image, wanted: &Platform) -> Result<PlatformImage, Error> {
        let mut images = self.platforms(image).await?;
        let fits = |i: &PlatformImage| i.platform.as_ref().is_none_or(|p| p.serves(wanted));
        match images.iter().position(fits) {
            Some(at) => Ok(images.swap_remove(at)),
            None => {
                let there: Vec<String> =
                    images.iter().flat_map(|i| &i.platform).map(ToString::to_string).collect();
                Err(Error::NotFound {
                    what: format!("platform {wanted} of {image}"),
                    detail: format!(": it has {}", there.join(", ")),
                })
            }
        }
    }
}

/// Whether a child of an index is an image to run, and not an attestation about one.
fn is_platform_image(child: &Descriptor) -> bool {
    !child.annotations.contains_key("vnd.docker.reference.type")
        && child.artifact_type.is_none()
        && !child.platform.as_ref().is_some_and(Platform::is_unknown)
}
