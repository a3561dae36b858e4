//! A small generator (xorshift64*), so that a run can be repeated from its seed.

/// Pseudo-random numbers; good for mixing and bad for secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed. Zero would stay zero, so it is replaced.
    pub fn new(seed: u64) -> Self {
        Self(if seed == 0 { 0x9E37_79B9_7F4A_7C15 } else { seed })
    }

    /// A number below `sides`; zero if there are none.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides.max(1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_rolls_and_all_sides_come() {
        let (mut a, mut b) = (Dice::new(7), Dice::new(7));
        let mut seen = [false; 6];
        for _ in 0..200 {
            let roll = a.roll(6);
            assert_eq!(roll, b.roll(6));
            seen[roll] = true;
        }
        assert_eq!(seen, [true; 6]);
        assert_eq!(Dice::new(0).roll(0), 0);
    }
}
