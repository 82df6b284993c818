//! `fairlead inspect`: what is in an image, layer by layer, and whether it keeps its budget.

use std::path::Path;

use fairlead_oci::{Client, Platform};
use fairlead_step::{ImageRef, StepError};
use fairlead_step_lint::{Budget, InspectError, Inspection, draw, inspect_image, inspect_path};
use serde_json::json;

use super::Context;
use crate::cli::InspectArgs;
use crate::exit::{Exit, Stop};

pub(crate) async fn inspect(context: &Context<'_>, args: &InspectArgs) -> Result<Exit, Stop> {
    let platform: Platform = args
        .platform
        .parse()
        .map_err(|error| Stop::usage("the platform cannot be read").because(&error))?;
    let mut found = look(context, &args.image, &platform).await?;
    if let Some(base) = &args.base {
        found.above(&look(context, base, &platform).await?);
    }
    let other = match &args.compare {
        Some(other) => Some(look(context, other, &platform).await?),
        None => None,
    };
    let budget = Budget {
        max_size: args.max_size,
        max_wasted: args.max_wasted,
        min_efficiency: args.min_efficiency,
    };
    let broken = budget.broken(&found);
    if args.json {
        let report = json!({"image": found, "compared_with": other, "broken": broken});
        context.output.json(&report)?;
    } else {
        context.output.data(draw(&found));
        if let Some(other) = &other {
            context.output.data(compared(&found, other));
        }
    }
    match broken {
        Some(reason) => {
            context.output.say(format!("the budget is broken: {reason}"));
            Ok(Exit::Rejected)
        }
        None => Ok(Exit::Passed),
    }
}

/// A file or folder when it is there, else the name of an image.
async fn look(context: &Context<'_>, name: &str, platform: &Platform) -> Result<Inspection, Stop> {
    let failed = |error: InspectError| {
        let error = StepError::from(error);
        Stop::failed(format!("cannot inspect {name}")).because(&error)
    };
    if Path::new(name).exists() {
        let (path, wanted) = (name.to_owned(), platform.to_string());
        let read = tokio::task::spawn_blocking(move || inspect_path(Path::new(&path), &wanted));
        let read =
            read.await.map_err(|e| Stop::internal("the inspection broke off").because(&e))?;
        return read.map_err(failed);
    }
    let reference: ImageRef = name.parse().map_err(|error| {
        Stop::usage(format!("`{name}` is neither a file nor an image"))
            .because(&error)
            .hint("write `registry.example.com/apps/shop:1`, a folder with an OCI layout, or an archive of `docker save`")
    })?;
    let client = Client::new(context.settings.registries.clone());
    let image = client.resolve(&reference).await.map_err(|error| failed(error.into()))?.image;
    let image = client.platform(&image, platform).await.map_err(|error| failed(error.into()))?;
    inspect_image(&client, &image).await.map_err(failed)
}

/// What became of the other image, in a line for each figure.
fn compared(found: &Inspection, other: &Inspection) -> String {
    let line = |what: &str, here: u64, there: u64| {
        let change = i128::from(here) - i128::from(there);
        let share = (change * 100).checked_div(i128::from(there)).unwrap_or(0);
        format!("{what:>8} {there:>14} -> {here:>14} bytes ({share:+} %)")
    };
    [
        String::new(),
        line("size", found.size, other.size),
        line("packed", found.packed, other.packed),
        line("wasted", found.wasted, other.wasted),
    ]
    .join("\n")
}
