//! Expressions over predicates: CEL, parsed when the policy is read, and a no whenever it has no answer.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::{Context, Program, Value};
use fairlead_step::Image;

/// The longest expression, in bytes.
const LONGEST: usize = 4096;
/// What an expression may speak of.
const NAMES: [&str; 2] = ["predicate", "image"];

/// One condition.
pub(crate) struct Expression {
    text: String,
    program: Program,
}

impl Expression {
    /// Reads a condition.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        // The parser is made by a generator, and a policy must not be able to end the program.
        let program = catch_unwind(|| Program::compile(text))
            .map_err(|_| "it cannot be parsed".to_owned())?
            .map_err(|error| {
                let told = error.to_string();
                told.lines()
                    .find(|line| !line.trim().is_empty())
                    .unwrap_or("no CEL")
                    .trim()
                    .to_owned()
            })?;
        // Macros bind names of their own: `steps.exists(s, …)`. What is missed here has no answer later,
        // which is a no.
        let close: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let is_bound =
            |name: &str| name.starts_with(['@', '_']) || close.contains(&format!("({name},"));
        let references = program.references();
        let unknown = |name: &&str| !NAMES.contains(name) && !is_bound(name);
        if let Some(name) = references.variables().into_iter().find(unknown) {
            return Err(format!(
                "it speaks of `{name}`, and there are `predicate` and `image` alone"
            ));
        }
        Ok(Self { text: text.to_owned(), program })
    }

    /// Whether it holds; where it does not, why.
    ///
    /// # Errors
    /// One line: the condition, and what it came to.
    pub(crate) fn holds(&self, predicate: &serde_json::Value, image: &Image) -> Result<(), String> {
        let run = || {
            let mut context = Context::default();
            context.add_variable_from_value("predicate", value(predicate));
            let about = HashMap::from([
                ("repository", image.repository.to_string()),
                ("registry", image.repository.registry().to_owned()),
                ("digest", image.digest.to_string()),
            ]);
            context.add_variable_from_value("image", about);
            self.program.execute(&context)
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(Value::Bool(true))) => Ok(()),
            Ok(Ok(Value::Bool(false))) => Err(format!("`{}` is false", self.text)),
            Ok(Ok(_)) => Err(format!("`{}` is neither true nor false", self.text)),
            Ok(Err(error)) => Err(format!("`{}` has no answer: {error}", self.text)),
            Err(_) => Err(format!("`{}` cannot be evaluated", self.text)),
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// JSON as CEL has it: whole numbers are `int` wherever they fit, as policies write them.
fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(is) => Value::Bool(*is),
        serde_json::Value::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_u64().map(Value::UInt))
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN))),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        serde_json::Value::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| (name.clone(), value(field)));
            Value::from(fields.collect::<HashMap<String, Value>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_hold_or_say_why_not() {
        let image: Image =
            format!("r.example.com/prod/shop@sha256:{}", "a".repeat(64)).parse().unwrap();
        let predicate = json!({
            "result": "PASSED", "count": 3, "big": 18_446_744_073_709_551_615_u64, "half": 0.5,
            "steps": [{ "id": "scan", "status": "passed" }], "none": null,
        });
        let told = |text: &str| Expression::parse(text).unwrap().holds(&predicate, &image);
        for good in [
            "predicate.result == 'PASSED'",
            "predicate.count == 3 && predicate.half < 1.0",
            "predicate.steps.exists(s, s.id == 'scan' && s.status == 'passed')",
            "predicate.steps.all(s, s.status != 'failed')",
            "has(predicate.result) && !has(predicate.missing)",
            "image.repository.startsWith('r.example.com/prod/')",
            "predicate.none == null",
        ] {
            assert_eq!(told(good), Ok(()), "{good}");
        }
        for (bad, want) in [
            ("predicate.result == 'FAILED'", "is false"),
            ("predicate.missing.deep == 1", "has no answer"),
            ("predicate.count", "neither true nor false"),
            ("predicate.result > 3", "has no answer"),
        ] {
            assert!(told(bad).unwrap_err().contains(want), "{bad}: {:?}", told(bad));
        }
        for (bad, want) in [
            ("predicate.", ""),
            ("", ""),
            ("subject.name == 'x'", "`subject`"),
            (&"a".repeat(5000), "longer"),
        ] {
            let error = Expression::parse(bad).unwrap_err();
            assert!(error.contains(want), "{bad}: {error}");
        }
    }
}
