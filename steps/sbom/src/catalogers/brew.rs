//! Homebrew's packages: `Cellar/NAME/VERSION/INSTALL_RECEIPT.json`. The folders say name and
//! version; the receipt says that it is one.

use serde_json::Value;

use super::{Cataloger, Place, Unreadable};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::package::Ecosystem;

/// Reads the receipts of installed packages.
pub(super) struct Brew;

/// The folders of a receipt: what stands before `NAME/VERSION`, the name, and the version.
fn parts<'a>(place: &Place<'a>) -> Option<(&'a str, &'a str, &'a str)> {
    let (rest, version) = place.folder.rsplit_once('/')?;
    let (cellar, name) = rest.rsplit_once('/')?;
    Some((cellar, name, version))
}

impl Cataloger for Brew {
    fn name(&self) -> &'static str {
        "brew"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        let cellar = |cellar: &str| cellar == "Cellar" || cellar.ends_with("/Cellar");
        place.name == "INSTALL_RECEIPT.json" && parts(place).is_some_and(|(at, _, _)| cellar(at))
    }

    fn read(&self, path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let receipt: Value = serde_json::from_slice(&content.whole()?).map_err(|error| {
            Unreadable::Lost(format!("it is no receipt of Homebrew's: {error}"))
        })?;
        let place = Place::of(path);
        let Some((_, name, version)) = parts(&place) else { return Ok(None) };
        let tap = receipt.get("source").and_then(|source| source.get("tap"));
        let tap = tap.and_then(Value::as_str).filter(|tap| *tap != "homebrew/core");
        Ok(Some(
            Entry {
                namespace: tap.map(str::to_owned),
                ..Entry::new(Ecosystem::Brew, name, version)
            }
            .into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_say_name_and_version() {
        let path = "home/linuxbrew/.linuxbrew/Cellar/openssl@3/3.2.0/INSTALL_RECEIPT.json";
        let purl = |json: &str| {
            let said = Brew.read(path, &Content::of(json.as_bytes())).unwrap().unwrap();
            said.packages[0].purl(None).unwrap()
        };
        assert_eq!(purl(r#"{"source": {"tap": "homebrew/core"}}"#), "pkg:brew/openssl%403@3.2.0");
        assert_eq!(purl(r#"{"source": {"tap": "me/x"}}"#), "pkg:brew/me/x/openssl%403@3.2.0");
        assert!(Brew.read(path, &Content::of(b"{")).is_err());
        assert!(!Brew.names(&Place::of("INSTALL_RECEIPT.json")));
        assert!(!Brew.names(&Place::of("a/b/c/INSTALL_RECEIPT.json")));
    }
}
