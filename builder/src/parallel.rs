//! Work on all CPUs.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::error::{Error, Result};

/// Has `work` done on each of `items`, on all CPUs, until one fails.
///
/// # Errors
/// What `work` says of the first of `items` that failed.
pub(crate) fn each<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    map(items, work).map(drop)
}

/// What `work` makes of each of `items`, in their order, on all CPUs.
///
/// # Errors
/// What `work` says of the first of `items` that failed; the rest may not have been looked at.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(items.len());
    let next = AtomicUsize::new(0);
    let one = || -> Vec<(usize, Result<R>)> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            let made = work(item);
            if made.is_err() {
                // Nobody begins with another one.
                next.fetch_max(items.len(), Ordering::Relaxed);
            }
            done.push((index, made));
        }
    };
    let mut done = match threads {
        0 | 1 => one(),
        _ => thread::scope(|scope| -> Result<Vec<_>> {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            let mut done = Vec::new();
            for thread in running {
                let panicked = |_| Error::new("a part of the work ended in a panic of the builder");
                done.extend(thread.join().map_err(panicked)?);
            }
            Ok(done)
        })?,
    };
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, made)| made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_keeps_its_order() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(
            map(&items, |item| Ok(item * 2)).unwrap(),
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
        assert!(map(&[] as &[u32], |item| Ok(*item)).unwrap().is_empty());
    }

    #[test]
    fn the_first_that_fails_is_told() {
        let items: Vec<u32> = (0..1000).collect();
        let fails = |item: &u32| if item % 100 == 50 { Err(Error::new(item.to_string())) } else { Ok(()) };
        // All before the first one have been begun by then, so none of the others is told in its place.
        for _ in 0..20 {
            assert_eq!(each(&items, fails).unwrap_err().what(), "50");
        }
    }
}
