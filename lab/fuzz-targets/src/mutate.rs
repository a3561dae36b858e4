//! Changed inputs, always the same ones for the same number, so that a failure can be repeated without a file.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose what to break.
struct Choice(u64);

impl Choice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }
}

/// Numbers at which parsers of lengths break.
const EDGES: [u64; 10] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0xffff_ffff_ffff_ffff];

/// The mutation number `number` of `seed`; `other` is what pieces are taken from.
pub fn mutation(seed: &[u8], other: &[u8], number: u64) -> Vec<u8> {
    let mut choice = Choice(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut bytes = seed.to_vec();
    for _ in 0..=choice.below(4) {
        change(&mut bytes, other, &mut choice);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], choice: &mut Choice) {
    let at = choice.below(bytes.len());
    match choice.below(9) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << choice.below(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = choice.next() as u8;
            }
        }
        2 => bytes.truncate(at),
        3 => bytes.insert(at, choice.next() as u8),
        4 => {
            let end = (at + 1 + choice.below(16)).min(bytes.len());
            bytes.drain(at..end);
        }
        5 => {
            let end = (at + 1 + choice.below(64)).min(bytes.len());
            let piece = bytes.get(at..end).unwrap_or_default().to_vec();
            bytes.splice(at..at, piece);
        }
        6 => {
            let from = choice.below(other.len());
            let end = (from + 1 + choice.below(64)).min(other.len());
            bytes.splice(at..at, other.get(from..end).unwrap_or_default().iter().copied());
        }
        7 => {
            let (edge, width) = (EDGES[choice.below(EDGES.len())], 1 << choice.below(4));
            let number = if choice.below(2) == 0 { edge.to_le_bytes() } else { edge.to_be_bytes() };
            let start = if choice.below(2) == 0 { 0 } else { 8 - width };
            let field = &number[start..start + width];
            let end = (at + width).min(bytes.len());
            bytes.splice(at..end, field.iter().copied());
        }
        _ => {
            let word: &[u8] =
                [&b"\""[..], b"null", b"{}", b"[]", b"..", b"-1", b"1e999", b"'''", b"\xff", b"\0"]
                    [choice.below(10)];
            bytes.splice(at..at, word.iter().copied());
        }
    }
}
