//! `pool`, `labels` and `resources` of a step: where its attempts are made.

use std::collections::BTreeMap;

use super::Reader;
use crate::Resources;
use crate::code::BAD_VALUE;
use crate::placement::{bytes, cpu, is_label};
use crate::yaml::{Content, Entry, Node};

/// What a malformed name or value is told.
const LABEL_HELP: &str = "use letters, digits, `.`, `_`, `/` and `-`, at most 63, with a letter or a \
                          digit at both ends";

impl Reader<'_> {
    pub(super) fn pool(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "`pool`")?;
        if !is_label(text) {
            let message = format!("`{}` is not the name of a pool", text.escape_debug());
            self.error(BAD_VALUE, node.span, message).help = Some(LABEL_HELP.into());
            return None;
        }
        Some(text.to_owned())
    }

    pub(super) fn labels(&mut self, node: &Node) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for Entry { key, key_span, value } in self.named(node, "`labels`") {
            if !is_label(key) {
                let message = format!("`{}` is not the name of a label", key.escape_debug());
                self.error(BAD_VALUE, *key_span, message).help = Some(LABEL_HELP.into());
            }
            let Some(text) = value.text() else {
                let place = format!("label `{key}`");
                self.wrong_shape(value, &place, "a text, in quotes where it looks like more");
                continue;
            };
            if !is_label(text) {
                let message = format!("label `{key}` cannot be `{}`", text.escape_debug());
                self.error(BAD_VALUE, value.span, message).help = Some(LABEL_HELP.into());
                continue;
            }
            labels.insert(key.clone(), text.to_owned());
        }
        labels
    }

    pub(super) fn resources(&mut self, node: &Node) -> Resources {
        const KEYS: &[&str] = &["memory", "cpu", "pids", "disk"];
        let mut resources = Resources::default();
        for Entry { key, value, .. } in self.fields(node, "`resources`", KEYS) {
            match key.as_str() {
                "memory" => resources.memory = self.bytes(value, "`memory`"),
                "disk" => resources.disk = self.bytes(value, "`disk`"),
                "pids" => resources.pids = self.count(value, "`pids`"),
                "cpu" => {
                    resources.cpu_millis = written(value).and_then(|text| cpu(&text));
                    if resources.cpu_millis.is_none() {
                        let message = "`cpu` wants a number of processors";
                        self.error(BAD_VALUE, value.span, message).help =
                            Some("write `2`, `0.5` or `500m`, at most 1024".into());
                    }
                }
                _ => {}
            }
        }
        resources
    }

    fn bytes(&mut self, node: &Node, place: &str) -> Option<u64> {
        let read = written(node).and_then(|text| bytes(&text));
        if read.is_none() {
            let message = format!("{place} wants a number of bytes");
            self.error(BAD_VALUE, node.span, message).help =
                Some("write `512Mi`, `2Gi`, or `1G` for 1,000,000,000".into());
        }
        read
    }
}

/// A number or a text, as it is written.
fn written(node: &Node) -> Option<String> {
    match &node.content {
        Content::Text(text) => Some(text.clone()),
        Content::Number(number) => Some(number.to_string()),
        Content::Null | Content::Bool(_) | Content::List(_) | Content::Map(_) => None,
    }
}
