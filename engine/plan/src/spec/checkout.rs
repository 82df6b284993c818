//! `workspace`: how much of the commit that started a run is laid out.

use fairlead_step::CheckoutOptions;

use super::Reader;
use crate::code::BAD_VALUE;
use crate::yaml::{Content, Entry, Node};

impl Reader<'_> {
    pub(super) fn checkout(&mut self, node: &Node) -> CheckoutOptions {
        const KEYS: &[&str] = &["depth", "sparse", "partial"];
        let mut options = CheckoutOptions::default();
        for Entry { key, value, .. } in self.fields(node, "`workspace`", KEYS) {
            match key.as_str() {
                "depth" if value.text() == Some("all") => options.depth = 0,
                "depth" => {
                    let depth = value.json().as_u64().and_then(|depth| u32::try_from(depth).ok());
                    match depth.filter(|depth| (1..=i32::MAX.unsigned_abs()).contains(depth)) {
                        Some(depth) => options.depth = depth,
                        None => {
                            let message = "`depth` wants a number of commits";
                            self.error(BAD_VALUE, value.span, message).help =
                                Some("write a whole number from 1, or `all`".into());
                        }
                    }
                }
                "sparse" => options.sparse = self.folders(value),
                "partial" => match value.content {
                    Content::Bool(partial) => options.partial = partial,
                    Content::Null
                    | Content::Number(_)
                    | Content::Text(_)
                    | Content::List(_)
                    | Content::Map(_) => self.wrong_shape(value, "`partial`", "true or false"),
                },
                _ => {}
            }
        }
        options
    }

    fn folders(&mut self, node: &Node) -> Vec<String> {
        let Content::List(items) = &node.content else {
            self.wrong_shape(node, "`sparse`", "a list of folders");
            return Vec::new();
        };
        let mut folders = Vec::with_capacity(items.len());
        for item in items {
            let Some(folder) = self.text(item, "an item of `sparse`") else { continue };
            if !CheckoutOptions::is_folder(folder) {
                let message = format!("`{}` is not the path of a folder", folder.escape_debug());
                self.error(BAD_VALUE, item.span, message).help = Some(
                    "write it from the root of the repository, without patterns, as in `apps/shop`"
                        .into(),
                );
            }
            folders.push(folder.to_owned());
        }
        let bytes: usize = folders.iter().map(String::len).sum();
        if folders.len() > CheckoutOptions::MOST_FOLDERS || bytes > CheckoutOptions::MOST_BYTES {
            let message = format!(
                "`sparse` names more than {} folders, or more than {} bytes of them",
                CheckoutOptions::MOST_FOLDERS,
                CheckoutOptions::MOST_BYTES
            );
            self.error(BAD_VALUE, node.span, message);
        }
        folders
    }
}
