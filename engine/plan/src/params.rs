//! Parameters: what a pipeline asks of whoever starts it.

use std::collections::BTreeMap;
use std::fmt;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

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
}

impl ParamType {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::String, Self::Integer, Self::Number, Self::Boolean];

    /// The word in YAML; JSON Schema uses the same.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
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
        let Some(value) = self.kind.coerce(given) else {
            let article = if self.kind == ParamType::Integer { "an" } else { "a" };
            return Err(format!("{} is not {article} {}", brief(given), self.kind));
        };
        if let (Some(pattern), Value::String(text)) = (&self.pattern, &value) {
            let fits = Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
            if !fits {
                return Err(format!("{} does not match `{pattern}`", brief(&value)));
            }
        }
        if let Some(choices) = &self.choices
            && !choices.contains(&value)
        {
            let list: Vec<String> = choices.iter().map(brief).collect();
            return Err(format!("{} is not one of {}", brief(&value), list.join(", ")));
        }
        Ok(value)
    }
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
}
