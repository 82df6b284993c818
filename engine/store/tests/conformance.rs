//! Both stores keep what the ports promise.

use std::sync::Arc;

use fairlead_run::conformance::{
    event_store_conformance, journal_conformance, log_store_conformance,
};
use fairlead_run::{EventStore, Journal, LogStore};
use fairlead_store::Store;
use tempfile::TempDir;

/// A store in a new folder. The folder is left to the returned guard.
async fn on_disk(folders: &std::sync::Mutex<Vec<TempDir>>) -> Store {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a store");
    folders.lock().expect("nobody panicked").push(folder);
    store
}

#[tokio::test]
async fn the_journal_in_memory() {
    journal_conformance(async || Store::memory().journal()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_in_sqlite() {
    let folders = std::sync::Mutex::default();
    journal_conformance(async || on_disk(&folders).await.journal()).await;
}

fn sides(store: &Store) -> (Arc<dyn EventStore>, Arc<dyn Journal>) {
    (store.events(), store.journal())
}

#[tokio::test]
async fn the_events_in_memory() {
    event_store_conformance(async || sides(&Store::memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_in_sqlite() {
    let folders = std::sync::Mutex::default();
    event_store_conformance(async || sides(&on_disk(&folders).await)).await;
}

#[tokio::test]
async fn the_logs_in_memory() {
    log_store_conformance(async || -> Arc<dyn LogStore> { Store::memory().logs() }).await;
}

#[tokio::test]
async fn the_logs_in_files() {
    let folders = std::sync::Mutex::default();
    log_store_conformance(async || on_disk(&folders).await.logs()).await;
}
