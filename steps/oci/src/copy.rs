//! Copies: a closure from one repository to another, in the order in which nobody ever sees an
//! image without what belongs to it.
//!
//! Blobs, then manifests from the leaves up to the image, then what is attached to it, generation
//! by generation, then a look at the destination. Tags are the caller's, and come last. Each part
//! is looked for before it is written, so a copy that was cut off is mended by the next.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_step::{Digest, Image, Repository};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::closure::{Closure, LegacyTag, Member, Relation};
use crate::request::backoff;
use crate::{Client, Content, Descriptor, Error, Landed, Manifest};

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

/// What who copies knows of the destination. What is foreseen wrongly costs requests, and nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// The image is most likely not there: nothing is looked for before it is written.
    pub absent: bool,
    /// A tag is set on the image next and read back, so that an image alone need not be looked for.
    pub tagged: bool,
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
        self.copy_foreseeing(from, to, Foreseen::default(), observe).await
    }

    /// The same by who knows something of the destination.
    ///
    /// # Errors
    /// As [`Client::copy`].
    pub async fn copy_foreseeing(
        &self,
        from: &Image,
        to: &Repository,
        foreseen: Foreseen,
        observe: Observer<'_>,
    ) -> Result<CopyReport, Error> {
        self.use_together(&from.repository, to).await?;
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
        let ask = !foreseen.absent;
        self.copy_blobs(&from.repository, to, blobs, ask, &mut report, observe).await?;
        self.copy_manifests(to, ask, &mut report, observe).await?;
        report.closure_digest = report.closure.digest();
        self.verify_copy(to, &report.closure, foreseen).await?;
        observe(CopyEvent::Verified);
        Ok(report)
    }

    async fn copy_blobs(
        &self,
        from: &Repository,
        to: &Repository,
        blobs: Vec<Descriptor>,
        ask: bool,
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
        // A mount answers for a blob that is there as for one that it takes.
        let ask = ask || from.registry() != to.registry();
        let mut looked = stream::iter(blobs.into_iter().map(|blob| async move {
            Ok::<_, Error>((ask && self.has_blob(to, &blob.digest).await?, blob))
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
            // Before bytes are sent it is worth a question.
            if !ask && session.is_none() && self.has_blob(to, &blob.digest).await? {
                return Ok((blob, Ok(Landed::Present)));
            }
            match self.stream_blob(from, to, &blob, session).await {
                Err(error) if !error.is_unreadable() => Err(error),
                done => Ok((blob, done.map(|()| Landed::Copied))),
            }
        }))
        .buffer_unordered(self.options().parallel_blobs.max(1));
        let mut lost = BTreeMap::new();
        while let Some((blob, done)) = streams.try_next().await? {
            match done {
                Ok(how) => landed(&blob, how),
                Err(error) => drop(lost.insert(blob.digest, error)),
            }
        }
        drop(streams);
        report.closure.without_blobs(lost)
    }

    async fn copy_manifests(
        &self,
        to: &Repository,
        ask: bool,
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
                    match self.copy_manifest(to, member, ask).await {
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
        ask: bool,
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
        if ask && self.has_manifest(to, &manifest.digest).await? {
            return Ok((Landed::Present, false));
        }
        let name = manifest.digest.to_string();
        let digest = manifest.digest.clone();
        let put =
            self.write_manifest(to, &name, &manifest.media_type, &manifest.bytes, digest).await?;
        Ok((Landed::Copied, put.subject_listed))
    }

    /// Looks at the destination until it shows everything; registries may be slow to. What has nothing
    /// attached is not asked for attachments: others may have some there, and they are theirs.
    async fn verify_copy(
        &self,
        to: &Repository,
        source: &Closure,
        foreseen: Foreseen,
    ) -> Result<(), Error> {
        let facts = Fact::all(source, foreseen);
        let mut attempt = 1;
        loop {
            let asked: Vec<_> = facts.iter().map(|fact| self.missing(to, fact)).collect();
            let missing: Vec<Option<String>> =
                stream::iter(asked).buffered(self.options().parallel.max(1)).try_collect().await?;
            let mut missing = missing.into_iter().flatten();
            let Some(first) = missing.next() else {
                return Ok(());
            };
            if attempt >= self.options().attempts {
                let more = match missing.count() {
                    0 => String::new(),
                    count => format!(", with {count} more,"),
                };
                let image = to.at(source.image.digest.clone());
                return Err(Error::NotListed { what: format!("`{first}` of {image}{more}") });
            }
            tokio::time::sleep(backoff(self.options(), attempt)).await;
            attempt += 1;
        }
    }

    /// What of one fact the destination does not show.
    async fn missing(&self, to: &Repository, fact: &Fact<'_>) -> Result<Option<String>, Error> {
        match fact {
            Fact::Manifest(digest) => {
                let there = self.has_manifest(to, digest).await?;
                Ok((!there).then(|| format!("manifest {digest}")))
            }
            Fact::Attached { to: subject, manifests } => {
                let listed = self.list_referrers(&to.at((*subject).clone())).await?;
                let has = |digest: &Digest| listed.manifests.iter().any(|m| m.digest == *digest);
                let lost = manifests.iter().find(|digest| !has(digest));
                Ok(lost.map(|digest| format!("attachment {digest}")))
            }
            Fact::Tagged { to: subject, tag, manifest } => {
                let image = to.at((*subject).clone());
                let (digest, layers) = match &manifest.content {
                    Content::Image { layers, .. } => match self.documents(&image, *tag).await {
                        Ok(found) => found.map(|found| (found.digest, found.layers)),
                        Err(error) if error.is_unreadable() => None,
                        Err(error) => return Err(error),
                    }
                    .map_or((None, Vec::new()), |(digest, there)| {
                        let lost = layers.iter().filter(|layer| !there.contains(layer)).cloned();
                        (Some(digest), lost.collect())
                    }),
                    Content::Index { .. } | Content::Unknown => {
                        (self.tag_digest(to, &tag.of(subject)).await?, Vec::new())
                    }
                };
                let is_other = matches!(manifest.content, Content::Index { .. } | Content::Unknown)
                    && digest.as_ref() != Some(&manifest.digest);
                let lost = digest.is_none() || is_other || !layers.is_empty();
                Ok(lost.then(|| format!("all at tag {}", tag.of(subject))))
            }
        }
    }
}

/// One thing that the destination must show.
enum Fact<'a> {
    Manifest(&'a Digest),
    Attached { to: &'a Digest, manifests: Vec<&'a Digest> },
    Tagged { to: &'a Digest, tag: LegacyTag, manifest: &'a Manifest },
}

impl<'a> Fact<'a> {
    fn all(closure: &'a Closure, foreseen: Foreseen) -> Vec<Self> {
        let own = closure.members.iter().filter(|member| member.generation == 0);
        let mut facts: Vec<Self> = own.map(|m| Self::Manifest(&m.manifest.digest)).collect();
        if let ([_], true) = (facts.as_slice(), foreseen.tagged) {
            facts.clear();
        }
        let mut attached: BTreeMap<&Digest, Vec<&Digest>> = BTreeMap::new();
        for Member { manifest, relation, .. } in &closure.members {
            match relation {
                Relation::Root | Relation::Child { .. } => {}
                Relation::Referrer { of } => attached.entry(of).or_default().push(&manifest.digest),
                Relation::Legacy { of, tag } => {
                    facts.push(Self::Tagged { to: of, tag: *tag, manifest });
                }
            }
        }
        facts.extend(attached.into_iter().map(|(to, manifests)| Self::Attached { to, manifests }));
        facts
    }
}
