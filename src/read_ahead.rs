//! Reads more of a socket than it is asked for, and holds nothing while nothing comes. The WebSocket library asks for as
//! little as 14 bytes at a time; a buffer of its own for each socket would lie empty nearly always.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at once.
const AHEAD: usize = 4 * 1024;

/// See the module.
pub struct ReadAhead<S> {
    io: S,
    /// What was read and not asked for yet; empty memory otherwise.
    rest: Vec<u8>,
    taken: usize,
}

impl<S> ReadAhead<S> {
    /// Reads `io`, after what was `early` read of it.
    pub fn new(io: S, early: Vec<u8>) -> Self {
        Self { io, rest: early, taken: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            if buf.remaining() >= AHEAD {
                return Pin::new(&mut this.io).poll_read(cx, buf);
            }
            let mut ahead = [const { MaybeUninit::uninit() }; AHEAD];
            let mut ahead = ReadBuf::uninit(&mut ahead);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut ahead))?;
            let (asked, rest) = ahead.filled().split_at(ahead.filled().len().min(buf.remaining()));
            buf.put_slice(asked);
            this.rest = rest.to_vec();
            return Poll::Ready(Ok(()));
        }
        let left = &this.rest[this.taken..];
        let asked = &left[..left.len().min(buf.remaining())];
        buf.put_slice(asked);
        this.taken += asked.len();
        if this.taken == this.rest.len() {
            (this.rest, this.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn nothing_is_lost_or_told_twice_whatever_is_asked_for() {
        let all: Vec<u8> = (0..50_000_u32).map(|at| (at % 251) as u8).collect();
        for piece in [1, 14, 1_000, AHEAD, 3 * AHEAD] {
            let (mut here, there) = duplex(6_000);
            let (early, later) = all.split_at(100);
            let mut reader = ReadAhead::new(there, early.to_vec());
            let later = later.to_vec();
            tokio::spawn(async move { here.write_all(&later).await });
            let mut heard = Vec::new();
            loop {
                let mut part = vec![0; piece];
                match reader.read(&mut part).await.unwrap() {
                    0 => break,
                    read => heard.extend_from_slice(&part[..read]),
                }
            }
            assert!(heard == all, "{piece}");
            assert_eq!(reader.rest.capacity(), 0);
        }
    }
}
