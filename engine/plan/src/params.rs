//! Parameters: what a pipeline asks of whoever starts it.

use std::collections::BTreeMap;
use std::fmt;

use fairlead_step::{Digest, ImageError, ImageRef, schema_format};
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};

use crate::suggest;

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamType {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An image, given by tag or digest. A tag is resolved once, when the run is asked for.
    Image,
}

impl ParamType {
    /// Every type.
    pub const ALL: [Self; 5] =
        [Self::String, Self::Integer, Self::Number, Self::Boolean, Self::Image];

    /// The word in YAML.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Image => "image",
        }
    }

    /// The JSON Schema of what expressions read.
    pub(crate) fn schema(self) -> Value {
        match self {
            Self::String | Self::Integer | Self::Number | Self::Boolean => {
                json!({ "type": self.name() })
            }
            Self::Image => json!({ "type": "string", "format": schema_format::IMAGE }),
        }
    }

    /// `value` as this type. A text is read as the type, as the command line gives only texts.
    fn coerce(self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::String, Value::String(_)) | (Self::Boolean, Value::Bool(_)) => {
                Some(value.clone())
            }
            (Self::Integer, Value::Number(n)) if n.is_i64() || n.is_u64() => Some(value.clone()),
            (Self::Number, Value::Number(_)) => Some(value.clone()),
            (Self::Integer, Value::String(text)) => text.parse::<i64>().ok().map(Value::from),
            (Self::Number, Value::String(text)) => {
                let number = text.parse::<f64>().ok().and_then(Number::from_f64)?;
                Some(text.parse::<i64>().map_or(Value::Number(number), Value::from))
            }
            (Self::Boolean, Value::String(text)) => text.parse::<bool>().ok().map(Value::Bool),
            _ => None,
        }
    }
}

impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its name: read as `params.<name>`.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ParamType,
    /// Its value when none is given; without one it must be given.
    pub default: Option<Value>,
    /// A regular expression that a text must match.
    pub pattern: Option<String>,
    /// The only values allowed.
    pub choices: Option<Vec<Value>>,
    /// One line for people.
    pub description: Option<String>,
}

impl Param {
    /// Whether a value must be given.
    #[must_use]
    pub const fn required(&self) -> bool {
        self.default.is_none()
    }

    /// `given` as this parameter's type, if its pattern and choices allow it.
    ///
    /// # Errors
    /// One lower-case sentence fragment that says what is wrong.
    pub fn accept(&self, given: &Value) -> Result<Value, String> {
        let value = match (self.kind, given) {
            (ParamType::Image, Value::String(text)) => Value::String(image(text)?.to_string()),
            _ => self.kind.coerce(given).ok_or_else(|| {
                let article = match self.kind {
                    ParamType::Integer | ParamType::Image => "an",
                    ParamType::String | ParamType::Number | ParamType::Boolean => "a",
                };
                format!("{} is not {article} {}", brief(given), self.kind)
            })?,
        };
        if let (Some(pattern), Value::String(text)) = (&self.pattern, &value) {
            let fits = Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
            if !fits {
                return Err(format!("{} does not match `{pattern}`", brief(&value)));
            }
        }
        if let Some(choices) = &self.choices
            && !choices.contains(&value)
            && !choices.iter().any(|choice| self.is_resolved_from(&value, choice))
        {
            let list: Vec<String> = choices.iter().map(brief).collect();
            return Err(format!("{} is not one of {}", brief(&value), list.join(", ")));
        }
        Ok(value)
    }

    /// Whether `value` is the image `choice` with the digest that its tag was resolved to: what a run
    /// was asked with may be given to the next one.
    fn is_resolved_from(&self, value: &Value, choice: &Value) -> bool {
        let read = |value: &Value| value.as_str()?.parse::<ImageRef>().ok();
        self.kind == ParamType::Image
            && read(value).is_some_and(|image| {
                let asked = ImageRef { digest: None, ..image };
                asked.tag.is_some() && read(choice) == Some(asked)
            })
    }
}

/// Reads an image that a person names.
fn image(text: &str) -> Result<ImageRef, String> {
    let image: ImageRef = text.trim().parse().map_err(|error: ImageError| error.to_string())?;
    if image.tag.is_none() && image.digest.is_none() {
        return Err(format!(
            "`{image}` has neither a tag nor a digest; write `{image}:TAG` or `{image}@sha256:…`"
        ));
    }
    Ok(image)
}

/// A value in backticks, cut to a length fit for a message.
pub(crate) fn brief(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    };
    if text.chars().count() > 60 {
        format!("`{}…`", text.chars().take(59).collect::<String>())
    } else {
        format!("`{text}`")
    }
}

/// What is wrong with one parameter that was given, or not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter `{name}`: {message}")]
pub struct ParamProblem {
    /// The parameter.
    pub name: String,
    /// One lower-case sentence fragment.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

/// The parameters of a pipeline, in the order of the file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Params(pub(crate) Vec<Param>);

impl Params {
    /// Each parameter.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Param> {
        self.0.iter()
    }

    /// The parameter called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.0.iter().find(|param| param.name == name)
    }

    /// Binds what was given: texts are read as the parameter's type, defaults fill the rest.
    ///
    /// # Errors
    /// Every problem: unknown names, missing values, values of another type.
    pub fn bind(&self, given: &BTreeMap<String, Value>) -> Result<Value, Vec<ParamProblem>> {
        let mut bound = Map::new();
        let mut problems = Vec::new();
        let names = || self.0.iter().map(|param| param.name.as_str());
        for name in given.keys().filter(|name| self.get(name).is_none()) {
            problems.push(ParamProblem {
                name: name.clone(),
                message: "the pipeline has no such parameter".into(),
                hint: Some(match suggest::nearest(name, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if self.0.is_empty() => "it has no parameters".into(),
                    None => format!("it has {}", suggest::list(names())),
                }),
            });
        }
        for param in &self.0 {
            let name = &param.name;
            match (given.get(name), &param.default) {
                (Some(value), _) => match param.accept(value) {
                    Ok(value) => {
                        bound.insert(name.clone(), value);
                    }
                    Err(message) => problems.push(ParamProblem {
                        name: name.clone(),
                        message,
                        hint: param.description.clone(),
                    }),
                },
                (None, Some(default)) => {
                    bound.insert(name.clone(), default.clone());
                }
                (None, None) => problems.push(ParamProblem {
                    name: name.clone(),
                    message: "it has no default and was not given".into(),
                    hint: Some(format!("give it with `--set {name}=…`")),
                }),
            }
        }
        if problems.is_empty() { Ok(Value::Object(bound)) } else { Err(problems) }
    }

    /// The images among bound parameters that have a tag and no digest, by parameter. Each is to be
    /// resolved, and given its digest by [`Params::resolved`], before a run is written down.
    #[must_use]
    pub fn unresolved(&self, bound: &Value) -> Vec<(String, ImageRef)> {
        let images = self.images(bound).filter(|(_, image)| image.digest.is_none());
        images.map(|(name, image)| (name.to_owned(), image)).collect()
    }

    /// The bound parameters with the image of `name` pinned to `digest`: as the journal has it, with
    /// the tag that was asked for and the digest that it stood for then.
    pub fn resolved(&self, bound: &mut Value, name: &str, digest: Digest) {
        let image = self.images(bound).find(|(known, _)| *known == name).map(|(_, image)| image);
        if let (Some(image), Some(place)) = (image, bound.get_mut(name)) {
            *place = ImageRef { digest: Some(digest), ..image }.to_string().into();
        }
    }

    /// Bound parameters as expressions see them: an image is known by its digest, without a tag.
    #[must_use]
    pub fn seen(&self, bound: &Value) -> Value {
        let mut seen = bound.clone();
        for (name, image) in self.images(bound) {
            if let (Some(digest), Some(place)) = (image.digest, seen.get_mut(name)) {
                *place = image.repository.at(digest).to_string().into();
            }
        }
        seen
    }

    fn images<'a>(&'a self, bound: &'a Value) -> impl Iterator<Item = (&'a str, ImageRef)> {
        let images = self.0.iter().filter(|param| param.kind == ParamType::Image);
        images.filter_map(|param| {
            let text = bound.get(&param.name)?.as_str()?;
            Some((param.name.as_str(), text.parse().ok()?))
        })
    }
}
