//! The table: plain text that reads well in 100 columns.

use std::fmt::Write as _;

use super::document::Report;

/// Columns of the page.
const WIDTH: usize = 100;
/// The most that a column may take, in order: severity, id, package, installed, fixed in. The
/// title takes what is left.
const WIDEST: [usize; 5] = [10, 19, 24, 20, 18];
const HEADERS: [&str; 6] = ["SEVERITY", "ID", "PACKAGE", "INSTALLED", "FIXED IN", "TITLE"];
const GAP: &str = "  ";
/// Rows of the table; the JSON report has them all.
const MAX_ROWS: usize = 2000;

/// Renders a report.
pub(crate) fn table(report: &Report) -> String {
    let mut page = String::new();
    let shown = &report.findings[..report.findings.len().min(MAX_ROWS)];
    let rows: Vec<[String; 6]> = shown
        .iter()
        .map(|finding| {
            let fixed = match finding.fixed_in.as_slice() {
                [] => "-".to_owned(),
                [first] => plain(first),
                [first, rest @ ..] => format!("{} (+{})", plain(first), rest.len()),
            };
            let title = match &finding.informational {
                Some(kind) => format!("[{}] {}", plain(kind), plain(&finding.title)),
                None => plain(&finding.title),
            };
            [
                finding.severity.to_string(),
                plain(&finding.id),
                plain(&finding.package.name),
                plain(&finding.package.version),
                fixed,
                title,
            ]
        })
        .collect();
    if !rows.is_empty() {
        let widths: Vec<usize> = (0..5)
            .map(|column| {
                let longest = rows.iter().map(|row| row[column].chars().count()).max();
                longest.unwrap_or_default().clamp(HEADERS[column].len(), WIDEST[column])
            })
            .collect();
        let used: usize = widths.iter().map(|width| width + GAP.len()).sum();
        let title_width = WIDTH.saturating_sub(used);
        write_row(&mut page, &HEADERS.map(str::to_owned), &widths, title_width);
        for row in &rows {
            write_row(&mut page, row, &widths, title_width);
        }
        if report.findings.len() > MAX_ROWS {
            let more = report.findings.len() - MAX_ROWS;
            let _ = writeln!(page, "… and {more} more in the JSON report");
        }
        page.push('\n');
    }
    write_end(&mut page, report);
    page
}

fn write_row(page: &mut String, row: &[String; 6], widths: &[usize], title_width: usize) {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        let cell = cut(cell, *width);
        let fill = width.saturating_sub(cell.chars().count());
        line.push_str(&cell);
        line.push_str(&" ".repeat(fill));
        line.push_str(GAP);
    }
    line.push_str(&cut(&row[5], title_width));
    page.push_str(line.trim_end());
    page.push('\n');
}

fn write_end(page: &mut String, report: &Report) {
    let summary = &report.summary;
    let packages = plural(summary.packages, "package");
    let _ = match summary.findings {
        0 => writeln!(page, "no findings in {packages}"),
        count => writeln!(
            page,
            "{} in {packages}: {}; {} with a fix",
            plural(count, "finding"),
            summary.counts.words(),
            summary.fixable
        ),
    };
    for ignored in &report.ignored {
        let note = format!(
            "ignored  {} {}: {} ({}, until {})",
            ignored.finding.id,
            ignored.finding.package.name,
            ignored.reason,
            ignored.owner,
            ignored.expires
        );
        let _ = writeln!(page, "{}", cut(&plain(&note), WIDTH));
    }
    for (entries, what) in [
        (&report.expired_ignores, "expired: it no longer counts"),
        (&report.unused_ignores, "unused: nothing matches it"),
    ] {
        for entry in entries {
            let note = format!(
                "ignore file line {}  {} ({}, until {}) has {what}",
                entry.line, entry.id, entry.owner, entry.expires
            )
            .replace("has unused", "is unused");
            let _ = writeln!(page, "{}", cut(&plain(&note), WIDTH));
        }
    }
    write_owned(page, report);
    write_unassessed(page, report);
    for fault in &report.data_faults {
        let note = format!("faulty data  {} {}: {}", fault.record, fault.package, fault.problem);
        let _ = writeln!(page, "{}", cut(&plain(&note), WIDTH));
    }
    let _ = match &report.origin.database_newest {
        Some(newest) => writeln!(
            page,
            "database {}, newest record of {}",
            report.origin.database.short(),
            newest.split('T').next().unwrap_or(newest)
        ),
        None => writeln!(page, "database {}", report.origin.database.short()),
    };
}

/// Findings about what packages of the distribution brought.
fn write_owned(page: &mut String, report: &Report) {
    for finding in report.distribution_owned.iter().take(MAX_ROWS) {
        let (package, owners) = (&finding.package, &finding.package.owners);
        let note = format!(
            "distribution's own  {} {} in {} {}, of {}",
            finding.severity,
            finding.id,
            package.name,
            package.version,
            owners.iter().next().map(String::as_str).unwrap_or_default()
        );
        let _ = writeln!(page, "{}", cut(&plain(&note), WIDTH));
    }
}

fn write_unassessed(page: &mut String, report: &Report) {
    for thing in report.unassessed.iter().take(MAX_ROWS) {
        let packages = match (thing.packages, thing.count) {
            (true, count) => format!("{}: ", plural(count, "package")),
            (false, 0 | 1) => String::new(),
            (false, count) => format!("{count} times: "),
        };
        // What it is comes whole: that is what somebody may want to accept.
        let _ = write!(page, "not assessed  {}  ", plain(&thing.to_string()));
        let _ = match &thing.accepted {
            Some(accepted) => writeln!(page, "{packages}accepted ({})", plain(accepted)),
            None => writeln!(page, "{packages}{}", plain(&thing.reason)),
        };
    }
    let more = report.unassessed.len().saturating_sub(MAX_ROWS) as u64 + report.unassessed_unnamed;
    if more > 0 {
        let _ = writeln!(page, "not assessed  … and {more} more");
    }
    for pattern in &report.unused_unassessed {
        let note = format!("`ignore_unassessed` has `{pattern}`, which accepts nothing");
        let _ = writeln!(page, "{}", cut(&plain(&note), WIDTH));
    }
}

fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The text without characters that would move the cursor or turn the direction of writing:
/// names and titles come from strangers.
pub(crate) fn plain(text: &str) -> String {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hostile(c) { ' ' } else { c }).collect()
}
