use super::*;

const CHEAP: Cost = Cost { memory: 64, passes: 1 };

fn sealed(content: &[u8]) -> (Seal, Vec<u8>) {
    let (seal, root) = Seal::new(&Secret::new("open sesame"), CHEAP).unwrap();
    let mut sealing = Sealing::new(Vec::new(), &root, b"head");
    sealing.write_all(content).unwrap();
    (seal, sealing.finish().unwrap())
}

fn opened(seal: &Seal, bytes: &[u8], head: &[u8]) -> io::Result<Vec<u8>> {
    let root = seal.open(&Secret::new("open sesame")).unwrap();
    let mut content = Vec::new();
    Opening::new(bytes, bytes.len() as u64, &root, head).read_to_end(&mut content).map(|_| content)
}

#[test]
fn what_is_sealed_opens_with_the_same_passphrase_and_head_alone() {
    for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
        let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let (seal, bytes) = sealed(&content);
        assert!(opened(&seal, &bytes, b"head").unwrap() == content, "{size} bytes");
        assert!(opened(&seal, &bytes, b"another").is_err(), "{size} bytes");
    }
    let (seal, _) = sealed(b"x");
    assert!(matches!(seal.open(&Secret::new("close sesame")), Err(Broken::Passphrase)));
    let (other, _) = sealed(b"x");
    assert_ne!(seal.salt, other.salt);
}

#[test]
fn pieces_cannot_be_changed_cut_off_repeated_or_swapped() {
    let (seal, bytes) = sealed(&vec![7; 2 * PIECE + 10]);
    let piece = PIECE + TAG;
    for place in [0, piece - 1, piece, 2 * piece + 3, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(opened(&seal, &changed, b"head").is_err(), "byte {place}");
    }
    for length in [0, 1, TAG, piece, 2 * piece, bytes.len() - 1] {
        assert!(opened(&seal, &bytes[..length], b"head").is_err(), "{length} bytes");
    }
    let swapped = [&bytes[piece..2 * piece], &bytes[..piece], &bytes[2 * piece..]].concat();
    let twice = [&bytes[..piece], &bytes[..piece], &bytes[2 * piece..]].concat();
    let longer = [&bytes[..], &bytes[..piece]].concat();
    for bytes in [swapped, twice, longer] {
        assert!(opened(&seal, &bytes, b"head").is_err());
    }
}

#[test]
fn a_head_cannot_ask_for_more_work_than_there_is_memory_for() {
    let (seal, _) = sealed(b"x");
    let passphrase = Secret::new("open sesame");
    for greedy in [
        Seal { memory_kib: MOST.0 + 1, ..seal.clone() },
        Seal { passes: MOST.1 + 1, ..seal.clone() },
        Seal { lanes: MOST.2 + 1, memory_kib: 4096, ..seal.clone() },
        Seal { passes: 0, ..seal.clone() },
        Seal { salt: "!".into(), ..seal.clone() },
        Seal { kdf: "none".into(), ..seal.clone() },
    ] {
        assert!(matches!(greedy.open(&passphrase), Err(Broken::Damaged(_))), "{greedy:?}");
    }
}
