//! The limit on frames before authentication. tungstenite cannot change its limit on a living socket, so the
//! bytes are watched on their way in: only the headers of frames are looked at, and only until the hello.

use crate::read_ahead::ReadAhead;
use crabtree_actors::conns::Conn;
use crabtree_protocol::frame::MAX_PREAUTH_FRAME;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Payload of a control frame (RFC 6455, 5.5).
const MAX_CONTROL: u64 = 125;

/// A socket that refuses large messages until its connection is granted something.
pub struct FrameGate<S> {
    io: S,
    ahead: ReadAhead,
    conn: Arc<Conn>,
    headers: Headers,
}

impl<S> FrameGate<S> {
    /// Watches what is read from `io`, after what was `early` read of it.
    pub fn new(io: S, early: Vec<u8>, conn: Arc<Conn>) -> Self {
        Self { io, ahead: ReadAhead::new(early), conn, headers: Headers::default() }
    }

    /// The socket itself, to read away what nobody will look at.
    pub fn ungated(&mut self) -> &mut S {
        &mut self.io
    }
}

#[derive(Debug)]
struct TooBig;

impl fmt::Display for TooBig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a message of more than {MAX_PREAUTH_FRAME} bytes before authentication")
    }
}

impl std::error::Error for TooBig {}

/// Whether a read failed because of this gate.
pub fn is_violation(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<TooBig>())
}

/// Follows frame headers through a stream of bytes, whatever pieces it comes in.
#[derive(Debug, Default)]
struct Headers {
    header: Vec<u8>,
    /// Payload bytes of the current frame that are still to come.
    payload: u64,
    /// Size of the current message, over its fragments.
    message: u64,
}

impl Headers {
    /// False if a message is announced that is larger than `limit`, or a control frame larger than any may be.
    fn admit(&mut self, mut bytes: &[u8], limit: u64) -> bool {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len() as u64);
                self.payload -= skipped;
                bytes = &bytes[skipped as usize..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some((fin, control, length)) = complete(&self.header) {
                self.header.clear();
                self.payload = length;
                if control && length > MAX_CONTROL {
                    // The library would take all of it before it looks.
                    return false;
                }
                if !control {
                    self.message = self.message.saturating_add(length);
                    if self.message > limit {
                        return false;
                    }
                    if fin {
                        self.message = 0;
                    }
                }
            }
        }
        true
    }
}

/// FIN, whether it is a control frame, and the payload's length, once the header is complete (RFC 6455, 5.2).
fn complete(header: &[u8]) -> Option<(bool, bool, u64)> {
    let (first, second) = (*header.first()?, *header.get(1)?);
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    if header.len() < 2 + extended + mask {
        return None;
    }
    let length = if extended == 0 {
        u64::from(second & 0x7f)
    } else {
        header[2..2 + extended].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
    };
    Some((first & 0x80 != 0, first & 0x08 != 0, length))
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameGate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = this.ahead.poll_read(&mut this.io, cx, buf);
        let is_bound = matches!(polled, Poll::Ready(Ok(()))) && this.conn.grant().is_none();
        if is_bound && !this.headers.admit(&buf.filled()[before..], MAX_PREAUTH_FRAME as u64) {
            return Poll::Ready(Err(io::Error::other(TooBig)));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameGate<S> {
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

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..=125 => bytes.push(0x80 | length as u8),
            126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(vec![0; length]);
        bytes
    }

    fn admitted(frames: &[Vec<u8>], piece: usize) -> bool {
        let mut headers = Headers::default();
        frames.concat().chunks(piece).all(|bytes| headers.admit(bytes, 65_536))
    }

    #[test]
    fn sizes_are_followed_in_pieces_of_any_length() {
        for piece in [1, 3, 7, 4096, 1 << 20] {
            assert!(admitted(&[frame(0x81, 65_536), frame(0x81, 5), frame(0x82, 65_536)], piece));
            assert!(!admitted(&[frame(0x81, 5), frame(0x81, 65_537)], piece));
        }
    }

    /// Whatever the bytes are and however they are cut, the gate says the same, and never panics.
    #[test]
    fn garbage_is_followed_to_the_same_end_in_pieces_of_any_length() {
        let mut dice: u64 = 0x00c0_ffee;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        for _ in 0..20_000 {
            let mut bytes = frame(roll(256) as u8, roll(200) as usize);
            for _ in 0..roll(6) {
                let at = roll(bytes.len() as u64) as usize;
                bytes[at] = roll(256) as u8;
            }
            bytes.extend((0..roll(40)).map(|_| roll(256) as u8).collect::<Vec<_>>());
            let whole = admitted(std::slice::from_ref(&bytes), bytes.len());
            assert_eq!(admitted(&[bytes], 1 + roll(9) as usize), whole);
        }
    }

    #[test]
    fn control_frames_are_small() {
        for opcode in [0x88, 0x89, 0x8a] {
            assert!(admitted(&[frame(opcode, 125)], 7));
            assert!(!admitted(&[frame(opcode, 126)], 7) && !admitted(&[frame(opcode, 65_536)], 7));
        }
    }

    #[test]
    fn fragments_count_together_and_pings_between_them_do_not() {
        let (start, more, end) = (frame(0x01, 40_000), frame(0x00, 20_000), frame(0x80, 6_000));
        assert!(!admitted(&[start.clone(), frame(0x89, 100), more.clone(), end], 1000));
        assert!(admitted(&[start, frame(0x89, 100), more, frame(0x80, 5_000), frame(0x81, 60_000)], 1000));
    }
}
