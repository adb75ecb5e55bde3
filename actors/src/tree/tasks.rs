//! The tasks of one incarnation: none outlives it, and one that has ended leaves nothing behind.

use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Ends its tasks when it is dropped. A `JoinSet` would keep each ended task until somebody asks for it, which an
/// actor that rests never does.
#[derive(Default)]
pub(super) struct Tasks(CancellationToken);

impl Tasks {
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let ended = self.0.clone().cancelled_owned();
        tokio::spawn(Mortal { ended, work }).abort_handle()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

pin_project! {
    /// Work that is not touched any more once its actor has ended. An async block would hold the work twice.
    struct Mortal<W> {
        #[pin]
        ended: WaitForCancellationFutureOwned,
        #[pin]
        work: W,
    }
}

impl<W: Future<Output = ()>> Future for Mortal<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        match this.ended.poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => this.work.poll(cx),
        }
    }
}
