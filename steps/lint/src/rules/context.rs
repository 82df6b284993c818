//! Rules about .dockerignore.

use super::copy::everything;
use crate::analysis::{Analysis, Out};
use crate::rule;

/// What should stay out of every image: told even when it is not there now, for it will be.
const ALWAYS: &[&str] = &[".git", ".env"];
/// What should stay out when it is there.
const PRESENT: &[&str] = &[
    "node_modules",
    "target",
    "dist",
    "build",
    "__pycache__",
    ".venv",
    "venv",
    ".idea",
    ".vscode",
    ".npmrc",
    ".aws",
    ".ssh",
    "coverage",
    ".terraform",
    ".pytest_cache",
    "id_rsa",
    "id_ed25519",
];

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    let (Some(context), Some(copy)) = (a.context, everything(a)) else { return };
    let span = copy.head.clone();
    let Some((name, _)) = &context.ignore else {
        let message = "the whole context is copied, and there is no .dockerignore";
        out.tell(&rule::NO_IGNORE_FILE, copy, span, message);
        return;
    };
    let always = ALWAYS.iter().copied();
    let present = PRESENT.iter().copied().filter(|name| context.names.contains(*name));
    let inside: Vec<&str> = always.chain(present).filter(|name| context.lets_in(name)).collect();
    if !inside.is_empty() {
        let list: Vec<String> = inside.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("{name} lets in {}", list.join(", "));
        let help = format!("add to {name}: {}", inside.join(", "));
        out.tell(&rule::IGNORE_LETS_IN, copy, span, message).help(help);
    }
}
