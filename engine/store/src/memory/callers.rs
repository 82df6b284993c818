//! [`TokenStore`] and [`AuditLog`] in memory.

use fairlead_run::{
    AuditEntry, AuditLog, AuditRecord, MOST_ENTRIES, MOST_TOKENS, RecordHash, Revoked, Seq,
    StoreError, StoredToken, TokenStore,
};
use fairlead_step::{BoxFuture, Digest};
use jiff::Timestamp;

use super::{Memory, ready};
use crate::callers::token_exists;
use crate::values::damaged;

impl TokenStore for Memory {
    fn create(&self, token: StoredToken) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = self.state();
        if state.tokens.iter().any(|it| it.id == token.id || it.hash == token.hash) {
            return ready(Err(token_exists(&token.id)));
        }
        state.tokens.push(token);
        ready(Ok(()))
    }

    fn by_hash<'a>(
        &'a self,
        hash: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<StoredToken>, StoreError>> {
        ready(Ok(self.state().tokens.iter().find(|token| token.hash == *hash).cloned()))
    }

    fn tokens(&self) -> BoxFuture<'_, Result<Vec<StoredToken>, StoreError>> {
        ready(Ok(self.state().tokens.iter().rev().take(MOST_TOKENS).cloned().collect()))
    }

    fn revoke<'a>(
        &'a self,
        id: &'a str,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Revoked, StoreError>> {
        let mut state = self.state();
        let found = state.tokens.iter_mut().find(|token| token.id == id);
        ready(Ok(match found {
            None => Revoked::Unknown,
            Some(token) => match token.revoked_at {
                Some(before) => Revoked::Before(before),
                None => {
                    token.revoked_at = Some(at);
                    Revoked::Now(Box::new(token.clone()))
                }
            },
        }))
    }

    fn used<'a>(&'a self, id: &'a str, at: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut state = self.state();
        if let Some(token) = state.tokens.iter_mut().find(|token| token.id == id) {
            token.last_used_at = token.last_used_at.max(Some(at));
        }
        ready(Ok(()))
    }
}

impl AuditLog for Memory {
    fn append(
        &self,
        at: Timestamp,
        entry: AuditEntry,
    ) -> BoxFuture<'_, Result<AuditRecord, StoreError>> {
        let mut state = self.state();
        let last = state.audit.last().map(|record| (record.seq(), record.hash()));
        let sealed = AuditRecord::seal(last, at, entry)
            .map_err(|error| damaged("an entry of the audit log cannot be written", error));
        ready(sealed.inspect(|record| state.audit.push(record.clone())))
    }

    fn read(
        &self,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<AuditRecord>, StoreError>> {
        let state = self.state();
        let behind = state.audit.iter().filter(|record| record.seq() > after);
        ready(Ok(behind.take(limit.min(MOST_ENTRIES)).cloned().collect()))
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Seq, RecordHash)>, StoreError>> {
        ready(Ok(self.state().audit.last().map(|record| (record.seq(), record.hash()))))
    }
}
