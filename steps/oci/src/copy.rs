//! Copies: a closure from one repository to another, in the order in which nobody ever sees an
//! image without what belongs to it.
//!
//! Blobs, then manifests from the leaves up to the image, then what is attached to it, generation
//! by generation, then a look at the destination. Tags are the caller's, and come last. Each part
//! is looked for before it is written, so a copy that was cut off is mended by the next.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_step::{Digest, Image, Repository};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::closure::{Closure, Member, Relation};
use crate::request::backoff;
use crate::{Client, Descriptor, Error, Landed, Manifest};

/// What happens during a copy, for who watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyEvent {
    /// The source was read: so much there is.
    Found {
        /// The number of manifests.
        manifests: usize,
        /// The number of blobs.
        blobs: usize,
        /// The size of the blobs in bytes.
        bytes: u64,
    },
    /// A blob is at the destination.
    Blob {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// How it came there.
        landed: Landed,
    },
    /// A manifest is at the destination.
    Manifest {
        /// The manifest.
        digest: Digest,
        /// How it came there.
        landed: Landed,
    },
    /// The destination has everything.
    Verified,
}

/// A copy that was made.
#[derive(Debug, Clone)]
pub struct CopyReport {
    /// What was copied, as the source has it.
    pub closure: Closure,
    /// [`Closure::digest`], every leaf of which was found again at the destination.
    pub closure_digest: Digest,
    /// How many manifests and blobs were there before.
    pub present: usize,
    /// How many blobs the registry took from its other repository.
    pub mounted: usize,
    /// How many manifests and blobs were sent.
    pub copied: usize,
    /// How many bytes of blobs were sent.
    pub bytes: u64,
}

/// Who is told of each [`CopyEvent`].
pub type Observer<'a> = &'a (dyn Fn(CopyEvent) + Send + Sync);

/// A member by its place in the closure, how it came to the destination and whether it is listed
/// there; or why it was not taken.
type Written<'a> = (usize, &'a Member, Result<(Landed, bool), Error>);
/// What is attached to one subject, and why it could not be listed.
type Listed<'a> = (Vec<(usize, &'a Manifest)>, Option<Error>);

impl Client {
    /// Copies `from` with everything that belongs to it into `to`, byte for byte, and looks at the
    /// destination before it answers. What the destination has besides stays. What is attached and
    /// cannot be read at the source, or is not taken at the destination, is left where it is and
    /// told in [`Closure::findings`]: it is not in the report's closure and its digest.
    ///
    /// # Errors
    /// What reading or writing fails with; [`Error::NotListed`] when the destination does not show
    /// what was written; [`Error::TagMoved`] when it has another `.sbom` tag.
    pub async fn copy(
        &self,
        from: &Image,
        to: &Repository,
        observe: Observer<'_>,
    ) -> Result<CopyReport, Error> {
        let closure = self.closure(from).await?;
        let blobs = closure.blobs();
        observe(CopyEvent::Found {
            manifests: closure.members.len(),
            blobs: blobs.len(),
            bytes: blobs.iter().map(|blob| blob.size).fold(0, u64::saturating_add),
        });
        let mut report = CopyReport {
            closure_digest: closure.digest(),
            closure,
            present: 0,
            mounted: 0,
            copied: 0,
            bytes: 0,
        };
        if from.repository == *to {
            report.present = report.closure.members.len() + blobs.len();
            observe(CopyEvent::Verified);
            return Ok(report);
        }
        self.copy_blobs(&from.repository, to, blobs, &mut report, observe).await?;
        self.copy_manifests(to, &mut report, observe).await?;
        report.closure_digest = report.closure.digest();
        self.verify_copy(to, &report.closure).await?;
        observe(CopyEvent::Verified);
        Ok(report)
    }

    async fn copy_blobs(
        &self,
        from: &Repository,
        to: &Repository,
        blobs: Vec<Descriptor>,
        report: &mut CopyReport,
        observe: Observer<'_>,
    ) -> Result<(), Error> {
        let parallel = self.options().parallel.max(1);
        let mut landed = |blob: &Descriptor, landed: Landed| {
            match landed {
                Landed::Present => report.present += 1,
                Landed::Mounted => report.mounted += 1,
                Landed::Copied => {
                    report.copied += 1;
                    report.bytes += blob.size;
                }
            }
            let digest = blob.digest.clone();
            observe(CopyEvent::Blob { digest, size: blob.size, landed });
        };
        let mut looked = stream::iter(blobs.into_iter().map(|blob| async move {
            Ok::<_, Error>((self.has_blob(to, &blob.digest).await?, blob))
        }))
        .buffer_unordered(parallel);
        let mut missing = Vec::new();
        while let Some((there, blob)) = looked.try_next().await? {
            if there {
                landed(&blob, Landed::Present);
            } else {
                missing.push(blob);
            }
        }
        // Mounts carry no bytes and run wide; streams hold memory and run narrow.
        let mut mounts = stream::iter(missing.into_iter().map(|blob| async move {
            Ok::<_, Error>((self.try_mount(from, to, &blob.digest).await?, blob))
        }))
        .buffer_unordered(parallel);
        let mut rest = Vec::new();
        while let Some((mount, blob)) = mounts.try_next().await? {
            match mount.left_to_send() {
                None => landed(&blob, Landed::Mounted),
                Some(session) => rest.push((blob, session)),
            }
        }
        let mut streams = stream::iter(rest.into_iter().map(|(blob, session)| async move {
            match self.stream_blob(from, to, &blob, session).await {
                Err(error) if !error.is_unreadable() => Err(error),
                done => Ok((blob, done)),
            }
        }))
        .buffer_unordered(self.options().parallel_blobs.max(1));
        let mut lost = BTreeMap::new();
        while let Some((blob, done)) = streams.try_next().await? {
            match done {
                Ok(()) => landed(&blob, Landed::Copied),
                Err(error) => drop(lost.insert(blob.digest, error)),
            }
        }
        drop(streams);
        report.closure.without_blobs(lost)
    }

    async fn copy_manifests(
        &self,
        to: &Repository,
        report: &mut CopyReport,
        observe: Observer<'_>,
    ) -> Result<(), Error> {
        let place = |m: &Member| (m.generation, std::cmp::Reverse(m.depth));
        let waves: BTreeSet<_> = report.closure.members.iter().map(place).collect();
        for wave in waves {
            // Collected first: the compiler cannot see that a stream over the closure is `Send`.
            let tasks: Vec<_> = report
                .closure
                .members
                .iter()
                .enumerate()
                .filter(|(_, member)| place(member) == wave)
                .map(|(at, member)| async move {
                    match self.copy_manifest(to, member).await {
                        // Somebody's attachment that the destination does not take.
                        Err(error) if member.generation > 0 && error.is_unreadable() => {
                            Ok((at, member, Err(error)))
                        }
                        done => done.map(|done| (at, member, Ok(done))),
                    }
                })
                .collect();
            let written: Vec<Written<'_>> = stream::iter(tasks)
                .buffer_unordered(self.options().parallel.max(1))
                .try_collect()
                .await?;
            let mut unlisted: BTreeMap<&Digest, Vec<(usize, &Manifest)>> = BTreeMap::new();
            let mut gone = vec![false; report.closure.members.len()];
            let mut findings = Vec::new();
            let mut left = |at: usize, digest: &Digest, error: &Error| {
                findings
                    .push(format!("attachment {digest} is not taken by the destination: {error}"));
                gone[at] = true;
            };
            for (at, member, done) in written {
                let digest = member.manifest.digest.clone();
                let (landed, listed) = match done {
                    Ok(done) => done,
                    Err(error) => {
                        left(at, &digest, &error);
                        continue;
                    }
                };
                match landed {
                    Landed::Present => report.present += 1,
                    Landed::Mounted => report.mounted += 1,
                    Landed::Copied => report.copied += 1,
                }
                observe(CopyEvent::Manifest { digest, landed });
                if let (false, Some(subject)) = (listed, &member.manifest.subject) {
                    unlisted.entry(&subject.digest).or_default().push((at, &member.manifest));
                }
            }
            // Everything attached to one subject is put into its list in one go.
            let tasks: Vec<_> = unlisted
                .into_iter()
                .map(|(subject, attached)| async move {
                    let manifests: Vec<&Manifest> = attached.iter().map(|(_, m)| *m).collect();
                    match self.ensure_listed(&to.at(subject.clone()), &manifests).await {
                        Err(error) if error.is_unreadable() => Ok((attached, Some(error))),
                        done => done.map(|()| (attached, None)),
                    }
                })
                .collect();
            let listed: Vec<Listed<'_>> = stream::iter(tasks)
                .buffer_unordered(self.options().parallel.max(1))
                .try_collect()
                .await?;
            for (attached, error) in &listed {
                if let Some(error) = error {
                    attached.iter().for_each(|(at, m)| left(*at, &m.digest, error));
                }
            }
            report.closure.findings.extend(findings);
            report.closure.remove(gone);
        }
        Ok(())
    }

    /// Brings one manifest to the destination. The second answer is whether the registry already
    /// lists it as a referrer by itself.
    async fn copy_manifest(
        &self,
        to: &Repository,
        member: &Member,
    ) -> Result<(Landed, bool), Error> {
        let manifest = &member.manifest;
        if let Relation::Legacy { of, tag } = &member.relation {
            let landed = if member.whole {
                self.put_legacy(to, of, *tag, manifest).await?
            } else {
                self.add_documents(to, of, *tag, manifest.layers()).await?
            };
            return Ok((landed, false));
        }
        if self.has_manifest(to, &manifest.digest).await? {
            return Ok((Landed::Present, false));
        }
        let name = manifest.digest.to_string();
        let digest = manifest.digest.clone();
        let put =
            self.write_manifest(to, &name, &manifest.media_type, &manifest.bytes, digest).await?;
        Ok((Landed::Copied, put.subject_listed))
    }

    /// Lists the destination anew until it shows everything; registries may be slow to.
    async fn verify_copy(&self, to: &Repository, source: &Closure) -> Result<(), Error> {
        let image = to.at(source.image.digest.clone());
        let mut attempt = 1;
        loop {
            let missing = match self.closure(&image).await {
                Ok(there) => source.missing_from(&there),
                Err(error) if error.is_not_found() => vec![error.to_string()],
                Err(error) => return Err(error),
            };
            let Some(first) = missing.first() else {
                return Ok(());
            };
            if attempt >= self.options().attempts {
                let more = match missing.len() {
                    1 => String::new(),
                    count => format!(", with {} more,", count - 1),
                };
                return Err(Error::NotListed { what: format!("`{first}` of {image}{more}") });
            }
            tokio::time::sleep(backoff(self.options(), attempt)).await;
            attempt += 1;
        }
    }
}
