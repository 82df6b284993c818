//! An inspection as a picture for a terminal. Names in images are strangers' texts: what could steer a
//! terminal is escaped.

use std::fmt::Write as _;

use super::analyze::Inspection;

/// Columns of the longest bar.
const WIDTH: u64 = 30;
/// Characters of an instruction.
const LONGEST: usize = 60;
/// How many files of each list are drawn.
const DRAWN: usize = 8;

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let value = bytes as f64;
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

fn plain(text: &str, longest: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text: String =
        words.join(" ").escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The instruction without what builders put before it.
fn instruction(created_by: &str) -> String {
    let text = created_by.trim_start_matches("/bin/sh -c #(nop) ");
    let text = match text.strip_prefix("/bin/sh -c ") {
        Some(command) => format!("RUN {command}"),
        None => text.trim_end_matches(" # buildkit").to_owned(),
    };
    let text = text.trim_end_matches("# buildkit").replace("RUN /bin/sh -c ", "RUN ");
    if text.is_empty() { "(no history)".to_owned() } else { plain(&text, LONGEST) }
}

/// The picture.
#[must_use]
pub fn draw(found: &Inspection) -> String {
    let mut text = String::new();
    let most = found.layers.iter().map(|layer| layer.size).max().unwrap_or(0).max(1);
    // Writing into a text does not fail.
    let _ = writeln!(text, "{}\n", plain(&found.image, 200));
    for layer in &found.layers {
        let units = |bytes: u64| {
            usize::try_from((u128::from(bytes) * u128::from(WIDTH) / u128::from(most)) as u64)
                .unwrap_or(0)
        };
        let (full, hidden) = (units(layer.size), units(layer.hidden.min(layer.size)));
        let bar = format!("{}{}", "█".repeat(full - hidden), "░".repeat(hidden));
        let base = if layer.of_base == Some(true) { " (base)" } else { "" };
        let width = WIDTH as usize;
        let _ = writeln!(
            text,
            "{:>3} {:>9} {bar:<width$} {}{base}",
            layer.number,
            size(layer.size),
            instruction(&layer.created_by)
        );
    }
    let share = |bytes: u64| (bytes * 100).checked_div(found.size.max(1)).unwrap_or(0);
    let _ = writeln!(
        text,
        "\n{} in {} layers, {} packed; {} shown; ░ {} wasted ({} %); efficiency {:.1} %",
        size(found.size),
        found.layers.len(),
        size(found.packed),
        size(found.visible),
        size(found.wasted),
        share(found.wasted),
        found.efficiency * 100.0
    );
    let _ = writeln!(
        text,
        "{} % lies below the first COPY or ADD, and stays in caches when sources change",
        share(found.stable)
    );
    if let Some(own) = found.own {
        let _ = writeln!(text, "{} above the base image", size(own));
    }
    if !found.wasted_files.is_empty() {
        let _ = writeln!(text, "\nwasted");
    }
    for file in found.wasted_files.iter().take(DRAWN) {
        let how = if file.deleted {
            "deleted".to_owned()
        } else {
            format!("written {} times", file.times)
        };
        let _ = writeln!(text, "  {:>9} {} ({how})", size(file.bytes), plain(&file.path, 100));
    }
    if !found.duplicates.is_empty() {
        let _ = writeln!(text, "\nthe same bytes at several paths ({})", size(found.duplicated));
    }
    for same in found.duplicates.iter().take(DRAWN) {
        let paths: Vec<String> = same.paths.iter().take(3).map(|path| plain(path, 60)).collect();
        let _ = writeln!(text, "  {:>9} {}", size(same.size), paths.join(", "));
    }
    if !found.largest.is_empty() {
        let _ = writeln!(text, "\nlargest files");
    }
    for file in found.largest.iter().take(DRAWN) {
        let _ = writeln!(
            text,
            "  {:>9} {} (layer {})",
            size(file.size),
            plain(&file.path, 100),
            file.layer
        );
    }
    text.truncate(text.trim_end().len());
    text
}
