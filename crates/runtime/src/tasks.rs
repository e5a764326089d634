//! Concurrency: tasks, and work that blocks.

use futures_util::future::BoxFuture;

/// Starts tasks.
pub trait Tasks: Send + Sync {
    /// Runs `task` until it ends or the process does. `name` is shown in
    /// `/debug` and in traces.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);

    /// Runs `work`, which may block on a disk, where it holds nobody up.
    /// Prefer [`TasksExt::blocking`].
    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;

    /// Says that a point of a protocol is passed, between what comes before it
    /// and what comes after it. The simulation cuts a machine's power here;
    /// elsewhere nothing happens.
    fn pass(&self, _point: &'static str) {}
}

/// Conveniences over [`Tasks`].
pub trait TasksExt {
    /// Runs `work`, which may block on a disk, and returns its result; `None`
    /// when the process is ending and the work was not done.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send;
}

impl TasksExt for dyn Tasks + '_ {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.run_blocking(Box::new(move || {
            // The waiter may have gone away; the work was done all the same.
            let _ = sender.send(work());
        }))
        .await;
        receiver.await.ok()
    }
}
