//! Documents in memory, bounded by their bytes; what was not asked for longest goes first.

use std::collections::HashMap;

use coffer_verify_api::CollateralKey;

use crate::kept::Kept;

pub(crate) struct Memory {
    kept: HashMap<CollateralKey, (u64, Kept)>,
    bytes: usize,
    limit: usize,
    asked: u64,
}

impl Memory {
    pub(crate) fn new(limit: usize) -> Self {
        Self { kept: HashMap::new(), bytes: 0, limit, asked: 0 }
    }

    pub(crate) fn get(&mut self, key: &CollateralKey) -> Option<Kept> {
        self.asked = self.asked.saturating_add(1);
        let (asked, kept) = self.kept.get_mut(key)?;
        *asked = self.asked;
        Some(kept.clone())
    }

    pub(crate) fn put(&mut self, kept: Kept) {
        self.asked = self.asked.saturating_add(1);
        self.remove(&kept.about.key);
        self.bytes = self.bytes.saturating_add(kept.weight());
        self.kept.insert(kept.about.key.clone(), (self.asked, kept));
        while self.bytes > self.limit {
            let oldest = self.kept.iter().min_by_key(|(_, (asked, _))| *asked).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
    }

    pub(crate) fn remove(&mut self, key: &CollateralKey) {
        if let Some((_, kept)) = self.kept.remove(key) {
            self.bytes = self.bytes.saturating_sub(kept.weight());
        }
    }

    pub(crate) fn manifests(&self) -> Vec<Kept> {
        let manifests =
            self.kept.values().filter(|(_, kept)| matches!(kept.about.key, CollateralKey::NvidiaRim(_)));
        manifests.map(|(_, kept)| kept.clone()).collect()
    }
}
