//! The build context: what stands in it, and what .dockerignore keeps back.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use fairlead_step::Glob;

/// The most bytes of a `.dockerignore` file.
const MAX_IGNORE: u64 = 1 << 20;
/// The most names of the context that are looked at.
const MAX_NAMES: usize = 10_000;

/// What is known of a build context.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The names in its topmost folder.
    pub(crate) names: BTreeSet<String>,
    /// The file that keeps things back: its name and its text.
    pub(crate) ignore: Option<(String, String)>,
}

impl Context {
    /// Looks at the folder `folder`, whose Dockerfile is called `dockerfile`. `NAME.dockerignore` goes
    /// before `.dockerignore`, as it does with BuildKit.
    ///
    /// # Errors
    /// When the folder cannot be listed, or a file in it not be read.
    pub fn read(folder: &Path, dockerfile: &Path) -> std::io::Result<Self> {
        let mut context = Self::default();
        for entry in std::fs::read_dir(folder)?.take(MAX_NAMES) {
            context.names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        let own = dockerfile.file_name().map(|name| {
            let name = format!("{}.dockerignore", name.to_string_lossy());
            (dockerfile.with_file_name(&name), name)
        });
        let shared = (folder.join(".dockerignore"), ".dockerignore".to_owned());
        for (path, name) in own.into_iter().chain([shared]) {
            let file = match std::fs::File::open(&path) {
                Ok(file) if file.metadata()?.is_file() => file,
                Ok(_) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut bytes = Vec::new();
            file.take(MAX_IGNORE).read_to_end(&mut bytes)?;
            context.ignore = Some((name, String::from_utf8_lossy(&bytes).into_owned()));
            break;
        }
        Ok(context)
    }

    /// Whether the topmost name `name` reaches the builder.
    pub(crate) fn lets_in(&self, name: &str) -> bool {
        let Some((_, text)) = &self.ignore else { return true };
        let mut inside = true;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = if line.starts_with('#') { "" } else { line.trim() };
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let pattern = pattern.trim_start_matches("./").trim_matches('/');
            // What the builder cannot read it refuses itself.
            if let Ok(glob) = pattern.parse::<Glob>()
                && (glob.is_match(name) || pattern == ".")
            {
                inside = keep;
            }
        }
        inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_fits_decides() {
        let text = "# a comment\n.git\n/node_modules/\n**/.env*\n!.env.example\n*.pem\n";
        let context =
            Context { ignore: Some((".dockerignore".into(), text.into())), ..Context::default() };
        for (name, inside) in [
            (".git", false),
            ("node_modules", false),
            (".env", false),
            (".env.production", false),
            (".env.example", true),
            ("key.pem", false),
            (".gitignore", true),
        ] {
            assert_eq!(context.lets_in(name), inside, "{name}");
        }
        assert!(Context::default().lets_in(".git"));
    }

    #[test]
    fn the_file_beside_the_dockerfile_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(".dockerignore", ".git\n");
        let dockerfile = folder.path().join("Dockerfile");
        let read = || Context::read(folder.path(), &dockerfile).unwrap();
        assert!(!read().lets_in(".git"));
        write("Dockerfile.dockerignore", "x\n");
        let context = read();
        assert!(context.lets_in(".git") && context.names.contains(".dockerignore"));
    }
}
