//! Lines of a file, one in memory at a time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crabtree_actors::store::Entry;

/// Longest line that is read, bytes: OpenClaw writes none beyond 4 MiB.
pub const MAX_LINE: u64 = 8 << 20;

/// Hands out the lines of a file with their numbers, from 1; one that is no text or too long as the reason why.
///
/// # Errors
/// Those of the file, and the first of `each`.
pub fn each_line<E: From<io::Error>>(
    path: &Path,
    each: &mut dyn FnMut(u64, Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = BufReader::with_capacity(64 << 10, File::open(path)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if file.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 > MAX_LINE {
            if line.last() != Some(&b'\n') {
                file.skip_until(b'\n')?;
            }
            // What was long is not kept for the lines that follow.
            line = Vec::new();
            each(number, Err(format!("it is longer than {} MiB", MAX_LINE >> 20)))?;
            continue;
        }
        match std::str::from_utf8(&line).map(str::trim) {
            Ok("") => {}
            Ok(text) => each(number, Ok(text))?,
            Err(_) => each(number, Err("it is no text".into()))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_unreadable_lines_are_said_to_be_so_and_the_next_ones_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        let long = vec![b'x'; MAX_LINE as usize + 10];
        let text = [b"one\n\n".as_slice(), &long, b"\n\xff\xfe\nlast"].concat();
        std::fs::write(&path, text).unwrap();
        let mut seen = Vec::new();
        each_line::<io::Error>(&path, &mut |number, line| {
            seen.push((number, line.map(str::to_owned).ok()));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(1, Some("one".into())), (3, None), (4, None), (5, Some("last".into()))]);
    }
}
