//! `fairlead token`: who may use the API of a server that uses this store.

use fairlead_run::{AuditAction, Grant, Revoked, StoredToken, new_token, token_hash};
use fairlead_step::Globs;
use fairlead_store::Store;
use serde_json::{Map, json};

use super::{Context, audit, drive};
use crate::cli::{TokenCommand, TokenCreateArgs};
use crate::exit::{Exit, Stop};
use crate::output::{Style, tame};

pub(crate) async fn token(context: &Context<'_>, command: TokenCommand) -> Result<Exit, Stop> {
    let store = context.store().await?;
    match command {
        TokenCommand::Create(args) => create(context, &store, args).await?,
        TokenCommand::List { json } => list(context, &store, json).await?,
        TokenCommand::Revoke { id } => revoke(context, &store, &id).await?,
    }
    store.close().await;
    Ok(Exit::Passed)
}

async fn create(context: &Context<'_>, store: &Store, args: TokenCreateArgs) -> Result<(), Stop> {
    let pipelines: Globs = match args.pipelines.as_slice() {
        [] => Globs::default(),
        patterns => serde_json::from_value(json!(patterns))
            .map_err(|e| Stop::usage("`--pipeline` is no pattern").because(&e))?,
    };
    let grants = args.roles.into_iter();
    let grants: Vec<Grant> =
        grants.map(|grant| Grant { pipelines: pipelines.clone(), ..grant }).collect();
    let secret = new_token(rand::random());
    let hash = token_hash(secret.expose());
    let hash = hash.ok_or_else(|| Stop::internal("no token came out"))?;
    let now = context.settings.clock.now();
    let token = StoredToken {
        id: format!("tok_{:016x}", rand::random::<u64>()),
        hash,
        subject: args.subject,
        grants,
        speaks_for_others: args.for_others,
        created_by: drive::person(),
        created_at: now,
        expires_at: (!args.never_expires).then(|| args.expires.after(now)),
        revoked_at: None,
        last_used_at: None,
    };
    token.check().map_err(|e| Stop::usage(e.to_string()))?;
    audit::record(context, store, AuditAction::TokenCreate, &token.id, None, token.told()).await?;
    store.tokens().create(token.clone()).await.map_err(|e| Stop::of(&e))?;
    let output = context.output;
    if args.json {
        let expires_at = token.expires_at;
        return output.json(&json!({
            "token": secret.expose(), "id": token.id, "expires_at": expires_at,
        }));
    }
    let until = token.expires_at.map_or("it is revoked".to_owned(), |at| at.to_string());
    output.say(format!("token {} for `{}` is good until {until}", token.id, token.subject));
    output.say("it is shown this once, and kept nowhere:");
    output.data(secret.expose());
    Ok(())
}

async fn list(context: &Context<'_>, store: &Store, json: bool) -> Result<(), Stop> {
    let tokens = store.tokens().tokens().await.map_err(|e| Stop::of(&e))?;
    let output = context.output;
    if json {
        return output.json(&tokens);
    }
    if tokens.is_empty() {
        output.say("there are no tokens");
        return Ok(());
    }
    let now = context.settings.clock.now();
    output.data(format!("{:<20}  {:<8}  {:<20}  {:<20}  {}", "ID", "STATE", "ENDS", "USED", "WHO"));
    for token in tokens {
        let (style, state) = match (token.revoked_at, token.is_good(now)) {
            (Some(_), _) => (Style::Bad, "revoked"),
            (None, false) => (Style::Warn, "over"),
            (None, true) => (Style::Good, "good"),
        };
        let state = output.paint(style, format!("{state:<8}"));
        let time = |at: Option<jiff::Timestamp>| match at {
            Some(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            None => "-".to_owned(),
        };
        let (ends, used) = (time(token.expires_at), time(token.last_used_at));
        let grants: Vec<String> = token.grants.iter().map(ToString::to_string).collect();
        let others = if token.speaks_for_others { ", speaks for others" } else { "" };
        let who = format!("{} ({}{others})", tame(&token.subject), grants.join(", "));
        output.data(format!("{:<20}  {state}  {ends:<20}  {used:<20}  {who}", token.id));
    }
    Ok(())
}

async fn revoke(context: &Context<'_>, store: &Store, id: &str) -> Result<(), Stop> {
    audit::record(context, store, AuditAction::TokenRevoke, id, None, Map::new()).await?;
    let now = context.settings.clock.now();
    match store.tokens().revoke(id, now).await.map_err(|e| Stop::of(&e))? {
        Revoked::Now(token) => {
            context.output.say(format!("token {id} of `{}` is revoked", tame(&token.subject)));
            Ok(())
        }
        Revoked::Before(at) => {
            context.output.say(format!("token {id} was revoked at {at}"));
            Ok(())
        }
        Revoked::Unknown => Err(Stop::usage(format!("there is no token `{}`", tame(id)))
            .hint("`fairlead token list` shows them; a token itself is no id")),
    }
}
