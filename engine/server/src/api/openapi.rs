//! The description of the API, as OpenAPI 3.1. It is made from the one table of routes, so that it has every
//! route, with what it takes, and nothing else.

use std::collections::BTreeMap;

use axum::http::{Method, header};
use axum::response::IntoResponse;
use fairlead_run::Right;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Ref, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, RefOr, Required,
    ResponseBuilder,
};
use utoipa::{IntoParams, ToSchema};

use super::keyed;
use super::problem::Problem;
use super::routes::{Needs, Route, table};

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// What a route says of itself.
pub(crate) struct Says {
    id: &'static str,
    summary: &'static str,
    query: Vec<Parameter>,
    /// What it takes, and whether it can do without.
    takes: Option<(Body, bool)>,
    answers: Vec<(u16, Body)>,
}

/// What stands in a body.
#[derive(Clone, Copy)]
enum Body {
    Nothing,
    /// JSON of this form.
    Json(Form),
    /// Text or bytes of this media type, and what they are.
    Other(&'static str, &'static str),
}

/// A form, by its name among the schemas.
#[derive(Clone, Copy)]
struct Form {
    name: fn() -> String,
    add: fn(&mut Schemas),
}

impl Form {
    fn of<T: ToSchema>() -> Self {
        Self { name: || T::name().into_owned(), add: |schemas| add::<T>(schemas) }
    }
}

fn add<T: ToSchema>(schemas: &mut Schemas) {
    let mut more = Vec::new();
    T::schemas(&mut more);
    schemas.extend(more);
    schemas.insert(T::name().into_owned(), T::schema());
}

/// What a route says of itself: a name for those who write clients, and what it does.
pub(crate) fn says(id: &'static str, summary: &'static str) -> Says {
    Says { id, summary, query: Vec::new(), takes: None, answers: Vec::new() }
}

impl Says {
    /// Takes what is said behind `?`.
    pub(crate) fn query<T: IntoParams>(mut self) -> Self {
        self.query.extend(T::into_params(|| Some(ParameterIn::Query)));
        self
    }

    /// Takes a header.
    pub(crate) fn header(mut self, name: &str, description: &str) -> Self {
        self.query.push(parameter(name, ParameterIn::Header, description, false));
        self
    }

    /// Takes JSON.
    pub(crate) fn takes<T: ToSchema>(mut self) -> Self {
        self.takes = Some((Body::Json(Form::of::<T>()), true));
        self
    }

    /// Takes JSON, and can do without.
    pub(crate) fn may_take<T: ToSchema>(mut self) -> Self {
        self.takes = Some((Body::Json(Form::of::<T>()), false));
        self
    }

    /// Takes bytes of this media type.
    pub(crate) fn takes_other(mut self, media_type: &'static str, what: &'static str) -> Self {
        self.takes = Some((Body::Other(media_type, what), true));
        self
    }

    /// Answers with JSON.
    pub(crate) fn json<T: ToSchema>(mut self, status: u16) -> Self {
        self.answers.push((status, Body::Json(Form::of::<T>())));
        self
    }

    /// Answers with something else.
    pub(crate) fn other(mut self, media_type: &'static str, what: &'static str) -> Self {
        self.answers.push((200, Body::Other(media_type, what)));
        self
    }

    /// Answers with nothing but its head.
    pub(crate) fn head(mut self, status: u16) -> Self {
        self.answers.push((status, Body::Nothing));
        self
    }
}

/// What a name in a path stands for.
fn place(name: &str) -> &'static str {
    match name {
        "run" => "The id of a run",
        "step" => "The id of a step, such as `build` or `scan[web]`",
        "pipeline" => "The name of a pipeline",
        "event" => "The id of an event",
        "delivery" => "The number of a message, as the list has it",
        "digest" => "A digest, such as `sha256:…`",
        "token" => "The id of a token, as the list has it",
        "source" => "The name of a source, as the configuration has it",
        "end" => "The secret of the source",
        _ => "",
    }
}

fn parameter(name: &str, place: ParameterIn, description: &str, required: bool) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(if required { Required::True } else { Required::False })
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn text(what: &str) -> Content {
    let schema = ObjectBuilder::new().schema_type(Type::String).description(Some(what));
    ContentBuilder::new().schema(Some(schema)).build()
}

fn json(form: Form, schemas: &mut Schemas) -> Content {
    (form.add)(schemas);
    ContentBuilder::new().schema(Some(Ref::from_schema_name((form.name)()))).build()
}

fn bytes(what: &str) -> Content {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("binary".to_owned())))
        .description(Some(what));
    ContentBuilder::new().schema(Some(schema)).build()
}

fn object(what: &str) -> Content {
    let schema = ObjectBuilder::new().schema_type(Type::Object).description(Some(what));
    ContentBuilder::new().schema(Some(schema)).build()
}

fn content(body: Body, schemas: &mut Schemas) -> Option<(&'static str, Content)> {
    match body {
        Body::Nothing => None,
        Body::Json(form) => Some(("application/json", json(form, schemas))),
        Body::Other(kind @ "application/octet-stream", what) => Some((kind, bytes(what))),
        Body::Other(kind @ "application/json", what) => Some((kind, object(what))),
        Body::Other(kind, what) => Some((kind, text(what))),
    }
}

/// Who may ask, for people.
fn right(needs: Needs) -> String {
    let word = |right| match right {
        Right::View => "look",
        Right::Operate => "operate",
        Right::Approve => "approve",
        Right::Administer => "administer",
    };
    match needs {
        Needs::Nothing => "For everybody.".to_owned(),
        Needs::Proof => "For whoever has the proof of the source.".to_owned(),
        Needs::Caller => "For every caller who is known.".to_owned(),
        Needs::Somewhere(right) => format!("Takes the right to {} in some project.", word(right)),
        Needs::OfPipeline(right) => {
            format!("Takes the right to {} in the projects of the pipeline.", word(right))
        }
        Needs::OfRun(right) => {
            format!("Takes the right to {} in the projects of the run's pipeline.", word(right))
        }
        Needs::Everywhere(right) => format!("Takes the right to {} in every project.", word(right)),
    }
}

fn operation(route: &Route, schemas: &mut Schemas) -> Operation {
    let Says { id, summary, query, takes, answers } = &route.says;
    let needs = route.needs;
    let guarded = !matches!(needs, Needs::Nothing | Needs::Proof);
    let named = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Parameter> =
        named.map(|name| parameter(name, ParameterIn::Path, place(name), true)).collect();
    parameters.extend(query.iter().cloned());
    let changes = route.method == Method::POST && guarded;
    if changes {
        let about =
            "Tells this request from another: sent again with the same key, it is done once";
        parameters.push(parameter(keyed::HEADER, ParameterIn::Header, about, false));
    }
    let mut operation = OperationBuilder::new()
        .operation_id(Some(*id))
        .summary(Some(*summary))
        .description(Some(right(needs)))
        .parameters(Some(parameters.clone()))
        .extensions(Some(ExtensionsBuilder::new().add("x-fairlead-needs", right(needs)).build()));
    if guarded {
        operation = operation
            .security(SecurityRequirement::new("bearer", Vec::<String>::new()))
            // A server of one's own machine asks nobody who they are.
            .security(SecurityRequirement::default());
    }
    if let Some((body, required)) = takes
        && let Some((kind, content)) = content(*body, schemas)
    {
        let required = if *required { Required::True } else { Required::False };
        let body = RequestBodyBuilder::new().required(Some(required)).content(kind, content);
        operation = operation.request_body(Some(body.build()));
    }
    for (status, body) in answers {
        let mut response = ResponseBuilder::new().description("It is done");
        if let Some((kind, content)) = content(*body, schemas) {
            response = response.content(kind, content);
        }
        operation = operation.response(status.to_string(), response.build());
    }
    let mut problems: Vec<(&str, &str)> = Vec::new();
    if guarded {
        problems.extend([
            ("401", "The token is missing, or not taken"),
            ("403", "The caller may not do this"),
            ("429", "The address has asked too much, or was wrong too often"),
        ]);
    }
    if !parameters.is_empty() || takes.is_some() {
        problems.push(("400", "The request is malformed"));
    }
    if route.path.contains('{') {
        problems.push(("404", "There is no such thing, as far as the caller may know"));
    }
    if changes {
        problems.extend([
            ("409", "It cannot be done now, or is being done"),
            ("422", "What is asked for cannot be done"),
        ]);
    }
    if takes.is_some() {
        problems
            .extend([("408", "The body did not come in time"), ("413", "The body is too large")]);
    }
    problems.push(("default", "Something went wrong"));
    for (status, about) in problems {
        let content = json(Form::of::<Problem>(), schemas);
        let problem =
            ResponseBuilder::new().description(about).content("application/problem+json", content);
        operation = operation.response(status, problem.build());
    }
    operation.build()
}

/// The document.
pub(crate) fn document() -> OpenApi {
    let (mut paths, mut schemas) = (PathsBuilder::new(), Schemas::new());
    for route in table() {
        let method = match route.method {
            Method::GET => HttpMethod::Get,
            Method::PUT => HttpMethod::Put,
            Method::OPTIONS => HttpMethod::Options,
            _ => HttpMethod::Post,
        };
        paths = paths.path(route.path, PathItem::new(method, operation(&route, &mut schemas)));
    }
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token that `fairlead token create` has made, or one of an issuer"));
    let about = "Runs, pipelines, events, tokens and the audit log of a Fairlead server. What went \
                 wrong is answered as a problem (RFC 9457).";
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Fairlead")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(about)),
        )
        .paths(paths)
        .components(Some(
            ComponentsBuilder::new()
                .schemas_from_iter(schemas)
                .security_scheme("bearer", SecurityScheme::Http(bearer.build()))
                .build(),
        ))
        .build()
}

/// The document as JSON, for `schemas/` and for whoever asks the server.
///
/// # Errors
/// When it has no JSON form, which would be a fault of this build.
pub fn openapi() -> Result<serde_json::Value, serde_json::Error> {
    serde_json::to_value(document())
}

/// `GET /api/openapi.json`.
pub(crate) async fn show() -> Result<impl IntoResponse, Problem> {
    let document = openapi().map_err(|error| Problem::unavailable(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document.to_string()))
}
