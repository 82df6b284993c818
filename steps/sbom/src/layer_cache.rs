//! What layers said, kept for the next image that has them: most images of a registry stand on a few
//! bases.
//!
//! It is kept in memory, by the process that read it, under the registry and the layer's digest. A
//! digest says what the bytes are, and the registry is a part of the name so that no other registry
//! can ask for a layer that it never had. The catalogers are those of this very program, so their
//! version need not be in the name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fairlead_step::Digest;

use crate::layer::Scan;

/// The most bytes of memory that are kept.
const MOST: usize = 48 << 20;

/// One layer as the bottom of an image or above others, for which more of it must be known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) registry: Box<str>,
    pub(crate) layer: Digest,
    pub(crate) bottom: bool,
}

/// What layers said.
#[derive(Debug, Clone, Default)]
pub(crate) struct LayerCache(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Each with the time when it was asked for last, which is a count.
    scans: BTreeMap<Key, (u64, Arc<Scan>)>,
    count: u64,
    weight: usize,
}

impl LayerCache {
    /// What the layer said, when it is known.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Scan>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        let now = kept.count;
        let (asked, scan) = kept.scans.get_mut(key)?;
        *asked = now;
        Some(Arc::clone(scan))
    }

    /// Keeps what a layer said, and lets go of what nobody asked for the longest.
    pub(crate) fn put(&self, key: Key, scan: &Scan) {
        let weight = scan.weight();
        if weight > MOST {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        let now = kept.count;
        kept.weight += weight;
        if let Some((_, before)) = kept.scans.insert(key, (now, Arc::new(scan.clone()))) {
            kept.weight -= before.weight();
        }
        while kept.weight > MOST {
            let oldest = kept.scans.iter().min_by_key(|(_, (asked, _))| *asked);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            if let Some((_, gone)) = kept.scans.remove(&oldest) {
                kept.weight -= gone.weight();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflate::Packing;
    use crate::laid_tests::{E, archive};
    use crate::layer::{Request, scan};
    use crate::limits::Limits;

    #[test]
    fn what_nobody_asks_for_is_let_go() {
        let text = format!(r#"{{"name": "{}", "version": "1"}}"#, "n".repeat(4 << 20));
        let bytes = archive(&[E::File("a/package.json", &text)]);
        let scan = scan(&*bytes, Packing::Plain, &Request::default(), &Limits::default()).unwrap();
        let key = |at: u8| Key {
            registry: "registry.example".into(),
            layer: Digest::sha256(&[at]),
            bottom: true,
        };
        let cache = LayerCache::default();
        for at in 0..20 {
            cache.put(key(at), &scan);
            assert!(cache.get(&key(0)).is_some(), "{at}: what is asked for stays");
        }
        assert!(cache.get(&key(1)).is_none() && cache.get(&key(19)).is_some());
        assert!(cache.get(&Key { bottom: false, ..key(0) }).is_none());
        assert!(cache.get(&Key { registry: "other.example".into(), ..key(0) }).is_none());
    }
}
