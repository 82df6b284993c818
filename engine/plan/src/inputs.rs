//! Checks what stands under `with` against the input schema of the step kind.

use regex::Regex;
use serde_json::Value;

use crate::code::{MISSING_INPUT, SECRET_MISUSE, UNKNOWN_INPUT, WRONG_INPUT, WRONG_REFERENCE};
use crate::params::brief;
use crate::schema::{
    self, allows, alternatives, compatible, describe, resolve, takes_secret, types,
};
use crate::yaml::{Content, Entry, Node};
use crate::{Diagnostic, Severity, Span, suggest, template};

/// What is known of a leaf with an expression in it, before it is filled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LeafType {
    /// It is `{{ secrets.NAME }}`.
    Secret,
    /// A text with expressions in it.
    Text,
    /// One expression, with a value of this schema.
    Known { schema: Value, shown: String },
    /// One expression, of which nothing is known.
    Unknown,
}

/// Checks the inputs of one step.
pub(crate) struct Inputs<'a> {
    /// The name of the kind, for messages.
    pub(crate) kind: &'a str,
    /// The input schema.
    pub(crate) root: &'a Value,
    /// Whether the kind may receive secrets.
    pub(crate) secrets: bool,
    /// What is known of a leaf.
    pub(crate) leaf_type: &'a dyn Fn(&str) -> LeafType,
    /// What a leaf that is one expression may give that is null.
    pub(crate) nulls: &'a dyn Fn(&Node, &str) -> Vec<Diagnostic>,
    /// Where a missing input is told.
    pub(crate) step_span: Span,
}

/// How badly an alternative fits: the constants that differ, and the number of findings.
type Misfit = (usize, usize);

impl Inputs<'_> {
    /// Checks `with`; `None` stands for an empty mapping.
    pub(crate) fn check(&self, with: Option<&Node>) -> Vec<Diagnostic> {
        let empty = Node { content: Content::Map(Vec::new()), span: self.step_span };
        let mut found = Vec::new();
        self.value(with.unwrap_or(&empty), self.root, "", &mut found);
        found
    }

    fn name(&self, path: &str) -> String {
        if path.is_empty() { "`with`".into() } else { format!("input `{path}`") }
    }

    fn value(&self, node: &Node, schema: &Value, path: &str, found: &mut Vec<Diagnostic>) {
        let schema = resolve(schema, self.root);
        if let Some(leaf) = node.text().filter(|text| template::is_template(text)) {
            self.leaf(node, leaf, schema, path, found);
            return;
        }
        if let Some(Value::Array(parts)) = schema.get("allOf") {
            for part in parts {
                self.value(node, part, path, found);
            }
        }
        if let Some(allowed) = schema::choices(schema) {
            if !allowed.contains(&&node.json()) {
                self.not_a_choice(node, &allowed, path, found);
            }
            return;
        }
        if let Some(list) = alternatives(schema) {
            self.one_of(node, schema, list, path, found);
            // An object may have properties of its own beside those of its variants.
            if schema.get("properties").is_none() {
                return;
            }
        }
        if takes_secret(schema) && !matches!(node.content, Content::Null) {
            let message = format!(
                "{} is a secret, and a secret is never written into the file",
                self.name(path)
            );
            found.push(
                Diagnostic::error(SECRET_MISUSE, node.span, message)
                    .help("write `{{ secrets.NAME }}`"),
            );
            return;
        }
        if let Some(constant) = schema.get("const")
            && *constant != node.json()
        {
            let message = format!(
                "{} must be {}, and this is {}",
                self.name(path),
                brief(constant),
                brief(&node.json())
            );
            found.push(Diagnostic::error(WRONG_INPUT, node.span, message));
            return;
        }
        let wanted = types(schema);
        if !allows(&wanted, &shallow(node)) {
            self.wrong_type(node, schema, path, found);
            return;
        }
        match &node.content {
            Content::Null | Content::Bool(_) => {}
            Content::Number(number) => {
                let number = number.as_f64().unwrap_or(0.0);
                let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
                let said = match (limit("minimum"), limit("maximum")) {
                    (Some(least), _) if number < least => format!("at least {least}"),
                    (_, Some(most)) if number > most => format!("at most {most}"),
                    _ => return,
                };
                let message = format!("{} must be {said}, and this is {number}", self.name(path));
                found.push(Diagnostic::error(WRONG_INPUT, node.span, message));
            }
            Content::Text(text) => self.text(node, text, schema, path, found),
            Content::List(items) => {
                self.length(node, items.len(), ("minItems", "maxItems"), schema, path, found);
                let item_schema = schema.get("items").unwrap_or(&Value::Bool(true));
                for (index, item) in items.iter().enumerate() {
                    self.value(item, item_schema, &join(path, &index.to_string()), found);
                }
            }
            Content::Map(entries) => self.map(node, entries, schema, path, found),
        }
    }

    fn length(
        &self,
        node: &Node,
        length: usize,
        (least, most): (&str, &str),
        schema: &Value,
        path: &str,
        found: &mut Vec<Diagnostic>,
    ) {
        let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
        let said = match (limit(least), limit(most)) {
            (Some(1), _) if length == 0 => "must not be empty".to_owned(),
            (Some(least), _) if (length as u64) < least => format!("wants at least {least}"),
            (_, Some(most)) if (length as u64) > most => format!("wants at most {most}"),
            _ => return,
        };
        found.push(Diagnostic::error(
            WRONG_INPUT,
            node.span,
            format!("{} {said}", self.name(path)),
        ));
    }

    fn text(
        &self,
        node: &Node,
        text: &str,
        schema: &Value,
        path: &str,
        found: &mut Vec<Diagnostic>,
    ) {
        let length = text.chars().count();
        self.length(node, length, ("minLength", "maxLength"), schema, path, found);
        // What has a Fairlead type is checked by that type, with a better message.
        let problem = match schema::typed_format(schema) {
            Some(format) => fairlead_type(format, text).err(),
            None => schema
                .get("pattern")
                .and_then(Value::as_str)
                .and_then(|pattern| Regex::new(pattern).ok().map(|regex| (pattern, regex)))
                .filter(|(_, regex)| !regex.is_match(text))
                .map(|(pattern, _)| format!("{} does not match `{pattern}`", brief(&text.into()))),
        };
        if let Some(problem) = problem {
            let message = format!("{}: {problem}", self.name(path));
            found.push(Diagnostic::error(WRONG_INPUT, node.span, message));
        }
    }

    fn map(
        &self,
        node: &Node,
        entries: &[Entry],
        schema: &Value,
        path: &str,
        found: &mut Vec<Diagnostic>,
    ) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let names = || properties.into_iter().flat_map(|list| list.keys().map(String::as_str));
        let more = schema.get("additionalProperties");
        for Entry { key, key_span, value } in entries {
            let place = join(path, key);
            match (properties.and_then(|list| list.get(key)), more) {
                (Some(schema), _) => self.value(value, schema, &place, found),
                (None, Some(Value::Bool(false))) => {
                    let message = if path.is_empty() {
                        format!("`{}` has no input `{key}`", self.kind)
                    } else {
                        format!("input `{path}` has no `{key}`")
                    };
                    let finding = Diagnostic::error(UNKNOWN_INPUT, *key_span, message);
                    found.push(match suggest::nearest(key, names()) {
                        Some(near) if node.get(near).is_none() => {
                            finding.help(format!("did you mean `{near}`?")).fix(*key_span, near)
                        }
                        Some(near) => finding.help(format!("did you mean `{near}`?")),
                        None if names().next().is_none() => finding.help("it has no inputs"),
                        None => finding.help(format!("it has {}", suggest::list(names()))),
                    });
                }
                (None, Some(more)) => self.value(value, more, &place, found),
                (None, None) => self.value(value, &Value::Bool(true), &place, found),
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if entries.iter().any(|entry| entry.key == name) {
                continue;
            }
            let wants = properties
                .and_then(|list| list.get(name))
                .map_or_else(|| "a value".into(), |schema| describe(resolve(schema, self.root)));
            let (message, span) = if path.is_empty() {
                (format!("`{}` wants an input `{name}`: {wants}", self.kind), self.step_span)
            } else {
                let span = entries.first().map_or(node.span, |entry| entry.key_span);
                (format!("input `{path}` wants `{name}`: {wants}"), span)
            };
            found.push(Diagnostic::error(MISSING_INPUT, span, message));
        }
    }

    fn not_a_choice(
        &self,
        node: &Node,
        allowed: &[&Value],
        path: &str,
        found: &mut Vec<Diagnostic>,
    ) {
        let given = node.json();
        let names: Vec<&str> = allowed.iter().filter_map(|value| value.as_str()).collect();
        let message = format!("{} cannot be {}", self.name(path), brief(&given));
        let near = given.as_str().and_then(|text| suggest::nearest(text, names.iter().copied()));
        let finding = Diagnostic::error(WRONG_INPUT, node.span, message);
        found.push(match near {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None => finding.help(format!("it can be {}", suggest::list(names))),
        });
    }

    fn wrong_type(&self, node: &Node, schema: &Value, path: &str, found: &mut Vec<Diagnostic>) {
        let wants = describe(schema);
        let message = format!("{} wants {wants}, and this is {}", self.name(path), node.describe());
        let mut finding = Diagnostic::error(WRONG_INPUT, node.span, message);
        let wanted = types(schema);
        match &node.content {
            Content::Number(_) | Content::Bool(_) if wanted.contains(&"string") => {
                finding = finding.help("put it in quotes");
            }
            Content::Text(text) => {
                let typed = match text.as_str() {
                    "true" | "false" => wanted.contains(&"boolean"),
                    number => {
                        (wanted.contains(&"integer") && number.parse::<i64>().is_ok())
                            || (wanted.contains(&"number") && number.parse::<f64>().is_ok())
                    }
                };
                if typed {
                    finding = finding.help("write it without quotes").fix(node.span, text.as_str());
                } else if wanted.contains(&"array") {
                    finding = finding.help(format!("write `[{}]`", text.escape_debug()));
                }
            }
            Content::Null
            | Content::Bool(_)
            | Content::Number(_)
            | Content::List(_)
            | Content::Map(_) => {}
        }
        found.push(finding);
    }

    /// Takes the first alternative that fits. When none does, the one that was most likely meant
    /// says what is wrong.
    fn one_of(
        &self,
        node: &Node,
        schema: &Value,
        list: &[Value],
        path: &str,
        found: &mut Vec<Diagnostic>,
    ) {
        if let Some((entry, tags)) = unknown_tag(node, list) {
            self.not_a_choice(&entry.value, &tags, &join(path, &entry.key), found);
            return;
        }
        let mut best: Option<(Misfit, Vec<Diagnostic>)> = None;
        let mut of_type = 0;
        for part in list {
            let part = resolve(part, self.root);
            let mut said = Vec::new();
            self.value(node, part, path, &mut said);
            if said.iter().all(|finding| finding.severity != Severity::Error) {
                found.extend(said);
                return;
            }
            let wanted = types(part);
            if !allows(&wanted, &shallow(node)) {
                continue;
            }
            of_type += 1;
            let misfit = (other_constants(node, part), said.len());
            if best.as_ref().is_none_or(|(least, _)| misfit < *least) {
                best = Some((misfit, said));
            }
        }
        match best {
            Some((_, said)) if of_type > 0 => found.extend(said),
            Some(_) | None => self.wrong_type(node, schema, path, found),
        }
    }

    /// A text with an expression in it.
    fn leaf(
        &self,
        node: &Node,
        leaf: &str,
        schema: &Value,
        path: &str,
        found: &mut Vec<Diagnostic>,
    ) {
        let kind = (self.leaf_type)(leaf);
        let secret = takes_secret(schema);
        let finding = match kind {
            LeafType::Secret if secret && self.secrets => return,
            LeafType::Secret if secret => {
                let message = format!("step kind `{}` may not receive secrets", self.kind);
                Diagnostic::error(SECRET_MISUSE, node.span, message)
            }
            LeafType::Secret => {
                let message = format!("{} takes no secret", self.name(path));
                Diagnostic::error(SECRET_MISUSE, node.span, message).help(
                    "a value given here may be shown and stored; use an input that is made for \
                     secrets",
                )
            }
            LeafType::Text | LeafType::Known { .. } | LeafType::Unknown
                if secret && alternatives(schema).is_none() =>
            {
                let message = format!("{} takes nothing but a secret", self.name(path));
                Diagnostic::error(SECRET_MISUSE, node.span, message)
                    .help("write `{{ secrets.NAME }}` and nothing beside it")
            }
            LeafType::Text => {
                if compatible(&serde_json::json!({ "type": "string" }), schema) {
                    return;
                }
                let message =
                    format!("{} wants {}, and this is a text", self.name(path), describe(schema));
                Diagnostic::error(WRONG_REFERENCE, node.span, message)
                    .help("one expression with nothing beside it keeps its type")
            }
            LeafType::Known { schema: given, shown } => {
                if compatible(&given, schema) {
                    self.null(node, leaf, schema, found);
                    return;
                }
                let message = format!(
                    "{} wants {}, and `{shown}` is {}",
                    self.name(path),
                    describe(schema),
                    describe(&given)
                );
                let finding = Diagnostic::error(WRONG_REFERENCE, node.span, message);
                let scalar = ["integer", "number", "boolean"];
                let to_text = types(schema).contains(&"string")
                    && types(&given).iter().all(|name| scalar.contains(name));
                if to_text { finding.help("add `| string`") } else { finding }
            }
            LeafType::Unknown => {
                self.null(node, leaf, schema, found);
                return;
            }
        };
        found.push(finding);
    }

    /// Tells what a leaf may give that is null, where its place takes no null.
    fn null(&self, node: &Node, leaf: &str, schema: &Value, found: &mut Vec<Diagnostic>) {
        if !schema::takes_null(schema) {
            found.extend((self.nulls)(node, leaf));
        }
    }
}

/// The value without what is in it, to look at its type.
fn shallow(node: &Node) -> Value {
    match &node.content {
        Content::List(_) => Value::Array(Vec::new()),
        Content::Map(_) => Value::Object(serde_json::Map::new()),
        Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => node.json(),
    }
}

/// How many properties of `node` differ from a constant that `schema` wants there: the tag of
/// another variant.
fn other_constants(node: &Node, schema: &Value) -> usize {
    let properties = schema.get("properties").and_then(Value::as_object);
    let differs = |(name, part): &(&String, &Value)| match (part.get("const"), node.get(name)) {
        (Some(constant), Some(entry)) => entry.value.json() != *constant,
        (None, _) | (_, None) => false,
    };
    properties.into_iter().flatten().filter(differs).count()
}

/// The tag of `node`, if every alternative wants a constant under its key and it is none of them.
fn unknown_tag<'n, 's>(node: &'n Node, list: &'s [Value]) -> Option<(&'n Entry, Vec<&'s Value>)> {
    let Content::Map(entries) = &node.content else { return None };
    entries.iter().find_map(|entry| {
        let tags: Option<Vec<&Value>> =
            list.iter().map(|part| part.get("properties")?.get(&entry.key)?.get("const")).collect();
        let tags = tags?;
        (!tags.is_empty() && !tags.contains(&&entry.value.json())).then_some((entry, tags))
    })
}

/// Whether `text` is of the Fairlead type `format`.
fn fairlead_type(format: &str, text: &str) -> Result<(), String> {
    use fairlead_step::{Digest, HumanDuration, Image, ImageRef, Repository, schema_format};
    fn parse<T: std::str::FromStr>(text: &str) -> Result<(), String>
    where
        T::Err: ToString,
    {
        text.parse::<T>().map(drop).map_err(|error| error.to_string())
    }
    match format {
        schema_format::DIGEST => parse::<Digest>(text),
        schema_format::IMAGE => parse::<Image>(text),
        schema_format::IMAGE_REF => parse::<ImageRef>(text),
        schema_format::REPOSITORY => parse::<Repository>(text),
        schema_format::DURATION => parse::<HumanDuration>(text),
        _ => Ok(()),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
