//! A queue of tasks for threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Tasks that are due, and tasks that will be. What bounds them is said where they are made.
pub(crate) struct Lane<T> {
    tasks: Mutex<Tasks<T>>,
    ready: Condvar,
}

struct Tasks<T> {
    due: VecDeque<T>,
    /// By when they are due, then in the order in which they came.
    later: BTreeMap<(Instant, u64), T>,
    count: u64,
    is_closed: bool,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        let tasks = Tasks {
            due: VecDeque::new(),
            later: BTreeMap::new(),
            count: 0,
            is_closed: false,
        };
        Self {
            tasks: Mutex::new(tasks),
            ready: Condvar::new(),
        }
    }
}

impl<T> Lane<T> {
    /// Adds a task.
    pub(crate) fn push(&self, task: T) {
        self.tasks().due.push_back(task);
        self.ready.notify_one();
    }

    /// Adds a task unless `limit` wait already; gives it back then.
    pub(crate) fn push_bounded(&self, task: T, limit: usize) -> Result<(), T> {
        let mut tasks = self.tasks();
        if tasks.due.len() >= limit {
            return Err(task);
        }
        tasks.due.push_back(task);
        drop(tasks);
        self.ready.notify_one();
        Ok(())
    }

    /// Adds a task that is due later.
    pub(crate) fn push_at(&self, when: Instant, task: T) {
        let mut tasks = self.tasks();
        tasks.count += 1;
        let key = (when, tasks.count);
        tasks.later.insert(key, task);
        drop(tasks);
        self.ready.notify_one();
    }

    /// Waits for the next task; `None` if the lane is closed.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut tasks = self.tasks();
        loop {
            if tasks.is_closed {
                return None;
            }
            let now = Instant::now();
            if let Some(task) = tasks.take(now) {
                return Some(task);
            }
            tasks = match tasks.later.keys().next().map(|(when, _)| *when) {
                None => self
                    .ready
                    .wait(tasks)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(when) => {
                    let wait = when.saturating_duration_since(now);
                    self.ready
                        .wait_timeout(tasks, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    #[cfg(test)]
    /// The next task that is due at `now`, without waiting.
    pub(crate) fn try_pop(&self, now: Instant) -> Option<T> {
        self.tasks().take(now)
    }

    /// Lets go of all tasks and threads.
    pub(crate) fn close(&self) {
        let mut tasks = self.tasks();
        tasks.is_closed = true;
        tasks.due.clear();
        tasks.later.clear();
        drop(tasks);
        self.ready.notify_all();
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks<T>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Tasks<T> {
    fn take(&mut self, now: Instant) -> Option<T> {
        while let Some(first) = self
            .later
            .first_entry()
            .filter(|first| first.key().0 <= now)
        {
            self.due.push_back(first.remove());
        }
        self.due.pop_front()
    }
}
