//! Random numbers for tests, with a repeatable seed.

use rand_core::{OsRng, RngCore};

pub(crate) struct Random(u64);

impl Random {
    /// The seed is printed; `SEED=…` repeats it.
    pub(crate) fn new() -> Self {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse().expect("a number"),
            Err(_) => OsRng.next_u64(),
        };
        println!("SEED={seed}");
        Self(seed | 1)
    }

    /// A number below the limit, or 0.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below.max(1)
    }
}
