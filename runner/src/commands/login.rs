//! `fairlead login`, `logout` and `whoami`: who to be at a server.

use std::io::Read as _;
use std::process::Stdio;

use serde::Deserialize;
use serde_json::Value;

use super::Context;
use crate::cli::LoginArgs;
use crate::client::{Client, Credentials, Failed, Issuer, Kept, Session};
use crate::exit::{Exit, Stop};
use crate::output::{Output, Style, tame};

/// The most bytes of a token on standard input.
const MAX_TOKEN: u64 = 64 << 10;

/// What is said to whoever names no server.
pub(crate) fn no_server() -> Stop {
    Stop::usage("no server is named")
        .hint("`--server URL`, FAIRLEAD_SERVER, or `--profile NAME` names one")
}

#[derive(Deserialize)]
struct Logins {
    issuers: Vec<Issuer>,
}

pub(crate) async fn login(
    context: &Context<'_>,
    client: &Client,
    args: LoginArgs,
) -> Result<Exit, Stop> {
    let output = context.output;
    let kept = if args.with_token {
        let mut token = String::new();
        let read = std::io::stdin().take(MAX_TOKEN).read_to_string(&mut token);
        read.map_err(|e| Stop::usage("cannot read a token from standard input").because(&e))?;
        let token = token.trim().to_owned();
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(Stop::usage("there is no token on standard input"));
        }
        Kept::Token(token)
    } else {
        let issuer = issuer(client, args.issuer.as_deref()).await?;
        let clock = &*context.settings.clock;
        let session = Session::open(client.http(), clock, issuer).await?;
        Kept::Login(match args.device {
            true => {
                let tell = |place: &str, code: &str| {
                    output.say(format!("open {} and type", tame(place)));
                    output.say(format!("  {}", output.paint(Style::Bold, tame(code))));
                };
                session.on_device(tell).await?
            }
            false => {
                let tell = |address: &str| {
                    output.say("open this address in a browser on this machine:");
                    output.say(address);
                    if !args.no_browser {
                        open(address);
                    }
                };
                session.in_browser(tell).await?
            }
        })
    };
    // What the server does not take is not kept.
    let shown = client.showing(&kept);
    let who = shown.get("/api/v1/whoami").await.map_err(|error| {
        let stop = error.stop();
        Stop { message: format!("the server does not take the login: {}", stop.message), ..stop }
    })?;
    let credentials = credentials(client)?;
    credentials.keep(client.base(), Some(shown.shown(kept).await))?;
    output.say(format!("logged in at {} as {}", client.base(), name(&who)));
    output.say(format!("it is kept in {}", credentials.path().display()));
    Ok(Exit::Passed)
}

pub(crate) fn logout(context: &Context<'_>, client: &Client) -> Result<Exit, Stop> {
    let before = credentials(client)?.keep(client.base(), None)?;
    context.output.say(match before {
        Some(_) => format!("nothing is kept for {} any more", client.base()),
        None => format!("nothing was kept for {}", client.base()),
    });
    Ok(Exit::Passed)
}

pub(crate) async fn whoami(
    context: &Context<'_>,
    client: &Client,
    json: bool,
) -> Result<Exit, Stop> {
    let who = client.get("/api/v1/whoami").await.map_err(Failed::stop)?;
    if json {
        context.output.json(&who)?;
    } else {
        tell(context.output, client.base(), &who);
    }
    Ok(Exit::Passed)
}

fn tell(output: &Output, base: &str, who: &Value) {
    let text = |value: &Value| tame(value.as_str().unwrap_or("?")).into_owned();
    let line = |name: &str, value: String| output.data(format!("{name:<8} {value}"));
    line("server", base.to_owned());
    line("subject", text(&who["subject"]));
    line("via", text(&who["via"]));
    let groups: Vec<String> = who["groups"].as_array().into_iter().flatten().map(text).collect();
    if !groups.is_empty() {
        line("groups", groups.join(", "));
    }
    let grants = who["grants"].as_array().map(Vec::as_slice).unwrap_or_default();
    if grants.is_empty() {
        line("may", "nothing: no role is given to this subject".to_owned());
    }
    for grant in grants {
        let project = match grant["project"].as_str() {
            Some("*") | None => "in all projects".to_owned(),
            Some(project) => format!("in `{}`", tame(project)),
        };
        let pipelines: Vec<String> =
            grant["pipelines"].as_array().into_iter().flatten().map(text).collect();
        let only = match pipelines.as_slice() {
            [] => String::new(),
            some => format!(", for pipelines {}", some.join(", ")),
        };
        line("role", format!("{} {project}{only}", text(&grant["role"])));
    }
    if who["speaks_for_others"] == true {
        line("votes", "also in the names of others".to_owned());
    }
}

fn name(who: &Value) -> String {
    tame(who["subject"].as_str().unwrap_or("?")).into_owned()
}

fn credentials(client: &Client) -> Result<Credentials, Stop> {
    client.credentials().cloned().ok_or_else(|| {
        Stop::usage("there is no folder to keep a login in").hint("set HOME or XDG_CONFIG_HOME")
    })
}

/// Where people log in for this server.
async fn issuer(client: &Client, wanted: Option<&str>) -> Result<Issuer, Stop> {
    let answer = client.get("/api/v1/login").await.map_err(Failed::stop)?;
    let logins: Logins = serde_json::from_value(answer)
        .map_err(|e| Stop::failed("the server does not say where to log in").because(&e))?;
    let names: Vec<String> =
        logins.issuers.iter().map(|it| format!("`{}`", tame(&it.name))).collect();
    let mut found = logins.issuers.into_iter();
    let found: Vec<Issuer> = match wanted {
        Some(wanted) => found.by_ref().filter(|it| it.name == wanted).collect(),
        None => found.collect(),
    };
    match (<[Issuer; 1]>::try_from(found), wanted) {
        (Ok([only]), _) => Ok(only),
        (Err(_), Some(wanted)) => {
            Err(Stop::usage(format!("nobody logs in at an issuer `{wanted}` there"))
                .hint(format!("the server knows {}", names.join(", "))))
        }
        (Err(none), None) if none.is_empty() => {
            Err(Stop::usage("the server has no issuer at which people log in").hint(
                "`fairlead token create` makes a token there, and `fairlead login --with-token` keeps it; \
                 or name `login` of an issuer in the server's configuration",
            ))
        }
        (Err(_), None) => Err(Stop::usage("the server knows several issuers")
            .hint(format!("`--issuer NAME` names one of {}", names.join(", ")))),
    }
}

/// Opens a browser, where there is one; whoever has none has the address.
fn open(address: &str) {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is a person's own browser, not a step's program"
    )]
    let mut command = std::process::Command::new("xdg-open");
    let quiet = command.arg(address).stdin(Stdio::null()).stdout(Stdio::null());
    let started = quiet.stderr(Stdio::null()).spawn();
    if let Err(error) = started {
        tracing::debug!("no browser is opened: {error}");
    }
}
