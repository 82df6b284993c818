//! The secrets of whoever runs the program: from the environment, or from files. On a server they are the
//! server's own, and no pipeline can name them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fairlead_exec::{SecretError, SecretProvider};
use fairlead_step::{BoxFuture, Secret};

use super::file::text_of;
use crate::exit::Stop;
use crate::settings::secret_variable;

/// The variables that the tools of the field use for secrets of these names.
const CUSTOMARY: [(&str, &str); 2] =
    [("cosign_password", "COSIGN_PASSWORD"), ("cosign", "COSIGN_PRIVATE_KEY")];

/// Where one secret comes from, as `--secret` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretSource {
    name: String,
    from: From,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Variable(String),
    File(PathBuf),
}

impl SecretSource {
    /// Reads `NAME=env:VARIABLE` (also `env://VARIABLE`, as cosign writes it) or `NAME=file:PATH`.
    pub(crate) fn parse(text: &str) -> Result<Self, Stop> {
        let wrong = |problem: &str| {
            Stop::usage(format!("`--secret`: {problem}"))
                .hint("write `--secret NAME=env:VARIABLE` or `--secret NAME=file:PATH`")
        };
        // The value is not repeated: somebody may have put the secret itself there.
        let (name, source) = text.split_once('=').ok_or_else(|| wrong("it has no `=`"))?;
        let from = if let Some(variable) = source.strip_prefix("env:") {
            From::Variable(variable.trim_start_matches("//").to_owned())
        } else if let Some(path) = source.strip_prefix("file:") {
            From::File(path.strip_prefix("//").unwrap_or(path).into())
        } else {
            return Err(wrong(&format!("the source of `{name}` is neither `env:` nor `file:`")));
        };
        Ok(Self { name: name.to_owned(), from })
    }
}

/// Secrets from the environment and from files.
#[derive(Debug)]
pub(crate) struct Secrets {
    explicit: BTreeMap<String, From>,
    folder: Option<PathBuf>,
}

impl Secrets {
    pub(crate) fn new(explicit: Vec<SecretSource>, folder: Option<PathBuf>) -> Self {
        let explicit = explicit.into_iter().map(|source| (source.name, source.from)).collect();
        Self { explicit, folder }
    }

    fn find(&self, name: &str) -> Result<Secret<String>, SecretError> {
        let unavailable =
            |message: String| SecretError::Unavailable { name: name.to_owned(), message };
        match self.explicit.get(name) {
            Some(From::Variable(variable_name)) => {
                return from_variable(variable_name).map_err(unavailable)?.ok_or_else(|| {
                    SecretError::Missing {
                        name: name.to_owned(),
                        hint: format!("set the variable {variable_name}"),
                    }
                });
            }
            Some(From::File(path)) => return text_of(path).map_err(unavailable),
            None => {}
        }
        let own = own_variable(name);
        if let Some(secret) = from_variable(&own).map_err(unavailable)? {
            return Ok(secret);
        }
        let customary = CUSTOMARY.iter().find(|(known, _)| *known == name).map(|(_, v)| *v);
        if let Some(customary) = customary
            && let Some(secret) = from_variable(customary).map_err(unavailable)?
        {
            return Ok(secret);
        }
        let plain = !name.contains('/') && !name.starts_with('.');
        if let Some(path) = self.folder.as_ref().filter(|_| plain).map(|f| f.join(name))
            && path.exists()
        {
            return text_of(&path).map_err(unavailable);
        }
        let or_customary = customary.map_or(String::new(), |v| format!(" or {v}"));
        Err(SecretError::Missing {
            name: name.to_owned(),
            hint: format!(
                "set the variable {own}{or_customary}, or give `--secret {name}=file:PATH`"
            ),
        })
    }
}

impl SecretProvider for Secrets {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        // Both sources are local and small.
        Box::pin(std::future::ready(self.find(name)))
    }
}

fn own_variable(name: &str) -> String {
    format!("FAIRLEAD_SECRET_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// The value of a variable, as it is: one that is set and empty is an empty secret.
fn from_variable(name: &str) -> Result<Option<Secret<String>>, String> {
    match secret_variable(name).map(std::ffi::OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(Secret::new(value))),
        Some(Err(_)) => Err(format!("the variable {name} is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_never_repeated() {
        let source = |text| SecretSource::parse(text).unwrap().from;
        assert_eq!(source("k=env:KEY"), From::Variable("KEY".into()));
        assert_eq!(source("k=env://KEY"), From::Variable("KEY".into()));
        assert_eq!(source("k=file:/run/k"), From::File("/run/k".into()));
        let stop = SecretSource::parse("token=hunter2").unwrap_err();
        assert!(!stop.message.contains("hunter2"), "{}", stop.message);
    }

    #[test]
    fn a_file_gives_its_text_and_an_unset_secret_the_way_to_set_it() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in
            [("npm", "tok\n"), ("crlf", "a\r\n\r\n"), ("none", ""), ("break", "\n")]
        {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            let explicit = vec![SecretSource {
                name: "given".to_owned(),
                from: From::File(folder.path().join(name)),
            }];
            let secrets = Secrets::new(explicit, Some(folder.path().to_owned()));
            assert_eq!(secrets.find(name).unwrap().expose(), bytes, "every byte of {name}");
            assert_eq!(secrets.find("given").unwrap().expose(), bytes);
        }
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        let secrets = Secrets::new(Vec::new(), Some(folder.path().to_owned()));
        let error = secrets.find("binary").unwrap_err().to_string();
        assert!(error.contains("is not UTF-8; give what is not text as base64"), "{error}");
        let error = secrets.find("no-such-secret").unwrap_err();
        let SecretError::Missing { hint, .. } = error else { panic!("{error}") };
        assert!(hint.contains("FAIRLEAD_SECRET_NO_SUCH_SECRET"), "{hint}");
        assert!(secrets.find("../npm").is_err());
    }
}
