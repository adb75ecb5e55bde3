//! Reads more of a socket than it is asked for, and holds nothing while nothing comes. The WebSocket library asks for as
//! little as 14 bytes at a time; a buffer of its own for each socket would lie empty nearly always.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that are read at once.
const AHEAD: usize = 4 * 1024;

/// What was read ahead of one socket.
pub struct ReadAhead {
    /// What was not asked for yet; no memory at all if there is nothing.
    rest: Vec<u8>,
    taken: usize,
}

impl ReadAhead {
    /// Goes on after what was `early` read.
    pub fn new(early: Vec<u8>) -> Self {
        Self { rest: early, taken: 0 }
    }

    /// Reads what was read ahead, else `io`.
    pub fn poll_read(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            if buf.remaining() >= AHEAD {
                return Pin::new(io).poll_read(cx, buf);
            }
            let mut ahead = [const { MaybeUninit::uninit() }; AHEAD];
            let mut ahead = ReadBuf::uninit(&mut ahead);
            ready!(Pin::new(io).poll_read(cx, &mut ahead))?;
            let (asked, rest) = ahead.filled().split_at(ahead.filled().len().min(buf.remaining()));
            buf.put_slice(asked);
            self.rest = rest.to_vec();
            return Poll::Ready(Ok(()));
        }
        let left = &self.rest[self.taken..];
        let asked = &left[..left.len().min(buf.remaining())];
        buf.put_slice(asked);
        self.taken += asked.len();
        if self.taken == self.rest.len() {
            (self.rest, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncWriteExt, duplex};

    #[tokio::test]
    async fn nothing_is_lost_or_told_twice_whatever_is_asked_for() {
        let all: Vec<u8> = (0..50_000_u32).map(|at| (at % 251) as u8).collect();
        for piece in [1, 14, 1_000, AHEAD, 3 * AHEAD] {
            let (mut here, mut there) = duplex(6_000);
            let (early, later) = all.split_at(100);
            let mut reader = ReadAhead::new(early.to_vec());
            let later = later.to_vec();
            tokio::spawn(async move { here.write_all(&later).await });
            let mut heard = Vec::new();
            loop {
                let mut part = vec![0; piece];
                let mut part = ReadBuf::new(&mut part);
                poll_fn(|cx| reader.poll_read(&mut there, cx, &mut part)).await.unwrap();
                match part.filled() {
                    [] => break,
                    read => heard.extend_from_slice(read),
                }
            }
            assert!(heard == all, "{piece}");
            assert_eq!(reader.rest.capacity(), 0);
        }
    }
}
