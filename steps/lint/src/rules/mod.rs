//! The rules themselves, by what they are about.

mod base;
mod commands;
mod context;
mod copy;
mod form;
mod image;
mod labels;
mod packages;
mod run;
mod secrets;
mod stages;

use crate::analysis::{Analysis, Out};

/// What every rule finds.
pub(crate) fn all(analysis: &Analysis<'_>, out: &mut Out) {
    for look in [
        form::look,
        base::look,
        packages::look,
        commands::look,
        run::look,
        copy::look,
        stages::look,
        image::look,
        secrets::look,
        labels::look,
        context::look,
    ] {
        look(analysis, out);
    }
}
