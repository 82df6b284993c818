//! The rules of the house, held by a test: who imports whom, who owns what, how files begin and how
//! long they are, and that whatever is generated is fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use fairlead_plan::CODES;
use fairlead_tests::{Fairlead, repository_root, stdout_of};
use serde_json::Value;

/// The most lines of a file.
const MOST_LINES: usize = 800;
/// The crates without I/O, clock and tasks.
const PURE: [&str; 3] = ["fairlead-event", "fairlead-plan", "fairlead-run"];
/// The crate of these tests: it may look at everything, and nothing ships in it.
const TESTS: &str = "fairlead-tests";

/// A row of the crate table of ARCHITECTURE.md.
struct Row {
    room: String,
    imports: BTreeSet<String>,
    owns: BTreeSet<String>,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository_root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The crate table, by crate.
fn table() -> BTreeMap<String, Row> {
    let page = read("ARCHITECTURE.md");
    let rows = page.lines().filter(|line| line.starts_with("| `fairlead"));
    let mut all = BTreeMap::new();
    for line in rows {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(|c| c.trim()).collect();
        assert_eq!(cells.len(), 4, "{line}");
        let words = |cell: &str| -> BTreeSet<String> {
            let words = cell.split(',').map(|w| w.trim().trim_matches('`').to_owned());
            words.filter(|word| !word.is_empty() && word != "–").collect()
        };
        let name = cells[0].trim_matches('`').to_owned();
        // What is "every crate above" in words is the rows before it.
        let imports = if cells[2] == "every crate above" {
            all.keys().cloned().collect()
        } else {
            words(cells[2]).iter().map(|short| format!("fairlead-{short}")).collect()
        };
        all.insert(name, Row { room: cells[1].to_owned(), imports, owns: words(cells[3]) });
    }
    assert!(!all.is_empty(), "ARCHITECTURE.md has no crate table");
    all
}

/// The direct dependencies of every crate of the workspace, those of tests left out, and the folder
/// of the crate.
fn dependencies() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let metadata = stdout_of(
        Command::new(option_env!("CARGO").unwrap_or("cargo"))
            .current_dir(repository_root())
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"]),
    );
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            let room = manifest.parent().unwrap().strip_prefix(repository_root()).unwrap();
            let list = package["dependencies"].as_array().unwrap().iter();
            let shipped = list.filter(|dependency| dependency["kind"] != "dev");
            let names = shipped.map(|d| d["name"].as_str().unwrap().to_owned());
            let room = room.display().to_string();
            (package["name"].as_str().unwrap().to_owned(), (room, names.collect()))
        })
        .collect()
}

#[test]
fn the_crate_table_is_what_cargo_sees() {
    let (table, seen) = (table(), dependencies());
    let names: Vec<_> = table.keys().collect();
    assert_eq!(names, seen.keys().collect::<Vec<_>>(), "the crates of the table and of cargo");
    let ours: BTreeSet<&String> = seen.keys().collect();
    let mut wrong = Vec::new();
    for (name, (room, dependencies)) in &seen {
        let row = &table[name];
        if row.room != *room {
            wrong.push(format!("{name} lives in {room}, not in {}", row.room));
        }
        let imports: BTreeSet<_> =
            dependencies.iter().filter(|d| ours.contains(d)).cloned().collect();
        if row.imports != imports {
            wrong.push(format!("{name} imports {imports:?}, not {:?}", row.imports));
        }
        for owned in row.owns.difference(dependencies) {
            wrong.push(format!("{name} owns {owned} and does not use it"));
        }
    }
    let owned: BTreeSet<&String> = table.values().flat_map(|row| &row.owns).collect();
    for (name, (_, dependencies)) in seen.iter().filter(|(name, _)| *name != TESTS) {
        for foreign in dependencies.iter().filter(|d| owned.contains(d)) {
            if !table[name].owns.contains(foreign) {
                wrong.push(format!("{name} uses {foreign}, which others own"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_pure_crates_and_the_command_line_keep_to_themselves() {
    let seen = dependencies();
    let mut wrong = Vec::new();
    for (name, (_, dependencies)) in &seen {
        let impure = ["tokio", "sqlx", "reqwest", "async-nats", "object_store", "axum"];
        let edge = ["anyhow", "clap", "miette"];
        let mut banned: Vec<&str> = Vec::new();
        if PURE.contains(&name.as_str()) {
            banned.extend(impure);
        }
        if name != "fairlead" {
            banned.extend(edge);
        }
        wrong.extend(
            banned
                .into_iter()
                .filter(|other| dependencies.contains(*other))
                .map(|other| format!("{name} uses {other}")),
        );
    }
    for name in PURE {
        let folder = repository_root().join(&seen[name].0).join("src");
        for (path, text) in sources(&folder) {
            let apart = path.components().any(|part| {
                let part = part.as_os_str().to_string_lossy();
                part.starts_with("conformance") || part.starts_with("tests")
            });
            // Tests stand at the end of their file.
            let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            if !apart && shipped.contains(".await") {
                wrong.push(format!("{}: the crate is pure, and waits", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The modules of `server` and what each imports, in the order of the table of ARCHITECTURE.md.
fn modules_of_the_server() -> Vec<(String, BTreeSet<String>)> {
    let page = read("ARCHITECTURE.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `server/"));
    let rows = rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let imports = cells[1].split(", ").filter(|word| *word != "–").map(str::to_owned);
        (cells[0].trim_matches('`').to_owned(), imports.collect())
    });
    rows.collect()
}

#[test]
fn inside_the_server_the_arrows_go_one_way() {
    let modules = modules_of_the_server();
    assert!(modules.len() >= 7, "{modules:?}");
    let mut wrong = Vec::new();
    for (place, (name, imports)) in modules.iter().enumerate() {
        let below: BTreeSet<_> = modules[place + 1..].iter().map(|(below, _)| below).collect();
        for above in imports.iter().filter(|import| !below.contains(import)) {
            wrong.push(format!("the table: {above} does not stand below {name}"));
        }
    }
    let folder = repository_root().join("engine/server/src");
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources(&folder) {
        let inside = path.strip_prefix(&folder).unwrap();
        let module = inside.iter().next().unwrap().to_string_lossy().into_owned();
        // Those that compose and re-export see everything; tests see what they test.
        if ["lib.rs", "server.rs", "tests"].contains(&module.as_str()) {
            continue;
        }
        let module = module.trim_end_matches(".rs").to_owned();
        let is_root = inside.ends_with("mod.rs");
        let imports = seen.entry(module.clone()).or_default();
        let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = shipped.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            if line.contains("super::super::") || (is_root && line.contains("super::")) {
                wrong.push(format!("{}: `{line}` leaves its module unseen", inside.display()));
            }
            for path in line.split("crate::").skip(1) {
                let name: String =
                    path.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                imports.insert(name);
            }
        }
        imports.remove(&module);
    }
    let table: BTreeMap<_, _> = modules.into_iter().collect();
    for (module, imports) in &seen {
        match table.get(module) {
            None => wrong.push(format!("{module} has no row")),
            Some(row) if row != imports => {
                wrong.push(format!("{module} imports {imports:?}, not {row:?}"));
            }
            Some(_) => {}
        }
    }
    for module in table.keys().filter(|module| !seen.contains_key(*module)) {
        wrong.push(format!("{module} is no module"));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every Rust file below `folder`, with its text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        for entry in entries.unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() {
                if name != "target" && name != "node_modules" && name != "vendor" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let rooms = ["runner", "engine", "steps", "tests", "examples"];
    rooms.iter().flat_map(|room| sources(&repository_root().join(room))).collect()
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    // Put together here, so that this file does not hold what it looks for.
    let words = [
        concat!("db", "g!("),
        concat!("#[igno", "re"),
        concat!("to", "do!("),
        concat!("#[al", "low("),
    ];
    let vague = ["utils", "util", "helpers", "helper", "common", "misc"];
    let mut wrong = Vec::new();
    let all = all_sources();
    assert!(all.len() > 100, "{} files", all.len());
    for (path, text) in all {
        let mut tell = |what: &str| wrong.push(format!("{}: {what}", path.display()));
        if !text.starts_with("//! ") {
            tell("it does not begin with `//!`");
        }
        let lines = text.lines().count();
        if lines > MOST_LINES {
            tell(&format!("{lines} lines"));
        }
        for word in words.iter().filter(|word| text.contains(**word)) {
            tell(word);
        }
        let named = path.components().any(|part| {
            let part = part.as_os_str().to_string_lossy();
            vague.contains(&part.trim_end_matches(".rs"))
        });
        if named {
            tell("a name that says nothing");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_integration_test_is_forgotten() {
    let main = read("tests/it/main.rs");
    for (path, _) in sources(&repository_root().join("tests/it")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        // A file in a folder is of the module that the folder is named after.
        let folder = path.parent().unwrap();
        let module = folder.with_extension("rs");
        let above = match std::fs::read_to_string(&module) {
            Ok(text) if !folder.ends_with("tests/it") => text,
            _ => main.clone(),
        };
        assert!(
            name == "main" || above.contains(&format!("mod {name};")),
            "{name} is in no binary"
        );
    }
}

#[test]
fn the_generated_schemas_are_fresh() {
    let schemas = repository_root().join("schemas");
    let fairlead = Fairlead::new();
    let checked = fairlead.run(["schema", "--check", schemas.to_str().unwrap()]).code(0);
    assert!(checked.stderr.contains("fresh"), "{}", checked.stderr);
}

#[test]
fn every_shipped_pipeline_is_clean_and_names_its_schema() {
    let fairlead = Fairlead::new();
    let mut count = 0;
    for folder in ["pipelines", "examples"] {
        for entry in std::fs::read_dir(repository_root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "yaml") {
                continue;
            }
            count += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let line = text.lines().next().unwrap_or_default();
            let schema = line.strip_prefix("# yaml-language-server: $schema=");
            let schema = schema.unwrap_or_else(|| panic!("{} names no schema", path.display()));
            assert!(path.with_file_name(schema).is_file(), "{}: {schema}", path.display());
            let lint = ["lint", "--format", "json", path.to_str().unwrap()];
            let lint = fairlead.run(lint).code(0);
            let found: Value = serde_json::from_str(&lint.stdout).unwrap();
            let findings =
                |file: &Value| file["findings"].as_array().is_some_and(|f| !f.is_empty());
            assert!(!found.as_array().unwrap().iter().any(findings), "{}", lint.stdout);
        }
    }
    assert!(count >= 4, "{count} pipelines");
}

/// The page of all codes, as it must stand in docs/errors.md.
fn errors_page() -> String {
    let mut page = "# The codes of findings\n\n\
        What `fairlead lint` says of a pipeline file begins with one of these codes. They are stable:\n\
        a code keeps its meaning. This page is generated from the code; `FAIRLEAD_WRITE_DOCS=1 cargo\n\
        test -p fairlead-tests every_code` writes it.\n"
        .to_owned();
    for info in CODES {
        page.push_str(&format!("\n## {}: {}\n\n{}\n", info.code, info.title, info.explanation));
    }
    page
}

#[test]
fn every_code_has_its_place_in_the_documentation() {
    let path = repository_root().join("docs/errors.md");
    if std::env::var_os("FAIRLEAD_WRITE_DOCS").is_some() {
        std::fs::write(&path, errors_page()).unwrap();
    }
    let found = read("docs/errors.md");
    assert!(found == errors_page(), "docs/errors.md is stale; FAIRLEAD_WRITE_DOCS=1 writes it");
}
