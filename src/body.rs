//! Bodies of plain requests, read whole up to a limit.

use bytes::{Buf, BytesMut};
use futures_util::{Stream, StreamExt};
use std::pin::pin;

/// The whole body; `None` if it is larger than `most` bytes, or its client went away.
pub async fn read<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>>, most: usize) -> Option<BytesMut> {
    let (mut body, mut whole) = (pin!(body), BytesMut::new());
    while let Some(piece) = body.next().await {
        let mut piece = piece.ok()?;
        if whole.len() + piece.remaining() > most {
            return None;
        }
        while piece.has_remaining() {
            whole.extend_from_slice(piece.chunk());
            piece.advance(piece.chunk().len());
        }
    }
    Some(whole)
}
