//! What goes out on one socket: whole text frames, put side by side and written with as few calls as it takes. The
//! WebSocket library keeps its buffer at the largest frame there ever was, and copies each one into it; nothing is kept
//! here once it is written.

use crabtree_protocol::frame::EventBody;
use std::collections::VecDeque;
use std::io;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Bytes from which a text is written as it is, rather than copied next to others.
const LARGE: usize = 16 * 1024;
/// The longest header of a frame of ours: it is not masked.
const MAX_HEADER: usize = 10;

/// Frames on their way. It may be left in the middle of them and taken up again.
#[derive(Default)]
pub struct Wire {
    ready: VecDeque<Vec<u8>>,
    /// How much of the first one is written.
    written: usize,
    /// Where frames are put side by side, behind what is ready.
    open: Vec<u8>,
}

impl Wire {
    /// A text frame.
    pub fn text(&mut self, text: Vec<u8>) {
        if text.len() < LARGE {
            self.open.reserve(MAX_HEADER + text.len());
            self.header(text.len());
            self.open.extend_from_slice(&text);
        } else {
            self.header(text.len());
            self.ready.push_back(std::mem::take(&mut self.open));
            self.ready.push_back(text);
        }
    }

    /// An event's frame, with its number.
    pub fn event(&mut self, body: &EventBody, seq: u64) {
        self.open.reserve(MAX_HEADER + body.max_len());
        self.header(body.len(seq));
        body.write(Some(seq), &mut self.open);
    }

    fn header(&mut self, length: usize) {
        let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
        header.format(length as u64, &mut self.open).expect("memory takes what is written to it");
    }

    /// Writes everything.
    ///
    /// # Errors
    /// As those of `io`; what is not written stays.
    pub async fn flush(&mut self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if !self.open.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.open));
        }
        while let Some(first) = self.ready.front() {
            while self.written < first.len() {
                match io.write(&first[self.written..]).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    taken => self.written += taken,
                }
            }
            self.written = 0;
            self.ready.pop_front();
        }
        self.ready = VecDeque::new();
        io.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crabtree_protocol::frame::event_head;
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, duplex};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    fn event(size: usize) -> EventBody {
        event_head("tick", format!("\"{}\"", "e".repeat(size)).as_bytes(), None)
    }

    /// Every length at which the header or the way out changes, read back by the library.
    #[tokio::test]
    async fn what_is_written_are_the_frames_in_their_order() {
        let (mut here, there) = duplex(1 << 16);
        let sizes = [0, 1, 125, 126, LARGE - 1, LARGE, 65_535, 65_536, 200_000, 7];
        let mut said = Vec::new();
        let mut wire = Wire::default();
        for (seq, size) in sizes.into_iter().enumerate() {
            said.push("t".repeat(size));
            wire.text("t".repeat(size).into_bytes());
            for seq in [seq as u64, 10_u64.pow(seq as u32)] {
                said.push(String::from_utf8(event(size).encode(Some(seq))).unwrap());
                wire.event(&event(size), seq);
            }
        }
        let writing = tokio::spawn(async move { wire.flush(&mut here).await });
        let mut client = WebSocketStream::from_raw_socket(there, Role::Client, None).await;
        for text in said {
            let heard = futures_util::StreamExt::next(&mut client).await.unwrap().unwrap();
            assert!(heard.to_text().unwrap() == text, "{} bytes", text.len());
        }
        writing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_stops_in_the_middle_goes_on_there() {
        let (mut here, mut there) = duplex(100);
        let mut wire = Wire::default();
        wire.text(vec![b'a'; 250]);
        wire.text(vec![b'b'; LARGE]);
        assert!(wire.flush(&mut here).now_or_never().is_none());
        wire.text(b"c".to_vec());
        let mut heard = vec![0; 4 + 250 + 4 + LARGE + 3];
        let (flushed, read) = tokio::join!(wire.flush(&mut here), there.read_exact(&mut heard));
        flushed.unwrap();
        read.unwrap();
        assert_eq!(heard[..6], [0x81, 126, 0, 250, b'a', b'a']);
        assert_eq!(heard[254..260], [0x81, 126, 0x40, 0, b'b', b'b']);
        assert_eq!(heard[4 + 250 + 4 + LARGE..], [0x81, 1, b'c']);
    }
}
