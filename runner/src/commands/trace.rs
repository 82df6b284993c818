//! `fairlead trace`: what the evidence at an image tells of its life, from the registry alone.

use std::path::Path;
use std::sync::Arc;

use fairlead_evidence::{Entry, NamedKey, PublicKey, Stage, Standing, Trace};
use fairlead_oci::Client;
use fairlead_step::{Egress, Image, ImageRef};

use super::{Context, key};
use crate::cli::TraceArgs;
use crate::exit::{Exit, Stop};
use crate::output::{Style, tame};

/// What a life is expected to tell.
const CHAIN: [Stage; 4] = [Stage::Source, Stage::Build, Stage::Contents, Stage::Signature];

pub(crate) async fn trace(context: &Context<'_>, args: TraceArgs) -> Result<Exit, Stop> {
    let mut keys = Vec::new();
    for file in &args.keys {
        let public = public_key(file)?;
        let name = file
            .file_name()
            .map_or_else(|| file.display().to_string(), |name| name.to_string_lossy().into_owned());
        keys.push(NamedKey { name, key: public });
    }
    let (client, image) = found(context, &args.image).await?;
    let trace = fairlead_evidence::trace(&client, &image, &keys).await;
    let trace = trace.map_err(|error| Stop::of(&error))?;
    if args.json {
        context.output.json(&trace)?;
    } else {
        draw(context, &trace);
    }
    if keys.is_empty() {
        context.output.say("nothing was verified: `--key FILE` names a public key");
        return Ok(Exit::Passed);
    }
    let missing: Vec<&str> =
        CHAIN.iter().filter(|stage| !trace.has(**stage)).map(|stage| stage.name()).collect();
    if !missing.is_empty() {
        context.output.say(format!("not told by anything verified: {}", missing.join(", ")));
    }
    if trace.is_damaged() || !trace.entries.iter().any(|e| e.standing == Standing::Verified) {
        return Ok(Exit::Rejected);
    }
    Ok(Exit::Passed)
}

/// A client of this machine's registries, and what `name` points to.
pub(crate) async fn found(context: &Context<'_>, name: &ImageRef) -> Result<(Client, Image), Stop> {
    let registries = Arc::new(context.settings.registries.within(Egress::open()));
    let client = Client::new(registries);
    match client.resolve(name).await {
        Ok(resolved) => Ok((client, resolved.image)),
        Err(error) => {
            let stop = Stop::failed(error.to_string());
            Err(match error.hint() {
                Some(hint) => stop.hint(hint),
                None => stop,
            })
        }
    }
}

/// A public key in a file.
pub(crate) fn public_key(file: &Path) -> Result<PublicKey, Stop> {
    PublicKey::from_pem(&key::read(file)?).map_err(|error| {
        Stop::usage(format!("`{}`", file.display())).because(&error).hint(error.hint())
    })
}

/// The life as a tree: stages in their order, and what tells them.
fn draw(context: &Context<'_>, trace: &Trace) {
    let output = context.output;
    output.data(output.paint(Style::Bold, &trace.image));
    let stages: Vec<Stage> = {
        let mut stages: Vec<Stage> = trace.entries.iter().map(|entry| entry.stage).collect();
        stages.dedup();
        stages
    };
    for (at, stage) in stages.iter().enumerate() {
        let last = at + 1 == stages.len();
        let (branch, below) = if last { ("└─", "   ") } else { ("├─", "│  ") };
        output.data(format!("{branch} {}", output.paint(Style::Bold, stage.name())));
        let entries: Vec<&Entry> = trace.entries.iter().filter(|e| e.stage == *stage).collect();
        for (at, entry) in entries.iter().enumerate() {
            let branch = if at + 1 == entries.len() { "└─" } else { "├─" };
            output.data(format!("{below}{branch} {}", line(context, &trace.image, entry)));
        }
    }
    for finding in &trace.findings {
        output.say(format!("{} {}", output.paint(Style::Warn, "warning:"), tame(finding)));
    }
}

fn line(context: &Context<'_>, image: &Image, entry: &Entry) -> String {
    let (style, word) = match entry.standing {
        Standing::Verified => (Style::Good, "verified"),
        Standing::Unverified => (Style::Warn, "not verified"),
        Standing::Invalid => (Style::Bad, "invalid"),
    };
    let of = if entry.of == image.digest {
        String::new()
    } else {
        format!(" (of {})", entry.of.short())
    };
    let summary = tame(&entry.summary).into_owned();
    let standing = context.output.paint(style, format!("[{word}: {}]", tame(&entry.why)));
    format!("{summary}{of} {standing}")
}
