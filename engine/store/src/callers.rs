//! What the databases have in common about tokens and the audit log. Both know parameters as `$1`.

use fairlead_run::{AuditEntry, AuditRecord, MOST_ENTRIES, MOST_TOKENS, StoreError, StoredToken};
use jiff::Timestamp;

use crate::values::{damaged, micros, stored, timestamp};

/// What a token is read from.
macro_rules! columns {
    () => {
        "id, hash, subject, grants, speaks_for_others, created_by, created_at, expires_at, \
         revoked_at, last_used_at"
    };
}

pub(crate) type TokenRow =
    (String, String, String, String, i64, String, i64, Option<i64>, Option<i64>, Option<i64>);

pub(crate) const TOKEN_BY_HASH: &str =
    concat!("SELECT ", columns!(), " FROM token WHERE hash = $1");

pub(crate) const TOKENS: &str =
    concat!("SELECT ", columns!(), " FROM token ORDER BY number DESC LIMIT 1000");
const _: () = assert!(MOST_TOKENS == 1000);

pub(crate) const CREATE_TOKEN: &str = concat!(
    "INSERT INTO token (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING"
);

pub(crate) const REVOKE_TOKEN: &str = concat!(
    "UPDATE token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING ",
    columns!()
);

pub(crate) const REVOKED_AT: &str = "SELECT revoked_at FROM token WHERE id = $1";

pub(crate) const TOKEN_USED: &str = "UPDATE token SET last_used_at = $2 \
    WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";

pub(crate) fn token_row(token: StoredToken) -> Result<TokenRow, StoreError> {
    let grants = serde_json::to_string(&token.grants)
        .map_err(|error| damaged("the grants of a token cannot be written", error))?;
    Ok((
        token.id,
        token.hash.to_string(),
        token.subject,
        grants,
        i64::from(token.speaks_for_others),
        token.created_by,
        micros(token.created_at),
        token.expires_at.map(micros),
        token.revoked_at.map(micros),
        token.last_used_at.map(micros),
    ))
}

pub(crate) fn token(row: TokenRow) -> Result<StoredToken, StoreError> {
    let (id, hash, subject, grants, speaks, created_by, created, expires, revoked, used) = row;
    let unreadable = |error| damaged(format!("the grants of token {id} are not readable"), error);
    Ok(StoredToken {
        hash: hash.parse().map_err(|error| damaged("the hash of a token", error))?,
        subject,
        grants: serde_json::from_str(&grants).map_err(unreadable)?,
        speaks_for_others: speaks != 0,
        created_by,
        created_at: timestamp(created)?,
        expires_at: expires.map(timestamp).transpose()?,
        revoked_at: revoked.map(timestamp).transpose()?,
        last_used_at: used.map(timestamp).transpose()?,
        id,
    })
}

/// There is a token with this id or hash.
pub(crate) fn token_exists(id: &str) -> StoreError {
    let source = format!("there is a token {id}, or one with the same hash").into();
    StoreError::Unavailable { doing: "keep a token".to_owned(), source }
}

/// The last entry.
pub(crate) const AUDIT_HEAD: &str = "SELECT bytes FROM audit ORDER BY seq DESC LIMIT 1";

/// Whoever takes the place first has it.
pub(crate) const AUDIT_APPEND: &str =
    "INSERT INTO audit (seq, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING";

pub(crate) const AUDIT_READ: &str = "SELECT bytes FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2";

/// How many entries a page has.
pub(crate) fn audit_page(limit: usize) -> i64 {
    stored(limit.min(MOST_ENTRIES) as u64)
}

pub(crate) fn audit_record(bytes: &str) -> Result<AuditRecord, StoreError> {
    bytes.parse().map_err(|error| damaged("an entry of the audit log is not readable", error))
}

/// The entry behind the last one, whose bytes are these.
pub(crate) fn audit_next(
    last: Option<&str>,
    at: Timestamp,
    entry: AuditEntry,
) -> Result<AuditRecord, StoreError> {
    let last = last.map(audit_record).transpose()?;
    AuditRecord::seal(last.map(|record| (record.seq(), record.hash())), at, entry)
        .map_err(|error| damaged("an entry of the audit log cannot be written", error))
}
