//! Lanes: how many turns ask a model at the same time, over all sessions (`agents.defaults.maxConcurrent`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Permits for turns. Part of the Estate.
pub struct Lanes {
    most: AtomicUsize,
    free: Arc<Semaphore>,
}

impl Lanes {
    /// So many, all of them free.
    pub fn new(most: usize) -> Self {
        Self { most: AtomicUsize::new(most), free: Arc::new(Semaphore::new(most)) }
    }

    /// There are so many from now on. Whoever has one keeps it: there are fewer as soon as enough were given back.
    pub fn resize(&self, most: usize) {
        let before = self.most.swap(most, Relaxed);
        if let Some(more) = most.checked_sub(before) {
            return self.free.add_permits(more);
        }
        let (free, fewer) = (self.free.clone(), u32::try_from(before - most).unwrap_or(u32::MAX));
        tokio::spawn(async move {
            if let Ok(given_back) = free.acquire_many_owned(fewer).await {
                given_back.forget();
            }
        });
    }

    /// How many there are.
    pub fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.most().saturating_sub(self.free.available_permits())
    }

    /// Waits for a free one.
    pub(crate) async fn take(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.free.clone().acquire_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn more_are_there_at_once_and_fewer_when_enough_were_given_back() {
        let lanes = Lanes::new(2);
        let (first, _second) = (lanes.take().await.unwrap(), lanes.take().await.unwrap());
        let later = |lanes: Arc<Lanes>| tokio::spawn(async move { lanes.take().await });
        let lanes = Arc::new(lanes);
        let waits = later(lanes.clone());
        lanes.resize(3);
        let third = waits.await.unwrap().unwrap();
        assert_eq!((lanes.most(), lanes.taken()), (3, 3));

        lanes.resize(1);
        let waits = later(lanes.clone());
        drop((first, third));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waits.is_finished(), "the one lane that is left is taken");
        assert_eq!((lanes.most(), lanes.taken()), (1, 1));
    }
}
