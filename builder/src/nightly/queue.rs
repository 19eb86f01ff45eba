//! Who runs when: as many at once as there are workers and memory for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Work that waits, each piece with the memory that it takes.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What waits: its number, and the memory that it takes.
    waiting: Vec<(usize, u64)>,
    free: u64,
    running: usize,
}

impl Queue {
    /// A queue of pieces that take so much memory each, numbered from 0, where `free` is there for all.
    pub(super) fn new(needs: impl IntoIterator<Item = u64>, free: u64) -> Self {
        let waiting = needs.into_iter().enumerate().collect();
        Self { state: Mutex::new(State { waiting, free, running: 0 }), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first piece that there is memory for, as soon as there is one; `None` where nothing waits. What takes more than there
    /// is runs alone.
    pub(super) fn take(&self) -> Option<Taken<'_>> {
        let mut state = self.state();
        loop {
            if state.waiting.is_empty() {
                return None;
            }
            let fits = state.waiting.iter().position(|(_, needs)| *needs <= state.free);
            if let Some(at) = fits.or((state.running == 0).then_some(0)) {
                let (number, needs) = state.waiting.remove(at);
                let memory = needs.min(state.free);
                state.free -= memory;
                state.running += 1;
                return Some(Taken { queue: self, number, memory });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A piece of work that was taken; its memory is free again when it goes out of scope.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    queue: &'a Queue,
    /// Its number.
    pub(super) number: usize,
    memory: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.free += self.memory;
        state.running -= 1;
        self.queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn what_there_is_memory_for_goes_first() {
        let queue = Queue::new([10, 3, 4, 50], 8);
        let first = queue.take().unwrap();
        assert_eq!(first.number, 1);
        let second = queue.take().unwrap();
        assert_eq!(second.number, 2);
        drop((first, second));
        let alone = queue.take().unwrap();
        assert_eq!(alone.number, 0, "it takes more than there is, and runs alone");
        drop(alone);
        assert_eq!(queue.take().unwrap().number, 3);
        assert!(queue.take().is_none());
    }

    #[test]
    fn never_more_at_once_than_fit_and_all_are_done() {
        let queue = Queue::new((0..200).map(|number| 1 + number % 7), 9);
        let (used, done) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while let Some(taken) = queue.take() {
                        let now = used.fetch_add(taken.memory, Ordering::SeqCst) + taken.memory;
                        assert!(now <= 9, "{now}");
                        std::thread::yield_now();
                        used.fetch_sub(taken.memory, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 200);
    }
}
