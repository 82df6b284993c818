//! One expression: what it reads, which functions it uses, and its value.
//!
//! The language is minijinja's expression language with a fixed list of filters and tests, no
//! functions and no methods. Its syntax tree is walked here, so that everything an expression reads
//! is known before anything runs.

use std::sync::LazyLock;

use minijinja::machinery::{Span as NodeSpan, ast, parse_expr};
use minijinja::{Environment, UndefinedBehavior, Value, filters, tests};

use crate::suggest;

/// The most bytes one expression may have.
pub(crate) const MAX_EXPRESSION_BYTES: usize = 4096;
/// The work one evaluation may do, in instructions.
const FUEL: u64 = 100_000;
/// The most bytes that `replace` and `join` may make.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// The names an expression may begin with.
pub(crate) const ROOTS: [&str; 8] =
    ["params", "event", "vars", "steps", "run", "secrets", "item", "item_key"];

macro_rules! environment {
    (filters: $($filter:literal = $filter_fn:expr),*; tests: $($test:literal = $test_fn:expr),*;) => {
        /// The filters an expression may use.
        pub(crate) const FILTERS: &[&str] = &[$($filter),*];
        /// The tests an expression may use.
        pub(crate) const TESTS: &[&str] = &[$($test),*];

        static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
            let mut environment = Environment::empty();
            environment.set_undefined_behavior(UndefinedBehavior::Strict);
            environment.set_fuel(Some(FUEL));
            $(environment.add_filter($filter, $filter_fn);)*
            $(environment.add_test($test, $test_fn);)*
            environment
        });
    };
}

environment! {
    filters:
        "abs" = filters::abs, "bool" = filters::bool, "capitalize" = filters::capitalize,
        "default" = default, "first" = filters::first, "float" = filters::float,
        "int" = filters::int, "join" = join, "last" = filters::last, "length" = filters::length,
        "list" = filters::list, "lower" = filters::lower, "max" = filters::max,
        "min" = filters::min, "replace" = replace, "reverse" = filters::reverse,
        "round" = filters::round, "sort" = filters::sort, "split" = filters::split,
        "string" = filters::string, "tojson" = filters::tojson, "trim" = filters::trim,
        "unique" = filters::unique, "upper" = filters::upper;
    tests:
        "boolean" = tests::is_boolean, "defined" = tests::is_defined,
        "endingwith" = tests::is_endingwith, "in" = tests::is_in, "integer" = tests::is_integer,
        "mapping" = tests::is_mapping, "none" = tests::is_none, "number" = tests::is_number,
        "sequence" = tests::is_sequence, "startingwith" = tests::is_startingwith,
        "string" = tests::is_string, "undefined" = tests::is_undefined;
}

/// `default`: what stands in the place of a value that is not there, or null. With `true` behind it,
/// also of one that is empty, zero or false. Without a value of its own it is an empty text.
fn default(value: &Value, other: Option<Value>, lax: Option<bool>) -> Value {
    let missing = value.is_undefined() || value.is_none();
    if missing || lax.unwrap_or(false) && !value.is_true() {
        return other.unwrap_or_else(|| Value::from(""));
    }
    value.clone()
}

fn too_long() -> minijinja::Error {
    minijinja::Error::new(
        minijinja::ErrorKind::InvalidOperation,
        format!("the text would be longer than {MAX_TEXT_BYTES} bytes"),
    )
}

/// `replace`, with a limit on what it makes: the built-in one can square a text.
fn replace(text: &str, from: &str, to: &str) -> Result<String, minijinja::Error> {
    let made = text.matches(from).count().saturating_mul(to.len()).saturating_add(text.len());
    if made > MAX_TEXT_BYTES { Err(too_long()) } else { Ok(text.replace(from, to)) }
}

/// `join`, with a limit on what it makes.
fn join(list: Value, separator: Option<&str>) -> Result<String, minijinja::Error> {
    let mut text = String::new();
    for (index, item) in list.try_iter()?.enumerate() {
        if index > 0 {
            text.push_str(separator.unwrap_or_default());
        }
        match item.as_str() {
            Some(item) => text.push_str(item),
            None => text.push_str(&item.to_string()),
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(too_long());
        }
    }
    Ok(text)
}

/// One step of a path behind a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// `.name` or `['name']`.
    Name(String),
    /// `[0]`.
    Index,
}

/// Something that an expression reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The first name.
    pub(crate) root: String,
    /// What stands behind it, as far as it is fixed.
    pub(crate) path: Vec<Key>,
    /// Whether something computed stands behind that, as in `steps[params.x]`.
    pub(crate) computed: bool,
    /// Whether it may be absent: it stands under `default`, or is tested with `is defined`.
    pub(crate) guarded: bool,
    /// Its first byte within the expression.
    pub(crate) start: usize,
    /// The byte behind it.
    pub(crate) end: usize,
}

impl Reference {
    /// The `index`-th name of the path, if it is one.
    pub(crate) fn name(&self, index: usize) -> Option<&str> {
        match self.path.get(index) {
            Some(Key::Name(name)) => Some(name),
            Some(Key::Index) | None => None,
        }
    }
}

/// A use of something the language does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misuse {
    pub(crate) message: String,
    pub(crate) help: String,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What is known of an expression before it runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Expression {
    /// Everything it reads, in order.
    pub(crate) references: Vec<Reference>,
    /// Every unknown filter, test or function.
    pub(crate) misuses: Vec<Misuse>,
    /// Whether it is one path and nothing else.
    pub(crate) plain: bool,
    /// Whether it is always true or always false.
    pub(crate) constant: Option<bool>,
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Parses `text` and walks its tree.
pub(crate) fn parse(text: &str) -> Result<Expression, SyntaxError> {
    let whole = |message: String| SyntaxError { message, start: 0, end: text.len() };
    if text.trim().is_empty() {
        return Err(whole("the expression is empty".into()));
    }
    if text.len() > MAX_EXPRESSION_BYTES {
        return Err(whole(format!("an expression has at most {MAX_EXPRESSION_BYTES} bytes")));
    }
    let tree = parse_expr(text).map_err(|error| {
        let range = error.range().unwrap_or(0..text.len());
        SyntaxError {
            message: error.detail().unwrap_or("it is malformed").to_owned(),
            start: range.start.min(text.len()),
            end: range.end.min(text.len()),
        }
    })?;
    let mut walk = Walk { text, out: Expression::default() };
    walk.expression(&tree, false);
    let mut expression = walk.out;
    expression.plain = path_of(&tree).is_some_and(|(_, _, computed)| !computed);
    expression.constant = tree.as_const().map(|value| value.is_true());
    Ok(expression)
}

/// Evaluates `text` over `context`; undefined results are errors.
pub(crate) fn evaluate(text: &str, context: Value) -> Result<Value, String> {
    let said = |error: minijinja::Error| match (error.kind(), error.detail()) {
        (minijinja::ErrorKind::OutOfFuel, _) => "it works longer than is allowed".to_owned(),
        (minijinja::ErrorKind::UndefinedError, _) => "it reads what is not there".to_owned(),
        (kind, None) => kind.to_string(),
        (_, Some(detail)) => detail.to_owned(),
    };
    ENVIRONMENT.compile_expression(text).map_err(said)?.eval(context).map_err(said)
}

struct Walk<'a> {
    text: &'a str,
    out: Expression,
}

/// The root, the fixed keys behind it, and whether something computed stands behind those.
pub(crate) fn path_of<'t>(tree: &'t ast::Expr<'t>) -> Option<(&'t str, Vec<Key>, bool)> {
    if let ast::Expr::Var(var) = tree {
        return Some((var.id, Vec::new(), false));
    }
    if let ast::Expr::GetAttr(get) = tree {
        let (root, mut path, computed) = path_of(&get.expr)?;
        if !computed {
            path.push(Key::Name(get.name.to_owned()));
        }
        return Some((root, path, computed));
    }
    let ast::Expr::GetItem(get) = tree else { return None };
    let (root, mut path, computed) = path_of(&get.expr)?;
    if computed {
        return Some((root, path, true));
    }
    let key = if let ast::Expr::Const(constant) = &get.subscript_expr {
        match constant.value.as_str() {
            Some(name) => Some(Key::Name(name.to_owned())),
            None => constant.value.as_usize().map(|_| Key::Index),
        }
    } else {
        None
    };
    let computed = key.is_none();
    path.extend(key);
    Some((root, path, computed))
}

/// The place of the root of a path.
pub(crate) fn root_span(tree: &ast::Expr<'_>) -> NodeSpan {
    if let ast::Expr::GetAttr(get) = tree {
        root_span(&get.expr)
    } else if let ast::Expr::GetItem(get) = tree {
        root_span(&get.expr)
    } else {
        tree.span()
    }
}

impl Walk<'_> {
    fn range(&self, span: NodeSpan) -> (usize, usize) {
        let end = (span.end_offset as usize).min(self.text.len());
        ((span.start_offset as usize).min(end), end)
    }

    fn misuse(&mut self, span: NodeSpan, message: String, help: String) {
        let (start, end) = self.range(span);
        self.out.misuses.push(Misuse { message, help, start, end });
    }

    fn known(&mut self, span: NodeSpan, what: &str, name: &str, known: &[&str]) {
        if !known.contains(&name) {
            let help = match suggest::nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", known.join(", ")),
            };
            self.misuse(span, format!("there is no {what} `{name}`"), help);
        }
    }

    fn optional(&mut self, tree: Option<&ast::Expr<'_>>) {
        if let Some(tree) = tree {
            self.expression(tree, false);
        }
    }

    fn arguments(&mut self, arguments: &[ast::CallArg<'_>]) {
        for argument in arguments {
            match argument {
                ast::CallArg::Pos(tree)
                | ast::CallArg::Kwarg(_, tree)
                | ast::CallArg::PosSplat(tree)
                | ast::CallArg::KwargSplat(tree) => self.expression(tree, false),
            }
        }
    }

    /// The parts of a path that are computed, which read something themselves.
    fn subscripts(&mut self, tree: &ast::Expr<'_>) {
        if let ast::Expr::GetAttr(get) = tree {
            self.subscripts(&get.expr);
        } else if let ast::Expr::GetItem(get) = tree {
            self.subscripts(&get.expr);
            self.expression(&get.subscript_expr, false);
        }
    }

    fn expression(&mut self, tree: &ast::Expr<'_>, guarded: bool) {
        if let Some((root, path, computed)) = path_of(tree) {
            // The span of a lookup begins at its dot; that of the path begins at its root.
            let (start, _) = self.range(root_span(tree));
            let (_, end) = self.range(tree.span());
            let root = root.to_owned();
            self.out.references.push(Reference { root, path, computed, guarded, start, end });
            self.subscripts(tree);
            return;
        }
        match tree {
            ast::Expr::Var(_) | ast::Expr::Const(_) => {}
            ast::Expr::Slice(slice) => {
                self.expression(&slice.expr, guarded);
                for part in [&slice.start, &slice.stop, &slice.step] {
                    self.optional(part.as_ref());
                }
            }
            ast::Expr::UnaryOp(op) => self.expression(&op.expr, false),
            ast::Expr::BinOp(op) => {
                self.expression(&op.left, false);
                self.expression(&op.right, false);
            }
            ast::Expr::Compare(compare) => {
                self.expression(&compare.expr, false);
                compare.ops.iter().for_each(|op| self.expression(&op.expr, false));
            }
            ast::Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr, false);
                self.expression(&choice.true_expr, false);
                self.optional(choice.false_expr.as_ref());
            }
            ast::Expr::Filter(filter) => {
                self.known(tree.span(), "filter", filter.name, FILTERS);
                if let Some(inner) = &filter.expr {
                    self.expression(inner, filter.name == "default");
                }
                self.arguments(&filter.args);
            }
            ast::Expr::Test(test) => {
                self.known(tree.span(), "test", test.name, TESTS);
                self.expression(&test.expr, matches!(test.name, "defined" | "undefined"));
                self.arguments(&test.args);
            }
            ast::Expr::GetAttr(get) => self.expression(&get.expr, guarded),
            ast::Expr::GetItem(get) => {
                self.expression(&get.expr, guarded);
                self.expression(&get.subscript_expr, false);
            }
            ast::Expr::Call(call) => {
                let name = if let ast::Expr::Var(var) = &call.expr {
                    var.id
                } else if let ast::Expr::GetAttr(get) = &call.expr {
                    get.name
                } else {
                    "…"
                };
                let help = if FILTERS.contains(&name) {
                    format!("write it as a filter: `… | {name}`")
                } else {
                    "use a filter: `… | lower`".to_owned()
                };
                let message = format!("there is no function `{name}`; expressions have none");
                self.misuse(tree.span(), message, help);
                if let ast::Expr::GetAttr(get) = &call.expr {
                    self.expression(&get.expr, false);
                }
                self.arguments(&call.args);
            }
            ast::Expr::List(list) => {
                list.items.iter().for_each(|item| self.expression(item, false));
            }
            ast::Expr::Tuple(tuple) => {
                tuple.items.iter().for_each(|item| self.expression(item, false));
            }
            ast::Expr::Map(map) => {
                map.keys.iter().chain(&map.values).for_each(|item| self.expression(item, false));
            }
        }
    }
}

#[cfg(test)]
mod tests_of_walk {
    use super::*;

    fn reads(text: &str) -> Vec<String> {
        let parsed = parse(text).unwrap();
        parsed.references.iter().map(|r| text[r.start..r.end].to_owned()).collect()
    }

    #[test]
    fn everything_an_expression_reads_is_found_at_its_place() {
        for (text, want) in [
            ("steps.build.image", vec!["steps.build.image"]),
            (" steps['my-step'].image ", vec!["steps['my-step'].image"]),
            ("params.a ~ (event.b | default(run.id))", vec!["params.a", "event.b", "run.id"]),
            ("steps[params.x].y", vec!["steps[params.x].y", "params.x"]),
            ("a if b else c", vec!["b", "a", "c"]),
            ("x.y | length > 2 and not z[0]", vec!["x.y", "z[0]"]),
            ("[p, {q: r}]", vec!["p", "q", "r"]),
        ] {
            assert_eq!(reads(text), want, "{text}");
        }
    }

    #[test]
    fn a_plain_path_and_a_constant_are_told_apart() {
        assert!(parse("steps.a.b").unwrap().plain);
        assert!(!parse("steps.a.b | lower").unwrap().plain);
        assert!(!parse("steps[params.a]").unwrap().plain);
        assert_eq!(parse("1 > 2").unwrap().constant, Some(false));
        assert_eq!(parse("params.a").unwrap().constant, None);
    }

    #[test]
    fn what_the_language_lacks_is_told() {
        let misuse = |text| parse(text).unwrap().misuses.remove(0).message;
        assert_eq!(misuse("params.a | lowr"), "there is no filter `lowr`");
        assert_eq!(misuse("params.a is evenly"), "there is no test `evenly`");
        assert_eq!(misuse("range(9)"), "there is no function `range`; expressions have none");
        assert_eq!(misuse("a.upper()"), "there is no function `upper`; expressions have none");
    }

    #[test]
    fn a_default_stands_for_what_is_not_there_and_for_null() {
        let given = || Value::from_pairs([("null", Value::from(())), ("text", Value::from("t"))]);
        let value = |text: &str| evaluate(text, given()).unwrap().to_string();
        for (text, want) in [
            ("null | default('x')", "x"),
            ("absent | default('x')", "x"),
            ("text | default('x')", "t"),
            ("null | default", ""),
            ("null | default(absent | default('y'))", "y"),
            ("'' | default('x')", ""),
            ("'' | default('x', true)", "x"),
            ("0 | default(3)", "0"),
            ("null or 'x'", "x"),
        ] {
            assert_eq!(value(text), want, "{text}");
        }
    }

    #[test]
    fn an_expression_cannot_work_or_grow_without_end() {
        let empty = || Value::from_pairs::<[(String, Value); 0], _, _>([]);
        for text in ["'x' * 2000000000", "('x' * 100000) | replace('x', 'y' * 4000)"] {
            assert!(evaluate(text, empty()).is_err(), "{text}");
        }
        let nested = format!("{}1{}", "(".repeat(1900), ")".repeat(1900));
        assert!(parse(&nested).is_err(), "nesting is limited");
    }
}
