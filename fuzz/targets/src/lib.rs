//! The fuzz targets.
//!
//! A [`Target`] is a function over arbitrary bytes. It panics when a property is violated, and [`Target::check`] also
//! panics when an input costs more memory or more allocations than the target's [`Limit`]s allow. `fuzz/` links each
//! target with libFuzzer; the test `replay` of this package runs each over its corpus, with any toolchain.

#[cfg(feature = "suite")]
pub mod differential;
#[cfg(feature = "suite")]
pub mod seeds;

mod connection;
mod decoders;
mod files;
mod input;
mod mux;
mod packets;
mod proofs;
mod replicator;
mod store;
mod stream;
#[cfg(feature = "suite")]
mod suite;
mod world;

use std::fmt;

/// A function that must survive any input, and its cost limits.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of the fuzzer and of its corpus's folder.
    pub name: &'static str,
    /// A short description.
    pub about: &'static str,
    /// Sets up shared state, outside of the measurement.
    pub prepare: fn(),
    /// Runs one input, and returns the number of bytes given to the code under test: the size that the limits refer to.
    pub run: fn(&[u8]) -> usize,
    /// How many bytes may be allocated at one time, beyond those allocated before.
    pub memory: Limit,
    /// How many allocations there may be, as a measure of work that is independent of the clock.
    pub allocations: Limit,
}

/// `size * factor + constant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Per byte given to the code under test.
    pub factor: u64,
    /// Independent of the size.
    pub constant: u64,
}

impl Limit {
    /// The limit for `size` bytes.
    #[must_use]
    pub fn of(self, size: usize) -> u64 {
        self.factor * size as u64 + self.constant
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × size + {}", self.factor, self.constant)
    }
}

/// The cost of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// The number of bytes given to the code under test.
    pub size: usize,
    /// The most bytes allocated at one time. While a vector grows, its old and its new memory count.
    pub memory: u64,
    /// The number of allocations.
    pub allocations: u64,
}

impl Target {
    /// The target with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Runs one input and returns its cost.
    ///
    /// # Panics
    /// If a property is violated.
    #[must_use]
    pub fn cost(&self, input: &[u8]) -> Cost {
        (self.prepare)();
        let mut size = 0;
        let counted = allocation_counter::measure(|| size = (self.run)(input));
        Cost {
            size,
            memory: counted.bytes_max,
            allocations: counted.count_total,
        }
    }

    /// Runs one input.
    ///
    /// # Panics
    /// If a property is violated, or the input costs more than the limits allow.
    pub fn check(&self, input: &[u8]) {
        let Cost {
            size,
            memory,
            allocations,
        } = self.cost(input);
        assert!(
            memory <= self.memory.of(size),
            "{}: {size} bytes of input took {memory} bytes of memory, and may take {}",
            self.name,
            self.memory.of(size),
        );
        assert!(
            allocations <= self.allocations.of(size),
            "{}: {size} bytes of input took {allocations} allocations, and may take {}",
            self.name,
            self.allocations.of(size),
        );
    }
}

/// Checks the target `name`, for a fuzzer's body.
///
/// # Panics
/// As [`Target::check`], and if there is no such target.
pub fn check(name: &str, input: &[u8]) {
    let Some(target) = Target::named(name) else {
        panic!("no target {name}")
    };
    target.check(input);
}

const fn limit(factor: u64, constant: u64) -> Limit {
    Limit { factor, constant }
}

const KIB: u64 = 1024;

fn nothing() {}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "encoding",
        about: "compact encodings: each type, and arrays of it",
        prepare: nothing,
        run: decoders::encoding,
        memory: limit(64, 4 * KIB),
        allocations: limit(4, 64),
    },
    Target {
        name: "messages",
        about: "messages of a core's channel by type, and its handshake",
        prepare: nothing,
        run: decoders::messages,
        memory: limit(32, 8 * KIB),
        allocations: limit(8, 256),
    },
    Target {
        name: "manifest",
        about: "manifests, and cores opened with them",
        prepare: nothing,
        run: decoders::manifest,
        memory: limit(32, 16 * KIB),
        allocations: limit(8, 256),
    },
    Target {
        name: "multisig",
        about: "multi-signatures of both versions",
        prepare: nothing,
        run: decoders::multisig,
        memory: limit(32, 8 * KIB),
        allocations: limit(8, 256),
    },
    Target {
        name: "record",
        about: "records of protomux: messages, batches, control",
        prepare: nothing,
        run: decoders::record,
        memory: limit(256, 16 * KIB),
        allocations: limit(16, 256),
    },
    Target {
        name: "frames",
        about: "records out of a stream of bytes, in any chunks",
        prepare: nothing,
        run: stream::frames,
        memory: limit(32, 32 * KIB),
        allocations: limit(8, 256),
    },
    Target {
        name: "noise",
        about: "handshake messages, honest and spoilt, of each pattern",
        prepare: nothing,
        run: stream::noise,
        memory: limit(8, 32 * KIB),
        allocations: limit(1, 512),
    },
    Target {
        name: "secretstream",
        about: "sealed records, honest and spoilt, and header records",
        prepare: nothing,
        run: stream::secretstream,
        memory: limit(8, 8 * KIB),
        allocations: limit(4, 64),
    },
    Target {
        name: "datagrams",
        about: "datagrams, honest and spoilt",
        prepare: nothing,
        run: stream::datagrams,
        memory: limit(8, 4 * KIB),
        allocations: limit(4, 64),
    },
    Target {
        name: "mux",
        about: "protomux alone: records, and what an application does meanwhile",
        prepare: nothing,
        run: mux::mux,
        memory: limit(512, 64 * KIB),
        allocations: limit(64, 1024),
    },
    Target {
        name: "connection_bytes",
        about: "a connection that reads any bytes, without keys",
        prepare: nothing,
        run: connection::bytes,
        memory: limit(16, 192 * KIB),
        allocations: limit(8, 1024),
    },
    Target {
        name: "connection_keyed",
        about: "a connection after a handshake, whose records the fuzzer seals",
        prepare: nothing,
        run: connection::keyed,
        memory: limit(512, 256 * KIB),
        allocations: limit(64, 4096),
    },
    Target {
        name: "proofs",
        about: "proofs, reorganisations and conflicts against a core; requests to it",
        prepare: world::prepare,
        run: proofs::proofs,
        memory: limit(64, 256 * KIB),
        allocations: limit(64, 32 * KIB),
    },
    Target {
        name: "replicator",
        about: "a replicator with several peers, some of which lie",
        prepare: world::prepare,
        run: replicator::replicator,
        memory: limit(256, 2048 * KIB),
        allocations: limit(256, 256 * KIB),
    },
    Target {
        name: "store",
        about: "cores in stores that hand out spoilt values",
        prepare: store::prepare,
        run: store::store,
        memory: limit(64, 40 * 1024 * KIB),
        allocations: limit(64, 64 * KIB),
    },
    Target {
        name: "store_files",
        about: "cores in damaged database files and logs",
        prepare: files::prepare,
        run: files::files_damaged,
        memory: limit(64, 1024 * KIB),
        allocations: limit(64, 64 * KIB),
    },
    #[cfg(feature = "suite")]
    Target {
        name: "suite_answers",
        about: "lines of adapters, and texts of others on a terminal",
        prepare: nothing,
        run: suite::answers,
        memory: limit(256, 16 * KIB),
        allocations: limit(64, 1024),
    },
    #[cfg(feature = "suite")]
    Target {
        name: "suite_reports",
        about: "reports of runs and of the matrix",
        prepare: nothing,
        run: suite::reports,
        memory: limit(256, 64 * KIB),
        allocations: limit(64, 1024),
    },
    #[cfg(feature = "suite")]
    Target {
        name: "suite_dissector",
        about: "records, messages and conversations, taken apart",
        prepare: nothing,
        run: suite::dissector,
        memory: limit(2048, 256 * KIB),
        allocations: limit(64, 4096),
    },
];
