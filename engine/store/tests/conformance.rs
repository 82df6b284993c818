//! Every store keeps what the ports promise.

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod server;

use std::sync::Arc;

use fairlead_run::conformance::{
    audit_log_conformance, delivery_store_conformance, event_store_conformance,
    idempotency_conformance, journal_conformance, log_store_conformance, reopened_conformance,
    result_cache_conformance, token_store_conformance,
};
use fairlead_run::{
    DeliveryStore, EventStore, IdempotencyStore, Journal, LogStore, ResultCache, TokenStore,
};
use fairlead_store::Store;
use server::Schema;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Stores, one after another, and where they are. Each is left to its guard.
#[derive(Default)]
struct Stores {
    folders: Mutex<Vec<TempDir>>,
    schemas: Mutex<Vec<Schema>>,
}

impl Stores {
    async fn folder(&self) -> std::path::PathBuf {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_owned();
        self.folders.lock().await.push(folder);
        path
    }

    async fn on_disk(&self) -> Store {
        Store::open(&self.folder().await).await.expect("a store")
    }

    async fn in_postgres(&self, schema: Schema) -> Store {
        let store = Store::connect(&schema.url, &self.folder().await).await.expect("a store");
        self.schemas.lock().await.push(schema);
        store
    }
}

/// Runs a suite against Postgres, where there is a server.
macro_rules! in_postgres {
    ($suite:ident, $port:expr) => {{
        if Schema::new().await.is_none() {
            return;
        }
        let stores = Stores::default();
        $suite(async || {
            let schema = Schema::new().await.expect("the server was there");
            let port: fn(Store) -> _ = $port;
            port(stores.in_postgres(schema).await)
        })
        .await;
    }};
}

fn journal(store: Store) -> Arc<dyn Journal> {
    store.journal()
}

#[tokio::test]
async fn the_journal_in_memory() {
    journal_conformance(async || journal(Store::memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_in_sqlite() {
    let stores = Stores::default();
    journal_conformance(async || journal(stores.on_disk().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_in_postgres() {
    in_postgres!(journal_conformance, journal);
}

fn sides(store: Store) -> (Arc<dyn EventStore>, Arc<dyn Journal>) {
    (store.events(), store.journal())
}

#[tokio::test]
async fn the_events_in_memory() {
    event_store_conformance(async || sides(Store::memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_in_sqlite() {
    let stores = Stores::default();
    event_store_conformance(async || sides(stores.on_disk().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_in_postgres() {
    in_postgres!(event_store_conformance, sides);
}

fn messages(store: Store) -> Arc<dyn DeliveryStore> {
    store.deliveries()
}

#[tokio::test]
async fn the_messages_in_memory() {
    delivery_store_conformance(async || messages(Store::memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_messages_in_sqlite() {
    let stores = Stores::default();
    delivery_store_conformance(async || messages(stores.on_disk().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_messages_in_postgres() {
    in_postgres!(delivery_store_conformance, messages);
}

fn result_cache(store: Store) -> Arc<dyn ResultCache> {
    store.result_cache()
}

#[tokio::test]
async fn the_results_in_memory() {
    result_cache_conformance(async || result_cache(Store::memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_results_in_sqlite() {
    let stores = Stores::default();
    result_cache_conformance(async || result_cache(stores.on_disk().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_results_in_postgres() {
    in_postgres!(result_cache_conformance, result_cache);
}

fn tokens(store: Store) -> Arc<dyn TokenStore> {
    store.tokens()
}

#[tokio::test]
async fn the_tokens_in_memory() {
    token_store_conformance(async || tokens(Store::memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tokens_in_sqlite() {
    let stores = Stores::default();
    token_store_conformance(async || tokens(stores.on_disk().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tokens_in_postgres() {
    in_postgres!(token_store_conformance, tokens);
}

#[tokio::test]
async fn the_audit_log_in_memory() {
    audit_log_conformance(async || {
        let store = Store::memory();
        (store.audit(), store.audit())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    audit_log_conformance(async || {
        let one = Store::open(folder.path()).await.expect("a store");
        let other = Store::open(folder.path()).await.expect("a store");
        (one.audit(), other.audit())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_in_postgres() {
    let Some(schema) = Schema::new().await else { return };
    let folder = tempfile::tempdir().unwrap();
    audit_log_conformance(async || {
        let one = Store::connect(&schema.url, folder.path()).await.expect("a store");
        let other = Store::connect(&schema.url, folder.path()).await.expect("a store");
        (one.audit(), other.audit())
    })
    .await;
}

fn keyed(store: Store) -> Arc<dyn IdempotencyStore> {
    store.keyed_requests()
}

#[tokio::test]
async fn the_keyed_requests_in_memory() {
    idempotency_conformance(async || keyed(Store::memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyed_requests_in_sqlite() {
    let stores = Stores::default();
    idempotency_conformance(async || keyed(stores.on_disk().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyed_requests_in_postgres() {
    in_postgres!(idempotency_conformance, keyed);
}

fn logs(store: Store) -> Arc<dyn LogStore> {
    // As many bytes as they have by default would take their time.
    store.limit_logs(4 << 20);
    store.logs()
}

#[tokio::test]
async fn the_logs_in_memory() {
    log_store_conformance(async || logs(Store::memory())).await;
}

#[tokio::test]
async fn the_logs_in_files() {
    let stores = Stores::default();
    log_store_conformance(async || logs(stores.on_disk().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_logs_in_postgres() {
    in_postgres!(log_store_conformance, logs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_finds_again_what_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    reopened_conformance(async || {
        let store = Store::open(folder.path()).await.expect("a store");
        (store.journal(), store.result_cache())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_finds_again_what_it_kept() {
    let Some(schema) = Schema::new().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let before: Mutex<Option<Store>> = Mutex::default();
    reopened_conformance(async || {
        // Closing gives back the leases, which would otherwise last a while.
        if let Some(before) = before.lock().await.take() {
            before.close().await;
        }
        let store = Store::connect(&schema.url, folder.path()).await.expect("a store");
        *before.lock().await = Some(store.clone());
        (store.journal(), store.result_cache())
    })
    .await;
}
